"""Durations and budgets mean what people mean by them, or are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.durations import (
    Budget,
    format_duration,
    parse_budget,
    parse_duration,
    parse_duration_us,
    parse_n_of_m,
)

_DAY_S = 86_400.0


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
def test_what_is_written_reads_back(duration: timedelta) -> None:
    """Protects the effective config: it says exactly what was loaded."""
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("30d", 30 * _DAY_S),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("2 hours", 7200),
        ("1w", 7 * _DAY_S),
        ("0", 0),
        (" 10 M ", 600),
    ],
)
def test_people_s_durations(text: str, seconds: float) -> None:
    """Protects the spellings that people use."""
    assert parse_duration(text).total_seconds() == seconds
    assert parse_duration_us(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "1h 2h", "-5m", "1h-", "10m!", "1e3s", "nan s", "∞", "1 month"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Protects from guessing a unit, a sign or a month's length."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_durations_beyond_reason_are_refused() -> None:
    """Protects int64 microseconds from overflow."""
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration("9999999999999d")


@pytest.mark.parametrize(
    ("text", "events", "days"),
    [
        ("1 per 30d", 1, 30),
        ("1 per month per site", 1, 30),
        ("2 per week", 2, 7),
        ("0.5 per 2 months per station", 0.5, 60),
        ("1 a day", 1, 1),
        ("3 / 10d", 3, 10),
        ("12 per year per camera", 12, 365),
    ],
)
def test_people_s_budgets(text: str, events: float, days: float) -> None:
    """Protects the promise that operators give in words."""
    assert parse_budget(text) == Budget(events, days * _DAY_S)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sometimes", "is not a false-alarm budget"),
        ("1", "is not a false-alarm budget"),
        ("-1 per day", "is not a false-alarm budget"),
        ("0 per day", "leaves no room"),
        ("1 per 0s", "leaves no room"),
        ("1 per fortnight", "is not a duration"),
        ("1 per month per planet", "a budget holds per entity"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, problem: str) -> None:
    """Protects from an alarm rate nobody asked for."""
    with pytest.raises(ValueError, match=problem):
        parse_budget(text)


@given(st.floats(0.001, 1e4), st.integers(1, 3650 * 86_400))
def test_a_budget_reads_back(events: float, seconds: int) -> None:
    """Protects the budget in the effective config, to the six digits that are shown."""
    back = parse_budget(str(Budget(events, float(seconds))))
    assert back.period_s == seconds
    assert back.events == pytest.approx(events, rel=1e-5)


def test_n_of_m() -> None:
    """Protects the evidence an incident needs."""
    assert parse_n_of_m("2 of 3") == (2, 3)
    for text, problem in (("2/3", "form n of m"), ("0 of 3", "1 <= n <= m"), ("4 of 3", "1 <= n"), ("1 of 65", "64")):
        with pytest.raises(ValueError, match=problem):
            parse_n_of_m(text)
