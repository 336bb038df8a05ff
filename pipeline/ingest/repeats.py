"""Which readings have come before: overlapping polls, re-sent messages and second lives bring many twice."""

from __future__ import annotations

import zlib
from enum import Enum

from connectors.reading import Reading

Marks = dict[int, int]
"""A reading's identity to what was seen of it, both hashed."""


class Known(Enum):
    """What a reading is to those before it with the same entity, channel and time."""

    NEW = "new"
    REPEAT = "repeat"
    CORRECTION = "correction"
    OUTDATED = "outdated"


class Repeats:
    """Remembers the newest readings by (entity, channel, time), about 100 bytes each, forgetting the oldest.

    With a result time a later one is a correction, an earlier one outdated. Without, another value or quality is a
    correction.

    Args:
        most: readings remembered; between half of it and all.
    """

    def __init__(self, most: int) -> None:
        self._half = max(most // 2, 1)
        self._young: Marks = {}
        self._old: Marks = {}

    def tell(self, reading: Reading, pending: Marks) -> Known:
        """Return what ``reading`` is, given also what is in ``pending``; add it there if it is to be let through."""
        key = hash((reading.entity, reading.channel, reading.time_us))
        mark = _mark(reading)
        before = pending.get(key)
        if before is None:
            before = self._young.get(key)
        if before is None:
            before = self._old.get(key)
        if before is None:
            pending[key] = mark
            return Known.NEW
        if mark == before:
            return Known.REPEAT
        if mark >= 0 and 0 <= mark < before:
            return Known.OUTDATED
        pending[key] = mark
        return Known.CORRECTION

    def remember(self, marks: Marks) -> None:
        """Know these from now on."""
        self._young.update(marks)
        if len(self._young) > self._half:
            self._old, self._young = self._young, {}

    def forget(self, marks: Marks) -> None:
        """Know these no more: they were not delivered after all. What they corrected is forgotten with them."""
        for key, mark in marks.items():
            for generation in (self._young, self._old):
                if generation.get(key) == mark:
                    del generation[key]


def _mark(reading: Reading) -> int:
    """Return the result time; without one, a hash of value and quality below zero: either may be corrected."""
    if reading.result_time_us is not None:
        return reading.result_time_us
    return -1 - zlib.crc32(f"{reading.value!r} {int(reading.quality)}".encode())
