"""Shadowing: what the scores would be with the challenger in charge; nothing is told to anybody but the metrics.

Legend: n entities in use, C channels.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from models.detection import Detector
from pipeline.frames import Frames


class Shadow:
    """A copy of the detector that hears the challenger's forecasts. Opens nothing and says nothing.

    It begins as warm as the detector it was copied from, and lives as long as its challenger runs. It is no part of a
    checkpoint: after a restart, or when partitions move, the challenger is rebuilt from the recent frames and the copy
    made anew. The copy is made at a step boundary, once, at the speed of memory.
    """

    def __init__(self, version: str, detector: Detector) -> None:
        """Copy ``detector`` for challenger ``version``."""
        self.version = version
        self._detector = copy.deepcopy(detector)
        self.score = np.zeros(0, np.float32)
        """[n] of the newest step, on the scale of ``Detection.score``."""

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self._detector.grow(capacity)

    def step(
        self,
        frames: Frames,
        expected: NDArray[np.float64],
        spread: NDArray[np.float32],
        open_incident: NDArray[np.bool_],
    ) -> None:
        """Score a frame by what the challenger expected, then learn from it.

        Args:
            frames: what came.
            expected: [n, C] the challenger's forecast for it.
            spread: [n, C] of that forecast.
            open_incident: [n] where learning is to be slow; the real incidents, as there are no others.
        """
        self.score = self._detector.detect(
            frames.values, frames.learn, expected, spread, frames.time_us, frames.step, open_incident
        ).score
