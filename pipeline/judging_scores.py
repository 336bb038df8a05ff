"""What the contenders' forecasts were worth, on exactly the same held-out targets.

A target is a value that came and may be learned from, for which every contender had a finite forecast. Its score is in
units of a scale that was known when the forecast was made and is the same for all: the larger of the linear
forecaster's spread before the holdout and now, so that neither a channel's unit nor a noisy week decides. Values count
as at most TARGET_REACH spreads from the linear forecast: one absurd value must not decide either. Both keep the score
proper, as neither depends on what a contender says.

Legend: E entities, Th held-out steps, C channels, N horizons, S sampled series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import river_baseline
from models.proper_scores import PINBALL_LEVELS, PIT_BINS, calibration_error, coverage, crps, pinball, pit_histogram
from pipeline.config_streams import StreamConfig
from pipeline.judging_replay import WARM_VALUES, Material, Replay

TARGET_REACH = 10.0
RIVER_CELLS = 150_000
"""Series times steps that River's forecasters see: about 4 s."""
RIVER_WARMUP = 2_000
"""Steps before the holdout that they learn from at most."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be forecast; the row is the step at which the forecast was made."""

    values: NDArray[np.float64]
    """[E, Th, C, N] values h steps later, within reach."""
    scale: NDArray[np.float32]
    """[E, Th, C, N]"""
    there: NDArray[np.bool_]
    """[E, Th, C, N] where there is a target."""


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """A contender's forecasts: losses in scale units, smaller is better."""

    crps: float
    pinball: dict[str, float]
    """By level."""
    calibration_error: float
    """Mean distance of the coverage of central intervals from what they promise."""
    coverage_90: float
    targets: int
    by_step: NDArray[np.float64]
    """[Th] sums of the CRPS."""


def targets_of(material: Material, linear: Replay, horizons: Sequence[int], others: Sequence[Replay]) -> Targets:
    """Return the targets that the linear forecaster and all ``others`` had a finite forecast for.

    Forecasts for held-out values that were made before the holdout began are not judged.
    """
    E, Th, first = material.entities, material.holdout, material.first
    came = np.where(material.learn[:, :E], material.values[:, :E], np.nan).transpose(1, 0, 2)  # [E, T, C]
    warm = np.isfinite(came[:, :first]).sum(axis=1) >= WARM_VALUES  # [E, C]
    values = np.full(linear.middle.shape, np.nan)
    for i, h in enumerate(horizons):
        values[:, : max(Th - h, 0), :, i] = came[:, first + h :]
    reach = TARGET_REACH * linear.spread
    values = np.clip(values, linear.middle - reach, linear.middle + reach)
    there = np.isfinite(values) & warm[:, None, :, None]
    for other in others:
        there &= np.isfinite(other.middle)
    return Targets(values, np.maximum(linear.spread, linear.spread_before[:, None]), there)


def forecast_score(targets: Targets, middle: NDArray[np.float64], spread: NDArray[np.float32]) -> ForecastScore:
    """Return what forecasts [E, Th, C, N] were worth on ``targets``."""
    there = targets.there
    steps = np.broadcast_to(np.arange(there.shape[1])[None, :, None, None], there.shape)[there]
    values, expected, width = targets.values[there], middle[there], spread[there].astype(np.float64)
    scale = targets.scale[there].astype(np.float64)
    loss = crps(values, expected, width) / scale
    histogram = pit_histogram(values, expected, width) if len(values) else np.zeros(PIT_BINS, np.int64)
    count = max(len(loss), 1)
    return ForecastScore(
        float(loss.sum() / count),
        {f"{q:g}": float((pinball(values, expected, width, q) / scale).sum() / count) for q in PINBALL_LEVELS},
        calibration_error(histogram),
        coverage(histogram),
        len(loss),
        np.bincount(steps, weights=loss, minlength=there.shape[1]).astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class RiverSample:
    """River's forecasts, of a sample of series."""

    entities: NDArray[np.intp]
    """[S] rows."""
    channels: NDArray[np.intp]
    """[S]"""
    middle: NDArray[np.float64]
    """[S, Th, N]"""
    spread: NDArray[np.float32]
    """[S, Th, N]"""

    def of(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return [S, Th, 1, N] the sampled series of ``array`` [E, Th, C, N]."""
        return array[self.entities, :, self.channels][:, :, None]

    def targets(self, targets: Targets) -> Targets:
        """Return the sampled series' targets, those that River had a forecast for."""
        there = self.of(targets.there) & np.isfinite(self.middle[:, :, None])
        return Targets(self.of(targets.values), self.of(targets.scale), there)  # type: ignore[arg-type]


def river_sample(
    config: StreamConfig, material: Material, targets: Targets, seed: int, progress: Callable[[float], None]
) -> RiverSample:
    """Return River's forecasts of a seeded sample of the series that have targets."""
    warmup = min(material.first, RIVER_WARMUP)
    start = material.first - warmup
    entities, channels = np.nonzero(targets.there.any(axis=(1, 3)))
    most = max(1, RIVER_CELLS // (warmup + material.holdout))
    lot = np.sort(np.random.default_rng([seed, 11]).permutation(len(entities))[:most])
    entities, channels = entities[lot], channels[lot]
    middle, spread = river_baseline.replay(
        material.values[start:, entities, channels].T,
        material.learn[start:, entities, channels].T,
        material.step0 + start,
        config.step_us,
        config.horizons,
        warmup,
        progress,
    )
    return RiverSample(entities, channels, middle, spread)
