"""Queues hand out what is furthest behind in time, whatever came first."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from connectors.base import TopicPartition
from connectors.partition_queues import PartitionQueues

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass
class Some:
    """A batch that is nothing but its measures."""

    first_ms: int
    last_ms: int
    count: int = 10
    size_bytes: int = 100


def test_the_partition_furthest_behind_comes_first() -> None:
    """Protects catching up: batches of all partitions leave in the order of their times."""
    queues: PartitionQueues[Some] = PartitionQueues()
    for start in (0, 30, 60):
        queues.push(P0, Some(start, start + 29))
    for start in (10, 20):
        queues.push(P1, Some(start, start + 9))
    assert queues.earliest_ms() == 0
    taken = queues.take(30)
    assert [(p, [b.first_ms for b in batches]) for p, batches in taken.items()] == [(P0, [0]), (P1, [10, 20])]
    assert queues.size_bytes == 200
    assert not queues.take(30, not_past_ms=29)
    assert [b.first_ms for b in queues.take(30, not_past_ms=30)[P0]] == [30]


def test_what_was_taken_can_be_put_back() -> None:
    """Protects what lies behind a damaged batch: order and size are as before."""
    queues: PartitionQueues[Some] = PartitionQueues()
    for start in (0, 10, 20):
        queues.push(P0, Some(start, start + 9))
    taken = queues.take(1000)[P0]
    assert not queues
    queues.put_back(P0, taken[1:])
    assert queues.size_bytes == 200
    assert [b.first_ms for b in queues.take(1000)[P0]] == [10, 20]


def test_a_dropped_partition_is_forgotten() -> None:
    """Protects partitions that were revoked or sought: neither batches nor times of before remain."""
    queues: PartitionQueues[Some] = PartitionQueues()
    queues.push(P0, Some(0, 90))
    queues.push(P0, Some(10, 50))
    assert queues.newest_ms(P0) == 90
    queues.drop(P0)
    queues.drop(P1)
    assert (queues.newest_ms(P0), queues.head(P0), queues.earliest_ms(), queues.size_bytes) == (None, None, None, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=60), st.integers(1, 60))
def test_nothing_left_begins_before_what_was_taken_elsewhere(steps: list[tuple[int, int]], at_once: int) -> None:
    """Protects the promise across calls, for any partitions: time advances in each, all come, each in its order."""
    queues: PartitionQueues[Some] = PartitionQueues()
    clocks = [0, 0, 0, 0]
    for partition, ahead in steps:
        clocks[partition] += ahead
        queues.push(TopicPartition("t", partition), Some(clocks[partition], clocks[partition]))
    came = 0
    newest_taken = 0
    while queues:
        taken = [b.first_ms for batches in queues.take(at_once).values() for b in batches]
        assert taken
        assert min(taken) >= newest_taken
        newest_taken = max(newest_taken, max(taken))
        assert newest_taken <= (queues.earliest_ms() or newest_taken)
        came += len(taken)
    assert came == len(steps)
    assert queues.size_bytes == 0
