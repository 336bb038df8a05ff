"""Which readings have come before: overlapping polls, re-sent messages and second lives bring many twice."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from connectors.reading import Quality, Reading

Mark = int | float | complex | str
"""What was seen of a reading: its result time; without one its value, with the quality as the imaginary part where that
is known; or, of a missing value, the quality's name. Each is an object of 32 bytes at most, and none is falsely equal
to another: a tuple would take a hundred."""
Marks = dict[int, Mark]
"""A reading's identity, hashed, to what was seen of it."""


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
        return self.tell_many((reading,), pending)[0]

    def tell_many(self, readings: Sequence[Reading], pending: Marks) -> list[Known]:
        """Return what each reading is, one after the other as by ``tell``."""
        young, old, unknown, new = self._young, self._old, Quality.UNKNOWN, Known.NEW
        found: list[Known] = []
        for reading in readings:
            key = hash((reading.entity, reading.channel, reading.time_us))
            mark: Mark
            if reading.result_time_us is None and reading.quality is unknown and reading.value is not None:
                mark = float(reading.value)  # the usual one
            else:
                mark = _mark(reading)
            before = pending.get(key)
            if before is None:
                before = young.get(key)
                if before is None:
                    before = old.get(key)
            if before is None:
                pending[key] = mark
                found.append(new)
            elif type(mark) is type(before) and mark == before:
                found.append(Known.REPEAT)
            elif isinstance(mark, int) and isinstance(before, int) and mark < before:
                found.append(Known.OUTDATED)
            else:
                pending[key] = mark
                found.append(Known.CORRECTION)
        return found

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


def _mark(reading: Reading) -> Mark:
    if reading.result_time_us is not None:
        return reading.result_time_us
    if reading.value is None:
        return reading.quality.name
    if reading.quality is Quality.UNKNOWN:
        return float(reading.value)
    return complex(reading.value, reading.quality)
