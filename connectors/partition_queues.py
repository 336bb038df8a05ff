"""Queues of fetched batches, one a partition, handed out so that no partition runs ahead of the others in time.

Catching up, the partitions of a topic come minutes apart. Read as they come, the ones ahead would make the rest late.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from connectors.base import TopicPartition


class Batch(Protocol):
    """What a queue must know of a batch."""

    count: int
    size_bytes: int
    first_ms: int
    last_ms: int


B = TypeVar("B", bound=Batch)


class PartitionQueues(Generic[B]):
    """Batches by partition, each in the order it came. Time is the records' own, in milliseconds."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._queues: dict[TopicPartition, deque[B]] = {}
        self._newest_ms: dict[TopicPartition, int] = {}

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def head(self, partition: TopicPartition) -> B | None:
        """Return the next batch of ``partition``, or None when nothing is queued."""
        queue = self._queues.get(partition)
        return queue[0] if queue else None

    def newest_ms(self, partition: TopicPartition) -> int | None:
        """Return the largest time stamp that ever came from ``partition``, None before its first record."""
        return self._newest_ms.get(partition)

    def earliest_ms(self) -> int | None:
        """Return the time stamp at which the batch that is next to be taken begins, or None when nothing is queued."""
        return min((queue[0].first_ms for queue in self._queues.values() if queue), default=None)

    def push(self, partition: TopicPartition, batch: B) -> None:
        """Queue ``batch`` behind what is there."""
        self._queues.setdefault(partition, deque()).append(batch)
        self.size_bytes += batch.size_bytes
        self._newest_ms[partition] = max(self._newest_ms.get(partition, batch.last_ms), batch.last_ms)

    def put_back(self, partition: TopicPartition, batches: Iterable[B]) -> None:
        """Queue ``batches`` that were taken in front again, in their order."""
        for batch in reversed(list(batches)):
            self._queues.setdefault(partition, deque()).appendleft(batch)
            self.size_bytes += batch.size_bytes

    def drop(self, partition: TopicPartition) -> None:
        """Forget all about ``partition``."""
        self.size_bytes -= sum(batch.size_bytes for batch in self._queues.pop(partition, ()))
        self._newest_ms.pop(partition, None)

    def take(self, max_records: int, not_past_ms: int | None = None) -> dict[TopicPartition, list[B]]:
        """Take the batches that begin earliest, from all partitions, until there are ``max_records`` (at least one).

        Args:
            max_records: where to stop; the last batch may go past it.
            not_past_ms: leave batches that begin later than this; None leaves none.

        Returns:
            By partition, the one furthest behind first. No batch that stays begins earlier than one taken of another
            partition did, so from one call to the next no partition gets ahead.
        """
        heads = [(queue[0].first_ms, partition) for partition, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        taken: dict[TopicPartition, list[B]] = {}
        count = 0
        while heads and count < max_records and (not_past_ms is None or heads[0][0] <= not_past_ms):
            _, partition = heads[0]
            queue = self._queues[partition]
            batch = queue.popleft()
            self.size_bytes -= batch.size_bytes
            taken.setdefault(partition, []).append(batch)
            count += batch.count
            if queue:
                heapq.heapreplace(heads, (queue[0].first_ms, partition))
            else:
                heapq.heappop(heads)
        return taken
