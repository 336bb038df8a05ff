"""Proper scores of forecasts, and how honest their spread is; the predictive law is the one that warnings use.

A forecast is a middle and a spread, and stands for Student's t with 4 degrees of freedom: the spread is √(π/2)·mean
|error|, and the mean |error| of that law is 1 unit, so T4_UNIT spreads are its unit. Errors of sensors have such tails.

Source of the closed form: Jordan, Krüger and Lerch, "Evaluating probabilistic forecasts with scoringRules", J. Stat.
Software 90 (2019), appendix A; for ν = 4 its constant is 15π/64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

T4_UNIT = math.sqrt(2.0 / math.pi)
PINBALL_LEVELS = (0.05, 0.5, 0.95)
PIT_BINS = 20
_QUANTILES: Mapping[float, float] = {0.05: -2.1318467863, 0.5: 0.0, 0.95: 2.1318467863}
"""Of Student's t with 4 degrees of freedom, by level."""
_CONSTANT = 15.0 * math.pi / 64.0
_FARTHEST = 1e6
"""Units; squares of larger ones would overflow, and nothing is told apart out there."""


def t4_below(units: Array) -> Array:
    """Return P(T <= ``units``) for Student's t with 4 degrees of freedom; NaN stays NaN.

    Source: F(z) = 1/2 + 3/8·u·(1 − u²/12) with u = z/√(1 + z²/4).

    >>> t4_below(np.array([0.0, 2.1318467863])).round(6).tolist()
    [0.5, 0.95]
    """
    z = np.clip(units, -_FARTHEST, _FARTHEST)
    u = z / np.sqrt(1.0 + z * z / 4.0)
    return np.clip(0.5 + 0.375 * u * (1.0 - u * u / 12.0), 0.0, 1.0)


def crps(values: Array, middle: Array, spread: Array) -> Array:
    """Return the continuous ranked probability score of forecasts, in the unit of the values; smaller is better.

    Proper: on average nobody gains by saying another middle or spread than what is believed.

    Args:
        values: what came; NaN gives NaN.
        middle: what was expected; NaN or infinite gives what is not finite.
        spread: standard deviation of the error as the forecasters mean it, > 0.
    """
    unit = T4_UNIT * spread
    z = np.clip((values - middle) / unit, -_FARTHEST, _FARTHEST)
    density = 0.375 * (1.0 + z * z / 4.0) ** -2.5
    inner: Array = z * (2.0 * t4_below(z) - 1.0) + 2.0 / 3.0 * density * (4.0 + z * z) - _CONSTANT
    return np.where(np.isfinite(middle), unit * inner, np.nan)


def pinball(values: Array, middle: Array, spread: Array, level: float) -> Array:
    """Return the quantile (pinball) loss of the forecasts' quantile at ``level``, in the unit of the values.

    Raises:
        KeyError: if the level is not one of PINBALL_LEVELS.
    """
    beyond = values - (middle + _QUANTILES[level] * T4_UNIT * spread)
    return np.maximum(level * beyond, (level - 1.0) * beyond)


def pit_histogram(values: Array, middle: Array, spread: Array) -> NDArray[np.int64]:
    """Return [PIT_BINS] how often what came lay in each slice of equal probability of its forecast; NaN is left out.

    For honest forecasts all slices are equally full (the probability integral transform is uniform).
    """
    below = t4_below((values - middle) / (T4_UNIT * spread)).ravel()
    below = below[~np.isnan(below)]
    slices = np.minimum((below * PIT_BINS).astype(np.int64), PIT_BINS - 1)
    return np.bincount(slices, minlength=PIT_BINS)


def calibration_error(histogram: NDArray[np.int64]) -> float:
    """Return the mean distance of the coverage of central intervals from what they promise; 0 to 1, 1 without counts.

    Args:
        histogram: [PIT_BINS] of ``pit_histogram``; several may be added up. The intervals are all that its slices
            make: 10 %, 20 % … 90 % for twenty slices.

    >>> calibration_error(np.full(20, 5))
    0.0
    """
    total = int(histogram.sum())
    if total == 0:
        return 1.0
    half = len(histogram) // 2
    by_distance = histogram[half:] + histogram[:half][::-1]  # [half] slices at the same distance from the middle
    covered = np.cumsum(by_distance)[:-1] / total
    promised = np.arange(1, half) / half
    return float(np.mean(np.abs(covered - promised)))


def coverage(histogram: NDArray[np.int64], promised: float = 0.9) -> float:
    """Return the share of what came that lay in the central interval of ``promised`` (a multiple of two slices)."""
    total = int(histogram.sum())
    cut = round((1.0 - promised) / 2.0 * len(histogram))
    return float(histogram[cut : len(histogram) - cut].sum() / total) if total else 0.0
