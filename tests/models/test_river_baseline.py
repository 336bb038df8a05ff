"""River's forecasting baseline: causal, robust, and worth beating."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.river_baseline import replay

STEP_US = 3_600_000_000
HORIZONS = (1, 3)
T, FIRST = 700, 400


def daily(seed: int = 0) -> NDArray[np.float64]:
    """Return [2, T] hourly values with a daily cycle."""
    rng = np.random.default_rng(seed)
    return 20.0 + 5.0 * np.sin(2.0 * np.pi * np.arange(T) / 24.0) + rng.normal(0.0, 0.5, (2, T))


def run(values: NDArray[np.float64], learn: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the middles of both horizons; spreads are checked for being positive."""
    may = np.isfinite(values) if learn is None else learn
    middle, spread = replay(values, may, 100, STEP_US, HORIZONS, FIRST)
    assert np.isfinite(spread).all()
    assert (spread > 0).all()
    return middle


def test_it_beats_the_last_value() -> None:
    """Protects the bar: a baseline that is no better than repeating the last value would be no baseline."""
    values = daily()
    middle = run(values)
    for i, h in enumerate(HORIZONS):
        came = values[:, FIRST + h :]
        own = np.abs(came - middle[:, : T - FIRST - h, i]).mean()
        assert own < 0.8 * np.abs(came - values[:, FIRST : T - h]).mean()


def test_the_future_changes_nothing() -> None:
    """Protects causality: forecasts up to a step are the same whatever comes after it."""
    values = daily()
    changed = values.copy()
    changed[:, FIRST + 50 :] = 1000.0
    np.testing.assert_array_equal(run(changed)[:, :50], run(values)[:, :50])
    assert not np.array_equal(run(changed)[:, 50:], run(values)[:, 50:])


def test_what_may_not_be_learned_teaches_nothing() -> None:
    """Protects from labelled faults: with learning forbidden for a long stretch no weight moves by it."""
    values = daily()
    learn = np.ones(values.shape, np.bool_)
    learn[:, 200:300] = False
    plain = run(values)
    masked = run(values, learn)
    wild = values.copy()
    wild[:, 200:250] *= 40.0  # the averages forget it until the forecasts begin, the weights would not
    assert np.abs(run(wild, learn) - masked).max() < 1.0
    assert np.abs(run(wild) - plain).max() > 1.0


@pytest.mark.parametrize("kind", ["constant", "gaps", "nothing", "huge", "spike"])
def test_odd_series_are_survived(kind: str) -> None:
    """Protects from river's traps: NaN that never leaves, a channel without scale, values whose squares overflow."""
    values = daily()
    if kind == "constant":
        values[:] = 7.0
    elif kind == "gaps":
        values[:, 50:300:2] = np.nan
    elif kind == "nothing":
        values[:] = np.nan
    elif kind == "huge":
        values *= 1e12
    else:
        values[:, 350] = 1e30
    middle = run(values)
    if kind == "nothing":
        assert np.isnan(middle).all()
    else:
        assert np.isfinite(middle).all()
    if kind == "constant":
        np.testing.assert_allclose(middle, 7.0)
