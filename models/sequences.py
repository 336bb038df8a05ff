"""From history to what the network learns from: inputs, and the linear forecaster's errors in its own spreads.

Strictly causal: the linear forecaster runs over the history once, as it would have run live, and every target is
reckoned from the forecast and the spread known at its step. So nothing of the later part leaks into the earlier one.

Legend: E entities, T steps, C channels, N horizons, I inputs, K neighbours, R representatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features import block, build_inputs, input_width
from models.linear import LinearForecaster

TARGET_CLIP = 6.0  # spreads; an anomaly should not teach more than a large ordinary error
COLD_STEPS = 64  # first steps, whose forecasts and spreads are not yet worth correcting
FIRST_DISTANCE = 1.0  # in scale units of the levels: states nearer than that to an example are no new example
DISTANCE_GROWTH = 1.3  # when all slots were used once more, a new example must be this much further away
DISTANCE_DECAY = 0.999  # per step, so that new kinds of states are admitted again some day
FEWEST_SHARED_STEPS = 48  # that two entities must have in common before their correlation means anything


@dataclass(slots=True)
class Sequences:
    """What the network learns from. Row t of every array belongs to step ``step0 + t``."""

    names: tuple[str, ...]
    """Of the E entities."""
    step0: int
    horizons: tuple[int, ...]
    inputs: NDArray[np.float32]
    """[E, T, I], see ``models.features``."""
    targets: NDArray[np.float32]
    """[E, T, C, N] (x at t + h - linear forecast) / spread, within ±TARGET_CLIP; 0 where there is none."""
    mask: NDArray[np.bool_]
    """[E, T, C, N] where there is a target."""
    admit: NDArray[np.int32]
    """[E, T] slot that the step's state is kept in as an example; -1 for none."""
    neighbours: NDArray[np.int32]
    """[E, K] rows; -1 for none."""

    @property
    def channels(self) -> int:
        """C."""
        return int(self.targets.shape[2])

    @property
    def steps(self) -> int:
        """T."""
        return int(self.inputs.shape[1])


def prepare(
    values: NDArray[np.float64],
    learn: NDArray[np.bool_],
    step0: int,
    step_us: int,
    horizons: Sequence[int],
    names: Sequence[str],
    neighbours: NDArray[np.int32] | None = None,
    representatives: int = 0,
) -> Sequences:
    """Return the sequences that a network learns from.

    Args:
        values: [E, T, C] closed frames, NaN where missing.
        learn: [E, T, C] where a value may be learned from; what may not is an input but no target.
        step0: absolute index of the first step; its frame ends at step0 · step_us.
        step_us: microseconds of a step.
        horizons: N steps ahead.
        names: of the E entities.
        neighbours: [E, K] rows; None for none.
        representatives: R slots for examples.

    Raises:
        ValueError: if shapes do not fit.
    """
    E, T, C = values.shape
    if learn.shape != values.shape or len(names) != E:
        raise ValueError(f"values {values.shape}, learn {learn.shape} and {len(names)} names do not fit")
    neighbours = np.full((E, 0), -1, np.int32) if neighbours is None else neighbours
    linear = LinearForecaster(E, C, tuple(horizons), step_us / 1e6)
    inputs = np.empty((E, T, input_width(C)), np.float32)
    forecast = np.empty((E, T, C, len(horizons)))
    spread = np.empty((E, T, C, len(horizons)), np.float32)
    row = np.empty((E, input_width(C)), np.float32)
    for t in range(T):
        frame = np.ascontiguousarray(values[:, t])
        linear.update(frame, np.ascontiguousarray(learn[:, t]))
        forecast[:, t], spread[:, t] = linear.forecast(E), linear.spread(E)
        time_us = (step0 + t) * step_us
        inputs[:, t] = build_inputs(linear.level_z(E), linear.diff_z(E), ~np.isnan(frame), time_us, neighbours, row)
    targets, mask = _targets(values, learn, forecast, spread, horizons)
    admit = admit_by_novelty(inputs[:, :, block(C, 0)], representatives)
    return Sequences(tuple(names), step0, tuple(horizons), inputs, targets, mask, admit, neighbours)


def _targets(
    values: NDArray[np.float64],
    learn: NDArray[np.bool_],
    forecast: NDArray[np.float64],
    spread: NDArray[np.float32],
    horizons: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return [E, T, C, N] the scaled errors of the forecasts, and where there are any."""
    T = values.shape[1]
    error = np.full(forecast.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values: inf - inf is NaN, and NaN is no target
        for i, h in enumerate(horizons):
            came = np.where(learn[:, h:], values[:, h:], np.nan)
            error[:, : T - h, :, i] = (came - forecast[:, : T - h, :, i]) / spread[:, : T - h, :, i]
    error[:, :COLD_STEPS] = np.nan
    mask = ~np.isnan(error)
    return np.where(mask, np.clip(error, -TARGET_CLIP, TARGET_CLIP), 0.0).astype(np.float32), mask


def admit_by_novelty(levels: NDArray[np.float32], slots: int) -> NDArray[np.int32]:
    """Return [E, T] the slot that each state is kept in, -1 for none: greedy, as the novelty witness does it live.

    A state is kept when it is further than a distance from every example kept; the oldest example makes room. The
    distance grows each time that all slots have been used, so that examples cover the past instead of its last hours.

    Args:
        levels: [E, T, C] what distances are measured on (largest difference of a channel).
        slots: R; with 0 nothing is kept.
    """
    E, T, C = levels.shape
    admit = np.full((E, T), -1, np.int32)
    if slots == 0:
        return admit
    kept = np.full((E, slots, C), np.inf, np.float32)
    used, distance = np.zeros(E, np.int64), np.full(E, FIRST_DISTANCE)
    for t in range(T):
        nearest = np.abs(kept - levels[:, None, t]).max(axis=2).min(axis=1)  # [E], inf while nothing is kept
        new = np.flatnonzero(nearest > distance)
        slot = used[new] % slots
        admit[new, t] = slot
        kept[new, slot] = levels[new, t]
        used[new] += 1
        distance *= DISTANCE_DECAY
        distance[new[used[new] % slots == 0]] *= DISTANCE_GROWTH
    return admit


def learn_neighbours(values: NDArray[np.float64], k: int) -> NDArray[np.int32]:
    """Return [E, k] the rows whose changes move most with each row's own, strongest first; -1 where there are no more.

    The measure is the mean over channels of the absolute correlation of one-step differences, over the steps that both
    have. Levels would correlate by the season alone.

    Args:
        values: [E, T, C] of the past, NaN where missing.
        k: neighbours wanted.
    """
    E, T, C = values.shape
    neighbours = np.full((E, k), -1, np.int32)
    if k == 0 or E < 2 or T < FEWEST_SHARED_STEPS:
        return neighbours
    strength = np.zeros((E, E))
    for c in range(C):
        strength += np.abs(_correlation(np.diff(values[:, :, c], axis=1)))
    strength /= C
    np.fill_diagonal(strength, -1.0)
    order = np.argsort(-strength, axis=1, kind="stable")[:, : min(k, E - 1)]
    strong = np.take_along_axis(strength, order, axis=1) > 0.0
    neighbours[:, : order.shape[1]] = np.where(strong, order, -1)
    return neighbours


def _correlation(changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [E, E] the correlations of rows of [E, T] over their common steps; 0 where there are too few."""
    there = np.isfinite(changes)
    sizes = np.where(there, np.abs(changes), 0.0).max(axis=1, keepdims=True)
    scaled = np.where(there, changes / np.where(sizes > 0, sizes, 1.0), 0.0)  # so that squares cannot overflow
    present = there.astype(np.float64)
    shared = present @ present.T
    common = np.maximum(shared, 1.0)
    own_sum, own_square = scaled @ present.T, scaled**2 @ present.T  # row's own, over the steps shared with the column
    covariance = scaled @ scaled.T / common - own_sum * own_sum.T / common**2
    variance = np.maximum(own_square / common - (own_sum / common) ** 2, 0.0)
    scale = np.sqrt(variance * variance.T)
    usable = (shared >= FEWEST_SHARED_STEPS) & (scale > 1e-12)
    return np.where(usable, covariance / np.where(usable, scale, 1.0), 0.0)
