"""Watermarks: the minimum over active partitions, carried on by the clock when all are silent, never backwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.watermarks import Watermarks

IDLE = 100


def test_the_slowest_active_partition_decides() -> None:
    """Protects a catch-up from losing what the slower partitions still have to bring."""
    marks = Watermarks(IDLE)
    assert marks.watermark(0) is None
    marks.observe(0, 5_000, now_us=0)
    marks.observe(1, 3_000, now_us=0)
    assert marks.watermark(1) == 3_000
    marks.observe(1, 4_000, now_us=2)
    assert marks.watermark(3) == 4_000


def test_an_idle_partition_holds_nothing_up() -> None:
    """Protects the stream from one partition without sensors."""
    marks = Watermarks(IDLE)
    marks.observe(0, 3_000, now_us=0)
    marks.observe(1, 5_000, now_us=90)
    assert marks.watermark(99) == 3_000
    assert marks.watermark(100) == 5_000


def test_a_partition_that_comes_back_late_does_not_move_time_back() -> None:
    """Protects closed windows from being promised again."""
    marks = Watermarks(IDLE)
    marks.observe(0, 3_000, now_us=0)
    marks.observe(1, 5_000, now_us=90)
    assert marks.watermark(150) == 5_000
    marks.observe(0, 3_500, now_us=160)
    assert marks.watermark(160) == 5_000
    marks.observe(1, 9_000, now_us=170)
    marks.observe(0, 6_000, now_us=170)
    assert marks.watermark(170) == 6_000


def test_the_clock_carries_the_watermark_on_when_all_are_silent() -> None:
    """Protects the windows of silent sensors from staying open for ever."""
    marks = Watermarks(IDLE)
    marks.observe(0, 3_000, now_us=1_000)
    marks.observe(1, 5_000, now_us=1_020)
    assert marks.watermark(1_119) == 5_000
    assert marks.watermark(1_120) == 5_000 + 100
    assert marks.watermark(2_020) == 5_000 + 1_000


def test_an_expected_partition_is_waited_for_until_its_time_out() -> None:
    """Protects the start of a catch-up: who delivers first must not make the others late."""
    marks = Watermarks(IDLE)
    marks.expect(0, now_us=0)
    marks.expect(1, now_us=0)
    marks.observe(0, 5_000, now_us=10)
    assert marks.watermark(20) is None
    marks.observe(1, 2_000, now_us=30)
    assert marks.watermark(30) == 2_000
    marks.expect(2, now_us=40)
    marks.observe(0, 6_000, now_us=139)
    marks.observe(1, 6_000, now_us=139)
    assert marks.watermark(139) == 2_000
    assert marks.watermark(140) == 6_000


def test_expecting_a_partition_again_does_not_forget_it() -> None:
    """Protects a partition that is kept over a rebalance from holding time up as if it were new."""
    marks = Watermarks(IDLE)
    marks.observe(0, 5_000, now_us=0)
    marks.expect(0, now_us=10)
    assert marks.watermark(20) == 5_000


def test_a_removed_partition_no_longer_counts() -> None:
    """Protects a process from waiting for a partition that is read elsewhere."""
    marks = Watermarks(IDLE)
    marks.observe(0, 3_000, now_us=0)
    marks.observe(1, 5_000, now_us=0)
    marks.remove(0)
    marks.remove(7)
    assert marks.watermark(1) == 5_000
    marks.remove(1)
    assert marks.watermark(1_000) == 5_000


def test_a_restart_goes_on_where_it_was() -> None:
    """Protects restored windows from a watermark behind them."""
    marks = Watermarks(IDLE)
    marks.observe(0, 5_000, now_us=0)
    marks.watermark(1)
    fresh = Watermarks(IDLE)
    fresh.restore_shared(marks.shared())
    assert fresh.watermark(0) == 5_000
    fresh.observe(0, 4_000, now_us=0)
    assert fresh.watermark(1) == 5_000
    fresh.restore_shared({"watermark_us": 10})
    fresh.restore_shared({})
    assert fresh.watermark(1) == 5_000


def test_a_time_out_of_nothing_is_refused() -> None:
    """Protects from a setting under which every partition is always idle."""
    with pytest.raises(ValueError, match="idle_timeout_us is 0; it must be above 0"):
        Watermarks(0)


_EVENT = st.tuples(st.sampled_from(["observe", "expect", "remove"]), st.integers(0, 3), st.integers(-500, 5_000))


@given(st.lists(st.tuples(_EVENT, st.integers(-20, 200)), max_size=40))
def test_it_never_goes_backwards(events: list[tuple[tuple[str, int, int], int]]) -> None:
    """Protects against any order of arrivals, departures and clock corrections that would reopen closed time."""
    marks = Watermarks(IDLE)
    now_us, before = 0, None
    for (what, partition, time_us), passed_us in events:
        now_us += passed_us
        if what == "observe":
            marks.observe(partition, time_us, now_us)
        elif what == "expect":
            marks.expect(partition, now_us)
        else:
            marks.remove(partition)
        after = marks.watermark(now_us)
        assert before is None or (after is not None and after >= before)
        before = after
