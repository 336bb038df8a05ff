"""Durations and false-alarm budgets as people say them: ``10m``, ``1h30m``, ``1 per 30d``, ``1 per month per site``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 7 * 86_400_000_000,
}
_WORDS = {
    "second": "s", "seconds": "s", "sec": "s", "minute": "m", "minutes": "m", "min": "m", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w",
}  # fmt: skip
_LONG_WORDS = {"month": 30, "months": 30, "quarter": 91, "year": 365, "years": 365}
"""Days in the words that a budget may use; too vague for a step, precise enough for "one a month"."""
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*")
_BUDGET = re.compile(
    r"(?P<events>\d+(?:\.\d+)?)\s*(?:per|/|a|an|every)\s+(?P<period>.+?)(?:\s+per\s+(?P<per>[a-z]+))?"
)
_PER = ("entity", "site", "station", "camera", "sensor")
_LONGEST = timedelta(days=366 * 10)

DURATION_ALLOWED = "a number with a unit, such as 30s, 10m, 1h30m or 30d (units: ms, s, m, h, d, w)"
BUDGET_ALLOWED = 'events per period, such as "1 per 30d", "2 per week" or "1 per month per site"'


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``text`` says; never negative.

    >>> parse_duration("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        ValueError: if the text is not a duration, repeats a unit, or is longer than ten years.
    """
    stripped = text.strip().lower()
    if stripped == "0":
        return timedelta(0)
    total_us, position, seen = 0.0, 0, set[str]()
    while position < len(stripped):
        part = _PART.match(stripped, position)
        unit = _WORDS.get(part[2], part[2]) if part else ""
        if part is None or unit not in _UNIT_US or unit in seen:
            raise ValueError("is not a duration")
        seen.add(unit)
        total_us += float(part[1]) * _UNIT_US[unit]
        position = part.end()
    if not seen:
        raise ValueError("is not a duration")
    if total_us > _LONGEST / timedelta(microseconds=1):
        raise ValueError("is longer than ten years")
    return timedelta(microseconds=round(total_us))


def format_duration(duration: timedelta) -> str:
    """Return ``duration`` in words that ``parse_duration`` reads back to the same value.

    >>> format_duration(timedelta(minutes=90))
    '1h30m'
    """
    rest, words = duration // timedelta(microseconds=1), ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNIT_US[unit])
        words += f"{count}{unit}" if count else ""
    return words or "0s"


def microseconds(duration: timedelta) -> int:
    """Return ``duration`` in whole microseconds, the unit of all times inside arrays."""
    return duration // timedelta(microseconds=1)


def parse_duration_us(text: str) -> int:
    """Return the duration that ``text`` says in microseconds; raises ValueError as ``parse_duration`` does."""
    return microseconds(parse_duration(text))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alarms one entity may raise in a period, on average. ``events`` > 0, ``period_s`` > 0."""

    events: float
    period_s: float

    def __str__(self) -> str:
        return f"{self.events:g} per {format_duration(timedelta(seconds=self.period_s))}"


def parse_budget(text: str) -> Budget:
    """Return the budget that ``text`` says; it holds for each entity, whether or not the text says "per site".

    >>> parse_budget("1 per month per site")
    Budget(events=1.0, period_s=2592000.0)

    Raises:
        ValueError: if the text is not a budget, or its events or its period are zero.
    """
    match = _BUDGET.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("is not a false-alarm budget")
    if match["per"] is not None and match["per"] not in _PER:
        raise ValueError(f"names {match['per']!r}, but a budget holds per entity")
    period_s = _period(match["period"]).total_seconds()
    events = float(match["events"])
    if events <= 0 or period_s <= 0:
        raise ValueError("leaves no room: events and period must be above zero")
    return Budget(events, period_s)


def _period(text: str) -> timedelta:
    number, _, word = text.rpartition(" ")
    days = _LONG_WORDS.get(word)
    if days is not None:
        return timedelta(days=days * (float(number) if number else 1))
    return parse_duration(f"1{text}" if text[:1].isalpha() else text)


def parse_n_of_m(text: str) -> tuple[int, int]:
    """Return (n, m) of ``"2 of 3"``: n steps out of the last m.

    Raises:
        ValueError: unless 1 <= n <= m <= 64.
    """
    match = re.fullmatch(r"\s*(\d{1,3})\s+of\s+(\d{1,3})\s*", text.lower())
    if match is None:
        raise ValueError("is not of the form n of m")
    n, m = int(match[1]), int(match[2])
    if not 1 <= n <= m <= 64:
        raise ValueError("must have 1 <= n <= m <= 64")
    return n, m
