"""Limits, observed and forecast."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.incident import AlertMessage, Kind, Phase, Tier
from pipeline.limits import Limit, Limits, _t4_above
from tests.pipeline.incident_parts import START, STEP_US, facts, frames

LEGAL = Limit("legal", "pm25", above=50.0, clear=45.0, probability=0.9)
DRY = Limit("dry", "stage", below=1.0, needed=2, window=3, tier=Tier.WATCH)
CHANNELS, UNITS, HORIZONS = ("stage", "pm25"), ("m", "ug/m3"), (1, 3, 6)


def limits(*rules: Limit) -> Limits:
    """Return limits over river stage and PM2.5, forecast 1, 3 and 6 steps ahead."""
    return Limits(facts(), rules, CHANNELS, UNITS, HORIZONS, capacity=2)


def take(subject: Limits, step: int, stage: float | None, pm25: float | None) -> list[AlertMessage]:
    """Let one step of one entity pass."""
    nothing = np.full((1, 2), np.nan)
    return subject.step(frames(step, [[stage, pm25]]), nothing, nothing.astype(np.float32), 0)


def ahead(subject: Limits, step: int, pm25: Sequence[float], spread: float = 1.0) -> list[AlertMessage]:
    """Give the forecast of PM2.5 made after a step."""
    forecast = np.array([[[5.0] * 3, list(pm25)]])
    return subject.look_ahead(forecast, np.full((1, 2, 3), spread, np.float32), (START + step) * STEP_US)


def test_a_limit_opens_above_it_and_resolves_at_its_lower_clear_level() -> None:
    """Protects the meaning of a legal limit: equal is not above; between clear and limit it stays open."""
    subject = limits(LEGAL)
    assert take(subject, 0, 3.0, 50.0) == []
    (opened,) = take(subject, 1, 3.0, 50.5)
    assert (opened.kind, opened.name, opened.phase) == (Kind.LIMIT, "pm25/legal", Phase.OPENED)
    assert opened.reason == 'PM2.5 is 50.5 µg/m³, above its limit "legal" of 50 µg/m³.'
    assert take(subject, 2, 3.0, 46.0) == []
    assert take(subject, 3, 3.0, None) == []  # missing is not calm
    (resolved,) = take(subject, 4, 3.0, 45.0)
    assert resolved.phase is Phase.RESOLVED
    assert resolved.reason == (
        'PM2.5 is 45 µg/m³, no longer above its limit "legal" of 50 µg/m³; it lasted 30 min.'
    )  # fmt: skip


def test_below_and_n_of_m_are_each_limits_own() -> None:
    """Protects limits with different rules in one stream: two of three steps too dry, one step too dirty."""
    subject = limits(LEGAL, DRY)
    (dirty,) = take(subject, 0, 0.5, 60.0)
    assert dirty.name == "pm25/legal"
    assert take(subject, 1, 2.0, 60.0) == []
    (dry,) = take(subject, 2, 0.9, 60.0)
    assert (dry.name, dry.tier, dry.first_step) == ("stage/dry", Tier.WATCH, START)
    assert dry.reason.startswith('stage is 0.9 m, below its limit "dry" of 1 m')


def test_a_probable_crossing_is_told_before_it_comes_and_comes_true() -> None:
    """Protects the early warning: two forecasts in a row, the first sure horizon, and its end when it is there."""
    subject = limits(LEGAL)
    take(subject, 0, 3.0, 40.0)
    assert ahead(subject, 0, [44.0, 53.0, 60.0]) == []
    take(subject, 1, 3.0, 42.0)
    (warned,) = ahead(subject, 1, [46.0, 53.0, 60.0])
    assert (warned.kind, warned.phase, warned.first_step) == (Kind.FORECAST_LIMIT, Phase.OPENED, START)
    # t = (53 − 50)·√(π/2) = 3.76; P(T₄ < 3.76) = 0.990
    assert warned.reason == (
        'PM2.5 will probably be above its limit "legal" of 50 µg/m³ in 30 min (2 March 2026 00:40 UTC): '
        "the chance is 99 %, the forecast 50.78 to 55.22 µg/m³."
    )
    assert warned.explanation["probability"] == pytest.approx(0.990, abs=5e-4)
    (crossed,) = take(subject, 2, 3.0, 55.0)
    assert crossed.kind is Kind.LIMIT
    assert ahead(subject, 2, [55.0, 55.0, 55.0]) == []
    take(subject, 3, 3.0, 55.0)
    (over,) = ahead(subject, 3, [55.0, 55.0, 55.0])
    assert (over.incident_id, over.phase, over.note) == (warned.incident_id, Phase.RESOLVED, "came true")


def test_a_warning_is_taken_back_when_it_has_become_improbable() -> None:
    """Protects the lower level: as long as it is half as sure as it must be, the warning stands."""
    subject = limits(LEGAL)
    for step in (0, 1):
        take(subject, step, 3.0, 40.0)
        said = ahead(subject, step, [60.0, 60.0, 60.0])
    assert len(said) == 1
    take(subject, 2, 3.0, 40.0)
    assert ahead(subject, 2, [50.0, 50.0, 50.0]) == []  # one half is more than 0.45
    for step in (3, 4):
        take(subject, step, 3.0, 40.0)
        said = ahead(subject, step, [40.0, 40.0, 40.0])
    assert [(m.phase, m.note) for m in said] == [(Phase.RESOLVED, "")]


def test_late_data_takes_back_a_crossing_that_was_none() -> None:
    """Protects trust: a step's mean that late readings bring below the limit was no crossing."""
    subject = limits(LEGAL)
    (opened,) = take(subject, 0, 3.0, 50.5)
    assert subject.revise(frames(0, [[3.0, 50.2]], rows=[0]), 0) == []
    assert subject.revise(frames(1, [[3.0, 40.0]], rows=[0]), 0) == []
    (said,) = subject.revise(frames(0, [[3.0, 49.0]], rows=[0]), 0)
    assert (said.incident_id, said.phase, said.sequence) == (opened.incident_id, Phase.CORRECTED, 1)
    assert said.reason == 'With late data PM2.5 is 49 µg/m³: it was not above its limit "legal" of 50 µg/m³.'


def test_late_data_leaves_a_crossing_that_goes_on() -> None:
    """Protects the limit itself: the first step was none, but the next one crosses on its own."""
    subject = limits(LEGAL)
    take(subject, 0, 3.0, 50.5)
    take(subject, 1, 3.0, 58.0)
    assert subject.revise(frames(0, [[3.0, 49.0]], rows=[0]), 0) == []
    assert len(subject.open_incidents()) == 1


def test_no_warning_comes_from_what_is_not_known() -> None:
    """Protects dead sensors and cold forecasters: neither a missing channel nor a NaN forecast warns."""
    subject = limits(LEGAL)
    for step in range(3):
        take(subject, step, 3.0, None)
        assert ahead(subject, step, [60.0, 60.0, 60.0]) == []
    for step in range(3, 6):
        take(subject, step, 3.0, 40.0)
        assert ahead(subject, step, [math.nan] * 3) == []


def test_a_restart_between_two_forecasts_changes_nothing() -> None:
    """Protects checkpoints: pending and open incidents of both kinds go on in another process."""
    first, second = limits(LEGAL, DRY), limits(LEGAL, DRY)
    slots = np.arange(1)
    take(first, 0, 0.5, 60.0)
    ahead(first, 0, [60.0] * 3)
    take(first, 1, 2.0, 40.0)
    ahead(first, 1, [60.0] * 3)
    for name, array in first.state.arrays.items():
        second.state[name][...] = array
    second.restore_rows_shared(slots, json.loads(json.dumps(first.rows_shared(slots))))
    assert [i.id for i in second.open_incidents()] == [i.id for i in first.open_incidents()]
    for subject in (first, second):
        said = take(subject, 2, 0.5, 40.0) + ahead(subject, 2, [60.0] * 3)
        assert [(m.kind, m.name) for m in said] == [
            (Kind.LIMIT, "stage/dry"), (Kind.FORECAST_LIMIT, "pm25/legal"),
        ]  # fmt: skip


@given(st.floats(-1e300, 1e300))
def test_the_tail_is_that_of_student_t(t: float) -> None:
    """Protects the probabilities that are told: symmetric, within [0, 1], falling, and right at tabulated points."""
    above = float(_t4_above(np.array(t)))
    assert 0.0 <= above <= 1.0
    assert above + float(_t4_above(np.array(-t))) == pytest.approx(1.0)
    assert float(_t4_above(np.array(t + 1))) <= above + 1e-15  # falling, to the last bit of one half


@pytest.mark.parametrize(("t", "p"), [(0.0, 0.5), (1.5332, 0.1), (2.1318, 0.05), (2.7764, 0.025), (4.6041, 0.005)])
def test_the_tail_equals_the_printed_tables(t: float, p: float) -> None:
    """Protects the closed form: quantiles of t with 4 degrees of freedom as every statistics book prints them."""
    assert float(_t4_above(np.array(t))) == pytest.approx(p, abs=1e-5)  # four printed decimals of t


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"above": 1.0, "below": 2.0}, "exactly one of above and below"),
        ({}, "exactly one of above and below"),
        ({"above": 50.0, "clear": 51.0}, "would clear at 51.0, which still crosses 50.0"),
        ({"below": 1.0, "clear": 0.5}, "would clear at 0.5"),
        ({"above": 1.0, "probability": 1.0}, "probability between 0 and 1"),
        ({"above": 1.0, "needed": 2}, "1 <= n <= m"),
    ],
)
def test_impossible_limits_are_refused(changes: dict[str, Any], text: str) -> None:
    """Protects from limits that never open or never clear; the message names the limit's fault."""
    with pytest.raises(ValueError, match=text):
        Limit("x", "pm25", **changes)


def test_zero_is_a_limit_like_any_other() -> None:
    """Protects frost alarms: a limit at 0 is not "no limit"."""
    subject = limits(Limit("frost", "stage", below=0.0))
    (said,) = take(subject, 0, -0.5, None)
    assert said.reason == 'stage is -0.5 m, below its limit "frost" of 0 m.'
