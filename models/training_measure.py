"""How a training goes: the learning rate's schedule, and whether a gain is more than chance.

Legend: T steps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20
"""In which the gain is reckoned, for its standard error."""


def schedule(done: float, warm_up: float) -> float:
    """Return the factor on the learning rate after a share ``done`` of the updates: a ramp, then half a cosine.

    >>> [round(schedule(d, 0.15), 2) for d in (0.0, 0.15, 0.575, 1.0)]
    [0.0, 1.0, 0.5, 0.0]
    """
    if done < warm_up:
        return done / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (done - warm_up) / (1.0 - warm_up))))


def is_gain(ours: NDArray[np.float32], nothing: NDArray[np.float32], counts: NDArray[np.int64]) -> bool:
    """Return whether our loss is lower by more than the standard error over blocks of time.

    Args:
        ours: [T] summed losses of each step.
        nothing: [T] likewise, without a correction.
        counts: [T] targets of each step.
    """
    there = np.flatnonzero(counts)
    gains = [float((nothing[part] - ours[part]).sum()) for part in np.array_split(there, BLOCKS)]
    error = float(np.std(gains, ddof=1)) * math.sqrt(BLOCKS)  # of the sum of the blocks
    return sum(gains) > error
