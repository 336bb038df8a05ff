"""How sure one is that one forecaster is better than another: a moving-block bootstrap of the paired difference.

Losses of neighbouring steps, and of all entities at one step, go together: a storm is one piece of evidence, not one
per step and station. So whole blocks of time are drawn, with all entities in them.

Source: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992); widened by Student's t
over the number of blocks, because the quantiles of a bootstrap of few blocks are too narrow.

Legend: T steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2_000
FEWEST_BLOCKS = 4
"""With fewer nothing is known about how blocks differ."""
_TAIL = 0.025
_NORMAL = 1.959964
"""The standard normal's quantile at 1 − _TAIL."""


@dataclass(frozen=True, slots=True)
class Interval:
    """By what share of the reference's loss the other is smaller, and between what it lies with 95 %."""

    estimate: float
    low: float
    high: float
    blocks: int


UNKNOWN = Interval(0.0, -1.0, 1.0, 0)
"""Nothing can be said."""


def relative_gain(
    loss: NDArray[np.float64], reference: NDArray[np.float64], block: int, seed: int, draws: int = DRAWS
) -> Interval:
    """Return 1 − Σ ``loss`` / Σ ``reference`` and its interval of 95 %; deterministic for a seed.

    Args:
        loss: [T] sums of the losses by step, >= 0, finite; 0 where nothing was scored.
        reference: [T] the same of the other forecaster, on the same targets.
        block: steps that are drawn together; the fewer blocks there are, the wider the interval.
        seed: of the draws.
        draws: resamples.

    Returns:
        The interval; UNKNOWN where there is no loss at all, or where there are fewer than FEWEST_BLOCKS blocks.

    Raises:
        ValueError: if shapes differ, or something is not finite.
    """
    if loss.shape != reference.shape or loss.ndim != 1:
        raise ValueError(f"losses {loss.shape} and reference {reference.shape} must be [T] both")
    if not (np.isfinite(loss).all() and np.isfinite(reference).all()):
        raise ValueError("losses must be finite")
    T = len(loss)
    blocks = T // max(block, 1)
    total = float(reference.sum())
    if blocks < FEWEST_BLOCKS or total <= 0.0:
        return UNKNOWN
    estimate = 1.0 - float(loss.sum()) / total
    starts = np.random.default_rng(seed).integers(0, T, (draws, -(-T // block)))  # [draws, blocks]
    drawn = _block_sums(reference, block)[starts].sum(axis=1)
    kept = drawn > 0.0
    if not kept.all():  # some draws hold no target at all: too little to say anything
        return UNKNOWN
    gains = 1.0 - _block_sums(loss, block)[starts].sum(axis=1) / drawn
    low, high = np.quantile(gains, (_TAIL, 1.0 - _TAIL))
    wider = _student_quantile(blocks - 1) / _NORMAL * math.sqrt(blocks / (blocks - 1))
    return Interval(
        estimate,
        max(-1.0, estimate - wider * max(estimate - float(low), 0.0)),
        min(1.0, estimate + wider * max(float(high) - estimate, 0.0)),
        blocks,
    )


def block_length(steps: int, per_day: float, horizon: int) -> int:
    """Return how many steps belong together: a day, unless that leaves fewer than six blocks; then a sixth of them.

    Never less than twice the longest ``horizon``: forecasts of one value share its error.
    """
    return max(min(math.ceil(per_day), steps // 6), 2 * horizon, 1)


def fewer_by_chance(wins: int, losses: int) -> float:
    """Return the probability that a fair coin gives at most ``wins`` heads in ``wins`` + ``losses`` throws.

    The sign test of paired outcomes, ties left out: a small value says that so few wins are no chance.

    >>> fewer_by_chance(0, 5)
    0.03125
    >>> fewer_by_chance(0, 0)
    1.0
    """
    n = wins + losses
    return sum(math.comb(n, k) for k in range(wins + 1)) / 2**n


def _block_sums(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Return [T] the sums of the blocks that begin at each step; the end is joined to the beginning."""
    running = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[:block])))))
    return running[block : block + len(values)] - running[: len(values)]


def _student_quantile(freedom: int) -> float:
    """Return Student's t quantile at 1 − _TAIL; within 1 % from 3 degrees of freedom on.

    Source: Abramowitz and Stegun, 26.7.5.
    """
    z, f = _NORMAL, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * f)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * f**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * f**3)
    )
