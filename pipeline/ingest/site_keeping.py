"""Keeping sites: what sources tell of places goes into the registry behind them, whatever becomes of the database.

    source: describe ► pending (the newest of each place)          thread: pending ► registry

Nothing is on the disk: a source tells of its places again whenever it starts, so what was not kept is not lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import structlog

from connectors.errors import ConnectorError, StoreRefused
from connectors.site_rows import bounded
from connectors.source import Site
from connectors.units import canonical

log = structlog.get_logger("vedette.ingest")

_MOST_PENDING = 200_000
_MOST_KNOWN = 1_000_000
"""Places of which it is remembered that they are kept, at about 150 bytes each."""
_AT_ONCE = 1_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


class Store(Protocol):
    """What is asked of a registry; each call may block and may raise ``ConnectorError``."""

    def keep(self, source: str, told: Sequence[Site], now_us: int) -> int:
        """Keep places; see ``connectors.site_store.SiteStore.keep``."""


def as_delivered(
    sites: Sequence[Site], prefix: str = "", rename: Mapping[str, str] | None = None, only: frozenset[str] = frozenset()
) -> list[Site]:
    """Return sites with the names and units that their readings have once they are delivered.

    Args:
        sites: as the source tells them.
        prefix: put before each entity.
        rename: the source's channels to ours.
        only: channels let through, after renaming; empty: all.

    >>> told = [Site("7", channels={"P2": "µg/m³", "P1": ""})]
    >>> (one,) = as_delivered(told, "sc/", {"P2": "pm25"}, frozenset({"pm25"}))
    >>> one.entity, one.channels
    ('sc/7', {'pm25': 'ug/m3'})
    """
    rename = rename or {}

    def named(channel: str) -> str | None:
        name = rename.get(channel, channel)
        return None if only and name not in only else name

    return [
        Site(
            prefix + site.entity,
            site.name,
            site.latitude,
            site.longitude,
            {name: _unit(unit) for channel, unit in site.channels.items() if (name := named(channel))},
            {name: pair for channel, pair in site.limits.items() if (name := named(channel))},
            site.attributes,
        )
        for site in sites
    ]


@lru_cache(maxsize=1_000)
def _unit(written: str) -> str:
    return canonical(written) or written


class SiteKeeper:
    """Brings places into the registry. ``describe`` may be called from any thread, and never waits for the database.

    What is told again and is the same costs a comparison. Of one place the newest waits; beyond ``most_pending``
    places further ones are left out until there is room, and kept when their source tells of them again.
    """

    def __init__(self, store: Store, *, most_pending: int = _MOST_PENDING, first_wait_s: float = _FIRST_WAIT_S) -> None:
        """Keep places in ``store``; neither a thread nor the database is needed before there is one."""
        self._store = store
        self._most_pending = most_pending
        self._first_wait_s = first_wait_s
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[str, Site]] = {}
        self._known: dict[str, int] = {}
        """Entity to a digest of what was told of it last, of those that are kept or wait."""
        self._left_out = 0
        self._trouble = ""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Return how many places the registry does not have yet."""
        with self._lock:
            return len(self._pending)

    def notes(self) -> list[str]:
        """Return what a person should know; nothing while all is well."""
        with self._lock:
            waiting, left_out, trouble = len(self._pending), self._left_out, self._trouble
        notes = [f"{waiting} sites wait for the alert database: {trouble}"] if trouble and waiting else []
        if left_out:
            notes.append(f"{left_out} times a site was left out: {self._most_pending} wait already")
        return notes

    def describe(self, source: str, sites: Sequence[Site]) -> None:
        """Take what ``source`` tells of places, named as their readings are delivered."""
        digests = [_digest(source, site) for site in sites]
        with self._lock:
            news = [
                (site, digest)
                for site, digest in zip(sites, digests, strict=True)
                if self._known.get(site.entity) != digest
            ]
            for site, digest in news:
                self._take(source, site, digest)
            if self._pending:
                self._wake.set()
                self._start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Try once more to keep what waits, for so long at most."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    # ---- inner ----

    def _start(self) -> None:
        """Have the thread run; ``_lock`` is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vedette-sites", daemon=True)
            self._thread.start()

    def _take(self, source: str, given: Site, digest: int) -> None:
        """Have a place wait for the thread; ``_lock`` is held."""
        site = bounded(given)
        if site is None:
            return
        if site.entity not in self._pending and len(self._pending) >= self._most_pending:
            self._left_out += 1
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()  # all are told to the registry once more, which writes none of them
        self._pending[site.entity] = source, site
        self._known[site.entity] = digest

    def _run(self) -> None:
        wait_s, stopping = 0.0, False
        while not stopping:
            if wait_s:
                self._stop.wait(wait_s)
            else:
                self._wake.wait()
            self._wake.clear()
            stopping = self._stop.is_set()  # asked before the last try, so that there is one
            wait_s = self._try_to_keep(wait_s)

    def _try_to_keep(self, waited_s: float) -> float:
        """Keep all that waits; return how long to wait before the next try, 0.0 when all is well."""
        wait_s = min(2 * waited_s or self._first_wait_s, _LONGEST_WAIT_S)
        try:
            while batch := self._batch():
                self._keep(batch)
        except ConnectorError as error:
            self._trouble = str(error)
            log.warning("sites wait for the alert database", waiting=self.waiting, error=str(error), in_s=wait_s)
            return wait_s if error.retriable else _LONGEST_WAIT_S
        except Exception:
            # A defect here must not end the thread: the map would stand still, and nobody would notice.
            log.exception("keeping sites failed; will try again", waiting=self.waiting, in_s=wait_s)
            self._trouble = "an internal error; the log says more"
            return wait_s
        if self._trouble:
            log.info("the alert database is back; all sites are kept")
        self._trouble = ""
        return 0.0

    def _batch(self) -> dict[str, tuple[str, Site]]:
        with self._lock:
            return {entity: self._pending[entity] for entity in list(self._pending)[:_AT_ONCE]}

    def _keep(self, batch: Mapping[str, tuple[str, Site]]) -> None:
        by_source: dict[str, list[Site]] = {}
        for source, site in batch.values():
            by_source.setdefault(source, []).append(site)
        for source, sites in by_source.items():
            try:
                self._store.keep(source, sites, time.time_ns() // 1000)
            except StoreRefused:
                self._keep_one_by_one(source, sites)
        with self._lock:
            for entity, kept in batch.items():
                if self._pending.get(entity) is kept:  # else there is news of it meanwhile
                    del self._pending[entity]

    def _keep_one_by_one(self, source: str, sites: Sequence[Site]) -> None:
        """Keep all but those that the database refuses: one of them would hold up all others for ever."""
        for site in sites:
            try:
                self._store.keep(source, [site], time.time_ns() // 1000)
            except StoreRefused as error:
                log.error("the alert database refuses a site", source=source, entity=site.entity, error=str(error))


def _digest(source: str, site: Site) -> int:
    parts = (site.channels, site.limits, site.attributes)
    return hash((source, site.name, site.latitude, site.longitude, *(tuple(part.items()) for part in parts)))
