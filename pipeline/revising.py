"""Revising: what was last said of a closed step, so that late readings can take it back.

Legend: R ring positions, C channels, k entities of a revision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from pipeline.frames import Frames, FrameStatus


class Published:
    """The newest word on each closed step that can still change, per entity; lives in the windows' row state."""

    def __init__(self, state: RowState, ring: int, step_us: int) -> None:
        """Keep the ``published_*`` arrays of ``state``."""
        self._state = state
        self._ring = ring
        self._step_us = step_us

    def say(self, frames: Frames, rows: NDArray[np.intp]) -> None:
        """Note what is said of ``frames.step`` for ``rows``."""
        at = frames.step % self._ring
        self._state["published_step"][rows, at] = frames.step
        self._state["published_value"][rows, at] = frames.values
        self._state["published_learn"][rows, at] = frames.learn
        self._state["published_count"][rows, at] = frames.count

    def said(self, step: int, rows: NDArray[np.intp]) -> Frames:
        """Return what was last said of ``step`` for ``rows``; all missing for entities that were not there then."""
        at = step % self._ring
        known = (self._state["published_step"][rows, at] == step)[:, None]  # [k, 1]
        return Frames(
            step,
            step * self._step_us,
            np.where(known, self._state["published_value"][rows, at], np.nan),
            known & self._state["published_learn"][rows, at],
            np.where(known, self._state["published_count"][rows, at], np.int32(0)),
            FrameStatus.OUTDATED,
            rows,
        )

    def revise(self, new: Frames, rows: NDArray[np.intp]) -> list[Frames]:
        """Say ``new`` [k, C] of ``rows`` and return [what was said, what is said] for the rows that differ, or []."""
        old = self.said(new.step, rows)
        same = (old.values == new.values) | (np.isnan(old.values) & np.isnan(new.values))
        same &= (old.learn == new.learn) & (old.count == new.count)
        changed = np.flatnonzero(~same.all(axis=1))
        if len(changed) == 0:
            return []
        rows = rows[changed]
        old, new = _only(old, changed, rows), _only(new, changed, rows)
        self.say(new, rows)
        return [old, new]


def _only(frames: Frames, index: NDArray[np.intp], rows: NDArray[np.intp]) -> Frames:
    values, learn, count = frames.values[index], frames.learn[index], frames.count[index]
    return Frames(frames.step, frames.time_us, values, learn, count, frames.status, rows)
