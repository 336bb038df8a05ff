"""The stack's stations: history without a fault, then one now and then, and a loop without a seam."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import simulation
from pipeline.planted import Fault
from pipeline.stack_stations import STEP_S, STEPS_A_DAY, Tape, tapes

HISTORY_DAYS = 3.0


@pytest.fixture(scope="module")
def simulated() -> list[Tape]:
    """The two tapes that are simulated."""
    return [tape for tape in tapes(HISTORY_DAYS) if tape.series.simulated]


def place(tape: Tape, time_us: int) -> int:
    """Return the step on the tape that bears a time."""
    return int(np.searchsorted(tape.series.times_us, time_us))


def span(tape: Tape, fault: Fault) -> tuple[int, int]:
    """Return the first and the last faulty step."""
    return place(tape, fault.start_us), place(tape, fault.end_us)


def test_what_goes_before_is_sound_and_something_happens_soon(simulated: list[Tape]) -> None:
    """Protects the first impression: the monitor learns from sound data, and soon has something to show."""
    assert {tape.series.stream for tape in simulated} == {"air", "events"}
    for tape in simulated:
        starts = [span(tape, fault)[0] for fault in tape.truths]
        assert tape.live >= HISTORY_DAYS * STEPS_A_DAY
        assert min(starts) >= tape.live
        assert (min(starts) - tape.live) * STEP_S <= 120
        # Thinly spread over the loop: a quarter of an hour at most without one.
        assert max(np.diff(starts)) * STEP_S <= 15 * 60


def test_faults_are_where_they_are_said_to_be(simulated: list[Tape]) -> None:
    """Protects the words that are printed: all else is as it was simulated, and no station has two faults at once."""
    for tape in simulated:
        make = simulation.air if tape.series.stream == "air" else simulation.events
        clean = make(tape.series.values.shape[1] / STEPS_A_DAY, 0)
        differs = ~((tape.series.values == clean.values) | np.isnan(clean.values)).all(axis=2)  # [E, T]
        said = np.zeros_like(differs)
        for fault in tape.truths:
            first, last = span(tape, fault)
            e = tape.series.entities.index(fault.entity)
            assert not said[e, first : last + 1].any(), fault
            assert differs[e, first : last + 1].any(), fault
            said[e, first : last + 1] = True
        # The last day leads over to the first.
        assert not (differs & ~said)[:, :-STEPS_A_DAY].any()


def test_the_end_of_the_tape_leads_back_without_a_jump(simulated: list[Tape]) -> None:
    """Protects against an alert at every seam: from the last step to the next is no farther than elsewhere."""
    for tape in simulated:
        values, length = tape.series.values, tape.series.values.shape[1]
        assert [tape.at(length - 1), tape.at(length), tape.at(2 * length - tape.first)] == [
            length - 1,
            tape.first,
            tape.first,
        ]
        usual = np.abs(np.diff(values[:, : tape.first], axis=1)).max(axis=1)  # [E, C]
        assert (np.abs(values[:, tape.at(length)] - values[:, length - 1]) <= usual).all()


def test_the_same_seed_plays_the_same(simulated: list[Tape]) -> None:
    """Protects reports of what was seen: it can be seen again."""
    again = [tape for tape in tapes(HISTORY_DAYS) if tape.series.simulated]
    for one, other in zip(simulated, again, strict=True):
        assert np.array_equal(one.series.values, other.series.values, equal_nan=True)
        assert one.truths == other.truths
