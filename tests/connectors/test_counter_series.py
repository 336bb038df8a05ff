"""Totals of counters become increases: across resets, repeats, gaps, failures and lives that ended in the middle."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.counter_series import CounterSeries, Kept, Total, increase
from connectors.counter_state import CounterState
from connectors.errors import Misconfigured, SpoolUnavailable
from connectors.interval_counts import Key, Outcome

KEY = ("gate-1", "cars")
DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("before", "now", "becomes"),
    [
        (Total(0, 5.0), Total(60, 8.0), (Outcome.COUNTED, 3.0)),
        (Total(0, 5.0), Total(60, 5.0), (Outcome.COUNTED, 0.0)),
        (Total(0, 5.0), Total(60, 2.0), (Outcome.RESET, 2.0)),
        (Total(0, 5.0), Total(60, 0.0), (Outcome.RESET, 0.0)),
        (Total(10, 5.0, 1), Total(60, 8.0, 1), (Outcome.COUNTED, 3.0)),
        (Total(10, 5.0, 1), Total(60, 8.0, 20), (Outcome.RESET, 8.0)),
        (Total(10, 5.0, 1), Total(60, 8.0, 3), (Outcome.COUNTED, 3.0)),
        (Total(10, 5.0, 1), Total(60, 8.0, 60), (Outcome.FIRST, 0.0)),
        (Total(60, 8.0, 60), Total(90, 9.0, 60), (Outcome.COUNTED, 1.0)),
        (Total(60, 8.0, 60), Total(90, 9.0, 90), (Outcome.COUNTED, 1.0)),
        (Total(10, 5.0, 1), Total(60, 8.0), (Outcome.COUNTED, 3.0)),
        (Total(10, 5.0), Total(60, 8.0, 20), (Outcome.RESET, 8.0)),
    ],
    ids=[
        "risen", "still", "fell", "fell to 0", "same start", "began after", "a start that wavers", "begins just now",
        "goes on from there", "always says just now", "start no more told", "start told at last",
    ],
)  # fmt: skip
def test_an_increase_of_two_totals(before: Total, now: Total, becomes: tuple[Outcome, float]) -> None:
    """Protects each reading of two totals, with and without the start that OTLP tells."""
    assert increase(before, now) == becomes


def told(series: CounterSeries, *totals: tuple[int, float]) -> tuple[list[float | None], dict[Key, list[Total]]]:
    """Return what a parcel's totals become, None for nothing, and what it tells of the series."""
    fresh: dict[Key, list[Total]] = {}
    outcomes = [series.tell(KEY, Total(time_us, value), fresh) for time_us, value in totals]
    return [grown if what in (Outcome.COUNTED, Outcome.RESET) else None for what, grown in outcomes], fresh


def test_nothing_counts_twice() -> None:
    """Protects from repeats, corrections and what comes out of order."""
    series = CounterSeries(10, DAY_US)
    found, fresh = told(series, (10, 5.0), (20, 7.0), (20, 7.0), (20, 9.0), (15, 6.0), (30, 10.0))
    assert found == [None, 2.0, None, None, None, 3.0]
    series.sent(fresh)
    assert told(series, (30, 10.0), (40, 11.0))[0] == [None, 1.0]


def test_after_a_long_silence_it_starts_anew() -> None:
    """Protects a step from what was added in months of which nobody heard."""
    series = CounterSeries(10, DAY_US)
    assert told(series, (0, 5.0), (DAY_US, 6.0), (2 * DAY_US + 1, 900.0), (2 * DAY_US + 2, 901.0))[0] == [
        None, 1.0, None, 1.0,
    ]  # fmt: skip


def test_what_failed_comes_again() -> None:
    """Protects an increase whose parcel was not taken; the one before it counts."""
    series = CounterSeries(10, DAY_US)
    first, second, third = (told(series, (time_us, float(time_us)))[1] for time_us in (10, 20, 30))
    for fresh in (first, second, third):
        series.sent(fresh)
    series.arrived(first)
    series.failed(second)
    series.failed(third)
    assert told(series, (30, 30.0))[0] == [20.0]


def reborn(series: CounterSeries, path: Path) -> CounterSeries:
    """Return what the next life knows."""
    state = CounterState(path / "counters.db")
    state.write(series.to_keep([KEY]))
    state.close()
    following = CounterSeries(10, DAY_US)
    following.restore(CounterState(path / "counters.db").read())
    return following


def flying(series: CounterSeries, *parcels: list[tuple[int, float]]) -> None:
    for parcel in parcels:
        series.sent(told(series, *parcel)[1])


@pytest.mark.parametrize(
    ("again", "becomes"),
    [
        ([(20, 7.0), (30, 8.0), (40, 11.0), (50, 13.0)], [2.0, 1.0, 3.0, 2.0]),
        ([(40, 11.0), (50, 13.0)], [3.0, 2.0]),
        ([(50, 13.0)], [2.0]),
        ([(30, 8.0), (40, 11.0), (50, 13.0)], [1.0, 3.0, 2.0]),
        ([(10, 5.0), (20, 7.0), (50, 13.0)], [None, 2.0, 2.0]),
    ],
    ids=["all", "what followed", "only newer", "an overlap", "the first alone"],
)
def test_a_life_that_ended_with_parcels_on_their_way(
    tmp_path: Path, again: list[tuple[int, float]], becomes: list[float | None]
) -> None:
    """Protects from counting twice, and from losing, what may have been delivered when a process was killed."""
    series = CounterSeries(10, DAY_US)
    first = told(series, (10, 5.0))[1]
    series.sent(first)
    series.arrived(first)
    flying(series, [(20, 7.0), (30, 8.0)], [(40, 11.0)])
    assert told(reborn(series, tmp_path), *again)[0] == becomes


def test_more_on_their_way_than_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the file from growing: the oldest of very many are taken for delivered, and none counts twice."""
    monkeypatch.setattr("connectors.counter_series._MOST_DOUBTFUL", 64)
    series = CounterSeries(10, DAY_US)
    flying(series, *([(time_us, float(time_us))] for time_us in range(1, 200)))
    (kept,) = series.to_keep([KEY])
    assert len(kept.doubtful) == 64
    again = told(reborn(series, tmp_path), *((time_us, float(time_us)) for time_us in range(1, 201)))[0]
    assert again == [None] * 135 + [1.0] * 65


def test_the_longest_silent_series_is_forgotten(tmp_path: Path) -> None:
    """Protects the memory from endless new names; those on their way stay, and the disk forgets too."""
    series, state = CounterSeries(2, DAY_US), CounterState(tmp_path / "counters.db")
    parcels = [{(name, "cars"): [Total(time_us, 1.0)]} for time_us, name in enumerate("abc")]
    forgotten = []
    for one in parcels:
        forgotten += (gone := series.sent(one))
        state.write(series.to_keep(one), gone)
    assert not forgotten, "all are on their way"
    for one in parcels:
        series.arrived(one)
    last = {("d", "cars"): [Total(9, 1.0)]}
    gone = series.sent(last)
    state.write(series.to_keep(last), gone)
    assert len(gone) == 2
    assert sorted(kept.key[0] for kept in state.read()) == ["c", "d"]
    state.close()


TOTAL = st.builds(Total, st.integers(0, 2**50), st.floats(0, 1e15), st.none() | st.integers(0, 2**50))
KEPT = st.builds(
    Kept,
    st.integers(1, 2**40),
    st.tuples(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8)),
    st.none() | TOTAL,
    st.lists(TOTAL, max_size=3).map(tuple),
)


@given(st.lists(KEPT, max_size=5, unique_by=lambda kept: kept.number))
def test_what_is_kept_is_read_again(tmp_path_factory: pytest.TempPathFactory, kept: list[Kept]) -> None:
    """Protects the round trip, lone surrogates in names included."""
    state = CounterState(tmp_path_factory.mktemp("state") / "counters.db")
    state.write(kept)
    state.close()
    assert state.read() == sorted(kept)
    state.close()


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    """Protects people: what is wrong, and what to do; nothing is guessed from a damaged file."""
    path = tmp_path / "counters.db"
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(Misconfigured, match=r"is damaged .* move it away, and all counters start anew"):
        CounterState(path).read()
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(Misconfigured, match="later version"):
        CounterState(path).read()


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    """Protects from an exception that nobody expects."""
    (tmp_path / "no-folder").write_text("")
    with pytest.raises(SpoolUnavailable, match="cannot be written"):
        CounterState(tmp_path / "no-folder" / "counters.db").write([Kept(1, KEY, None, ())])
