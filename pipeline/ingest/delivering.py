"""The one way to Kafka: what sources offer is made durable by a thread, in the order of each source."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import structlog

from connectors.errors import ConnectorError, SpoolFull, SpoolUnavailable
from connectors.source import Stopping
from connectors.spool import Parcel, Part, Spool
from pipeline.ingest.lanes import Delivery, Lanes
from pipeline.ingest.metrics import IngestMetrics

log = structlog.get_logger("vedette.ingest")

_QUEUED_BYTES = 32 * 1_048_576
_BATCH_BYTES = 4 * 1_048_576
_PARCEL_BYTES = 100
"""What a parcel costs besides its messages, roughly."""
_CLOSING_SHARE = 0.7
"""Of the time to close, that Kafka may take; the rest is for the spool."""


class _Waiting(NamedTuple):
    """A parcel, and what its source waits for."""

    parcel: Parcel
    parts: Sequence[Part]
    done: Future[None]
    bytes: int

    @property
    def source(self) -> str:
        return self.parcel.source


class Delivering:
    """Makes parcels durable, from a thread of its own; of each source in the order in which they were offered.

    A parcel has a part for each topic. A part goes straight to Kafka while its topic takes what it is given and nothing
    waits for that topic in the spool; otherwise to the end of the topic's lane there. So the order of each source on
    each topic, and of each entity, holds. A parcel is durable, and its cursor moves, when all its parts are.

    Args:
        delivery: to Kafka.
        spool: on the disk.
        metrics: where to count.
        ticked: called at every turn.
        retry_s: how long Kafka, or a topic, is left alone after a first failure; up to 5 times as long after others.
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
        self._lanes = Lanes(delivery, spool, metrics, retry_s=retry_s, monotonic=monotonic)
        self._spool = spool
        self._metrics = metrics
        self._ticked = ticked
        self._retry_s = retry_s
        self._monotonic = monotonic
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._turn = threading.Condition()
        self._closing = False
        self._failing: frozenset[str] = frozenset()
        self._taking_from_s: dict[str, float] = {}
        """By source: nothing is taken from it before."""
        self._cursors_lock = threading.Lock()
        self._cursors: dict[str, str | None] = {}
        self._thread = threading.Thread(target=self._run, name="vedette-delivering", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._lanes.show()
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
            SpoolFull: if there is no room, or what this source offered before is just failing; nothing was taken.
            Stopping: after ``close``.
        """
        size = _PARCEL_BYTES + sum(len(message.value) + len(message.key) + 100 for message in parcel.messages)
        one = _Waiting(parcel, parcel.parts(), Future(), size)
        with self._turn:
            if self._closing:
                raise Stopping
            refusal = self._refused(one)
            if refusal is not None:
                raise refusal
            self._queue.append(one)
            self._queued_bytes += size
            self._turn.notify()
        return one.done

    def _refused(self, one: _Waiting) -> SpoolFull | None:
        """Return why a parcel is not taken now."""
        if one.source in self._failing or self._monotonic() < self._taking_from_s.get(one.source, -math.inf):
            return SpoolFull("what was offered before could not be made durable", self._retry_s)
        if self._queued_bytes and self._queued_bytes + one.bytes > _QUEUED_BYTES:
            return SpoolFull("more readings wait to be delivered than memory may hold", self._retry_s)
        return self._lanes.no_room([part.topic for part in one.parts], self._queued_bytes + one.bytes)

    def notes(self) -> list[str]:
        """Return what a person should know."""
        return self._lanes.notes()

    def close(self, timeout_s: float = 30.0) -> None:
        """Make durable what was offered, and end; what Kafka does not take in time goes to the spool."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s * _CLOSING_SHARE)
        self._lanes.close()  # a delivery that is under way fails by that
        if self._thread.ident is not None:
            self._thread.join(timeout_s * (1.0 - _CLOSING_SHARE))
            if self._thread.is_alive():
                log.error("what was offered last may not be durable; it comes again", timeout_s=timeout_s)
            self._lanes.close()  # it may have been opened again for the rest

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
                self._lanes.drain()
            except Exception as error:  # whatever it is, sources must hear of it, and the thread go on
                log.exception("delivering failed")
                self._lanes.rest()
                failure = SpoolUnavailable(f"delivering failed: {error}")
                self._fail(taken, {one.source: failure for one in taken})
            self._lanes.show()

    def _take(self) -> list[_Waiting] | None:
        """Return what is queued, up to a batch; None when it is over."""
        with self._turn:
            if not self._queue and not self._closing:
                self._turn.wait(self._lanes.idle_s())
            taken: list[_Waiting] = []
            size = 0
            while self._queue and (not taken or size < _BATCH_BYTES):
                taken.append(self._queue.popleft())
                size += taken[-1].bytes
            self._queued_bytes -= size
            return None if self._closing and not taken else taken

    def _make_durable(self, taken: Sequence[_Waiting]) -> None:
        """Keep first what has to wait, then bring the rest to Kafka, and keep what is refused there."""
        topics = {part.topic for one in taken for part in one.parts}
        aside = {topic for topic in topics if self._lanes.waits(topic)}
        left = self._put_aside(taken, aside, last=aside == topics) if aside else taken
        straight = [part for one in left for part in one.parts if part.topic not in aside]
        if straight and (missed := self._lanes.carry(straight)):
            left = self._put_aside(left, missed, last=True)
        cursors = _cursors(left)
        self._move(cursors)
        with self._cursors_lock:
            self._cursors |= cursors
        for one in left:
            one.done.set_result(None)

    def _put_aside(self, taken: Sequence[_Waiting], topics: Collection[str], *, last: bool) -> Sequence[_Waiting]:
        """Put the parts for some topics into the spool; return the parcels that can go on. The others' sources know.

        Args:
            taken: in order.
            topics: to whose lanes the parts go.
            last: whether parcels are durable with that, so that their cursors can move at the same time.
        """
        why = self._put([part for one in taken for part in one.parts if part.topic in topics], taken, last)
        if why is None:
            return taken
        kept: list[_Waiting] = []
        failed: list[_Waiting] = []
        errors: dict[str, ConnectorError] = {}
        for one in taken:
            parts = [part for part in one.parts if part.topic in topics]
            if parts and one.source not in errors:  # of those that do not fit all together some will
                error = self._put(parts, [one], last) if isinstance(why, SpoolFull) else why
                if error is not None:
                    errors[one.source] = error
            (failed if one.source in errors else kept).append(one)
        self._fail(failed, errors)
        return kept

    def _put(self, parts: Sequence[Part], whole: Sequence[_Waiting], last: bool) -> ConnectorError | None:
        """Put parts into the spool, with the cursors of whole parcels if these are the last; return why that failed."""
        try:
            self._lanes.put(parts, _cursors(whole) if last else {})
        except SpoolFull as error:
            return error
        except SpoolUnavailable as error:
            log.error("the spool cannot be written", error=str(error))
            self._metrics.spool_failed()
            return error
        return None

    def _move(self, cursors: Mapping[str, str]) -> None:
        try:
            self._spool.move(cursors)
        except SpoolUnavailable as error:  # the readings are delivered; without the cursor they come twice
            log.error("a source's cursor cannot be kept; after a restart readings come again", error=str(error))
            self._metrics.spool_failed()

    def _fail(self, taken: Sequence[_Waiting], errors: Mapping[str, ConnectorError]) -> None:
        """Tell sources why, also of what is behind in the queue: what comes later must not be durable before.

        Until all of it has been told nothing new is taken from them, or a reading that is sent again just now would
        pass for the repeat of one that is lost; nor for a moment after, in which sources notice, and offer in order
        again. Other sources go on.

        Args:
            taken: what failed, and what these sources had offered after it, as far as it was in the same batch.
            errors: by source.
        """
        for error in errors.values():
            if isinstance(error, SpoolFull):
                self._lanes.say_full(str(error))
        with self._turn:
            behind = [one for one in self._queue if one.source in errors]
            self._queue = deque(one for one in self._queue if one.source not in errors)
            self._queued_bytes -= sum(one.bytes for one in behind)
            self._failing = frozenset(errors)
        try:
            for one in (*taken, *behind):
                if not one.done.done():
                    one.done.set_exception(errors[one.source])
        finally:
            with self._turn:
                self._taking_from_s |= dict.fromkeys(errors, self._monotonic() + self._retry_s)
                self._failing = frozenset()


def _cursors(parcels: Sequence[_Waiting]) -> dict[str, str]:
    """Return the newest cursor of each source."""
    return {one.source: one.parcel.cursor for one in parcels if one.parcel.cursor is not None}
