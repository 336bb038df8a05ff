"""Kafka topics that others write as a source of readings: a consumer group that commits what is durable, no more."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple

import structlog

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import ConnectorError, SourceUnavailable, SpoolFull
from connectors.foreign_records import ForeignRecord, ForeignRecords, Outcome
from connectors.kafka_batches import DamagedBatch
from connectors.kafka_consumer import Patience
from connectors.kafka_source import KafkaSource
from connectors.reading import Reading, Rejected
from connectors.source import Outlet, Stopping

log = structlog.get_logger("vedette.ingest")

_RECORDS = 2000
"""Of one partition that are handed over at once."""
_MOST_PENDING = 16
"""Parts that may wait to become durable."""
_POLL_S = 0.2
_COMMIT_EVERY_S = 1.0
_LEAVE_S = 1.5
"""Told to stop it waits so long for what it handed over, so that this does not come again."""
_AGAIN_S = 1.0
"""What could not be made durable is read again after so long."""
_PATIENT = Patience(connect_s=6.0, commit_s=3.0, quiet_s=5.0, close_s=1.0)


class _Pending(NamedTuple):
    done: Future[None]
    partition: TopicPartition
    start: int
    next_offset: int


class ForeignTopics:
    """Brings the readings of topics; see ``connectors.source.ReadingSource`` for what it promises.

    Args:
        bootstrap_servers: of the Kafka that has the topics.
        topics: their names.
        group_id: the consumer group whose committed offsets are the cursor.
        records: reads them.
        close: called at the end of each life, for what ``records`` asks.
        instance: a name of this member that outlasts its restarts; None: none.
        settings: kafka-python's own.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topics: Sequence[str],
        group_id: str,
        records: ForeignRecords,
        *,
        close: Callable[[], None] = lambda: None,
        instance: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._connect = functools.partial(
            KafkaSource, bootstrap_servers, topics, group_id, instance=instance, max_records=_RECORDS,
            max_queue_bytes=16 << 20, patience=_PATIENT, settings=settings,
        )  # fmt: skip
        self._records = records
        self._close = close

    def run(self, outlet: Outlet) -> None:
        """Read until told to stop.

        Raises:
            SourceRefused: if the schema registry does not take the credentials.
            Misconfigured: if Kafka or the registry refuse what is asked for.
        """
        kafka = self._connect(skipped=lambda partition, count: outlet.count("skipped", count))
        life = _Life(kafka, self._records, outlet)
        try:
            life.go_on()
        except Stopping:
            pass
        finally:
            try:
                life.leave()
            finally:
                self._close()


class _WentBack(Exception):
    """Partitions were sought back: what was read of them and not handed over is void."""


class _Life:
    """From joining the group to leaving it."""

    def __init__(self, kafka: KafkaSource, records: ForeignRecords, outlet: Outlet) -> None:
        self._kafka = kafka
        self._records = records
        self._outlet = outlet
        self._pending: deque[_Pending] = deque()
        self._in_hand: dict[TopicPartition, int] = {}
        """Of partitions whose records are read and not all handed over, the first that is not."""
        self._durable: dict[TopicPartition, int] = {}
        self._commit_at_s = 0.0
        self._reachable = True
        kafka.on_rebalance(self._rebalanced)

    def go_on(self) -> None:
        """Bring what comes until told to stop."""
        while not self._outlet.stopping:
            try:
                self._settle()
                self._bring_all(self._kafka.poll(_POLL_S))
            except _WentBack:
                continue
            except DamagedBatch as error:
                log.error("records are damaged in the topic, and left out", error=str(error))
                self._outlet.count("damaged")
                self._kafka.seek(error.partition, error.next_offset)
                continue
            except SourceUnavailable as error:
                self._reachable = False
                if self._in_hand:  # what was read and not handed over is read again by the next life
                    raise
                self._outlet.failing(str(error))
                self._outlet.wait(1.0)

    def leave(self) -> None:
        """Commit what is durable by now, and leave the group."""
        try:
            deadline = time.monotonic() + _LEAVE_S
            while self._pending and time.monotonic() < deadline:
                self._settled_one(0.1)
            if self._reachable:
                self._commit()
        except (SourceUnavailable, _WentBack) as error:
            log.info("what was not committed comes again", error=str(error))
        finally:
            with suppress(SourceUnavailable):  # the group will miss us by itself
                self._kafka.close()

    # ---- what was read ----

    def _bring_all(self, blocks: Sequence[RecordBlock]) -> None:
        self._reachable = True
        if self._kafka.assignment():
            self._outlet.working()
        self._in_hand = {TopicPartition(block.topic, block.partition): int(block.offsets[0]) for block in blocks}
        for block in blocks:
            self._bring(block)
        self._in_hand.clear()

    def _bring(self, block: RecordBlock) -> None:
        partition = TopicPartition(block.topic, block.partition)
        start = int(block.offsets[0])
        readings: list[Reading] = []
        rejected: list[Rejected] = []
        for record in _records_of(block):
            outcome = self._read(record)
            readings += outcome.readings
            rejected += outcome.rejected
            if outcome.ignored:
                self._outlet.count(outcome.ignored)
            if len(readings) + len(rejected) >= _RECORDS:
                self._offer(readings, rejected, partition, start, record.offset + 1)
                readings, rejected, start = [], [], record.offset + 1
        self._offer(readings, rejected, partition, start, block.next_offset)

    def _read(self, record: ForeignRecord) -> Outcome:
        """Return what comes of a record; while its schema cannot be asked for, wait."""
        wait_s = 0.25
        while True:
            try:
                return self._records.read(record)
            except SourceUnavailable as error:
                self._outlet.failing(str(error))
                self._wait(wait_s)
                wait_s = min(wait_s * 2, 10.0)

    def _offer(
        self, readings: list[Reading], rejected: list[Rejected], partition: TopicPartition, start: int, behind: int
    ) -> None:
        while len(self._pending) >= _MOST_PENDING:
            if not self._settled_one(0.1):
                self._wait(0.0)
        while True:
            self._settle()  # what has failed comes before what is offered now
            try:
                done = self._outlet.offer(readings, rejected=rejected)
            except SpoolFull as error:
                self._wait(error.retry_after_s)
            else:
                self._pending.append(_Pending(done, partition, start, behind))
                self._in_hand[partition] = behind
                return

    def _wait(self, seconds: float) -> None:
        """Wait as a living member of the group; raise Stopping when told to."""
        self._kafka.stay()
        if self._outlet.wait(seconds):
            raise Stopping

    # ---- what is durable ----

    def _settled_one(self, timeout_s: float) -> bool:
        """Wait for the oldest part; return whether it is settled."""
        try:
            self._pending[0].done.result(timeout_s)
        except TimeoutError:
            return False
        except ConnectorError:
            pass  # ``_settle`` goes back for it
        self._settle()
        return True

    def _settle(self) -> None:
        """Take note of what is durable, go back to what could not be made durable, commit now and then."""
        while self._pending and self._pending[0].done.done():
            error = self._pending[0].done.exception()
            if error is not None:
                self._go_back(error)
                return
            part = self._pending.popleft()
            self._durable[part.partition] = part.next_offset
        if self._durable and time.monotonic() >= self._commit_at_s:
            self._commit()

    def _commit(self) -> None:
        if self._durable:
            self._kafka.commit(self._durable)
            self._durable.clear()
        self._commit_at_s = time.monotonic() + _COMMIT_EVERY_S

    def _go_back(self, error: BaseException) -> None:
        """Read again from what could not be made durable; all that is behind it too, so that the order holds."""
        log.warning("readings could not be made durable; they are read again", error=str(error))
        starts: dict[TopicPartition, int] = {}
        for part in self._pending:
            starts.setdefault(part.partition, part.start)
        starts = {**self._in_hand, **starts}
        self._pending.clear()
        self._in_hand.clear()
        for partition in starts.keys() & self._kafka.assignment():
            self._kafka.seek(partition, starts[partition])
        self._outlet.wait(_AGAIN_S)
        raise _WentBack

    def _rebalanced(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        """Leave what was taken away to its new owner, who begins at what is committed."""
        self._pending = deque(part for part in self._pending if part.partition not in revoked)
        for partition in revoked:
            self._durable.pop(partition, None)


def _records_of(block: RecordBlock) -> Iterator[ForeignRecord]:
    keys, headers = block.keys, block.headers or {}
    for index, value in enumerate(block.values):
        yield ForeignRecord(
            block.topic,
            block.partition,
            int(block.offsets[index]),
            int(block.timestamps_ms[index]),
            None if keys is None else keys[index],
            value,
            headers.get(index, ()),
        )
