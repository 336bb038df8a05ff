"""One member of a consumer group: kafka-python's consumer, with time-outs, our exceptions and whole batches.

What kafka-python 3.0 does badly is dealt with here; ``KafkaSource`` above it knows only batches and partitions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import CommitFailedError, CorruptRecordError, FencedInstanceIdError, RebalanceInProgressError
from kafka.structs import MemberState, OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from connectors.base import TopicPartition
from connectors.errors import DamagedRecords, Misconfigured, SourceUnavailable
from connectors.kafka_batches import PlainRecords, RawBatch, warm_up
from connectors.kafka_connecting import Settings, listening, opened, settings_for, translated
from connectors.kafka_fetching import install, missing_hooks
from connectors.kafka_joining import keep_joins
from connectors.kafka_resetting import Jump, Resets

log = structlog.get_logger(__name__)

Change = tuple[set[TopicPartition], set[TopicPartition]]
"""Partitions revoked, and partitions assigned."""

RAW_BATCHES_PER_POLL = 100_000
"""All that was fetched: a smaller poll would serve one partition to its end before the next."""

ANSWER_S = 0.5
"""A healthy broker answers within this, once it has answered what stands before it on the connection."""

REJOIN_WAIT_S = 1.0
"""A rebalance gets this long within one poll. kafka-python forgets a join that completes between two of its polls and
joins anew, so with polls that do not wait (records are queued) or hardly do, the whole group would never settle."""

CHOSEN_SETTINGS: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "check_crcs": True,
    # Four of kafka-python's 1 MiB in one answer took half as long again: that much memory is mapped anew each time.
    "max_partition_fetch_bytes": 512 * 1024,
    "fetch_max_wait_ms": 200,  # an answer that stands behind a waiting fetch comes that much later
    "allow_auto_create_topics": False,
    "retry_backoff_ms": 10,  # a poll shorter than this (by default 100) begins joining the group anew each time
    "reconnect_backoff_max_ms": 2000,  # the default of 30 s would add itself to every outage
}
REQUIRED_SETTINGS: dict[str, Any] = {
    "enable_auto_commit": False,
    "isolation_level": "read_committed",  # also what makes offsets of open transactions invisible
    # Eager ones revoke all and give it back with positions kept, behind which our queues were dropped: a gap.
    "partition_assignment_strategy": [CooperativeStickyAssignor],
    "key_deserializer": None,  # one that raises would make kafka-python spin
    "value_deserializer": None,
}
"""What a source's promises rest on; no setting overrides it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a Kafka source waits for what."""

    connect_s: float = 10.0
    """The first ``poll``, or any first call, blocks at most about this long."""
    commit_s: float = 10.0
    """Commits and look-ups of committed offsets."""
    hold_back_s: float = 0.5
    """Records wait at most this long for those of a partition that is behind in time but not here yet."""
    quiet_s: float = 10.0
    """After this long without progress of a partition the broker is asked for its end."""
    stalled_s: float = 60.0
    """A partition that stays before its end for this long makes the source connect anew."""
    close_s: float = 5.0


class _RebalanceLog(ConsumerRebalanceListener):
    """Notes what changed. Runs on kafka-python's IO thread: it must not block, and raising would break ``poll``."""

    def __init__(self) -> None:
        self.changes: deque[Change] = deque()

    def on_partitions_revoked(self, revoked: Any) -> None:
        self.changes.append(({TopicPartition(*p) for p in revoked}, set()))

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.changes.append((set(), {TopicPartition(*p) for p in assigned}))

    def on_partitions_lost(self, lost: Any) -> None:
        self.on_partitions_revoked(lost)


class GroupConsumer:
    """Connects on first need. Used from one thread."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topics: Sequence[str],
        group_id: str,
        raw: bool,
        patience: Patience,
        settings: Settings,
        jumped: Callable[[Jump], None] = lambda jump: None,
    ) -> None:
        self._jumped = jumped
        self._servers = bootstrap_servers
        self._topics = list(topics)
        self._raw = raw
        self._raw_comes = False
        self._told = False
        self._patience = patience
        wanted = settings_for(KafkaConsumer, settings)
        self._settings = {**CHOSEN_SETTINGS, "group_id": group_id, **wanted, **REQUIRED_SETTINGS}
        self._rebalances = _RebalanceLog()
        self._resets: Resets | None = None
        self._consumer: Any = None

    def connected(self) -> Any:
        """Return the consumer, connected and subscribed; ``SourceUnavailable`` when no broker answers in time."""
        if self._consumer is None:
            if self._raw:
                warm_up()  # a group must not wait for a compilation
            consumer = opened(KafkaConsumer, self._servers, self._patience.connect_s, SourceUnavailable, self._settings)
            self._raw_comes = self._install(consumer)
            keep_joins(consumer)
            self._resets = Resets(consumer)
            consumer.subscribe(topics=self._topics, listener=self._rebalances)
            self._consumer = consumer
        return self._consumer

    def _install(self, consumer: Any) -> bool:
        """Hook into the fetcher; return whether raw batches will come. Says once when they cannot."""
        missing = missing_hooks(consumer)
        if not missing:
            install(consumer, self._raw)
            return self._raw
        if not self._told:
            log.warning("this kafka-python cannot hand out whole batches; reading record by record", missing=missing)
            self._told = True
        return False

    def poll(self, timeout_s: float, max_records: int) -> dict[TopicPartition, list[RawBatch | PlainRecords]]:
        """Return what was fetched; waits only when there is nothing, or the group rebalances (``REJOIN_WAIT_S``).

        ``max_records`` binds the plain path alone.
        """
        limit = RAW_BATCHES_PER_POLL if self._raw_comes else max_records
        try:
            with translated(SourceUnavailable, f"polling {', '.join(self._topics)}"):
                if self.assignment() and self.connected().group_metadata().state != MemberState.STABLE:
                    self._rejoin(REJOIN_WAIT_S)
                fetched = self.connected().poll(timeout_ms=int(timeout_s * 1000), max_records=limit)
        except SourceUnavailable as error:
            if isinstance(error.__cause__, CorruptRecordError):
                # Comes only without our hook. kafka-python's next poll would spin for ever: this consumer is done.
                self.give_up()
                raise DamagedRecords(str(error)) from error
            raise
        found = {TopicPartition(*p): items for p, items in fetched.items()}
        if not self._raw_comes:
            found = {p: [PlainRecords(p, items)] for p, items in found.items()}
        if self._resets is not None:
            for jump in self._resets.take(found, self.position):
                self._jumped(jump)
        return found

    def take_changes(self) -> list[Change]:
        """Return the rebalances since the last call, in their order."""
        changes = self._rebalances.changes
        taken = [changes.popleft() for _ in range(len(changes))]
        if self._resets is not None:
            for partition in (partition for revoked, _ in taken for partition in revoked):
                self._resets.forget(partition)
        return taken

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that are ours now."""
        return {TopicPartition(*p) for p in self._consumer.assignment()} if self._consumer is not None else set()

    def end(self, partition: TopicPartition) -> int | None:
        """Return the end of an assigned partition as of the last fetch, None before the first."""
        known = self._consumer is not None and KafkaPartition(*partition) in self._consumer.assignment()
        return self._consumer.highwater(KafkaPartition(*partition)) if known else None

    def position(self, partition: TopicPartition) -> int | None:
        """Return what is fetched next, where that is known; kafka-python's public ``position`` may ask the broker."""
        subscription = getattr(self._consumer, "_subscription", None)
        state = getattr(subscription, "assignment", {}).get(KafkaPartition(*partition))
        return None if state is None or state.position is None else int(state.position.offset)

    def require_broker(self, timeout_s: float) -> None:
        """Raise ``SourceUnavailable`` when no broker takes a connection: to be asked while no partition is ours."""
        if listening(self._servers, timeout_s) is None:
            raise SourceUnavailable(f"no broker listens at {self._servers}")

    def ask_ends(self, partitions: Iterable[TopicPartition], timeout_s: float) -> dict[TopicPartition, int]:
        """Return the true ends (for committed readers) from the broker.

        The question stands behind a fetch that may wait for records: asked with less time than that, a healthy broker
        without new records seems to be away.
        """
        timeout_s = max(timeout_s, self._settings["fetch_max_wait_ms"] / 1000 + ANSWER_S)
        with translated(SourceUnavailable, f"no answer from {self._servers}"):
            wanted = [KafkaPartition(*p) for p in partitions]
            ends = self.connected().end_offsets(wanted, timeout_ms=int(timeout_s * 1000))
        return {TopicPartition(*p): end for p, end in ends.items()}

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset, None when there is none; asks the broker."""
        with translated(SourceUnavailable, f"reading the committed offset of {partition.topic}-{partition.partition}"):
            timeout_ms = int(self._patience.commit_s * 1000)
            return self.connected().committed(KafkaPartition(*partition), timeout_ms=timeout_ms)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit, and return when the broker has said so.

        In the middle of a rebalance the group takes no commit, and whoever waits for one does not poll: so the
        rebalance is brought to its end here. What it took away is left to its new owner; ``take_changes`` tells of it.
        """
        with translated(SourceUnavailable, "committing offsets"):
            try:
                self._commit(offsets)
            except (RebalanceInProgressError, CommitFailedError):
                self._rejoin(self._patience.commit_s)
                kept = self.assignment()
                self._commit({p: offset for p, offset in offsets.items() if p in kept})
            except FencedInstanceIdError as error:
                name, group = self._settings["group_instance_id"], self._settings["group_id"]
                raise Misconfigured(
                    f"another process has joined group {group!r} as instance {name!r}, so this one is out; give each"
                    " replica a kafka.instance of its own"
                ) from error

    def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {KafkaPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        if wanted:
            self.connected().commit(wanted, timeout_ms=int(self._patience.commit_s * 1000))

    def _rejoin(self, timeout_s: float) -> None:
        """Let the group settle; fetches nothing. kafka-python's public ``poll`` would hand out records as well."""
        coordinator = getattr(self.connected(), "_coordinator", None)
        if coordinator is not None:
            coordinator.poll(timeout_ms=int(timeout_s * 1000))

    def stay(self) -> None:
        """Take part in the group's affairs without fetching."""
        with translated(SourceUnavailable, "staying in the group"):
            self._rejoin(0.05)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Fetch ``partition`` from ``offset`` on. ValueError when it is not assigned."""
        self.connected().seek(KafkaPartition(*partition), offset)
        if self._resets is not None:
            self._resets.forget(partition)

    def give_up(self) -> None:
        """Drop the connection. To those who listen its partitions are revoked; the next call joins the group anew."""
        lost, untold = self.assignment(), self.take_changes()
        try:
            self.close()
        except SourceUnavailable as error:
            log.info("closing the consumer failed", error=str(error))
        self._rebalances.changes.clear()  # closing may have said that the partitions went, or not: it is said here
        self._rebalances.changes.extend([*untold, (lost, set())])

    def close(self) -> None:
        """Leave the group; nothing is committed."""
        if self._consumer is None:
            return
        consumer, self._consumer = self._consumer, None
        with translated(SourceUnavailable, "leaving the group"):
            consumer.close(autocommit=False, timeout_ms=int(self._patience.close_s * 1000))
