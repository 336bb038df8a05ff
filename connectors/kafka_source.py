"""Kafka topics as a ``Source``: a consumer group's records, as whole blocks, furthest behind first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import Misconfigured, SourceUnavailable
from connectors.kafka_batches import Columns, DamagedBatch, PlainRecords, RawBatch, merge
from connectors.kafka_connecting import Settings
from connectors.kafka_consumer import GroupConsumer, Patience
from connectors.kafka_progress import ProgressWatch
from connectors.kafka_resetting import Jump
from connectors.partition_queues import PartitionQueues

log = structlog.get_logger(__name__)

RebalanceCallback = Callable[[set[TopicPartition], set[TopicPartition]], None]

HELD_BACK_WAIT_S = 0.02
"""Longest wait inside the consumer while queued records are held back for a partition that is behind."""

PATIENT = Patience()


class KafkaSource:
    """Reads topics as a member of a consumer group; see ``Source`` for what holds.

    The constructor does not touch the network: the first call that needs the broker connects. Records of aborted
    transactions never come. Within one ``poll`` there is one block a partition; from one poll to the next no partition
    gets ahead of another in record time. After ``DamagedBatch``, ``poll`` raises again until that partition was sought.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topics: Sequence[str],
        group_id: str,
        *,
        instance: str | None = None,
        raw: bool = True,
        max_records: int = 20_000,
        max_queue_bytes: int = 64 << 20,
        patience: Patience = PATIENT,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
        skipped: Callable[[TopicPartition, int], None] = lambda partition, records: None,
    ) -> None:
        """Prepare.

        Args:
            bootstrap_servers: ``host:port``, several separated by commas or as a list.
            topics: what to subscribe to.
            group_id: the consumer group.
            instance: a name of this member that outlasts its restarts (a static member): whoever comes back under it
                within ``session_timeout_ms`` gets its partitions back, and no other member's move. None: a member that
                leaves the group when it is closed.
            raw: whole batches (fast); off: kafka-python's records, one object each.
            max_records: about this many come from one ``poll``.
            max_queue_bytes: nothing is fetched while this much is queued, compressed as it came.
            patience: time-outs.
            settings: kafka-python's own settings; they win over the ones chosen here.
            clock: monotonic seconds.
            skipped: told, within ``poll``, how many records of a partition were gone before they could be read.
        """
        settings = dict(settings or {}) if instance is None else {**(settings or {}), "group_instance_id": instance}
        self._consumer = GroupConsumer(bootstrap_servers, topics, group_id, raw, patience, settings, self._jumped)
        self._max_records = max_records
        self._max_queue_bytes = max_queue_bytes
        self._patience = patience
        self._clock = clock
        self._skipped = skipped
        self._callback: RebalanceCallback = lambda revoked, assigned: None
        self._queues: PartitionQueues[RawBatch | PlainRecords] = PartitionQueues()
        self._empty_since: dict[TopicPartition, float] = {}
        self._damaged: dict[TopicPartition, DamagedBatch] = {}
        self._watch = ProgressWatch(patience.quiet_s, patience.stalled_s)

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        """Return what has come, one block a partition; see ``Source.poll``.

        Connecting may take longer than ``timeout_s``, and so may, by up to a second, a rebalance of the group and the
        question whether the broker is there that a partition's long silence raises.

        Raises:
            SourceUnavailable: if no broker answers, or a partition stands still; poll again.
            DamagedBatch: if the next records of a partition are damaged; says where, and where to go on.
            Misconfigured: if Kafka refuses what is asked for.
        """
        deadline = self._clock() + timeout_s
        self._consumer.connected()
        while True:
            self._fetch(max(0.0, deadline - self._clock()))
            self._check_progress(deadline)
            blocks = self._hand_out()
            if not blocks:
                self._raise_damaged()
            if blocks or self._clock() >= deadline:
                return blocks

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that this source reads now; empty before the group took it in."""
        return self._consumer.assignment()

    def on_rebalance(self, callback: RebalanceCallback) -> None:
        """See ``Source.on_rebalance``; ``callback`` runs in the thread that polls and may seek."""
        self._callback = callback

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset, or None when there is none; asks the broker."""
        return self._consumer.committed(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on reading ``partition`` at ``offset``; what was fetched is dropped.

        Raises:
            ValueError: if the partition is not assigned, or the offset negative.
        """
        self._consumer.seek(partition, offset)
        self._drop(partition)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit ``offsets``; those of partitions that were taken away meanwhile are left to their new owner.

        Raises:
            SourceUnavailable: if no broker takes them in time.
            Misconfigured: if another process has joined the group as the same instance: this one is out.
        """
        assigned = self.assignment()
        foreign = sorted(offsets.keys() - assigned)
        if foreign:
            log.info("offsets of revoked partitions not committed", partitions=[f"{t}-{p}" for t, p in foreign])
        mine = {p: offset for p, offset in offsets.items() if p in assigned}
        if mine:
            self._consumer.commit(mine)

    def lag(self) -> dict[TopicPartition, int]:
        """Return the records between what was handed out and the end, as of the last fetch; no network call."""
        lags = {}
        for partition in self.assignment():
            end, position = self._consumer.end(partition), self._position(partition)
            if end is not None and position is not None:
                lags[partition] = max(0, end - position)
        return lags

    def stay(self) -> None:
        """Remain in the group while nothing is read; the next ``poll`` tells of rebalances. For those who wait long.

        Raises:
            SourceUnavailable: if no broker answers.
        """
        self._consumer.stay()

    def exhausted(self) -> bool:
        """Return False: a topic never ends."""
        return False

    def close(self) -> None:
        """Leave the group, unless as an instance of it that is to come back; nothing is committed."""
        self._consumer.close()

    # -- fetching

    def _fetch(self, wait_s: float) -> None:
        """Move what the consumer has into the queues, and tell of rebalances before a record of theirs comes out."""
        fetched = {}
        if self._queues.size_bytes < self._max_queue_bytes:
            if self._queues:
                wait_s = 0.0 if self._something_ready() else min(wait_s, HELD_BACK_WAIT_S)
            try:
                fetched = self._consumer.poll(wait_s, self._max_records)
            except DamagedBatch as error:
                self._damaged[error.partition] = error  # what lies before it may still wait here, and comes first
        changes = self._consumer.take_changes()
        for revoked, _ in changes:
            for partition in revoked:
                self._drop(partition)
        assigned = self.assignment()
        for partition in fetched.keys() & assigned:
            for batch in fetched[partition]:
                self._queues.push(partition, batch)
        self._note_empty(assigned)
        for revoked, new in changes:
            log.info("partitions changed", revoked=len(revoked), assigned=len(new))
            self._callback(revoked, new)

    def _jumped(self, jump: Jump) -> None:
        """Say that a partition goes on elsewhere than it was to."""
        (topic, partition), lost = jump.partition, jump.lost
        if lost:
            log.warning(
                "records were gone before they were read: reading is slower than the topic's retention",
                topic=topic, partition=partition, records=lost, offset=jump.wanted, goes_on_at=jump.found,
            )  # fmt: skip
            self._skipped(jump.partition, lost)
        else:
            log.warning(
                "the topic ends before what was read already: it was made anew, or has lost its newest records",
                topic=topic, partition=partition, offset=jump.wanted, goes_on_at=jump.found,
            )  # fmt: skip

    def _drop(self, partition: TopicPartition) -> None:
        """Forget what is known of ``partition``: whatever lies where it goes on is waited for anew."""
        self._queues.drop(partition)
        self._empty_since.pop(partition, None)
        self._damaged.pop(partition, None)

    def _raise_damaged(self) -> None:
        """Raise for a partition whose records before the damage were all handed out."""
        for partition, error in self._damaged.items():
            if self._queues.head(partition) is None:
                raise error

    def _note_empty(self, assigned: set[TopicPartition]) -> None:
        """Keep the time since when each assigned partition has nothing queued."""
        now = self._clock()
        empty = {partition for partition in assigned if self._queues.head(partition) is None}
        self._empty_since = {partition: self._empty_since.get(partition, now) for partition in empty}

    def _check_progress(self, deadline: float) -> None:
        """Raise ``SourceUnavailable`` when the broker does not answer, or a partition stands still before its end."""
        now = self._clock()
        positions = {p: self._consumer.position(p) for p in self.assignment()}
        self._watch.observe({p: -1 if position is None else position for p, position in positions.items()}, now)
        timeout_s = min(1.0, max(0.2, deadline - now))
        if self._watch.without_partitions(now):
            self._consumer.require_broker(timeout_s)
        quiet = self._watch.quiet(now)
        if not quiet:
            return
        ends = self._consumer.ask_ends(quiet, timeout_s)
        stalled = self._watch.stalled(ends, now)
        if stalled:
            where = ", ".join(f"{p.topic}-{p.partition} at {at} of {end}" for p, (at, end) in stalled.items())
            self._consumer.give_up()
            raise SourceUnavailable(f"nothing came for {self._patience.stalled_s:g} s from {where}; connecting anew")

    # -- handing out

    def _something_ready(self) -> bool:
        horizon, earliest = self._horizon_ms(), self._queues.earliest_ms()
        return earliest is not None and (horizon is None or earliest <= horizon)

    def _horizon_ms(self) -> int | None:
        """Return the record time that nothing may pass yet; None when no partition is awaited.

        A partition is awaited while it has records that are not here, or may have; but not for long, and not when the
        queues are full, since then nothing more can come.
        """
        if self._queues.size_bytes >= self._max_queue_bytes:
            return None
        now = self._clock()
        newest = [
            self._queues.newest_ms(partition)
            for partition, since in self._empty_since.items()
            if now - since < self._patience.hold_back_s and self._may_have_more(partition)
        ]
        return min((-1 if ms is None else ms for ms in newest), default=None)

    def _may_have_more(self, partition: TopicPartition) -> bool:
        end, position = self._consumer.end(partition), self._consumer.position(partition)
        return end is None or position is None or end > position

    def _position(self, partition: TopicPartition) -> int | None:
        head = self._queues.head(partition)
        return head.start_offset if head is not None else self._consumer.position(partition)

    def _hand_out(self) -> list[RecordBlock]:
        """Take batches from the queues and make blocks; from the first unreadable batch on they stay queued."""
        taken = self._queues.take(self._max_records, self._horizon_ms())
        blocks: list[RecordBlock] = []
        damaged: DamagedBatch | Misconfigured | None = None
        for partition, batches in taken.items():
            parts: list[Columns] = []
            if damaged is None:
                try:
                    parts.extend(batch.columns() for batch in batches)
                except (DamagedBatch, Misconfigured) as error:
                    damaged = error
            if parts:
                blocks.append(merge(partition, parts, batches[len(parts) - 1].next_offset))
            self._queues.put_back(partition, batches[len(parts) :])
        if damaged is not None and not blocks:
            raise damaged
        self._note_empty(self.assignment())
        return [block for block in blocks if len(block.values)]
