"""Held readings: those that came before their step could open, kept aside in order of arrival.

In a catch-up one partition may be far ahead of the slowest one, and a block of records may span a year of steps.

Legend: n readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """n readings as columns, as ``Windows.add`` takes them."""

    slot: NDArray[np.int32]
    channel: NDArray[np.int32]
    time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    learnable: NDArray[np.bool_]
    result_time_us: NDArray[np.int64]

    def take(self, index: NDArray[np.intp] | slice) -> ReadingColumns:
        """Return the readings at ``index``."""
        return ReadingColumns(*(column[index] for column in self.columns().values()))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def steps_of(time_us: NDArray[np.int64], step_us: int) -> NDArray[np.int64]:
    """Return [n] the step that each time belongs to: ceil(time / step), for the end of a step belongs to it."""
    return -(-time_us // step_us)


class HeldReadings:
    """Readings by step, within a step in order of arrival."""

    def __init__(self, step_us: int) -> None:
        """Start empty."""
        self._step_us = step_us
        self._new: list[ReadingColumns] = []
        self._sorted: ReadingColumns | None = None
        self._steps: NDArray[np.int64] = np.empty(0, np.int64)
        self._first = 0

    def __len__(self) -> int:
        return len(self._steps) - self._first + sum(len(part.slot) for part in self._new)

    def hold(self, readings: ReadingColumns) -> tuple[int, int]:
        """Keep ``readings`` (at least one) and return the first and the newest step among them."""
        copied = ReadingColumns(*(column.copy() for column in readings.columns().values()))
        self._new.append(copied)
        steps = steps_of(copied.time_us, self._step_us)
        return int(steps.min()), int(steps.max())

    def first_step(self) -> int | None:
        """Return the earliest step that readings wait for."""
        self._sort()
        return int(self._steps[self._first]) if len(self) else None

    def release(self, end_step: int) -> ReadingColumns | None:
        """Give up and return the readings of the steps before ``end_step``; None when there are none."""
        self._sort()
        begin, self._first = self._first, int(np.searchsorted(self._steps, end_step))
        if self._sorted is None or self._first <= begin:
            self._first = max(begin, self._first)
            return None
        released = self._sorted.take(slice(begin, self._first))
        if self._first == len(self._steps):
            self._sorted, self._steps, self._first = None, np.empty(0, np.int64), 0
        return released

    def of(self, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the readings of the slots ``rows`` as columns, in order of arrival within a step; ``slot`` becomes the
        position in ``rows``."""
        self._sort()
        if self._sorted is None:
            return {}
        waiting = self._sorted.take(slice(self._first, None))
        position = np.full(int(max(waiting.slot.max(), rows.max(initial=0))) + 1, -1, np.int32)
        position[rows] = np.arange(len(rows))
        columns = waiting.take(np.flatnonzero(position[waiting.slot] >= 0)).columns()
        return columns | {"slot": position[columns["slot"]]}

    @staticmethod
    def at(rows: NDArray[np.intp], columns: Mapping[str, NDArray[Any]]) -> ReadingColumns | None:
        """Return the readings that ``of`` gave, for entities whose slots are ``rows``; None when there were none."""
        if not columns:
            return None
        return ReadingColumns(**(dict(columns) | {"slot": rows[columns["slot"]].astype(np.int32)}))

    def _sort(self) -> None:
        if not self._new:
            return
        parts = self._new if self._sorted is None else [self._sorted.take(slice(self._first, None)), *self._new]
        whole = ReadingColumns(*(np.concatenate(c) for c in zip(*(p.columns().values() for p in parts), strict=True)))
        steps = steps_of(whole.time_us, self._step_us)
        order = np.argsort(steps, kind="stable")
        self._sorted, self._steps, self._first, self._new = whole.take(order), steps[order], 0, []
