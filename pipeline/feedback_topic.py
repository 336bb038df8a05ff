"""The feedback topic: operators' labels from Kafka into the database.

A record's value is a JSON object; ``reason``, ``until`` and ``author`` may be left out where they are not needed:

    {"incident_id": "0b…32 hex digits", "label": "expected", "reason": "fire drill", "until": "2026-03-01T18:00:00Z",
     "author": "kim"}

``label`` is true, false_alarm, expected or none. Offsets are committed when the labels are in the database. A record
that is read again changes nothing: neither a label nor its withdrawal undoes what was said since.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from connectors.base import RecordBlock, Source, TopicPartition
from connectors.errors import ConnectorError, DamagedRecords, StoreRefused
from connectors.json_documents import NOT_JSON
from connectors.kafka_batches import DamagedBatch
from pipeline.label_request import LabelRequest, LabelStore, label_request
from pipeline.metrics_models import ModelMetrics

log = structlog.get_logger("vedette.feedback")

_POLL_S = 0.5
_LONGEST_WAIT_S = 30.0
_MOST_WAITING = 1_000
"""Labels that wait for their incident or the database; with more of them nothing further is read."""
_ASK_AGAIN_S = 5.0
"""How often it is asked whether an incident is there by now."""
_LARGEST_BYTES = 64 * 1024
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "vedette/feedback")


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record's value. Unknown fields are refused: a misspelt ``until`` would make a label last."""

    incident_id: str
    label: str
    reason: str | None = ""
    until: str | None = None
    author: str | None = ""


_decoder = msgspec.json.Decoder(Feedback)


@dataclass(slots=True)
class _Waiting:
    request: LabelRequest
    partition: TopicPartition
    offset: int
    label_id: str
    since_s: float
    ask_s: float
    """Not before."""


class FeedbackTopic:
    """Reads the topic from a thread of its own and labels incidents.

    A record that cannot be understood is logged, counted and left behind. One about an incident that is not there is
    kept for ``patience_s``: it may be on its way into the database. While the database is away nothing is lost.
    """

    def __init__(
        self,
        source: Source,
        store: LabelStore,
        metrics: ModelMetrics,
        *,
        patience_s: float = 600.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            source: of the feedback topic alone, with a group of its own; closed by the thread.
            store: the database.
            metrics: told of failures.
            patience_s: how long a label waits for its incident.
            now_us: the wall clock.
            monotonic: the clock for waiting.
            changed: called after a label is in the database, such as ``LabelFeed.refresh``.
        """
        self._source = source
        self._store = store
        self._metrics = metrics
        self._patience_s = patience_s
        self._now_us = now_us
        self._monotonic = monotonic
        self._changed = changed
        self._waiting: deque[_Waiting] = deque()
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self.accepted = 0
        """Records whose label is in the database, since the start."""
        self.refused = 0
        """Records left behind: not understood, or about no incident that we know."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        source.on_rebalance(self._rebalanced)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop reading and leave the group."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def turn(self) -> None:
        """Read what came, say it to the database, commit what was said.

        Raises:
            ConnectorError: if topic or database are away; nothing is lost, and the next turn goes on.
        """
        if len(self._waiting) < _MOST_WAITING:
            for block in self._source.poll(_POLL_S):
                self._read(block)
        try:
            self._apply()
        finally:
            self._commit()

    # ---- inner ----

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            try:
                self.turn()
                wait_s = _POLL_S if len(self._waiting) >= _MOST_WAITING else 0.0
                continue
            except DamagedBatch as error:
                self.refused += 1
                self._metrics.feedback(False)
                log.error("damaged feedback left behind", partition=error.partition.partition, error=str(error))
                with suppress(ValueError):  # the partition may be another's by now
                    self._source.seek(error.partition, error.next_offset)
            except ConnectorError as error:
                log.warning("feedback is held up; will try again", waiting=len(self._waiting), error=str(error))
                if isinstance(error, DamagedRecords) or not error.retriable:
                    wait_s = _LONGEST_WAIT_S
            except Exception:
                log.exception("reading feedback failed; will try again", waiting=len(self._waiting))
            wait_s = min(2 * wait_s or _POLL_S, _LONGEST_WAIT_S)
        self._source.close()

    def _read(self, block: RecordBlock) -> None:
        partition = TopicPartition(block.topic, block.partition)
        for value, offset in zip(block.values, block.offsets.tolist(), strict=True):
            if value is None:
                continue  # a tombstone says nothing
            try:
                request = parse(value, self._now_us())
            except ValueError as error:
                self._refuse(partition, offset, str(error))
                continue
            # The same record has the same label wherever and how often it is read.
            label_id = uuid.uuid5(_NAMESPACE, f"{partition.topic}/{partition.partition}/{offset}").hex
            now_s = self._monotonic()
            self._waiting.append(_Waiting(request, partition, offset, label_id, now_s, now_s))
        self._next[partition] = block.next_offset

    def _apply(self) -> None:
        """Say everything that waits, in its order; what has no incident yet goes on waiting."""
        kept: deque[_Waiting] = deque()
        accepted = self.accepted
        try:
            while self._waiting:
                one = self._waiting[0]
                behind = any(other.request.incident_id == one.request.incident_id for other in kept)
                if behind or not self._done(one):
                    kept.append(one)
                self._waiting.popleft()
        except ConnectorError:
            self._metrics.database_failed()
            raise
        finally:
            self._waiting.extendleft(reversed(kept))
            if self.accepted > accepted:
                self._changed()

    def _done(self, one: _Waiting) -> bool:
        """Return False where it has to wait for its incident."""
        now_s = self._monotonic()
        if now_s < one.ask_s:
            return False
        try:
            if one.request.apply(self._store, self._now_us(), one.label_id):
                self.accepted += 1
                self._metrics.feedback(True)
                return True
        except StoreRefused as error:
            self._refuse(one.partition, one.offset, str(error))
            return True
        if now_s - one.since_s >= self._patience_s:
            self._refuse(one.partition, one.offset, f"there is no incident {one.request.incident_id[:80]}")
            return True
        one.ask_s = now_s + min(_ASK_AGAIN_S, self._patience_s)
        return False

    def _refuse(self, partition: TopicPartition, offset: int, why: str) -> None:
        self.refused += 1
        self._metrics.feedback(False)
        log.warning(
            "feedback left behind", topic=partition.topic, partition=partition.partition, offset=offset, error=why
        )

    def _commit(self) -> None:
        """Commit up to the first record that still waits, in each partition."""
        offsets = dict(self._next)
        for one in self._waiting:
            offsets[one.partition] = min(offsets[one.partition], one.offset)
        if offsets != self._committed:
            self._source.commit(offsets)
            self._committed = offsets

    def _rebalanced(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        """Forget what now is another's: it goes on where we committed."""
        moved = revoked | assigned
        self._waiting = deque(one for one in self._waiting if one.partition not in moved)
        for partition in moved:
            self._next.pop(partition, None)
            self._committed.pop(partition, None)


def parse(value: bytes, now_us: int) -> LabelRequest:
    """Return what a record asks for; raises ValueError, in words for whoever wrote it."""
    if len(value) > _LARGEST_BYTES:
        raise ValueError(f"{len(value)} bytes are too many; allowed: {_LARGEST_BYTES}")
    try:
        said = _decoder.decode(value)
    except NOT_JSON as error:
        raise ValueError(f"not a label: {error}") from None
    return label_request(
        said.incident_id, said.label, said.reason or "", said.until, said.author or "feedback topic", now_us
    )
