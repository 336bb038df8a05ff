"""The one way to Kafka: parcels of all sources in order; to the spool while Kafka is away, and out of it in order."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

import structlog

from connectors.errors import ConnectorError, SpoolFull, SpoolUnavailable
from connectors.source import Stopping
from connectors.spool import Message, Parcel, Spool
from pipeline.ingest.metrics import IngestMetrics

log = structlog.get_logger("vedette.ingest")

_QUEUED_BYTES = 32 * 1_048_576
_BATCH_BYTES = 4 * 1_048_576
_RETRY_MOST = 15
_FULL_RETRY = 5
"""Sources that found no room are to wait for so many retries of Kafka."""
_IDLE_S = 0.5
_SAY_AGAIN_S = 60.0

Waiting = tuple[Parcel, "Future[None]", int]
"""A parcel, what its source waits for, and its bytes."""


class Delivery(Protocol):
    """Delivers messages: all are acknowledged when ``deliver`` returns, or a ConnectorError says why not."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Return when all are acknowledged."""

    def close(self) -> None:
        """Leave."""


class Delivering:
    """Makes parcels durable in the order they were offered, from a thread of its own.

    While nothing waits in the spool and Kafka is there, parcels go straight to Kafka. Otherwise they go to the spool's
    end, and the spool's beginning to Kafka as soon as it is back: the order of each source, so of each entity, holds.

    Args:
        delivery: to Kafka.
        spool: on the disk.
        metrics: where to count.
        ticked: called at every turn.
        retry_s: how long Kafka is left alone after a first failure; up to 15 times as long after further ones.
        monotonic: the clock for waiting.
    """

    def __init__(
        self,
        delivery: Delivery,
        spool: Spool,
        metrics: IngestMetrics,
        *,
        ticked: Callable[[], None] = lambda: None,
        retry_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._metrics = metrics
        self._ticked = ticked
        self._monotonic = monotonic
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._turn = threading.Condition()
        self._closing = False
        self._away: str | None = None
        self._retry_s = retry_s
        self._backoff_s = retry_s
        self._retry_at_s = 0.0
        self._full_said_s = -_SAY_AGAIN_S
        self._cursors_lock = threading.Lock()
        self._cursors: dict[str, str | None] = {}
        self._thread = threading.Thread(target=self._run, name="vedette-delivering", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._show()
        self._thread.start()

    def register(self, source: str) -> None:
        """Look up where a source stands; before ``start``."""
        self._cursors[source] = self._spool.cursor(source)

    def cursor(self, source: str) -> str | None:
        """Return the newest durable cursor of a registered source; may be asked from any thread."""
        with self._cursors_lock:
            return self._cursors[source]

    def offer(self, parcel: Parcel) -> Future[None]:
        """Take a parcel; the future is done when it is durable. May be called from any thread.

        Raises:
            SpoolFull: if there is no room; nothing was taken.
            Stopping: after ``close``.
        """
        size = sum(len(message.value) + len(message.key) + 100 for message in parcel.messages)
        done: Future[None] = Future()
        with self._turn:
            if self._closing:
                raise Stopping
            if self._queued_bytes and self._queued_bytes + size > _QUEUED_BYTES:
                raise SpoolFull("more readings wait to be delivered than memory may hold", self._retry_s)
            if len(self._spool) and self._spool.bytes + self._queued_bytes + size > self._spool.max_bytes:
                self._say_full()
                raise SpoolFull(
                    f"the spool is full: {self._spool.bytes} of {self._spool.max_bytes} bytes",
                    _FULL_RETRY * self._retry_s,
                )
            self._queue.append((parcel, done, size))
            self._queued_bytes += size
            self._turn.notify()
        return done

    def notes(self) -> list[str]:
        """Return what a person should know."""
        if self._away is None:
            return []
        share = round(100 * self._spool.bytes / self._spool.max_bytes)
        return [f"Kafka is away ({self._away}); {self._spool.readings} readings wait in the spool, {share} % full"]

    def close(self, timeout_s: float = 30.0) -> None:
        """Make durable what was offered, and end."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._delivery.close()

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            taken = self._take()
            self._ticked()
            if taken is None:
                return
            try:
                if taken:
                    self._make_durable(taken)
                self._drain()
            except Exception as error:  # whatever it is, sources must hear of it, and the thread go on
                log.exception("delivering failed")
                self._fail(taken, SpoolUnavailable(f"delivering failed: {error}"))
            self._show()

    def _take(self) -> list[Waiting] | None:
        """Return what is queued, up to a batch; None when it is over."""
        with self._turn:
            if not self._queue and not self._closing:
                self._turn.wait(self._idle_s())
            taken: list[Waiting] = []
            size = 0
            while self._queue and (not taken or size < _BATCH_BYTES):
                taken.append(self._queue.popleft())
                size += taken[-1][2]
            self._queued_bytes -= size
            return None if self._closing and not taken else taken

    def _idle_s(self) -> float:
        if self._away is None and len(self._spool):
            return 0.0
        return min(_IDLE_S, max(self._retry_at_s - self._monotonic(), 0.0)) if self._away else _IDLE_S

    def _time_to_try(self) -> bool:
        return self._away is None or self._monotonic() >= self._retry_at_s

    def _make_durable(self, taken: list[Waiting]) -> None:
        parcels = [parcel for parcel, _, _ in taken]
        if len(self._spool) or not self._time_to_try() or not self._delivered(parcels):
            try:
                self._spool.put(parcels)
            except (SpoolFull, SpoolUnavailable) as error:
                if isinstance(error, SpoolFull):
                    error.retry_after_s = _FULL_RETRY * self._retry_s
                    self._say_full()
                else:
                    log.error("the spool cannot be written", error=str(error))
                    self._metrics.spool_failed()
                self._fail(taken, error)
                return
        else:
            self._move(parcels)
        self._stand(parcels)
        for _, done, _ in taken:
            done.set_result(None)

    def _delivered(self, parcels: Sequence[Parcel]) -> bool:
        """Return whether Kafka has acknowledged all messages."""
        started_s = self._monotonic()
        messages = [message for parcel in parcels for message in parcel.messages]
        try:
            if messages:
                self._delivery.deliver(messages)
        except ConnectorError as error:
            self._go_away(error)
            return False
        self._come_back()
        self._metrics.delivered(
            sum(parcel.readings for parcel in parcels), len(messages), self._monotonic() - started_s
        )
        return True

    def _move(self, parcels: Sequence[Parcel]) -> None:
        try:
            self._spool.move(parcels)
        except SpoolUnavailable as error:  # the readings are delivered; without the cursor they come twice
            log.error("a source's cursor cannot be kept; after a restart readings come again", error=str(error))
            self._metrics.spool_failed()

    def _drain(self) -> None:
        """Bring a part of the spool to Kafka when it is time for a try."""
        if not len(self._spool) or not self._time_to_try():
            return
        try:
            parcels = self._spool.oldest(_BATCH_BYTES)
            if self._delivered(parcels):
                self._spool.remove(parcels)
        except SpoolUnavailable as error:
            log.error("the spool cannot be read", error=str(error))
            self._metrics.spool_failed()
            self._retry_at_s = self._monotonic() + _RETRY_MOST * self._retry_s

    def _stand(self, parcels: Sequence[Parcel]) -> None:
        with self._cursors_lock:
            for parcel in parcels:
                if parcel.cursor is not None:
                    self._cursors[parcel.source] = parcel.cursor

    def _fail(self, taken: list[Waiting], error: ConnectorError) -> None:
        """Tell all who wait, those behind in the queue too: what comes later must not be durable before."""
        with self._turn:
            behind, self._queue = list(self._queue), deque()
            self._queued_bytes = 0
        for _, done, _ in (*taken, *behind):
            if not done.done():
                done.set_exception(error)

    def _go_away(self, error: ConnectorError) -> None:
        if self._away is None:
            say = log.warning if error.retriable else log.error
            say("Kafka does not take readings; they wait in the spool", error=str(error))
        self._away = str(error)
        self._retry_at_s = self._monotonic() + self._backoff_s * random.uniform(0.8, 1.2)
        self._backoff_s = min(self._backoff_s * 2, _RETRY_MOST * self._retry_s)

    def _come_back(self) -> None:
        if self._away is not None:
            log.info("Kafka takes readings again", waiting=self._spool.readings)
        self._away = None
        self._backoff_s = self._retry_s

    def _say_full(self) -> None:
        self._metrics.spool_was_full()
        if self._monotonic() - self._full_said_s >= _SAY_AGAIN_S:
            self._full_said_s = self._monotonic()
            log.error(
                "the spool is full: sources have to wait until Kafka is back",
                spool=str(self._spool.path), bytes=self._spool.bytes, max_bytes=self._spool.max_bytes,
            )  # fmt: skip

    def _show(self) -> None:
        self._metrics.kafka_reachable(self._away is None)
        self._metrics.spooled(self._spool.bytes, self._spool.readings, self._spool.max_bytes)
