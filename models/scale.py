"""The one rule for turning differences into scale units and back, shared by every compiled loop of the models."""

from __future__ import annotations

import math

from numba import njit

LARGEST_VALUE = 1e150  # squares of anything smaller stay finite in float64
RELATIVE_FLOOR = 1e-9  # a thousand times finer than a float32 sensor resolves, far coarser than float64 rounding
TINY = 1e-150


@njit(cache=True, nogil=True, error_model="numpy")
def floored_scale(variance: float, location: float) -> float:
    """Return the scale (a standard deviation) > 0 that belongs to ``variance`` around ``location``.

    A constant channel has no variance; without a floor its first wiggle would be infinitely many standard deviations.
    """
    return max(math.sqrt(variance), RELATIVE_FLOOR * abs(location), TINY)


@njit(cache=True, nogil=True, error_model="numpy")
def bounded(value: float) -> float:
    """Return ``value`` clipped to where its square is finite; NaN stays NaN."""
    if value > LARGEST_VALUE:
        return LARGEST_VALUE
    if value < -LARGEST_VALUE:
        return -LARGEST_VALUE
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def clipped(value: float, limit: float) -> float:
    """Return ``value`` within ±``limit``; NaN stays NaN."""
    if value > limit:
        return limit
    if value < -limit:
        return -limit
    return value
