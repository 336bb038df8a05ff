"""What was forecast, beside what was measured: columns of a part of the history that may be missing.

Legend: n rows, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPECTED, _SPREAD = "_expected:", "_spread:"
_SPREAD_PARTS = 64
"""A forecast is kept to so many parts of its spread: finer digits are noise, and would be most of a part's bytes."""


def forecast_columns(channels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return how the columns of what was expected are called, and those of its spread.

    >>> forecast_columns(["pm25"])
    (['_expected:pm25'], ['_spread:pm25'])
    """
    return [f"{_EXPECTED}{channel}" for channel in channels], [f"{_SPREAD}{channel}" for channel in channels]


def rounded(
    expected: NDArray[np.float32], spread: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return [n, C] forecasts to a part of their spread, spreads to 8 bits; NaN where one is not finite or none."""
    known = np.isfinite(expected) & np.isfinite(spread) & (spread > 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        grain = np.exp2(np.floor(np.log2(spread / _SPREAD_PARTS))).astype(np.float32)  # a power of two: zero bits
        expected = np.where(grain > 0, np.round(expected / grain) * grain, expected)
        fraction, exponent = np.frexp(spread)
        spread = np.ldexp(np.round(fraction * 256) / 256, exponent).astype(np.float32)
    known &= np.isfinite(expected) & np.isfinite(spread)
    return np.where(known, expected, np.float32(np.nan)), np.where(known, spread, np.float32(np.nan))


def floats(table: Any, names: Sequence[str]) -> NDArray[np.float32] | None:
    """Return [n, C] of an Arrow table's columns, NaN for those that it lacks; None if it has none of them."""
    here = set(table.column_names)
    if not here.intersection(names):
        return None
    numbers = np.full((table.num_rows, len(names)), np.nan, np.float32)
    for c, name in enumerate(names):
        if name in here:
            numbers[:, c] = table.column(name).to_numpy()
    return numbers
