"""The site registry: where things are measured, as their sources tell, in the alert database.

The ingest process writes it and the console reads it; both know the database by the same URL.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from connectors.alert_store_engine import Database
from connectors.alert_store_tables import site_revision, sites
from connectors.errors import StoreUnavailable
from connectors.site_rows import Place, SiteRow, merged
from connectors.source import Site

_PER_QUERY = 500


class SiteStore:
    """Keeps what is known of places. May be used from several threads and processes at once.

    The constructor does not touch the database: the first call does, and brings its schema up to date. Every call
    raises ``StoreUnavailable`` while the database is away and ``Misconfigured`` where it is not ours.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Use the database at ``url``; see ``connectors.alert_store.AlertStore``.

        Raises:
            Misconfigured: if the URL cannot be used or its driver is not installed.
        """
        self._database = Database(url)
        self._create = create
        self._lock = threading.Lock()
        self._ready = False
        self._insert = sqlite.insert if self._database.sqlite else postgresql.insert

    def close(self) -> None:
        """Let go of idle connections."""
        self._database.close()

    def keep(self, source: str, told: Sequence[Site], now_us: int) -> int:
        """Keep what ``source`` tells of places; return how many of them that changed. All of it or, on errors, none.

        Who tells what is known already costs a read and writes nothing.

        Args:
            source: who tells.
            told: sites as ``bounded`` leaves them; of several with one entity the last counts.
            now_us: the wall clock.

        Raises:
            StoreRefused: if the database will never take one of them.
        """
        newest = {site.entity: site for site in told}
        with self._reading() as connection:
            if not _changed(connection, source, newest):
                return 0
        with self._writing() as connection:
            number = _next_revision(connection)  # whoever else keeps sites waits here
            changed = _changed(connection, source, newest)
            if changed:
                rows = [asdict(replace(row, changed_us=now_us, revision=number)) for row in changed]
                connection.execute(self._upsert(), rows)
            return len(changed)

    def sites(self, entities: Collection[str]) -> list[SiteRow]:
        """Return all that is known of these entities' places, by entity; those that are not known are left out."""
        with self._reading() as connection:
            return _rows(connection, sorted(set(entities)))

    def places(self, after_revision: int = 0) -> tuple[int, list[Place]]:
        """Return the newest revision, and the places that changed after ``after_revision``, by entity.

        No change is ever missed: a later revision is never visible before an earlier one. Costs one small read where
        nothing changed. A revision below ``after_revision`` tells that it is another database: ask again from 0.
        """
        c = sites.c
        with self._reading() as connection:
            newest = int(connection.execute(select(site_revision.c.value)).scalar_one())
            if newest <= after_revision:
                return newest, []
            chosen = select(c.entity, c.source, c.name, c.latitude, c.longitude).where(c.revision > after_revision)
            return newest, [Place(*row) for row in connection.execute(chosen.order_by(c.entity))]

    # ---- inner ----

    def _upsert(self) -> Any:
        statement = self._insert(sites)
        changed = {column.name: statement.excluded[column.name] for column in sites.c if column.name != "entity"}
        return statement.on_conflict_do_update(index_elements=[sites.c.entity], set_=changed)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._prepared(), self._database.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._prepared(), self._database.writing() as connection:
            yield connection

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Have the schema there; after a failure look again, since what comes back may be another database."""
        with self._lock:
            if not self._ready:
                from connectors.alert_store_migrating import migrate

                migrate(self._database, create=self._create)
                self._ready = True
        try:
            yield
        except StoreUnavailable:
            self._ready = False
            raise


def _changed(connection: Connection, source: str, told: dict[str, Site]) -> list[SiteRow]:
    """Return the rows that are other than what is kept; in the entities' order, so that nobody waits in a circle."""
    known = {row.entity: row for row in _rows(connection, sorted(told))}
    rows = [(known.get(entity), merged(known.get(entity), source, told[entity])) for entity in sorted(told)]
    return [new for old, new in rows if new != old]


def _rows(connection: Connection, entities: Sequence[str]) -> list[SiteRow]:
    found: list[SiteRow] = []
    for first in range(0, len(entities), _PER_QUERY):
        chosen = select(sites).where(sites.c.entity.in_(entities[first : first + _PER_QUERY]))
        found += [_row(row) for row in connection.execute(chosen.order_by(sites.c.entity))]
    return found


def _row(row: Row[Any]) -> SiteRow:
    values = dict(row._mapping)
    return SiteRow(**values | {"limits": {name: (low, high) for name, (low, high) in values["limits"].items()}})


def _next_revision(connection: Connection) -> int:
    """Return the next revision; nobody else gets one before this transaction ends."""
    connection.execute(update(site_revision).values(value=site_revision.c.value + 1))
    return int(connection.execute(select(func.max(site_revision.c.value))).scalar_one())
