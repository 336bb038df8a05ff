"""The watch over progress knows who stands still, and asks no more often than it has to."""

from __future__ import annotations

from connectors.base import TopicPartition
from connectors.kafka_progress import ProgressWatch

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def test_only_partitions_that_stand_still_are_asked_for() -> None:
    """Protects the broker from questions, and partitions from being forgotten."""
    watch = ProgressWatch(quiet_after_s=10.0, stalled_after_s=60.0)
    watch.observe({P0: 5, P1: 5}, 0.0)
    watch.observe({P0: 5, P1: 6}, 8.0)
    assert watch.quiet(9.0) == set()
    assert watch.quiet(10.0) == {P0}
    assert watch.quiet(12.0) == set()
    watch.observe({P1: 6}, 20.0)
    assert watch.quiet(20.0) == {P1}


def test_a_partition_at_its_end_never_stalls() -> None:
    """Protects idle partitions from being connected anew; one before its end is, and progress starts anew."""
    watch = ProgressWatch(10.0, 60.0)
    watch.observe({P0: 5, P1: 5}, 0.0)
    assert watch.stalled({P0: 5, P1: 6}, 10.0) == {}
    assert watch.stalled({P0: 5, P1: 6}, 69.0) == {}
    assert watch.stalled({P0: 5, P1: 6}, 70.0) == {P1: (5, 6)}
    watch.observe({P0: 5, P1: 6}, 71.0)
    assert watch.stalled({P0: 5, P1: 7}, 72.0) == {}


def test_having_no_partition_is_asked_about_too() -> None:
    """Protects from a broker that went away before it gave us any; now and then, not at every poll."""
    watch = ProgressWatch(10.0, 60.0)
    watch.observe({}, 0.0)
    assert [t for t in range(0, 31, 5) if watch.without_partitions(float(t))] == [10, 20, 30]
    watch.observe({P0: 0}, 31.0)
    assert not watch.without_partitions(99.0)
