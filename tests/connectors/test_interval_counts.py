"""Counters become counts per interval: resets, restarts, silence, and that nothing is counted twice or lost."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.interval_counts import DailyResets, IntervalCounts, Outcome, times_of
from connectors.reading import Quality, Reading
from connectors.timestamps import parse

MINUTE = 60_000_000
START = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z, a whole minute
GATE = ("cam/gate", "count")


def counts(alive_us: int = 60 * MINUTE, resets: DailyResets | None = None) -> IntervalCounts:
    made = IntervalCounts(MINUTE, alive_us, resets or DailyResets())
    made.connected(START - MINUTE)
    return made


def told(counter: IntervalCounts, *reports: tuple[int, float], since_us: int | None = None) -> list[Reading]:
    """Give reports as (seconds after START, total); return the counts that they close."""
    closed: list[Reading] = []
    for seconds, total in reports:
        at_us = START + seconds * 1_000_000
        closed += counter.total(GATE, total, at_us, at_us, since_us)[1]
    return closed


def shown(readings: list[Reading]) -> list[tuple[int, float | None]]:
    return [((one.time_us - START) // MINUTE, one.value) for one in readings]


def test_totals_become_counts_of_minutes() -> None:
    """Protects the meaning of a cumulative counter; the first report is where counting begins."""
    counter = counts()
    closed = told(counter, (1, 400), (10, 403), (59, 404), (61, 410))
    assert shown(closed) == [(1, 4.0)]
    assert shown(counter.close(START + 2 * MINUTE + 6_000_000)) == [(2, 6.0)]


def test_a_total_that_falls_was_reset() -> None:
    """Protects from a negative count: what a counter says after its reset was counted since."""
    counter = counts()
    told(counter, (1, 400), (10, 403))
    outcome, _ = counter.total(GATE, 2, START + 20_000_000, START)
    assert outcome is Outcome.RESET
    assert shown(counter.close(START + MINUTE + 6_000_000)) == [(1, 5.0)]


def test_a_later_start_is_a_reset_though_the_total_rose() -> None:
    """Protects from counting too little: 9 after a reset is nine, not six more than the 3 before."""
    counter = counts()
    told(counter, (1, 3), since_us=1_000_000)
    told(counter, (20, 9), since_us=START)
    assert shown(counter.close(START + MINUTE + 6_000_000)) == [(1, 9.0)]


def test_resets_by_the_clock_on_the_wall() -> None:
    """Protects counters that are reset at local midnight and say nothing of it, on days when clocks change too."""
    berlin = DailyResets((time(0, 0),), ZoneInfo("Europe/Berlin"))

    def at(text: str) -> int:
        time_us = parse(text)
        assert isinstance(time_us, int)
        return time_us

    assert berlin.any_between(at("2026-11-20T22:59:59Z"), at("2026-11-20T23:00:00Z"))
    assert not berlin.any_between(at("2026-11-20T23:00:00Z"), at("2026-11-21T22:59:59Z"))
    assert berlin.any_between(at("2026-10-24T21:59:59Z"), at("2026-10-24T22:00:00Z"))  # summer time still
    assert berlin.any_between(at("2026-10-25T22:59:59Z"), at("2026-10-25T23:00:00Z"))  # a day of 25 hours
    assert not berlin.any_between(at("2026-10-25T21:59:59Z"), at("2026-10-25T22:59:59Z"))
    assert berlin.any_between(at("2026-11-01T00:00:00Z"), at("2026-11-20T00:00:00Z"))
    assert not DailyResets().any_between(0, START)
    counter = counts(resets=berlin)
    midnight = 7 * 3600  # 23:00 UTC
    told(counter, (midnight - 5, 5), (midnight + 10, 9))
    assert [one.value for one in counter.close(START + (midnight + 70) * 1_000_000) if one.value] == [9.0]


def test_old_and_repeated_reports_count_nothing() -> None:
    """Protects from redelivery: a report that is not newer changes nothing; two at one moment both count."""
    counter = counts()
    told(counter, (1, 400), (10, 403))
    assert counter.total(GATE, 403, START + 10_000_000, START)[0] is Outcome.OLD
    assert counter.total(GATE, 401, START + 5_000_000, START)[0] is Outcome.OLD
    assert counter.total(GATE, 404, START + 10_000_000, START)[0] is Outcome.COUNTED
    assert shown(counter.close(START + MINUTE + 6_000_000)) == [(1, 4.0)]


def test_silence_is_zero_only_while_it_is_known_to_be() -> None:
    """Protects the monitor: a quiet street is zero, a camera that died or a broken line is nothing at all."""
    counter = counts(alive_us=3 * MINUTE)
    told(counter, (1, 400))
    assert shown(counter.close(START + 2 * MINUTE + 6_000_000)) == [(1, 0.0), (2, 0.0)]
    counter.disconnected()
    assert counter.close(START + 3 * MINUTE + 6_000_000) == []
    counter.connected(START + 3 * MINUTE + 10_000_000)
    told(counter, (3 * 60 + 20, 400))
    counter.heard("cam/gate", START + 3 * MINUTE + 20_000_000)
    closed = counter.close(START + 20 * MINUTE)
    assert shown(closed) == [(5, 0.0), (6, 0.0)]  # not 4, which began before the connection; nor later than alive


def test_a_count_of_a_longer_time_is_spread() -> None:
    """Protects from a spike that never was: what was counted while we were away is this interval's share, estimated."""
    counter = counts()
    told(counter, (1, 400))
    counter.disconnected()
    counter.connected(START + 9 * MINUTE)
    told(counter, (601, 500))
    (closed,) = [one for one in counter.close(START + 12 * MINUTE) if one.value]
    assert closed.value == pytest.approx(10.0)
    assert closed.quality is Quality.ESTIMATED
    whole = counts()
    told(whole, (1, 400))
    whole.disconnected()
    whole.connected(START + 9 * MINUTE)
    whole.total(GATE, 401, START + 601_000_000, START + 601_000_000, whole=True)
    assert [one.value for one in whole.close(START + 12 * MINUTE) if one.value] == [1.0]


def test_happenings_are_counted_one_by_one() -> None:
    """Protects sources that tell of each crossing; the same one told again counts nothing."""
    counter = counts()
    key = ("cam/line", "crossed")
    for seconds in (1, 2, 2, 30, 61):
        counter.once(key, START + seconds * 1_000_000, START)
    assert shown(counter.close(START + 2 * MINUTE + 6_000_000)) == [(2, 1.0)]
    again = counts()
    closed = [one for s in (1, 2, 2, 30, 61) for one in again.once(key, START + s * 1_000_000, START)[1]]
    assert shown(closed) == [(1, 3.0)]


def test_the_state_survives_a_restart() -> None:
    """Protects the count across a kill: what was counted and not told yet is told by the next life."""
    first = counts()
    told(first, (1, 400), (10, 403))
    second = counts()
    second.restore(first.cursor())
    told(second, (20, 405))
    assert shown(second.close(START + MINUTE + 6_000_000)) == [(1, 5.0)]


@pytest.mark.parametrize("cursor", [None, "", "{}", "[]", '{"counters": 3}', "\0"])
def test_a_cursor_of_somebody_else_counts_as_none(cursor: str | None) -> None:
    """Protects from a cursor that another kind of source left under the same name."""
    counter = counts()
    counter.restore(cursor)
    assert counter.total(GATE, 1, START, START)[0] is Outcome.FIRST


def test_there_is_an_end_to_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory and the cursor from names without end."""
    monkeypatch.setattr("connectors.interval_counts.MOST_COUNTERS", 3)
    counter = counts()
    outcomes = [counter.total((f"cam/{n}", "count"), 1, START, START)[0] for n in range(5)]
    assert outcomes[2:] == [Outcome.FIRST, Outcome.FULL, Outcome.FULL]
    assert counter.once(("cam/9", "crossed"), START, START)[0] is Outcome.FULL


@pytest.mark.parametrize("text", ["25:00", "noon", ""])
def test_what_is_no_time_of_day(text: str) -> None:
    """Protects the config."""
    with pytest.raises(ValueError, match="HH:MM"):
        times_of([text])


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 5)), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=4),
    st.booleans(),
)
def test_every_count_is_told_exactly_once(steps: list[tuple[int, int]], restarts: list[int], resets: bool) -> None:
    """Protects the sum: however reports, ticks, restarts and resets fall, the counts add up to what was counted."""
    counter = counts(alive_us=10**15)
    now_us, total, counted = START, 100, 0
    told_: dict[int, float] = {}

    def keep(readings: list[Reading]) -> None:
        for reading in readings:
            assert reading.time_us not in told_, "an interval is told twice"
            assert reading.value is not None
            told_[reading.time_us] = reading.value

    counter.total(GATE, total, now_us, now_us)
    for index, (seconds, more) in enumerate(steps):
        now_us += seconds * 1_000_000
        if resets and index % 7 == 6:
            total = 0
        before, total = total, total + more
        counted += more
        if more or before:
            outcome, closed = counter.total(GATE, total, now_us, now_us, whole=True)  # it waited at the broker
            keep(closed)
            if outcome is Outcome.OLD:
                total, counted = before, counted - more  # nothing new at the same moment
        keep(counter.close(now_us))
        if index in restarts:
            cursor = counter.cursor()
            counter = counts(alive_us=10**15)
            counter.restore(cursor)
    keep(counter.close(now_us + 3 * MINUTE))
    assert sum(told_.values()) == counted
