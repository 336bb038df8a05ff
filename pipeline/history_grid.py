"""The dense arrays that rows of the history are put into, so that of rows for one place the right one stays.

Legend: E entities, T steps, C channels, n rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.history import NO_LEVEL, FrameArrays
from pipeline.history_parts import StoredPart

_NEVER = np.iinfo(np.int64).min


class _Said:
    """Which revision each entity and step of a day is at, for values and for levels."""

    def __init__(self, entities: int, first: int, last: int) -> None:
        self.first, self.steps = first, last - first + 1
        self.values = np.full(entities * self.steps, _NEVER)
        self.levels = np.full(entities * self.steps, _NEVER)


class Grid:
    """Dense arrays that rows are put into; the order of the parts does not matter."""

    def __init__(self, names: Any, first: int, last: int, channels: int) -> None:
        """Make room for these entities (an Arrow array of names), from step ``first`` to ``last``; nothing is said."""
        self._names = names.take(pc.sort_indices(names))
        self._first, self._last = first, last
        E, T = len(self._names), last - first + 1
        self._shape = E, T
        self._values = np.full((E * T, channels), np.nan)
        self._learn = np.zeros((E * T, channels), np.bool_)
        self._score = np.zeros(E * T, np.float32)
        self._level = np.zeros(E * T, np.int8)
        self._present = np.zeros(T, np.bool_)

    def put_day(self, parts: Iterator[StoredPart], alone: bool, first: int, last: int) -> None:
        """Put the parts of one day in; all rows of an entity and step lie in one day.

        Args:
            parts: of the day.
            alone: there is one part only.
            first: the first step that may be in them.
            last: the last one.
        """
        said: _Said | None = None
        for part in parts:
            if said is None and not (alone and part.merged):
                said = _Said(self._shape[0], max(first, self._first), min(last, self._last))
            self._put(part, said)

    def _put(self, part: StoredPart, said: _Said | None) -> None:
        """Put rows in; where ``said`` is None each entity and step is said once."""
        found = pc.fill_null(pc.index_in(part.names, value_set=self._names), -1).to_numpy().astype(np.int64)
        entity = found[part.codes]  # [n]
        rows = np.flatnonzero((entity >= 0) & (part.step >= self._first) & (part.step <= self._last))
        judged = part.level[rows] != NO_LEVEL
        if said is None:
            self._assign(part, entity, rows, rows[judged])
            return
        order = np.argsort(part.revision[rows], kind="stable")  # of rows for one place the last assigned stays
        rows, judged = rows[order], judged[order]
        revision = part.revision[rows]
        at = entity[rows] * said.steps + (part.step[rows] - said.first)
        newer = revision >= said.values[at]
        judged &= revision >= said.levels[at]
        said.values[at[newer]] = revision[newer]
        said.levels[at[judged]] = revision[judged]
        self._assign(part, entity, rows[newer], rows[judged])

    def _assign(
        self, part: StoredPart, entity: NDArray[np.int64], rows: NDArray[np.intp], judged: NDArray[np.intp]
    ) -> None:
        t = part.step - self._first
        self._present[t[rows]] = True
        at = entity * self._shape[1] + t
        self._values[at[rows]] = part.values[rows]
        self._learn[at[rows]] = part.learn[rows]
        self._score[at[judged]] = part.score[judged]
        self._level[at[judged]] = part.level[judged]

    def arrays(self, skipped: int) -> FrameArrays:
        """Return the arrays, from the first step that has a row on."""
        E, T = self._shape
        begin = int(np.argmax(self._present))
        return FrameArrays(
            self._names.to_pylist(),
            self._first + begin,
            self._values.reshape(E, T, -1)[:, begin:],
            self._learn.reshape(E, T, -1)[:, begin:],
            self._score.reshape(E, T)[:, begin:],
            self._level.reshape(E, T)[:, begin:],
            skipped,
        )
