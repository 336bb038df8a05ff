"""The linear forecaster learns what is linear, at every horizon, and stays finite on what is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.linear import LinearForecaster

Values = NDArray[np.float64]


def feed(forecaster: LinearForecaster, series: Values) -> tuple[Values, Values]:
    """Feed [T, n, C]; return forecasts and spreads [T, n, C, N] as made after each step."""
    T, n, C = series.shape
    learn = np.ones((n, C), np.bool_)
    forecasts, spreads = [], []
    for t in range(T):
        forecaster.update(series[t], learn)
        forecasts.append(forecaster.forecast(n))
        spreads.append(forecaster.spread(n).astype(np.float64))
    return np.array(forecasts), np.array(spreads)


def autoregression(T: int, seed: int = 0) -> Values:
    """Return [T, 1, 1] of x_t = 1.6 x_{t−1} − 0.7 x_{t−2} + unit noise, around 50."""
    noise = np.random.default_rng(seed).normal(size=T)
    x = np.zeros(T)
    for t in range(2, T):
        x[t] = 1.6 * x[t - 1] - 0.7 * x[t - 2] + noise[t]
    return (x + 50.0)[:, None, None]


def test_one_step_errors_reach_the_noise() -> None:
    """Protects the recursion: on an autoregression the best possible error is the noise, and the spread says so."""
    series = autoregression(4_000)
    forecasts, spreads = feed(LinearForecaster(1, 1, (1,), 60.0), series)
    errors = series[1:, 0, 0] - forecasts[:-1, 0, 0, 0]
    assert np.std(errors[2_000:]) < 1.05
    assert 0.8 < spreads[-1, 0, 0, 0] < 1.2


@pytest.mark.parametrize("horizon", [6, 40, 150])
def test_delayed_learning_forecasts_a_wave_far_ahead(horizon: int) -> None:
    """Protects the ring of gains: a wave is linear in its recent past at any horizon, thinned ring or not."""
    t = np.arange(4_000)
    series = np.sin(2 * np.pi * t / 37.0)[:, None, None]
    forecasts, _ = feed(LinearForecaster(1, 1, (1, horizon), 60.0), series)
    errors = series[horizon:, 0, 0] - forecasts[:-horizon, 0, 0, 1]
    assert np.abs(errors[-500:]).max() < 0.1


def test_other_channels_are_used() -> None:
    """Protects the joint block: a channel that follows another by one step is forecast from it."""
    leader = np.random.default_rng(1).normal(size=3_000)
    follower = np.r_[0.0, leader[:-1]]
    series = np.stack([leader, follower], axis=1)[:, None, :]
    forecasts, _ = feed(LinearForecaster(1, 2, (1,), 60.0), series)
    errors = series[1:, 0, 1] - forecasts[:-1, 0, 1, 0]
    assert np.std(errors[-500:]) < 0.3


def test_many_channels_are_forecast_each_from_itself() -> None:
    """Protects the bound on cost: beyond the joint limit a channel's forecast does not depend on the others."""
    series = np.random.default_rng(2).normal(size=(200, 1, 13)).cumsum(axis=0)
    alone, _ = feed(LinearForecaster(1, 13, (1,), 60.0), series)
    changed = series.copy()
    changed[:, :, 1:] *= -3.0
    other, _ = feed(LinearForecaster(1, 13, (1,), 60.0), changed)
    assert np.array_equal(alone[:, :, 0], other[:, :, 0])


def test_what_may_not_be_learned_changes_no_weight() -> None:
    """Protects against learning from suspect values: they move the forecast's base, nothing else."""
    forecaster = LinearForecaster(1, 1, (1, 3), 60.0)
    feed(forecaster, autoregression(300))
    weights, level = forecaster.state["weights"].copy(), forecaster.state["level"].copy()
    for value in (900.0, -900.0, 900.0):
        forecaster.update(np.array([[value]]), np.array([[False]]))
    assert np.array_equal(forecaster.state["weights"], weights)
    assert np.array_equal(forecaster.state["level"], level)


def test_gaps_hold_the_forecast() -> None:
    """Protects missing values: nothing arrives, nothing moves, and scaled inputs say 0."""
    forecaster = LinearForecaster(1, 2, (1,), 60.0)
    feed(forecaster, np.random.default_rng(3).normal(size=(100, 1, 2)))
    before = forecaster.forecast(1)
    forecaster.update(np.full((1, 2), np.nan), np.zeros((1, 2), np.bool_))
    assert np.array_equal(forecaster.forecast(1), before)
    assert not forecaster.level_z(1).any()
    assert not forecaster.diff_z(1).any()


def test_before_the_first_value_nothing_is_expected() -> None:
    """Protects the cold start: no value, no forecast, but a usable spread."""
    forecaster = LinearForecaster(2, 1, (1,), 60.0)
    assert np.isnan(forecaster.forecast(2)).all()
    assert (forecaster.spread(2) > 0.0).all()


@pytest.mark.parametrize(
    "series",
    [
        np.full(600, 5.0),
        1e300 * (-1.0) ** np.arange(600),
        1e-300 * np.arange(600),
        np.where(np.arange(600) < 300, 0.0, 1e9),
        np.where(np.arange(600) == 40, 0.01, 0.0),
        np.round(np.random.default_rng(4).normal(size=600)) * 0.01 * (np.arange(600) % 7 == 0),
    ],
    ids=["constant", "huge", "tiny", "step", "single wiggle", "quantised"],
)
def test_hard_series_stay_finite(series: Values) -> None:
    """Protects scale and unscale pairs: no series makes a forecast or a spread that is not a number."""
    forecasts, spreads = feed(LinearForecaster(1, 1, (1, 5), 60.0), series[:, None, None].astype(np.float64))
    assert np.isfinite(forecasts).all()
    assert np.isfinite(spreads).all()
    assert (spreads > 0.0).all()


def test_first_change_of_a_constant_channel_does_not_derail() -> None:
    """Protects quantised sensors: after long silence one step of the sensor may not blow the forecast up."""
    series = np.full(500, 0.17)
    series[100::7] = 0.18
    forecasts, _ = feed(LinearForecaster(1, 1, (1,), 60.0), series[:, None, None])
    assert np.abs(forecasts - 0.175).max() < 0.05


def test_batch_equals_one_by_one() -> None:
    """Protects entities from each other."""
    series = np.random.default_rng(5).normal(size=(200, 3, 2)).cumsum(axis=0)
    together, _ = feed(LinearForecaster(8, 2, (1, 4), 60.0), series)
    for e in range(3):
        alone, _ = feed(LinearForecaster(1, 2, (1, 4), 60.0), series[:, e : e + 1])
        assert np.array_equal(together[:, e : e + 1], alone)


@pytest.mark.parametrize("horizons", [(), (0, 1)])
def test_senseless_horizons_are_refused(horizons: tuple[int, ...]) -> None:
    """Protects from a forecast of the past."""
    with pytest.raises(ValueError, match="horizons must be steps >= 1"):
        LinearForecaster(1, 1, horizons, 60.0)
