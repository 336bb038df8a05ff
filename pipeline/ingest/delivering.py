"""The one way to Kafka: parcels of all sources in order; to the spool while Kafka is away, and out of it in order."""

from __future__ import annotations

import math
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
_RETRY_MOST = 5
_FULL_RETRY = 5
"""Sources that found no room are to wait for so many retries of Kafka."""
_IDLE_S = 0.5
_SAY_AGAIN_S = 60.0
_PARCEL_BYTES = 100
"""What a parcel costs besides its messages, roughly."""
_CLOSING_SHARE = 0.7
"""Of the time to close, that Kafka may take; the rest is for the spool."""

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
        retry_s: how long Kafka is left alone after a first failure; up to 5 times as long after further ones.
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
        self._full_until_s = -math.inf
        self._delivered_from_spool: list[Parcel] = []
        """Kafka has them, and the spool too: it could not be written. They are not sent again for that."""
        self._failing: ConnectorError | None = None
        self._taking_from_s = -math.inf
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
            SpoolFull: if there is no room, or what was offered before is just failing; nothing was taken.
            Stopping: after ``close``.
        """
        size = _PARCEL_BYTES + sum(len(message.value) + len(message.key) + 100 for message in parcel.messages)
        done: Future[None] = Future()
        with self._turn:
            if self._closing:
                raise Stopping
            if self._failing is not None or self._monotonic() < self._taking_from_s:
                raise SpoolFull("what was offered before could not be made durable", self._retry_s)
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
        waiting, away = self._spool.readings, self._away
        if away is None and not waiting:
            return []
        share = round(100 * self._spool.bytes / self._spool.max_bytes)
        kafka = "Kafka is back" if away is None else f"Kafka is away ({away})"
        full = "; it is full: sources have to wait" if self._monotonic() < self._full_until_s else ""
        return [f"{kafka}; {waiting} readings wait in the spool, {share} % full{full}"]

    def close(self, timeout_s: float = 30.0) -> None:
        """Make durable what was offered, and end; what Kafka does not take in time goes to the spool."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s * _CLOSING_SHARE)
        self._delivery.close()  # a delivery that is under way fails by that
        if self._thread.ident is not None:
            self._thread.join(timeout_s * (1.0 - _CLOSING_SHARE))
            if self._thread.is_alive():
                log.error("what was offered last may not be durable; it comes again", timeout_s=timeout_s)
            self._delivery.close()  # it may have been opened again for the rest

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
                self._pause()
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
        if not len(self._spool):
            return _IDLE_S
        return min(_IDLE_S, max(self._retry_at_s - self._monotonic(), 0.0))

    def _time_to_try(self) -> bool:
        return self._monotonic() >= self._retry_at_s

    def _pause(self) -> None:
        """Leave Kafka and the spool alone for a while: what fails here would fail again at once."""
        self._retry_at_s = self._monotonic() + _RETRY_MOST * self._retry_s

    def _make_durable(self, taken: list[Waiting]) -> None:
        parcels = [parcel for parcel, _, _ in taken]
        if len(self._spool) or not self._time_to_try() or not self._delivered(parcels):
            durable = self._spooled(taken)
        else:
            self._move(parcels)
            durable = len(taken)
        self._stand(parcels[:durable])
        for _, done, _ in taken[:durable]:
            done.set_result(None)

    def _spooled(self, taken: Sequence[Waiting]) -> int:
        """Put parcels into the spool; return how many of them, from the first, are there. The others' sources know."""
        parcels = [parcel for parcel, _, _ in taken]
        kept = 0
        try:
            try:
                self._spool.put(parcels)
                return len(parcels)
            except SpoolFull:  # all of them; some will fit
                for parcel in parcels:
                    self._spool.put([parcel])
                    kept += 1
        except SpoolFull as error:
            error.retry_after_s = _FULL_RETRY * self._retry_s
            self._say_full()
            self._fail(taken[kept:], error)
        except SpoolUnavailable as error:
            log.error("the spool cannot be written", error=str(error))
            self._metrics.spool_failed()
            self._fail(taken[kept:], error)
        return kept

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
            if not self._delivered_from_spool:
                parcels = self._spool.oldest(_BATCH_BYTES)
                self._delivered_from_spool = parcels if self._delivered(parcels) else []
            self._spool.remove(self._delivered_from_spool)
            self._delivered_from_spool = []
        except SpoolUnavailable as error:
            log.error("the spool cannot be used", error=str(error))
            self._metrics.spool_failed()
            self._pause()

    def _stand(self, parcels: Sequence[Parcel]) -> None:
        with self._cursors_lock:
            for parcel in parcels:
                if parcel.cursor is not None:
                    self._cursors[parcel.source] = parcel.cursor

    def _fail(self, taken: Sequence[Waiting], error: ConnectorError) -> None:
        """Tell all who wait, those behind in the queue too: what comes later must not be durable before.

        Until all have been told nothing new is taken, or a reading that is sent again just now would pass for the
        repeat of one that is lost; nor for a moment after, in which sources notice, and offer in order again.
        """
        with self._turn:
            behind, self._queue = list(self._queue), deque()
            self._queued_bytes = 0
            self._failing = error
        try:
            for _, done, _ in (*taken, *behind):
                if not done.done():
                    done.set_exception(error)
        finally:
            self._taking_from_s = self._monotonic() + self._retry_s
            self._failing = None

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
        self._retry_at_s = 0.0

    def _say_full(self) -> None:
        self._metrics.spool_was_full()
        self._full_until_s = self._monotonic() + 2 * _FULL_RETRY * self._retry_s  # by then who waits has asked again
        if self._monotonic() - self._full_said_s >= _SAY_AGAIN_S:
            self._full_said_s = self._monotonic()
            log.error(
                "the spool is full: sources have to wait until Kafka is back",
                spool=str(self._spool.path), bytes=self._spool.bytes, max_bytes=self._spool.max_bytes,
            )  # fmt: skip

    def _show(self) -> None:
        self._metrics.kafka_reachable(self._away is None)
        self._metrics.spooled(self._spool.bytes, self._spool.readings, self._spool.max_bytes)
