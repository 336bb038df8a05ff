"""The city's scene has the sizes that its modules say it has, so that it is an ordinary town and not a lucky one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.city_scene import AIR_CHANNELS, DAY_STEPS, STEP_S, city
from pipeline.city_streets import streets, with_exhaust

_MONDAY_US = 4 * 86_400_000_000  # 1970-01-05


@pytest.fixture(scope="module")
def times_us() -> np.ndarray:
    """Return the half hours of 30 weeks from a Monday on."""
    return _MONDAY_US + np.arange(1, 30 * 7 * DAY_STEPS + 1, dtype=np.int64) * round(STEP_S * 1e6)


def test_a_main_road_carries_hundreds_of_vehicles_in_the_rush_hour(times_us: np.ndarray) -> None:
    """Protects realism: 400 an hour, which is 8 to 10 % of a weekday, and as good as none at 3 in the morning."""
    vehicles = streets(np.random.default_rng(1), times_us, STEP_S).vehicles[0]
    weekdays = vehicles.reshape(-1, DAY_STEPS)[(np.arange(30 * 7) % 7) < 5]  # [days, steps of a day]
    busiest = (weekdays[:, :-1] + weekdays[:, 1:]).mean(axis=0).max()
    assert 370 < busiest < 430
    assert 0.08 < busiest / weekdays.sum(axis=1).mean() < 0.10
    assert weekdays[:, 5:7].sum(axis=1).mean() < 0.1 * busiest


def test_vehicles_scatter_as_chance_and_five_per_cent_of_drift_make_them(times_us: np.ndarray) -> None:
    """Protects realism: variance of a half hour is Poisson's plus that of the drift, no less."""
    vehicles = streets(np.random.default_rng(2), times_us, STEP_S).vehicles[0]
    at_eight = vehicles.reshape(-1, DAY_STEPS)[(np.arange(30 * 7) % 7) < 5][:, 16].astype(float)
    mean = at_eight.mean()
    assert at_eight.var() == pytest.approx(mean + (0.05 * mean) ** 2, rel=0.35)


def test_two_fifths_of_the_rush_hours_no2_are_exhaust_and_gone_within_the_hour() -> None:
    """Protects what the documents on closed streets say: neither nothing nor all of it goes with the traffic."""
    vehicles = np.array([[200] * 6 + [0] * 4])
    total = with_exhaust(np.full(vehicles.shape, 20.0), vehicles, STEP_S)[0]
    assert 1.0 - 20.0 / total[5] == pytest.approx(0.4)
    assert total[7] == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_blocked_road_is_what_the_truth_says(seed: int) -> None:
    """Protects the truth that is reckoned with: vehicles to a twentieth, NO2 down by a third or so, more people."""
    scene = city(22, seed)
    week = slice(scene.blocked.first - 7 * DAY_STEPS, scene.blocked.end - 7 * DAY_STEPS)
    now = slice(scene.blocked.first, scene.blocked.end)
    assert 0.0 < scene.cars[0, now].sum() < 0.1 * scene.cars[0, week].sum()
    assert scene.people[0, now].sum() > 1.3 * scene.people[0, week].sum()
    no2 = scene.air[0, :, AIR_CHANNELS.index("no2")]
    assert no2[scene.blocked.first + 2] < 0.85 * no2[scene.blocked.first - 1]
    assert scene.cars[1, now].sum() > 0.7 * scene.cars[1, week].sum()
