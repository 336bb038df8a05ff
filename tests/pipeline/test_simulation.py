"""The simulated streams and what is planted in them: believable, repeatable, and honestly on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import injection, simulation
from pipeline.demo_data import DemoStream, demo_streams, silences, water
from pipeline.planted import AIR_PLAN, EVENT_PLAN, PM25_LIMIT, Fault, FaultKind, local_scales, plant
from pipeline.simulation import Series

DAY_STEPS = 144
FIRST = 14 * DAY_STEPS


@pytest.fixture(scope="module")
def air() -> Series:
    return simulation.air(45.0, seed=3)


@pytest.fixture(scope="module")
def planted_air(air: Series) -> tuple[Series, list[Fault]]:
    return plant(air, AIR_PLAN, FIRST, seed=3)


@pytest.mark.parametrize("make", [simulation.air, simulation.events])
def test_same_seed_same_values(make: Callable[..., Series]) -> None:
    """Protects reproducible demos: a seed decides every value, and another seed decides otherwise."""
    one, two, other = (make(3.0, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.values, two.values)
    assert not np.array_equal(one.values, other.values)


def test_air_obeys_physics(air: Series) -> None:
    """Protects the simulation from values that no station could report and that would be anomalies by themselves."""
    pm25, pm10, no2, o3, _, humidity = np.moveaxis(air.values, -1, 0)
    assert np.isfinite(air.values).all()
    assert (pm10 >= pm25).all()
    assert pm25.max() < PM25_LIMIT
    assert (np.stack([pm25, no2, o3]) > 0.0).all()
    assert ((humidity > 5.0) & (humidity < 100.0)).all()


def test_air_channels_and_stations_depend_on_each_other(air: Series) -> None:
    """Protects the coupling that a model is meant to find: neighbours agree, ozone mirrors NO2 and follows warmth."""
    away = air.values - np.tile(_usual_day(air), (1, 45, 1))  # [E, T, C] deviation from the usual day
    assert _correlation(air.values[0, :, 0], air.values[1, :, 0]) > 0.7
    assert _correlation(away[2, :, 2], away[2, :, 3]) < -0.2
    assert _correlation(away[2, :, 4], away[2, :, 3]) > 0.3
    assert _correlation(air.values[0, :, 4], air.values[0, :, 5]) < -0.6


def test_traffic_has_days_and_weeks() -> None:
    """Protects the daily and weekly cycles that seasonal lags and profiles live from."""
    vehicles = simulation.events(28.0, seed=1).values[0, :, 1].reshape(28, DAY_STEPS)
    rush, night = vehicles[:, 48], vehicles[:, 18]  # 08:00 and 03:00, days from Monday on
    workdays = np.arange(28) % 7 < 5
    assert rush[workdays].mean() > 5 * night.mean()
    assert rush[workdays].mean() > 2 * rush[~workdays].mean()


def test_counts_are_whole_and_overdispersed() -> None:
    """Protects the counts' scatter: whole numbers whose variance exceeds a Poisson's."""
    values = simulation.events(60.0, seed=1).values
    assert np.array_equal(values, np.round(values))
    noon = values[:, 75::DAY_STEPS][:, np.arange(60) % 7 < 5]  # [E, workdays, C]
    assert (np.mean(noon.var(axis=1) / noon.mean(axis=1), axis=0) > 1.3).all()  # 1 for a Poisson of constant rate


def test_faults_keep_their_distance(planted_air: tuple[Series, list[Fault]], air: Series) -> None:
    """Protects the reckoning: no fault in the training part, none overlapping another one on the same entity."""
    _, faults = planted_air
    assert min(f.start_us for f in faults) > air.times_us[FIRST - 1]
    for entity in air.entities:
        own = sorted((f for f in faults if f.entity == entity), key=lambda f: f.start_us)
        assert len(own) == 3
        assert all(b.start_us - a.end_us >= 30 * 3_600_000_000 for a, b in pairwise(own))


def test_only_what_is_on_record_was_changed(planted_air: tuple[Series, list[Fault]], air: Series) -> None:
    """Protects the truth: outside the recorded places the values are untouched, inside each of them they are not."""
    series, faults = planted_air
    changed = ~((series.values == air.values) | (np.isnan(series.values) & np.isnan(air.values)))
    for fault in faults:
        e = air.entities.index(fault.entity)
        window = (air.times_us >= fault.start_us) & (air.times_us <= fault.end_us)
        place = np.ix_(window, np.array([c in fault.channels for c in air.channels]))
        assert changed[e][place].any(), fault
        changed[e][place] = False
    assert not changed.any()


def test_every_kind_is_planted_and_shows() -> None:
    """Protects the demo's promise of every fault kind, each large enough that missing it is the monitor's failure."""
    faults = [fault for stream in demo_streams(45.0, 14.0, seed=0)[1:] for fault in stream.truths]
    counts = Counter(fault.kind for fault in faults)
    assert set(counts) == set(FaultKind) - {FaultKind.DOCUMENTED}
    assert 20 <= len(faults) <= 26
    assert all(fault.magnitude >= 2.0 for fault in faults if "silence" not in fault.found_by)
    assert all(fault.until_us > fault.end_us >= fault.start_us for fault in faults)


def test_limit_episode_crosses_slowly(planted_air: tuple[Series, list[Fault]], air: Series) -> None:
    """Protects the forecast of limits: the climb takes hours, so there is time to say that it is coming."""
    series, faults = planted_air
    fault = next(f for f in faults if f.kind is FaultKind.LIMIT)
    e = air.entities.index(fault.entity)
    start = int(np.searchsorted(series.times_us, fault.start_us))
    pm25 = series.values[e, start:, 0]
    assert 12 <= int(np.argmax(pm25 > PM25_LIMIT)) <= 60


def test_a_plan_that_does_not_fit_is_refused(air: Series) -> None:
    """Protects from faults piled upon each other: too little time is an error that says how much is needed."""
    with pytest.raises(ValueError, match=r"faults need \d+ steps, but only"):
        plant(air, AIR_PLAN, air.values.shape[1] - DAY_STEPS, seed=0)


def test_stuck_repeats_the_last_good_value() -> None:
    """Protects the stuck fault's shape: exact repetition of the value before it."""
    clean = np.arange(20.0).reshape(10, 2)
    site = injection.Site(clean.copy(), clean, np.ones(2), [1], 600.0, 4, 7, np.random.default_rng(0))
    injection.stuck(site)
    assert site.values[4:7, 1].tolist() == [clean[3, 1]] * 3
    assert np.array_equal(site.values[:, 0], clean[:, 0])


def test_local_scale_is_the_distance_from_the_usual_hour() -> None:
    """Protects magnitudes: a daily cycle does not count as scatter, Gaussian scatter counts as its sd."""
    rng = np.random.default_rng(0)
    cycle = 50.0 * np.sin(np.arange(DAY_STEPS) / DAY_STEPS * 2 * np.pi)
    values = (np.tile(cycle, 60) + 2.0 * rng.standard_normal(60 * DAY_STEPS))[None, :, None]
    times = np.arange(values.shape[1], dtype=np.int64) * 600_000_000
    series = Series("x", ("a",), ("c",), ("1",), 600.0, times, values, np.zeros((1, 2)))
    assert local_scales(series)[0, 0] == pytest.approx(2.0, rel=0.05)


def test_event_plan_strikes_by_day() -> None:
    """Protects from faults that cannot show: roads are blocked and cameras freeze while the town is awake."""
    _, faults = plant(simulation.events(45.0, seed=2), EVENT_PLAN, FIRST, seed=2)
    for fault in faults:
        if fault.kind in (FaultKind.ROAD_BLOCKED, FaultKind.FROZEN, FaultKind.CROWD):
            assert 7 <= fault.start_us // 3_600_000_000 % 24 < 17


@pytest.fixture(scope="module")
def flow() -> DemoStream:
    return water()


def test_water_is_the_series_that_river_ships(flow: DemoStream) -> None:
    """Protects the real series from being cut or shifted: all 1,268 rows, hourly, from 20 March to 16 May 2022."""
    values = flow.series.values[0, :, 0]
    assert int(np.isfinite(values).sum()) == 1_268
    assert set(np.diff(flow.series.times_us)) == {3_600_000_000}
    assert flow.series.times_us[0] == 1_647_770_400_000_000  # 2022-03-20T10:00:00Z
    assert not flow.series.simulated


def test_documented_events_are_where_the_flow_leaves_its_range(flow: DemoStream) -> None:
    """Protects the four documented intervals: the flow is out of its range in them, and nowhere else."""
    documented = [f for f in flow.truths if f.kind is FaultKind.DOCUMENTED]
    inside = np.zeros(len(flow.series.times_us), bool)
    for fault in documented:
        inside |= (flow.series.times_us >= fault.start_us) & (flow.series.times_us <= fault.end_us)
    values = flow.series.values[0, :, 0]
    assert len(documented) == 4
    # River says "3 low value moments" and one peak "after the first 2 segments".
    times = flow.series.times_us
    lowest = [np.nanmin(values[(times >= f.start_us) & (times <= f.end_us)]) for f in documented]
    assert [bool(low < 50.0) for low in lowest] == [True, True, False, True]
    assert np.nanmin(values[~inside]) > 99.0 - 1e-9
    assert np.nanmax(values[~inside]) < 107.5


def test_gaps_are_silences(flow: DemoStream) -> None:
    """Protects the split of faults: the series' own gaps of 7, 11 and 32 hours (row to row) count as silence."""
    gaps = [f for f in flow.truths if f.kind is FaultKind.GAP]
    row_to_row_h = {(f.end_us - f.start_us) // 3_600_000_000 + 2 for f in gaps}
    assert {7, 11, 32} <= row_to_row_h
    assert all(f.found_by == {"silence"} for f in gaps)
    assert silences(flow.series, shortest_h=1.0)[0].start_us < gaps[0].start_us


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _usual_day(series: Series) -> NDArray[np.float64]:
    """Return the mean day [E, 144, C]."""
    E, _, C = series.values.shape
    return np.asarray(series.values.reshape(E, -1, DAY_STEPS, C).mean(axis=1))
