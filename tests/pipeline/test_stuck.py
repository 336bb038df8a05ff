"""Sensors that say the same thing for ever, and those that rightly do."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from pipeline.incident import AlertMessage, Phase
from pipeline.stuck import Stuck
from tests.pipeline.incident_parts import facts, frames

DAY = 144


def stuck(capacity: int = 1) -> Stuck:
    """Return a watch over NO2, ten-minute steps."""
    return Stuck(facts(), ("no2",), ("ug/m3",), capacity=capacity)


def run(subject: Stuck, values: Sequence[float | None], first: int = 0) -> list[tuple[int, AlertMessage]]:
    """Let one entity send these values; return what was said, with its step."""
    return [(first + i, m) for i, v in enumerate(values) for m in subject.step(frames(first + i, [[v]]), 0)]


def moving(steps: int, seed: int = 0, decimals: int = 6) -> list[float]:
    """Return values that move, rounded."""
    return np.round(np.random.default_rng(seed).normal(40, 5, steps), decimals).tolist()


def test_a_value_that_stops_moving_is_told_of_and_ends_when_it_moves() -> None:
    """Protects the frozen instrument's alarm: six equal steps where two never were equal before."""
    subject = stuck()
    assert run(subject, moving(3 * DAY)) == []
    said = run(subject, [41.25] * 30 + [41.5, 42.0], first=3 * DAY)
    assert [(step, m.phase) for step, m in said] == [(3 * DAY + 5, Phase.OPENED), (3 * DAY + 30, Phase.RESOLVED)]
    assert said[0][1].name == "no2"
    assert said[0][1].reason == (
        "NO2 of north/station-0 has been exactly 41.25 µg/m³ for 6 steps, since 5 March 2026 00:00 UTC; "
        "before it never stayed so for more than 1."
    )
    assert said[1][1].reason == "NO2 of north/station-0 moves again after 5 h."


def test_nothing_is_said_before_the_channel_is_known() -> None:
    """Protects the first nights: a channel that has existed for less than two days has no past to compare with."""
    assert run(stuck(), moving(DAY) + [0.0] * 100) == []


def test_a_quantised_channel_may_repeat() -> None:
    """Protects coarse instruments: whole numbers that repeat by nature are no fault, a run far beyond that is."""
    subject = stuck()
    rng = np.random.default_rng(1)
    coarse = np.round(20 + rng.normal(0, 0.5, 20 * DAY)).tolist()
    assert run(subject, coarse) == []
    said = run(subject, [20.0] * DAY, first=20 * DAY)
    assert [m.phase for _, m in said] == [Phase.OPENED]


def test_zero_at_night_is_rest_and_a_frozen_count_by_day_is_not() -> None:
    """Protects cameras: eight hours of zero each night for two weeks say nothing; two hours of 17 at noon do."""
    subject = stuck()
    rng = np.random.default_rng(2)
    days = [[0.0] * 48 + rng.integers(5, 60, DAY - 48).astype(float).tolist() for _ in range(14)]
    assert run(subject, [v for day in days for v in day]) == []
    noon = [0.0] * 48 + rng.integers(5, 60, 24).astype(float).tolist() + [17.0] * 12 + [30.0]
    said = run(subject, noon, first=14 * DAY)
    assert [m.phase for _, m in said] == [Phase.OPENED, Phase.RESOLVED]
    assert said[0][1].explanation["observed"] == 17.0


def test_a_channel_that_never_moves_is_left_in_peace() -> None:
    """Protects set points and spare inputs: constant from the first day on is how they are."""
    assert run(stuck(), [7.0] * (12 * DAY)) == []


def test_one_fault_does_not_hide_the_next() -> None:
    """Protects against a past that learns the fault: after a day stuck, ten equal steps are suspicious again."""
    subject = stuck()
    run(subject, moving(3 * DAY))
    assert len(run(subject, [5.0] * DAY, first=3 * DAY)) == 1
    run(subject, moving(DAY, seed=3), first=4 * DAY)
    assert [m.phase for _, m in run(subject, [6.0] * 10, first=5 * DAY)] == [Phase.OPENED]


def test_gaps_neither_move_nor_repeat() -> None:
    """Protects from counting what did not come: five values with gaps between them are five, not nine."""
    subject = stuck()
    run(subject, moving(3 * DAY))
    assert run(subject, [8.0, None, 8.0, None, 8.0, None, 8.0, None, 8.0], first=3 * DAY) == []
    assert len(run(subject, [None, 8.0], first=3 * DAY + 9)) == 1


def test_late_data_that_moved_takes_it_back() -> None:
    """Protects trust: the channel had moved, only the reading came late."""
    subject = stuck()
    run(subject, moving(3 * DAY))
    ((_, opened),) = run(subject, [9.0] * 6, first=3 * DAY)
    assert subject.revise(frames(3 * DAY + 2, [[9.0]], rows=[0]), 0) == []
    (said,) = subject.revise(frames(3 * DAY + 2, [[9.5]], rows=[0]), 0)
    assert (said.incident_id, said.phase) == (opened.incident_id, Phase.CORRECTED)
    assert subject.open_incidents() == []


def test_a_disabled_channel_is_not_watched() -> None:
    """Protects the switch in the configuration."""
    subject = Stuck(facts(), ("no2",), ("ug/m3",), enabled=[False])
    assert run(subject, moving(3 * DAY) + [1.0] * 50) == []


def test_a_restart_within_a_run_changes_nothing() -> None:
    """Protects checkpoints: the run, the past and the open incident go on."""
    values = moving(3 * DAY) + [9.0] * 8 + moving(5, seed=4)
    whole = run(stuck(), values)
    assert len(whole) == 2
    slots = np.arange(1)
    for at in (3 * DAY + 4, 3 * DAY + 7):
        first, second = stuck(), stuck()
        said = run(first, values[:at])
        for name, array in first.state.arrays.items():
            second.state[name][slots] = array[slots]
        second.restore_rows_shared(slots, json.loads(json.dumps(first.rows_shared(slots))))
        assert said + run(second, values[at:], first=at) == whole


def test_many_entities_at_once_are_each_judged_by_their_own_past() -> None:
    """Protects the columns: one entity's frozen value says nothing about its neighbour."""
    subject = stuck(capacity=2)
    past = list(zip(moving(3 * DAY), moving(3 * DAY, seed=9), strict=True))
    past += [(4.0, float(i)) for i in range(8)]
    said = [m for i, row in enumerate(past) for m in subject.step(frames(i, [[row[0]], [row[1]]]), 0)]
    assert [m.entity for m in said] == ["north/station-0"]
