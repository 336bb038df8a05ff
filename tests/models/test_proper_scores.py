"""Proper scores: the closed forms against their definitions, and what makes them proper."""

from __future__ import annotations

import numpy as np
import pytest

from models.proper_scores import (
    PINBALL_LEVELS,
    PIT_BINS,
    T4_UNIT,
    Array,
    calibration_error,
    coverage,
    crps,
    pinball,
    pit_histogram,
    t4_below,
)


def draws(count: int, seed: int = 0) -> Array:
    """Return draws of the predictive law with middle 0 and spread 1."""
    return T4_UNIT * np.random.default_rng(seed).standard_t(4, count)


@pytest.mark.parametrize(("value", "middle", "spread"), [(0.0, 0.0, 1.0), (3.0, 1.0, 0.5), (-40.0, 2.0, 7.0)])
def test_crps_is_the_integral_that_defines_it(value: float, middle: float, spread: float) -> None:
    """Protects the closed form: the squared distance of the forecast's distribution from the step at what came."""
    grid = np.linspace(-2000.0, 2000.0, 400_001)
    below = t4_below((grid - middle) / (T4_UNIT * spread))
    width = float(grid[1] - grid[0])
    integral = float(np.sum((below - (grid >= value)) ** 2)) * width
    assert float(crps(np.array(value), np.array(middle), np.array(spread))) == pytest.approx(integral, abs=width)


def test_the_law_is_the_one_that_the_spread_means() -> None:
    """Protects the unit: spread is √(π/2) of the mean absolute error."""
    assert float(np.mean(np.abs(draws(400_000)))) * np.sqrt(np.pi / 2.0) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("middle", "spread"), [(0.3, 1.0), (-0.3, 1.0), (0.0, 1.5), (0.0, 0.6)])
def test_nobody_gains_by_saying_something_else(middle: float, spread: float) -> None:
    """Protects propriety: on average the true law scores best, in CRPS and in all quantiles together."""
    came = draws(50_000)
    honest = crps(came, np.zeros(1), np.ones(1)).mean()
    assert crps(came, np.full(1, middle), np.full(1, spread)).mean() > honest
    losses = [
        sum(pinball(came, np.full(1, m), np.full(1, s), q).mean() for q in PINBALL_LEVELS)
        for m, s in ((0.0, 1.0), (middle, spread))
    ]
    assert losses[1] > losses[0]


def test_pinball_counts_each_side_by_its_level() -> None:
    """Protects the quantile loss: at the middle it is half the absolute error; far out it is the level's share."""
    values = np.array([-2.0, 4.0])
    np.testing.assert_allclose(pinball(values, np.zeros(2), np.ones(2), 0.5), [1.0, 2.0])
    far = pinball(np.array([1e6, -1e6]), np.zeros(2), np.ones(2), 0.05)
    np.testing.assert_allclose(far, [0.05e6, 0.95e6], rtol=1e-4)


def test_what_is_not_finite_does_not_become_a_good_score() -> None:
    """Protects from a contender that says NaN or infinity and from values that never came."""
    scores = crps(np.array([1.0, 1.0, np.nan]), np.array([np.nan, np.inf, 0.0]), np.ones(3))
    assert np.isnan(scores).all()


def test_absurd_distances_stay_finite() -> None:
    """Protects the sums: squares of huge errors must not overflow."""
    with np.errstate(all="raise"):
        assert np.isfinite(crps(np.array([1e200, -1e200]), np.zeros(2), np.full(2, 1e-30))).all()


def test_honest_forecasts_are_calibrated() -> None:
    """Protects the calibration error: near zero for the true law, large for one too narrow, too wide or beside it."""
    came = draws(50_000)
    honest = pit_histogram(came, np.zeros(1), np.ones(1))
    assert honest.sum() == 50_000
    assert calibration_error(honest) < 0.01
    assert coverage(honest) == pytest.approx(0.9, abs=0.01)
    for middle, spread in ((0.0, 0.3), (0.0, 3.0), (3.0, 1.0)):
        assert calibration_error(pit_histogram(came, np.full(1, middle), np.full(1, spread))) > 0.15


def test_nothing_to_count_is_the_worst_calibration() -> None:
    """Protects the rule for few targets: no evidence is no good evidence."""
    assert calibration_error(np.zeros(PIT_BINS, np.int64)) == 1.0
    assert coverage(np.zeros(PIT_BINS, np.int64)) == 0.0
