"""Keeping alerts: brings messages into the alert database behind the loop, whatever becomes of the database.

    loop: add ► flush ► spool on the disk          thread: spool ► database

Every message goes through the spool, so there is one way and no switch to take in an outage: nothing is lost by a crash
after a flush, the order stays, and a database that is away only makes the spool longer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from connectors.alert_store_rows import IncidentRow
from connectors.errors import ConnectorError, StoreRefused, StoreUnavailable
from pipeline.alert_rows import incident_row
from pipeline.alert_spool import AlertSpool, Segment
from pipeline.incident import AlertMessage, decode, encode
from pipeline.metrics_models import ModelMetrics

log = structlog.get_logger("vedette.alert_keeping")

_ROWS_PER_TRANSACTION = 200
_RETAIN_EVERY_S = 3600.0


class Store(Protocol):
    """What is asked of a database; each call may block and may raise ``ConnectorError``."""

    def keep(self, rows: Sequence[IncidentRow]) -> None:
        """Keep rows, all or none; ``StoreRefused`` where one of them can never be kept."""

    def silenced(self, counts: Mapping[str, int]) -> None:
        """Add to how many incidents each label has kept silent."""

    def retain(self, oldest_us: int) -> int:
        """Remove what is older; return how much."""


class AlertKeeping:
    """Takes messages from the loop and delivers them from a thread of its own.

    ``add`` costs microseconds and never waits; ``flush`` waits for the disk, never for the database. Beyond what the
    spool, or where no disk takes anything the memory, can hold, the oldest messages are dropped and counted.
    """

    def __init__(
        self,
        store: Store,
        spool: AlertSpool,
        metrics: ModelMetrics,
        *,
        retention_us: int,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        max_pending: int = 10_000,
        gather_s: float = 0.25,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
    ) -> None:
        """Start the thread; the database is not touched here.

        Args:
            store: the database.
            spool: where messages wait for it; closed by ``close``.
            metrics: told how many wait, and of failures.
            retention_us: what was last spoken of longer ago is removed from the database.
            now_us: the wall clock.
            max_pending: messages held in memory while the disk takes none.
            gather_s: after the first message, so that those that follow share its transaction.
            first_wait_s: after a failure; doubled with each further one.
            longest_wait_s: between two tries.
        """
        self._store = store
        self._spool = spool
        self._metrics = metrics
        self._retention_us = retention_us
        self._now_us = now_us
        self._max_pending = max_pending
        self._gather_s = gather_s
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._lock = threading.Lock()
        self._pending: deque[AlertMessage] = deque()
        self._in_flight: list[AlertMessage] = []
        """On their way from memory into the database: neither there nor on the disk, as far as is known."""
        self._silenced: Counter[str] = Counter()
        self._writing = threading.Lock()
        """Held while something is written to the disk, for which the loop may wait; never while a database is asked."""
        self._telling = threading.Lock()
        self._dropped = 0
        self._refused = 0
        self._wake = threading.Event()
        self._wake.set()  # an earlier run may have left something
        self._stop = threading.Event()
        self._retain_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="alert-keeping", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return how many messages the database does not have yet."""
        return len(self._pending) + len(self._in_flight) + self._spool.waiting

    @property
    def lost(self) -> int:
        """Return how many messages were dropped for want of room, or refused by the database, since the start."""
        return self._dropped + self._refused + self._spool.dropped

    def add(self, messages: Sequence[AlertMessage]) -> None:
        """Take messages; returns at once."""
        if not messages:
            return
        with self._lock:
            self._pending.extend(messages)
            self._trim()
        self._wake.set()

    def silenced(self, counts: Mapping[str, int]) -> None:
        """Take how many more incidents each label, by its id, has kept silent; a crash may lose the newest of these."""
        if not counts:
            return
        with self._lock:
            self._silenced.update(counts)
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Return whether everything added is durable: on the disk, or in the database already.

        False where the disk takes nothing, or another write to it lasts longer than ``timeout_s``; then nothing is
        dropped, and the next ``flush`` tries again.
        """
        if not self._writing.acquire(timeout=timeout_s):
            return False
        try:
            return self._write_down()
        finally:
            self._writing.release()
            self._tell()

    def close(self, timeout_s: float = 5.0) -> None:
        """Make everything durable, try once more to deliver it, and leave; what is left waits for the next start."""
        if not self.flush(timeout_s):
            left = len(self._pending) + len(self._in_flight)
            log.error("left with messages that neither disk nor database took", messages=left)
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():  # else it is in the database's hands, and ends with the process
            self._spool.close()

    def _tell(self) -> None:
        """Count what waits and what was lost; one thread at a time, or the older count could be told last."""
        with self._telling:
            self._metrics.database_waiting(self.waiting, self.lost)

    # ---- writing down ----

    def _write_down(self) -> bool:
        """Move what is pending to the spool, and what may not have reached the database; ``_writing`` is held."""
        batch = self._take_pending()
        in_flight = self._in_flight
        if not batch and not in_flight:
            return True
        try:
            self._spool.append([encode(message) for message in (*in_flight, *batch)])
        except OSError as error:
            log.error("the alert spool cannot be written; messages wait in memory", error=str(error))
            self._put_back(batch)
            return False
        self._in_flight = []  # safe now; that the database gets them twice changes nothing
        return True

    def _take_pending(self) -> list[AlertMessage]:
        with self._lock:
            batch = list(self._pending)
            self._pending.clear()
        return batch

    def _put_back(self, batch: Sequence[AlertMessage]) -> None:
        with self._lock:
            self._pending.extendleft(reversed(batch))
            self._trim()

    def _trim(self) -> None:
        """Drop the oldest of what is too much; ``_lock`` is held."""
        while len(self._pending) > self._max_pending:
            self._pending.popleft()
            self._dropped += 1

    # ---- the thread ----

    def _run(self) -> None:
        wait_s, stopping = 0.0, False
        while not stopping:
            if wait_s:
                self._stop.wait(wait_s)
            else:
                self._wake.wait(_RETAIN_EVERY_S)
                self._stop.wait(self._gather_s)
            self._wake.clear()
            stopping = self._stop.is_set()  # asked before the last try, so that there is one
            wait_s = self._try_to_deliver(wait_s)

    def _try_to_deliver(self, waited_s: float) -> float:
        """Deliver all there is; return how long to wait before the next try, 0.0 when all is well."""
        wait_s = min(2 * waited_s or self._first_wait_s, self._longest_wait_s)
        try:
            self._deliver()
        except StoreUnavailable as error:
            self._metrics.database_failed()
            log.warning(
                "the alert database is away; messages wait", waiting=self.waiting, error=str(error), in_s=wait_s
            )
            return wait_s
        except ConnectorError as error:
            self._metrics.database_failed()
            log.error("the alert database cannot be used; messages wait", waiting=self.waiting, error=str(error))
            return self._longest_wait_s
        except Exception:
            # A defect here must not end the thread: scoring would go on, and nobody would notice.
            log.exception("delivering alerts failed; will try again", waiting=self.waiting, in_s=wait_s)
            return wait_s
        finally:
            self._tell()
        if waited_s:
            log.info("the alert database is back; all messages are delivered")
        return 0.0

    def _deliver(self) -> None:
        with self._writing:
            written = self._write_down()
        while (segment := self._spool.oldest()) is not None:
            self._keep(_rows(segment))
            self._spool.remove(segment)
        if not written:
            self._deliver_from_memory()
        self._deliver_silenced()
        if time.monotonic() >= self._retain_at_s:
            removed = self._store.retain(self._now_us() - self._retention_us)
            self._retain_at_s = time.monotonic() + _RETAIN_EVERY_S
            if removed:
                log.info("old incidents removed", incidents=removed)

    def _deliver_from_memory(self) -> None:
        """Deliver what no disk takes; it stays in memory where this fails, unless a disk has taken it meanwhile."""
        with self._writing:
            self._in_flight = self._take_pending()
            batch = list(self._in_flight)
        try:
            self._keep([incident_row(message) for message in batch])
        except BaseException:
            with self._writing:
                taken_back, self._in_flight = self._in_flight, []
                self._put_back(taken_back)
            raise
        self._in_flight = []

    def _deliver_silenced(self) -> None:
        with self._lock:
            counts, self._silenced = self._silenced, Counter()
        try:
            self._store.silenced(counts)
        except BaseException:
            with self._lock:
                self._silenced.update(counts)
            raise

    def _keep(self, rows: Sequence[IncidentRow]) -> None:
        for first in range(0, len(rows), _ROWS_PER_TRANSACTION):
            some = rows[first : first + _ROWS_PER_TRANSACTION]
            try:
                self._store.keep(some)
            except StoreRefused:
                self._keep_one_by_one(some)

    def _keep_one_by_one(self, rows: Sequence[IncidentRow]) -> None:
        """Keep all but those that the database refuses: one of them would hold up all others for ever."""
        for row in rows:
            try:
                self._store.keep([row])
            except StoreRefused as error:
                self._refused += 1
                log.error(
                    "the alert database refuses a message", incident=row.id, sequence=row.sequence, error=str(error)
                )


def _rows(segment: Segment) -> list[IncidentRow]:
    """Return the segment's messages; lines that are none, such as one cut short by a crash, are left out."""
    rows = []
    for line in segment.read():
        try:
            rows.append(incident_row(decode(line), line))
        except ValueError as error:  # UnicodeDecodeError too
            log.warning("a line of the alert spool is left out", path=str(segment.path), error=str(error))
    return rows
