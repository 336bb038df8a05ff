"""The network's inputs, made in one place for training and for streaming.

Per channel: distance from the slow level, last change, whether the value is there, and the mean level and change of the
neighbours that have it; then the calendar. All is finite and of order one; missing is 0, and says so in the mask.

Legend: n entities, C channels, K neighbours, I inputs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BLOCKS = 5
"""Per channel, in this order: level, change, mask, neighbours' level, neighbours' change."""
CALENDAR = 4
"""Sine and cosine of the time of day and of the week, UTC."""
_DAY_US = 86_400_000_000
_WEEK_US = 7 * _DAY_US


def input_width(channels: int) -> int:
    """Return I.

    >>> input_width(6)
    34
    """
    return BLOCKS * channels + CALENDAR


def block(channels: int, index: int) -> slice:
    """Return the columns of one of the BLOCKS."""
    return slice(index * channels, (index + 1) * channels)


def build_inputs(
    level_z: NDArray[np.float32],
    diff_z: NDArray[np.float32],
    mask: NDArray[np.bool_],
    time_us: int,
    neighbours: NDArray[np.int32],
    out: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fill ``out`` with the inputs of one step and return it.

    Args:
        level_z: [n, C] scaled distance from the slow level.
        diff_z: [n, C] scaled last change.
        mask: [n, C] whether the value is there; what is not counts as 0, whatever the other two say.
        time_us: end of the step, microseconds since 1970 UTC.
        neighbours: [n, K] rows; -1, and any row there is not, for none.
        out: [n, I].
    """
    C = mask.shape[1]
    level, change = out[:, block(C, 0)], out[:, block(C, 1)]
    np.copyto(level, np.where(mask, np.nan_to_num(level_z, nan=0.0, posinf=0.0, neginf=0.0), 0.0))
    np.copyto(change, np.where(mask, np.nan_to_num(diff_z, nan=0.0, posinf=0.0, neginf=0.0), 0.0))
    out[:, block(C, 2)] = mask
    _neighbours(level, change, mask, neighbours, out[:, block(C, 3)], out[:, block(C, 4)])
    out[:, BLOCKS * C :] = calendar(time_us)
    return out


def calendar(time_us: int) -> tuple[float, float, float, float]:
    """Return sine and cosine of the time of day, then of the week (which begins on Thursday, as 1970 did)."""
    day = 2.0 * math.pi * (time_us % _DAY_US) / _DAY_US
    week = 2.0 * math.pi * (time_us % _WEEK_US) / _WEEK_US
    return math.sin(day), math.cos(day), math.sin(week), math.cos(week)


def _neighbours(
    level: NDArray[np.float32],
    change: NDArray[np.float32],
    mask: NDArray[np.bool_],
    neighbours: NDArray[np.int32],
    mean_level: NDArray[np.float32],
    mean_change: NDArray[np.float32],
) -> None:
    """Write [n, C] the means over those neighbours that have the channel; 0 where none has."""
    n = len(level)
    mean_level[...] = 0.0
    mean_change[...] = 0.0
    if n == 0 or neighbours.shape[1] == 0:
        return
    count = np.zeros(level.shape, np.float32)
    for k in range(neighbours.shape[1]):
        whom = neighbours[:, k]
        known = (whom >= 0) & (whom < n)
        row = np.where(known, whom, 0)
        mean_level += level[row] * known[:, None]
        mean_change += change[row] * known[:, None]
        count += mask[row] & known[:, None]
    np.maximum(count, 1.0, out=count)
    mean_level /= count
    mean_change /= count
