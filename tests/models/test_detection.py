"""The detector as a whole: budget kept on normal series, faults found, warm-up silent, examples named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration import boundary, rows_per_alarm
from models.detection import WITNESSES, Detection, Detector
from models.linear import LinearForecaster

STEP_S = 600.0
START_US = 1_600_000_200_000_000
DAY_STEPS = 144

Values = NDArray[np.float64]


def run(series: Values, budget: float = 1.0, period_s: float = 7 * 86_400.0) -> tuple[Detector, list[Detection]]:
    """Feed [T, n, C] through forecaster and detector as the daemon does."""
    _, n, C = series.shape
    forecaster, detector = LinearForecaster(n, C, (1,), STEP_S), Detector(n, C, STEP_S, budget, period_s)
    learn, none = np.ones((n, C), np.bool_), np.zeros(n, np.bool_)
    found = []
    for t, values in enumerate(series):
        expected, spread = forecaster.forecast(n)[:, :, 0], forecaster.spread(n)[:, :, 0]
        time_us = START_US + int(t * STEP_S * 1e6)
        found.append(detector.detect(values, learn, expected, spread, time_us, t, none))
        forecaster.update(values, learn)
    return detector, found


def normal(kind: str, T: int, n: int, seed: int = 0) -> Values:
    """Return [T, n, 1] series without anomalies."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(T, n, 1))
    if kind == "heavy":
        return rng.standard_t(3, size=(T, n, 1))
    if kind == "white":
        return noise
    for t in range(1, T):
        noise[t] += 0.9 * noise[t - 1]
    if kind == "seasonal":
        return noise + 10.0 * np.sin(2 * np.pi * np.arange(T) / DAY_STEPS)[:, None, None]
    return np.round(noise / 2.0) / 10.0 if kind == "quantised" else noise


@pytest.mark.parametrize("kind", ["white", "autoregressive", "seasonal", "heavy", "quantised"])
def test_alert_budget_is_kept_on_normal_series(kind: str) -> None:
    """Protects the promise of few alerts: between half and twice the budget, whatever normal looks like."""
    T, n, rows = 40 * DAY_STEPS, 12, 7 * DAY_STEPS
    _, found = run(normal(kind, T, n))
    alarms, last = 0, np.full(n, -T)
    for t, one in enumerate(found):
        high = one.alert >= 1.0
        alarms += int((high & (t - last > rows / 60)).sum())  # a run of rows is one alarm
        last[high] = t
    assert 0.5 <= alarms / (n * (T - 288) / rows) <= 2.0


@pytest.mark.parametrize("fault", ["spike", "shift", "lost coupling"])
def test_faults_are_watched(fault: str) -> None:
    """Protects detection: what anyone would point at on a chart opens a watch within an hour."""
    T = 20 * DAY_STEPS
    common = normal("seasonal", T, 1, seed=3)
    series = np.concatenate([common, 2.0 * common + normal("white", T, 1, seed=4)], axis=2)
    at = T - 6
    if fault == "spike":
        series[at, 0, 0] += 60.0
    elif fault == "shift":
        series[at:, 0, 1] += 80.0
    else:
        series[at:, 0, 1] = 40.0 - series[at:, 0, 1]
    _, found = run(series)
    assert max(one.emitted[0] for one in found[at:]) >= 1.0


def test_warm_up_is_silent() -> None:
    """Protects from first scores that are artefacts: statistics run, tiers say nothing."""
    series = normal("white", 100, 2)
    series[50] += 100.0
    _, found = run(series)
    assert all(one.warming.all() and not one.emitted.any() and not one.alert.any() for one in found)


def test_shares_name_the_channel() -> None:
    """Protects the explanation: the evidence lies with the channel that jumped, and on the side it jumped to."""
    series = np.concatenate([normal("autoregressive", 1_000, 1, seed=s) for s in range(3)], axis=2)
    series[-1, 0, 1] -= 50.0
    _, found = run(series)
    assert found[-1].share[0].argmax() == 1
    assert found[-1].share[0].sum() == pytest.approx(1.0, abs=1e-5)
    assert found[-1].sign[0, 1] == -1
    assert found[-1].witness.shape == (1, len(WITNESSES))


def test_nearest_example_is_a_past_step() -> None:
    """Protects "nothing like this since …": what is named was admitted, and before now."""
    detector, found = run(normal("white", 400, 2))
    step, distance, channel = detector.nearest(np.array([0, 1]))
    admitted = {t for t, one in enumerate(found) if one.admit[1] >= 0}
    assert step[1] in admitted
    assert step[1] < 399
    assert np.isfinite(distance).all()
    assert (channel == 0).all()


def test_room_grows_and_keeps_what_is_known() -> None:
    """Protects entities that were there when new ones arrive."""
    detector, _ = run(normal("white", 300, 2))
    level = detector.states()["level"]["level"][:2].copy()
    detector.grow(10)
    assert np.array_equal(detector.states()["level"]["level"][:2], level)
    assert all(state.capacity == 10 for state in detector.states().values())


def test_budget_becomes_rows_and_a_boundary() -> None:
    """Protects the meaning of a budget: one per 30 days of ten-minute steps is one in 4,320 rows."""
    rows = rows_per_alarm(600.0, 1.0, 30 * 86_400.0)
    assert rows == 4_320.0
    assert boundary(rows) == pytest.approx(np.log(4_320.0))
    assert rows_per_alarm(600.0, 4_320.0, 30 * 86_400.0) == 100.0


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_budgets_are_refused(bad: float) -> None:
    """Protects from a boundary made of nothing; the message names what is wrong."""
    with pytest.raises(ValueError, match="budget must be positive and finite"):
        Detector(1, 1, 600.0, bad, 86_400.0)
