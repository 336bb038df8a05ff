"""Maintenance windows: times at which nothing is said about some entities, though everything is still tracked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEK_DAYS = 7
_LONGEST_WEEKLY_US = _WEEK_DAYS * 86_400_000_000


def _instant(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)


class Window(Protocol):
    """A rule that says when and for whom."""

    streams: str
    entities: str

    def overlaps(self, begin_us: int, end_us: int) -> bool:
        """Return whether any moment of (begin, end] lies within the window."""


@dataclass(frozen=True, slots=True)
class OneTime:
    """Once, from ``start_us`` up to and not including ``end_us``. Globs (``*``, ``?``, ``[ab]``) choose for whom."""

    start_us: int
    end_us: int
    streams: str = "*"
    entities: str = "*"

    def __post_init__(self) -> None:
        if self.end_us <= self.start_us:
            raise ValueError(f"a maintenance window must end after it starts, not {self.start_us} to {self.end_us} µs")

    def overlaps(self, begin_us: int, end_us: int) -> bool:
        """Return whether any moment of (begin, end] lies within the window."""
        return end_us >= self.start_us and begin_us + 1 < self.end_us


@dataclass(frozen=True, slots=True)
class Weekly:
    """On some days of each week, from a local time of day on, for a duration."""

    days: frozenset[int]
    """Days on which it starts; Monday is 0."""
    start: time
    """Local time of day, naive: ``zone`` says whose."""
    duration_us: int
    zone: tzinfo = UTC
    streams: str = "*"
    entities: str = "*"

    def __post_init__(self) -> None:
        if not self.days or not self.days <= frozenset(range(_WEEK_DAYS)):
            raise ValueError(f"days must be some of 0 (Monday) to 6 (Sunday), not {sorted(self.days)}")
        if not 0 < self.duration_us <= _LONGEST_WEEKLY_US:
            raise ValueError(f"a weekly window lasts more than nothing and at most a week, not {self.duration_us} µs")

    def overlaps(self, begin_us: int, end_us: int) -> bool:
        """Return whether any moment of (begin, end] lies within the window.

        The length is in real time, so a window keeps its length on days when the clocks change.
        """
        first = _instant(begin_us - self.duration_us).astimezone(self.zone).date()
        last = _instant(end_us).astimezone(self.zone).date()
        # A step longer than a week meets every weekday within its last eight days.
        first = max(first, last - timedelta(days=_WEEK_DAYS + self.duration_us // 86_400_000_000 + 1))
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = datetime.fromordinal(ordinal).date()
            if day.weekday() not in self.days:
                continue
            local = datetime.combine(day, self.start, self.zone)
            start_us = (local.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
            if end_us >= start_us and begin_us + 1 < start_us + self.duration_us:
                return True
        return False


class Maintenance:
    """All maintenance windows that concern one stream."""

    def __init__(self, windows: Sequence[Window] = (), stream: str = "") -> None:
        self._windows = tuple(w for w in windows if fnmatchcase(stream, w.streams))

    def covers(self, entity: str, begin_us: int, end_us: int) -> bool:
        """Return whether ``entity`` is under maintenance at any moment of (begin, end], in event time."""
        return any(
            fnmatchcase(entity, window.entities) and window.overlaps(begin_us, end_us) for window in self._windows
        )
