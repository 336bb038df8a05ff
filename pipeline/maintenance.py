"""Maintenance windows: times at which nothing is said about some entities, though everything is still tracked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """From ``start_us`` up to and not including ``end_us``, event time; again every ``repeat_us``, if that is given.

    A repeat of seven days is "weekly"; the hour is fixed in UTC, so it does not follow summer time.
    """

    start_us: int
    end_us: int
    repeat_us: int | None = None
    entities: tuple[str, ...] = ("*",)
    """Globs with ``*``, ``?`` and ``[ab]``; case counts."""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.end_us <= self.start_us:
            raise ValueError(f"a maintenance window must end after it starts, not {self.start_us} to {self.end_us} µs")
        if self.repeat_us is not None and self.repeat_us < self.end_us - self.start_us:
            raise ValueError(f"a maintenance window cannot repeat every {self.repeat_us} µs: it is longer than that")

    def overlaps(self, begin_us: int, end_us: int) -> bool:
        """Return whether any microsecond of (begin, end] lies within the window or one of its repeats."""
        first_us = begin_us + 1
        if end_us < self.start_us:
            return False
        if self.repeat_us is None:
            return first_us < self.end_us
        # The newest repeat that starts no later than the end; earlier ones have ended even earlier.
        start_us = self.start_us + (end_us - self.start_us) // self.repeat_us * self.repeat_us
        return first_us < start_us + (self.end_us - self.start_us)


class Maintenance:
    """All maintenance windows of one stream."""

    def __init__(self, windows: Sequence[MaintenanceWindow] = ()) -> None:
        self._windows = tuple(windows)

    def covers(self, entity: str, begin_us: int, end_us: int) -> bool:
        """Return whether ``entity`` is under maintenance at any moment of (begin, end], in event time."""
        return any(
            window.overlaps(begin_us, end_us) and any(fnmatchcase(entity, glob) for glob in window.entities)
            for window in self._windows
        )
