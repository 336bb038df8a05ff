"""Frames: one step of a stream, all entities, all channels, as matrices.

Legend: E entities in use, C channels, k entities of a revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Aggregator(StrEnum):
    """What a channel's readings of one step are made into. NaN where there is nothing to make it of, 0 never."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    MIN = "min"
    LAST = "last"
    """The reading of the latest event time."""
    COUNT = "count"
    """How many values came; a step in which nothing came is missing, not 0."""
    RATE = "rate"
    """A counter's increase per second since the reading before this step; a falling counter has restarted at zero."""


class FrameStatus(StrEnum):
    """Whether a frame is what is known now, or what was said before late readings changed it."""

    NEW = "new"
    OUTDATED = "outdated"


@dataclass(slots=True)
class Frames:
    """The frames of all entities for one step, which covers ((step − 1)·step_us, step·step_us]."""

    step: int
    time_us: int
    """The end of the step."""
    values: NDArray[np.float64]
    """[E, C] after each channel's aggregator, finite; NaN where missing."""
    learn: NDArray[np.bool_]
    """[E, C] may be learned from: present, and no suspect reading in it."""
    count: NDArray[np.int32]
    """[E, C] readings in the frame, those included that say that the value is missing."""
    status: FrameStatus = FrameStatus.NEW
    rows: NDArray[np.intp] | None = None
    """None: all entities. Else the arrays are [k, C] and speak of these slots only: a revision."""
