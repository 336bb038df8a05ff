"""When incidents open and end, as arrays, against a slow reading of the same rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.state import RowState
from pipeline.lifecycle import Lifecycle, LifePolicy


def run(policy: LifePolicy, evidence: str, held: str | None = None, steps: list[int] | None = None) -> list[str]:
    """Return what happens at each step to one entity: ``opened@first``, ``ended``, ``expired`` or nothing.

    ``evidence`` and ``held`` have a character a step: ``#`` yes, ``.`` no, ``-`` nothing was measured.
    """
    life = Lifecycle(RowState(1), 1, policy)
    held = evidence if held is None else held
    told = []
    for i, (e, h) in enumerate(zip(evidence, held, strict=True)):
        step = i if steps is None else steps[i]
        found, keeps, seen = (np.array([[flag]]) for flag in (e == "#", h == "#", e != "-"))
        changes = life.advance(step, found, found, keeps, seen)
        words = [f"opened@{first}" for first in changes.first_step.tolist()]
        words += ["expired" if expired else "ended" for expired in changes.expired.tolist()]
        told.append(" ".join(words))
    return told


def test_the_clear_level_carries_an_incident_through_the_jump_back() -> None:
    """Protects from two incidents for one event: it ends only after three calm steps in a row."""
    told = run(LifePolicy(clear_after=3), evidence="#...#....", held="##..#....")
    assert told == ["opened@0", "", "", "", "", "", "", "ended", ""]


def test_a_gap_in_the_data_is_not_calm() -> None:
    """Protects from "resolved" said of a dead sensor."""
    assert run(LifePolicy(clear_after=2), "#.----.") == ["opened@0", "", "", "", "", "", "ended"]


def test_n_of_m_opens_at_the_nth_and_names_the_first() -> None:
    """Protects the meaning of 2 of 3: within three steps, the first of them gives the id."""
    assert run(LifePolicy(needed=2, window=3), "#.#..") == ["", "", "opened@0", "ended", ""]
    assert run(LifePolicy(needed=2, window=3), "#..#.#") == ["", "", "", "", "", "opened@3"]


def test_steps_that_were_jumped_over_count_as_time() -> None:
    """Protects n of m across a long outage: evidence from before it is forgotten, also after 64 and more steps."""
    policy = LifePolicy(needed=2, window=64)
    assert run(policy, "##", steps=[0, 63]) == ["", "opened@0"]
    assert run(policy, "##", steps=[0, 64]) == ["", ""]
    assert run(policy, "##", steps=[0, 10_000]) == ["", ""]


def test_too_long_is_the_new_normal_until_it_was_calm_once() -> None:
    """Protects from an alarm that repeats every two days because the world has changed."""
    told = run(LifePolicy(max_steps=3), "######.#")
    assert told == ["opened@0", "", "", "expired", "", "", "", "opened@7"]


def test_nothing_opens_during_the_cooldown_and_lasting_evidence_opens_after_it() -> None:
    """Protects the operator from a second incident right after the first, but does not lose a lasting one."""
    assert run(LifePolicy(cooldown=3), "#.####") == ["opened@0", "ended", "", "", "opened@4", ""]


def test_the_third_opening_within_ten_steps_is_flapping_and_holds_until_calm() -> None:
    """Protects from a message every other step."""
    policy = LifePolicy(flap_openings=3, flap_within=10, flap_calm=4)
    told = run(policy, "#.#.#.#...." + "." + "#")
    assert told[:5] == ["opened@0", "ended", "opened@2", "ended", "opened@4"]
    assert told[5:] == ["", "", "", "", "", "ended", "", "opened@12"]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"needed": 0}, "1 <= n <= m <= 64, not 0 of 1"),
        ({"needed": 3, "window": 2}, "not 3 of 2"),
        ({"window": 65}, "not 1 of 65"),
        ({"clear_after": 0}, "clear_after must be 1 or more"),
        ({"flap_openings": 1}, "flap_openings must be 0"),
    ],
)
def test_impossible_policies_are_refused(policy: dict[str, int], text: str) -> None:
    """Protects from a policy that could never open, or never end, an incident."""
    with pytest.raises(ValueError, match=text):
        LifePolicy(**policy)


@given(
    st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 70)), max_size=40),
)  # fmt: skip
def test_it_equals_a_slow_reading_of_the_rules(
    needed: int, more: int, clear_after: int, cooldown: int, story: list[tuple[int, int]]
) -> None:
    """Protects the bit arithmetic: a plain list of past steps decides the same openings and ends."""
    policy = LifePolicy(needed=needed, window=needed + more, clear_after=clear_after, cooldown=cooldown)
    life = Lifecycle(RowState(2), 1, policy)
    past: list[int] = []
    opened, quiet, cool_until, step = False, 0, -1, 0
    for level, gap in story:
        step += gap
        evidence, held = level == 2, level >= 1
        expected_open = expected_end = False
        if opened:
            quiet = 0 if held else quiet + 1
            if quiet >= clear_after:
                opened, cool_until, expected_end = False, step + cooldown, True
                past = []
        else:
            past = [s for s in past if step - s < policy.window] + [step] * evidence
            if evidence and len(past) >= needed and step >= cool_until:
                opened, quiet, expected_open = True, 0, True
        found, keeps = np.array([[evidence], [False]]), np.array([[held], [False]])
        changes = life.advance(step, found, found, keeps, np.ones((2, 1), np.bool_))
        assert (len(changes.opened[0]), len(changes.ended[0])) == (expected_open, expected_end)
        if expected_open:
            assert changes.first_step.tolist() == [past[0]]
            past = []
