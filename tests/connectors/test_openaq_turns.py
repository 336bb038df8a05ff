"""Protects the order in which sensors are asked: none is forgotten, none is asked too often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.openaq_turns import Turns


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def turns_of(*sensors: int, every_s: float = 900.0) -> tuple[Turns, Clock]:
    """Return turns in which these are due, in this order."""
    clock = Clock()
    turns = Turns(every_s, clock)
    turns.arrange(sensors)
    return turns, clock


def test_each_is_asked_in_its_turn() -> None:
    """Protects the last of many: with too small an allowance all are asked, only more rarely."""
    turns, clock = turns_of(3, 1, 2, every_s=10.0)
    asked = []
    for _ in range(9):
        clock.now_s += turns.wait_s() + 5.0  # each question takes long: three need 15 s
        asked.append(turns.next())
        turns.answered(asked[-1], silent=False)
    assert asked == [3, 1, 2] * 3


def test_waits_until_the_next_is_due() -> None:
    """Protects the service from being asked for nothing new."""
    turns, clock = turns_of(1, 2)
    assert turns.wait_s() == 0.0
    for _ in range(2):
        turns.answered(turns.next(), silent=False)
        clock.now_s += 60.0
    assert (turns.wait_s(), turns.next()) == (780.0, 1)


def test_the_silent_are_asked_more_rarely_until_they_speak() -> None:
    """Protects the allowance from sensors that were taken down years ago."""
    turns, clock = turns_of(1)
    waits = []
    for _ in range(7):
        turns.answered(1, silent=True)
        waits.append(turns.wait_s())
        clock.now_s += waits[-1]
    assert waits == [1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0, 21_600.0, 21_600.0]
    turns.answered(1, silent=False)
    assert turns.wait_s() == 900.0


def test_one_that_fails_lets_others_go_first() -> None:
    """Protects the good sensors from one whose question never succeeds."""
    turns, clock = turns_of(1, 2)
    turns.failed(turns.next())
    assert turns.next() == 2
    turns.answered(2, silent=False)
    waits = []
    for _ in range(7):
        assert turns.next() == 1
        waits.append(turns.wait_s())
        clock.now_s += waits[-1]
        turns.failed(1)
        if turns.next() == 2:
            turns.answered(2, silent=False)
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    turns.answered(1, silent=False)
    clock.now_s += turns.wait_s()
    turns.failed(1)
    turns.drop(2)
    assert turns.wait_s() == 30.0


def test_a_new_list_keeps_the_turns_of_those_that_stay() -> None:
    """Protects from asking all of them anew every time that the list is made."""
    turns, clock = turns_of(1, 2)
    for _ in range(2):
        turns.answered(turns.next(), silent=False)
    clock.now_s += 1.0
    turns.arrange([2, 3])
    assert (len(turns), turns.next()) == (2, 3)
    turns.drop(3)
    assert (turns.next(), turns.wait_s()) == (2, 899.0)
    turns.drop(2)
    assert (len(turns), turns.wait_s()) == (0, 60.0)


@given(st.lists(st.tuples(st.sampled_from(["answered", "silent", "failed"]), st.floats(0.0, 1000.0)), max_size=60))
def test_nobody_is_forgotten(steps: list[tuple[str, float]]) -> None:
    """Protects every sensor: whatever comes back, each is due again within six hours."""
    turns, clock = turns_of(*range(5))
    for what, passed_s in steps:
        clock.now_s += passed_s
        one = turns.next()
        if what == "failed":
            turns.failed(one)
        else:
            turns.answered(one, silent=what == "silent")
    clock.now_s += 21_600.0
    due = set()
    for _ in range(5):
        assert turns.wait_s() == 0.0
        due.add(turns.next())
        turns.answered(turns.next(), silent=False)
    assert due == set(range(5))
