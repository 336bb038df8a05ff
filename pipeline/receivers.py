"""Receivers: alert messages on their way out, to whoever is to hear of them.

    loop: add ► route ► flush ► outbox on the disk          one thread each: outbox ► Alertmanager, webhook, file

The loop hands over and goes on; no receiver, however slow or dead, is waited for.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from connectors.errors import OutboxUnavailable
from connectors.outbox import Outbox
from connectors.outbox_rows import Entry
from pipeline.alertmanager_alerts import as_message
from pipeline.delivering import Delivery, ReceiverStatus
from pipeline.incident import AlertMessage, Incident, Kind, Phase, Tier, encode
from pipeline.metrics_receivers import ReceiverMetrics

log = structlog.get_logger("vedette.receivers")

_UPKEEP_EVERY_S = 3600.0
_KEEP_US = 30 * 86_400 * 1_000_000
"""What ended, was refused, or waits for a receiver that is configured no more is forgotten after 30 days."""
_ENDS = (Phase.RESOLVED, Phase.CORRECTED)


@dataclass(frozen=True, slots=True)
class Route:
    """Which messages go into which queues."""

    queues: tuple[str, ...]
    streams: tuple[str, ...] = ("*",)
    """Names, where * and ? stand for any characters."""
    kinds: frozenset[Kind] = frozenset(Kind)
    least: Tier = Tier.ALERT
    repeats: bool = False
    """Whether its receivers have to be told again and again of what is open."""

    def takes(self, message: AlertMessage) -> bool:
        """Return whether the message is for these queues."""
        if message.tier < self.least or message.kind not in self.kinds:
            return False
        return any(fnmatch.fnmatchcase(message.stream, pattern) for pattern in self.streams)


@dataclass(frozen=True, slots=True)
class _Holding:
    """Which incidents are ours, as the loop said last."""

    incidents: Sequence[Incident]
    said_since: set[str] = field(default_factory=set)
    """Ids of what was said after that: ours too, though it may be written before it."""


class Receivers:
    """Takes messages from the loop, keeps them in the outbox, and has them delivered.

    ``add`` costs microseconds and never waits; ``flush`` waits for the disk, never for a receiver. Where the disk takes
    nothing messages wait in memory, ``max_pending`` of them; beyond it the oldest are dropped and counted.
    """

    def __init__(
        self,
        outbox: Outbox,
        routes: Sequence[Route],
        deliveries: Sequence[Delivery],
        metrics: ReceiverMetrics,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        max_pending: int = 10_000,
        gather_s: float = 0.25,
        retry_s: float = 1.0,
    ) -> None:
        """Take the parts ready made; nothing runs before ``start``.

        Args:
            outbox: closed by ``close``.
            routes: of each receiver.
            deliveries: one for each queue.
            metrics: where to count.
            now_us: the wall clock.
            max_pending: messages in memory while the disk takes none.
            gather_s: after the first message, so that those that follow share its transaction.
            retry_s: between two tries to write to a disk that takes nothing.
        """
        self._outbox = outbox
        self._routes = tuple(routes)
        self._deliveries = {delivery.instance.queue: delivery for delivery in deliveries}
        self._metrics = metrics
        self._now_us = now_us
        self._max_pending = max_pending
        self._gather_s = gather_s
        self._retry_s = retry_s
        self._lock = threading.Lock()
        self._pending: deque[AlertMessage] = deque()
        self._holding: _Holding | None = None
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._upkeep_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    # ---- the loop's side ----

    def start(self) -> None:
        """Begin to write and to deliver, also what an earlier process left."""
        self._thread.start()
        for delivery in self._deliveries.values():
            delivery.start()

    def add(self, messages: Sequence[AlertMessage]) -> None:
        """Take messages; returns at once."""
        if not messages:
            return
        with self._lock:
            self._pending.extend(messages)
            if self._holding is not None:
                self._holding.said_since.update(message.incident_id for message in messages)
            self._trim()
        self._wake.set()

    def hold(self, incidents: Sequence[Incident]) -> None:
        """Take note that these are all incidents that are open in this process now; returns at once.

        To be called when partitions have come or gone. What went away with a partition is told again by the process
        that has it now, and by this one no more; what came with one is told again from now on.
        """
        with self._lock:
            self._holding = _Holding([incident for incident in incidents if incident.announced])
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Return whether everything added is on the disk.

        False where the disk takes nothing, or another write lasts longer than ``timeout_s``; then nothing is dropped,
        and the next ``flush`` tries again.
        """
        deadline_s = time.monotonic() + timeout_s
        if not self._writing.acquire(timeout=timeout_s):
            return False
        try:
            return self._write_down(max(deadline_s - time.monotonic(), 0.0))
        finally:
            self._writing.release()

    def close(self, timeout_s: float = 5.0) -> None:
        """Make everything durable and leave; what is not delivered is delivered after the next start."""
        if not self.flush(timeout_s):
            log.error("left with messages that the outbox did not take", messages=len(self._pending))
        self._stop.set()
        self._wake.set()
        deadline_s = time.monotonic() + timeout_s
        for delivery in self._deliveries.values():
            delivery.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        left = [d for d in self._deliveries.values() if not d.join(max(deadline_s - time.monotonic(), 0.0))]
        if not left and not self._thread.is_alive():  # else it ends with the process
            self._outbox.close()

    # ---- asked from other threads ----

    def status(self) -> list[ReceiverStatus]:
        """Return how all receivers' instances are doing; may raise ``OutboxUnavailable``."""
        return [delivery.status() for delivery in self._deliveries.values()]

    def undelivered(self) -> int:
        """Return how many messages wait, each receiver's instance counted; may raise ``OutboxUnavailable``."""
        return sum(status.waiting for status in self.status())

    # ---- writing down ----

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_UPKEEP_EVERY_S)
            self._stop.wait(self._gather_s)
            self._wake.clear()
            try:
                with self._writing:
                    written = self._write_down(_UPKEEP_EVERY_S)
                if not written:
                    self._stop.wait(self._retry_s)
                    self._wake.set()
                self._upkeep()
            except OutboxUnavailable as error:
                log.warning("the outbox could not be tidied", error=str(error))
            except Exception:
                # A defect here must not end the thread: scoring would go on, and nobody would hear.
                log.exception("the outbox could not be written; will try again")
                self._stop.wait(self._retry_s)

    def _write_down(self, timeout_s: float) -> bool:
        """Move what is pending to the outbox; ``_writing`` is held."""
        with self._lock:
            batch, holding = list(self._pending), self._holding
            self._pending.clear()
            self._holding = None
        try:
            got = self._outbox.add(self._entries(batch), self._now_us(), timeout_s)
            if holding is not None:
                got |= self._hold(holding)
        except OutboxUnavailable as error:
            log.error("the outbox cannot be written; messages wait in memory", error=str(error), messages=len(batch))
            self._metrics.outbox_failed()
            self._put_back(batch, holding)
            return False
        except BaseException:
            self._put_back(batch, holding)
            raise
        finally:
            self._metrics.outbox_unwritten(len(self._pending))
        for queue in got:
            self._deliveries[queue].wake()
        return True

    def _entries(self, messages: Sequence[AlertMessage], repeating_only: bool = False) -> list[Entry]:
        entries = []
        for message in messages:
            takers = [r for r in self._routes if r.takes(message) and (r.repeats or not repeating_only)]
            body = encode(message) if takers else b""
            ends = message.phase in _ENDS
            for route in takers:
                entries += [Entry(q, message.incident_id, message.sequence, ends, body) for q in route.queues]
        return entries

    def _hold(self, holding: _Holding) -> set[str]:
        """Let the outbox know what is ours; what it never heard of came from another process, and is told from here."""
        queues = [queue for route in self._routes if route.repeats for queue in route.queues]
        now_us = self._now_us()
        self._outbox.hold(queues, [*(incident.id for incident in holding.incidents), *holding.said_since])
        messages = [as_message(incident, now_us) for incident in holding.incidents]
        got = self._outbox.add(self._entries(messages, repeating_only=True), now_us)
        for queue in queues:
            self._deliveries[queue].hurry()
        return got

    def _put_back(self, batch: Sequence[AlertMessage], holding: _Holding | None) -> None:
        with self._lock:
            if self._holding is None and holding is not None:
                holding.said_since.update(message.incident_id for message in self._pending)
                self._holding = holding
            self._pending.extendleft(reversed(batch))
            self._trim()

    def _trim(self) -> None:
        """Drop the oldest of what is too much; ``_lock`` is held."""
        lost = len(self._pending) - self._max_pending
        for _ in range(lost):
            self._pending.popleft()
        if lost > 0:
            self._metrics.outbox_lost(lost)

    def _upkeep(self) -> None:
        if time.monotonic() < self._upkeep_at_s:
            return
        self._upkeep_at_s = time.monotonic() + _UPKEEP_EVERY_S
        oldest_us = self._now_us() - _KEEP_US
        self._outbox.retain(oldest_us)
        for queue, messages in self._outbox.strangers(list(self._deliveries)).items():
            gone = self._outbox.forget(queue, oldest_us)
            log.warning(
                "messages wait for a receiver that is not configured",
                queue=queue,
                waiting=messages - gone,
                removed=gone,
            )
