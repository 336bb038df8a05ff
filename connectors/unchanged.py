"""Readings whose source says that it changed them, and did not: a refresh of its database touches every row."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from connectors.reading import Reading

Marks = dict[int, int]
"""A reading's identity to what it said, both hashed."""


class Unchanged:
    """Knows readings by (entity, channel, time), value and quality, whatever their result time; about 100 bytes each.

    A reading that says what the newest one said is left out. Bounded: the older half is forgotten, and what it held
    goes on once more.

    Args:
        most: readings remembered; between half of it and all.
    """

    def __init__(self, most: int = 200_000) -> None:
        self._half = max(most // 2, 1)
        self._young: Marks = {}
        self._old: Marks = {}

    def without(self, readings: Sequence[Reading]) -> tuple[list[Reading], Marks]:
        """Return the readings that say something new, and the marks to ``remember`` once they are durable."""
        marks: Marks = {}
        found = []
        for reading in readings:
            key = hash((reading.entity, reading.channel, reading.time_us))
            said = zlib.crc32(f"{reading.value!r} {reading.quality}".encode())
            before = marks.get(key, self._young.get(key, self._old.get(key)))
            if said != before:
                found.append(reading)
            marks[key] = said
        return found, marks

    def remember(self, marks: Marks) -> None:
        """Know these from now on."""
        self._young.update(marks)
        if len(self._young) > self._half:
            self._old, self._young = self._young, {}
