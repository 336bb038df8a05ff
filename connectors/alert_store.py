"""Incidents, messages and labels in a database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import and_

from connectors.alert_store_engine import Database
from connectors.alert_store_inserts import BatchInsert, incident_upsert
from connectors.alert_store_queries import (
    incident_count,
    incident_of,
    incident_select,
    incident_values,
    label_of,
    label_select,
    message_values,
)
from connectors.alert_store_rows import AuditRow, IncidentQuery, IncidentRow, LabelRow, MessageRow
from connectors.alert_store_tables import WITHDRAWAL, audit, incidents, label_revision, labels, messages
from connectors.errors import StoreUnavailable

_IDS_PER_QUERY = 500


class AlertStore:
    """Keeps what was said and what operators answered. May be used from several threads and processes at once.

    The constructor does not touch the database: the first call does, and brings its schema up to date. Every call
    raises ``StoreUnavailable`` while the database is away and ``Misconfigured`` where it is not ours.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Use the database at ``url``.

        Args:
            url: ``sqlite:///PATH`` or ``postgresql+psycopg://USER:PASSWORD@HOST/NAME``.
            create: whether to make what is not there; else ``StoreMissing`` is raised.

        Raises:
            Misconfigured: if the URL cannot be used or its driver is not installed.
        """
        self._database = Database(url)
        self._create = create
        self._lock = threading.Lock()
        self._ready = False
        self._insert = sqlite.insert if self._database.sqlite else postgresql.insert
        self._keep_incidents = BatchInsert(incident_upsert(self._insert(incidents)))
        self._keep_messages = BatchInsert(self._insert(messages).on_conflict_do_nothing())

    @property
    def name(self) -> str:
        """Return what messages call this database; never with its password."""
        return self._database.name

    def is_current(self) -> bool:
        """Return whether the schema is of this version; changes nothing. Raises StoreMissing where there is none."""
        from connectors.alert_store_migrating import is_current

        return is_current(self._database)

    def migrate(self) -> None:
        """Bring the schema up to date, whatever its version; see ``connectors.alert_store_migrating``."""
        from connectors.alert_store_migrating import migrate

        with self._lock:
            migrate(self._database, create=self._create)
            self._ready = True

    def close(self) -> None:
        """Let go of idle connections."""
        self._database.close()

    # ---- incidents ----

    def keep(self, rows: Sequence[IncidentRow]) -> None:
        """Keep messages and the state of their incidents; all of them or, where this raises, none.

        Idempotent by (incident, sequence): what was kept before stays as it is, and an older message never changes what
        a newer one said of the incident.

        Raises:
            StoreRefused: if the database will never take one of the rows.
        """
        if not rows:
            return
        # In this order two processes that keep the same incidents never wait for each other in a circle.
        ordered = sorted(rows, key=lambda row: (row.id, row.sequence))
        with self._writing() as connection:
            self._keep_incidents.run(connection, [incident_values(row) for row in ordered])
            self._keep_messages.run(connection, [message_values(row) for row in ordered])
            self._touch_labels(connection, list(dict.fromkeys(row.id for row in ordered)))

    def incidents(self, query: IncidentQuery = IncidentQuery()) -> list[IncidentRow]:  # noqa: B008  # it is frozen
        """Return the incidents that fit, newest first."""
        with self._reading() as connection:
            return [incident_of(row) for row in connection.execute(incident_select(query))]

    def count(self, query: IncidentQuery = IncidentQuery()) -> int:  # noqa: B008  # it is frozen
        """Return how many incidents fit, whatever the query's limit and offset."""
        with self._reading() as connection:
            return int(connection.execute(incident_count(query)).scalar_one())

    def open_subjects(self) -> list[tuple[str, str, str, int]]:
        """Return stream, entity, kind and highest tier of all that is open, without what is known of it."""
        c = incidents.c
        subject = (c.stream, c.entity, c.kind)
        chosen = select(*subject, func.max(c.tier)).where(c.resolved_us.is_(None)).group_by(*subject)
        with self._reading() as connection:
            return [(stream, entity, kind, tier) for stream, entity, kind, tier in connection.execute(chosen)]

    def find(self, prefix: str, limit: int = 10) -> list[IncidentRow]:
        """Return the incidents whose id begins so, at most ``limit``, newest first."""
        chosen = select(incidents).where(incidents.c.id.startswith(prefix, autoescape=True))
        newest = incidents.c.opened_us.desc()
        with self._reading() as connection:
            return [
                incident_of(row) for row in connection.execute(chosen.order_by(newest, incidents.c.id).limit(limit))
            ]

    def messages(self, incident_id: str) -> list[MessageRow]:
        """Return what was said about an incident, oldest first."""
        chosen = select(messages).where(messages.c.incident_id == incident_id).order_by(messages.c.sequence)
        with self._reading() as connection:
            return [MessageRow(**row._mapping) for row in connection.execute(chosen)]

    def retain(self, oldest_us: int) -> int:
        """Remove what was last spoken of before ``oldest_us`` (wall clock), labels included; return how many incidents.

        What people did before it goes too.

        What a label still has an end for after that time stays.
        """
        acts = exists().where(
            labels.c.incident_id == incidents.c.id, labels.c.withdrawn_us.is_(None), labels.c.until_us >= oldest_us
        )
        with self._writing() as connection:
            connection.execute(delete(audit).where(audit.c.time_us < oldest_us))
            return connection.execute(delete(incidents).where(incidents.c.told_us < oldest_us, ~acts)).rowcount

    # ---- labels ----

    def label(
        self,
        incident_id: str,
        kind: str,
        reason: str,
        until_us: int | None,
        author: str,
        now_us: int,
        *,
        label_id: str | None = None,
    ) -> LabelRow | None:
        """Label an incident; the label that it had is replaced. Return the label, None where there is no such incident.

        Args:
            incident_id: the whole id.
            kind: "true", "false_alarm" or "expected".
            reason: why.
            until_us: when it ends, where it does.
            author: who says so.
            now_us: the wall clock.
            label_id: makes it idempotent: a label that is there already is returned as it is. None: a new one.
        """
        new_id = label_id or uuid.uuid4().hex
        with self._writing() as connection:
            if not _locked(connection, incident_id):
                return None
            if connection.execute(select(labels.c.id).where(labels.c.id == new_id)).first() is None:
                revision = _next_revision(connection)
                _withdraw(connection, incident_id, author, now_us, revision)
                values: dict[str, Any] = {"id": new_id, "incident_id": incident_id, "kind": kind, "reason": reason}
                values |= {"until_us": until_us, "author": author, "created_us": now_us, "revision": revision}
                connection.execute(insert(labels).values(**values))
            return label_of(connection.execute(label_select().where(labels.c.id == new_id)).one())

    def withdraw(
        self, incident_id: str, author: str, now_us: int, *, withdrawal_id: str | None = None
    ) -> bool | None:
        """Take an incident's label back; return whether it had one, None where there is no such incident.

        Args:
            incident_id: the whole id.
            author: who says so.
            now_us: the wall clock.
            withdrawal_id: makes it idempotent: what was done under it once is not done again, to no later label either.
        """
        with self._writing() as connection:
            if not _locked(connection, incident_id):
                return None
            if withdrawal_id is not None and not self._noted(connection, withdrawal_id, incident_id, author, now_us):
                return False
            acting = select(labels.c.id).where(labels.c.incident_id == incident_id, labels.c.withdrawn_us.is_(None))
            if connection.execute(acting).first() is None:
                return False
            _withdraw(connection, incident_id, author, now_us, _next_revision(connection))
            return True

    def silenced(self, counts: Mapping[str, int]) -> None:
        """Add to how many incidents each label, by its id, has kept silent; unknown ids are left out."""
        if not counts:
            return
        with self._writing() as connection:
            for label_id, count in sorted(counts.items()):
                more = {"silenced": labels.c.silenced + count}
                connection.execute(update(labels).where(labels.c.id == label_id).values(**more))

    def labels(self, after_revision: int = 0) -> list[LabelRow]:
        """Return the labels that changed, or whose incident did, after a revision; by revision.

        Those that were withdrawn are among them, so that whoever follows can drop them. No change is ever missed: a
        later revision is never visible before an earlier one. Costs one small read where nothing changed.
        """
        with self._reading() as connection:
            if connection.execute(select(label_revision.c.value)).scalar_one() <= after_revision:
                return []
            chosen = label_select().where(labels.c.revision > after_revision)
            return [label_of(row) for row in connection.execute(chosen.order_by(labels.c.revision, labels.c.id))]

    def labels_of(self, incident_ids: Collection[str]) -> list[LabelRow]:
        """Return all labels that these incidents have or had, oldest first."""
        ids = sorted(set(incident_ids))
        found: list[LabelRow] = []
        with self._reading() as connection:
            for first in range(0, len(ids), _IDS_PER_QUERY):
                chosen = label_select().where(labels.c.incident_id.in_(ids[first : first + _IDS_PER_QUERY]))
                found += [label_of(row) for row in connection.execute(chosen)]
        return sorted(found, key=lambda label: label.revision)

    # ---- what people did ----

    def begin_action(self, row: AuditRow) -> None:
        """Note that somebody is about to do something."""
        with self._writing() as connection:
            connection.execute(insert(audit).values(**asdict(row)))

    def end_action(self, action_id: str, outcome: str, detail: str) -> None:
        """Note what came of it."""
        with self._writing() as connection:
            connection.execute(update(audit).where(audit.c.id == action_id).values(outcome=outcome, detail=detail))

    def actions(self, limit: int, offset: int = 0) -> list[AuditRow]:
        """Return what was done, newest first."""
        newest = select(audit).order_by(audit.c.time_us.desc(), audit.c.id).limit(limit).offset(offset)
        with self._reading() as connection:
            return [AuditRow(**row._mapping) for row in connection.execute(newest)]

    def count_actions(self) -> int:
        """Return how many actions are on record."""
        with self._reading() as connection:
            return int(connection.execute(select(func.count()).select_from(audit)).scalar_one())

    # ---- inner ----

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
        if not self._ready:
            self.migrate()
        try:
            yield
        except StoreUnavailable:
            self._ready = False
            raise

    def _noted(
        self, connection: Connection, withdrawal_id: str, incident_id: str, author: str, now_us: int
    ) -> bool:
        """Note a withdrawal; return False where it was noted before."""
        values: dict[str, Any] = {"id": withdrawal_id, "incident_id": incident_id, "kind": WITHDRAWAL, "reason": ""}
        values |= {"author": author, "created_us": now_us, "withdrawn_us": now_us, "revision": 0}
        note = self._insert(labels).values(**values).on_conflict_do_nothing()
        return bool(connection.execute(note).rowcount)

    @staticmethod
    def _touch_labels(connection: Connection, incident_ids: Sequence[str]) -> None:
        """Give the acting labels of these incidents a new revision: whoever follows them learns how it goes on."""
        chosen = and_(labels.c.incident_id.in_(incident_ids), labels.c.withdrawn_us.is_(None))
        if connection.execute(select(labels.c.id).where(chosen).limit(1)).first() is not None:
            connection.execute(update(labels).where(chosen).values(revision=_next_revision(connection)))


def _locked(connection: Connection, incident_id: str) -> bool:
    """Return whether there is such an incident, and let nobody else change it before this transaction ends."""
    return (
        connection.execute(select(incidents.c.id).where(incidents.c.id == incident_id).with_for_update()).first()
        is not None
    )


def _next_revision(connection: Connection) -> int:
    """Return the next revision; nobody else gets one before this transaction ends."""
    connection.execute(update(label_revision).values(value=label_revision.c.value + 1))
    return int(connection.execute(select(func.max(label_revision.c.value))).scalar_one())


def _withdraw(connection: Connection, incident_id: str, author: str, now_us: int, revision: int) -> None:
    acting = and_(labels.c.incident_id == incident_id, labels.c.withdrawn_us.is_(None))
    values = {"withdrawn_us": now_us, "withdrawn_by": author, "revision": revision}
    connection.execute(update(labels).where(acting).values(**values))
