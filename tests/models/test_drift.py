"""Drift is told soon when it is there, and not told of noise, whatever the noise remembers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.drift import DriftWatch, summarise_residuals, summarise_scores

STEP_S = 600.0
DAY = 144
STEPS = 20_000

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]


def independent(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Return what every test expects."""
    return rng.normal(size=steps)


def skewed(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Return what scores look like."""
    return rng.exponential(size=steps)


def remembering(rng: np.random.Generator, steps: int, memory: float = 0.98) -> NDArray[np.float64]:
    """Return noise whose neighbours are alike for hours."""
    noise, value = rng.normal(size=steps) * math.sqrt(1 - memory**2), 0.0
    for i, push in enumerate(noise):
        value = memory * value + push
        noise[i] = value
    return noise


def daily(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Return a strong cycle with a little noise."""
    return np.sin(np.arange(steps) * 2 * np.pi / DAY) + 0.3 * remembering(rng, steps, 0.9)


def told(values: NDArray[np.float64], watch: DriftWatch | None = None) -> list[int]:
    """Return the steps at which a drift of the scores was told."""
    watch = watch or DriftWatch(STEP_S)
    return [i for i, value in enumerate(values.tolist()) if "score" in watch.update(value, math.nan)]


@pytest.mark.parametrize("noise", [independent, skewed, daily])
@pytest.mark.parametrize("seed", [1, 2])
def test_stationary_noise_is_no_drift(noise: Noise, seed: int) -> None:
    """Protects the training box from jobs that nothing calls for."""
    assert told(noise(np.random.default_rng(seed), STEPS)) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_that_remembers_hours_does_not_fire_constantly(seed: int) -> None:
    """Protects from River's tests taking autocorrelation for change: 20,000 steps are 139 days."""
    assert len(told(remembering(np.random.default_rng(seed), STEPS))) <= 1


@pytest.mark.parametrize("noise", [independent, skewed, daily])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_shift_is_seen_within_a_day(noise: Noise, sign: float) -> None:
    """Protects the purpose: three standard deviations, up or down, are told within 24 hours, and once."""
    values = noise(np.random.default_rng(7), 6000)
    values[3000:] += sign * 3 * values[:3000].std()
    steps = told(values)
    assert len(steps) == 1
    assert 3000 <= steps[0] < 3000 + DAY


def test_each_signal_speaks_for_itself() -> None:
    """Protects the operator's first question, what has drifted."""
    rng, watch = np.random.default_rng(3), DriftWatch(STEP_S)
    seen: set[str] = set()
    for i in range(3000):
        seen |= watch.update(float(rng.normal()), float(rng.normal()) + 4.0 * (i >= 2500))
    assert seen == {"residual"}


def test_one_incident_is_no_drift() -> None:
    """Protects from training on account of one bad hour, however bad it is."""
    values = independent(np.random.default_rng(5), 4000)
    values[3000:3012] = 1e9
    assert told(values) == []


def test_missing_and_constant_numbers_are_no_drift() -> None:
    """Protects from NaN as poison and from a spread of zero."""
    values = independent(np.random.default_rng(6), 6000)
    values[::3] = math.nan
    values[1000:1500] = math.nan
    assert told(values) == []
    assert told(np.full(4000, 0.25)) == []
    values[4000:] += 3.0
    assert told(values) != []


def test_a_restart_forgets_and_learns_anew() -> None:
    """Protects from keeping state that needs no keeping: a new watch tells of the next shift."""
    values = independent(np.random.default_rng(8), 9000)
    values[3000:] += 4.0
    assert told(values[3100:]) == []
    values[6000:] += 4.0
    assert told(values[3100:])[0] < 2900 + DAY


def test_another_forecaster_is_no_drift_and_hides_none_for_long() -> None:
    """Protects from a training after every swap, whose errors differ from those before it; and what comes later."""
    noise = independent(np.random.default_rng(4), 30 * DAY)
    noise[10 * DAY :] -= 3.0
    watch = DriftWatch(STEP_S)
    before = told(noise[: 10 * DAY], watch)
    watch.start_anew()
    assert before + told(noise[10 * DAY : 20 * DAY], watch) == []
    assert told(noise[20 * DAY :] + 3.0, watch) != []


def test_steps_longer_than_a_block_and_seasons_that_do_not_fit() -> None:
    """Protects streams of days, and of steps that no day is a multiple of."""
    values = independent(np.random.default_rng(9), 600)
    values[300:] += 5.0
    for step_s in (86_400.0, 25_000.0, 5000.0):
        assert 300 <= told(values, DriftWatch(step_s))[0] < 330


def test_what_cannot_be_watched_is_told() -> None:
    """Protects from settings that would never or always fire."""
    with pytest.raises(ValueError, match="must be longer than 0"):
        DriftWatch(0.0)
    with pytest.raises(ValueError, match="24 are needed"):
        DriftWatch(STEP_S, learn_blocks=5)


def test_summaries_are_bounded_and_skip_what_is_missing() -> None:
    """Protects the watch from one entity's huge score, and from entities that are not scored yet."""
    score = np.array([0.1, 0.2, 0.3, 1e9, np.nan], np.float32)
    assert summarise_scores(score) <= 2.0
    warming = np.array([False, False, False, True, False])
    assert summarise_scores(score, warming) == pytest.approx(0.25)
    assert math.isnan(summarise_scores(score, np.ones(5, np.bool_)))
    residuals = np.array([[1.0, -3.0], [np.nan, np.inf]])
    assert summarise_residuals(residuals) == pytest.approx(2.0)
    assert summarise_residuals(np.array([[1e12]])) <= 6.0
    assert math.isnan(summarise_residuals(np.full((2, 2), np.nan)))
