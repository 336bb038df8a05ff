"""When somebody watched: stretches of time against a naive set of moments, and what ends them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.frigate_intervals import Intervals
from connectors.frigate_minutes import Standing
from connectors.frigate_objects import MINUTE_US
from connectors.frigate_presence import Presence

M = MINUTE_US
stretches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=8)


@given(stretches, st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted))
def test_stretches_are_a_set_of_moments(added: list[list[int]], asked: list[int]) -> None:
    """Protects coverage: however stretches lie to each other, they hold what they held one by one."""
    intervals, moments = Intervals(), set[int]()
    for since, until in added:
        intervals.add(since, until)
        moments |= set(range(since, until))
    since, until = asked[0], asked[1] + 1
    assert intervals.touches(since, until) == bool(moments & set(range(since, until)))
    assert intervals.covers(since, until) == (set(range(since, until)) <= moments)


def test_an_end_and_a_beginning_at_one_moment_leave_a_seam() -> None:
    """Protects from a gap too short for the clock: messages were lost in it."""
    intervals = Intervals()
    intervals.begin(0)
    intervals.end(30)
    intervals.begin(30)
    assert intervals.covers(0, 30)
    assert not intervals.covers(0, 60)
    assert intervals.covers(31, 60)


def test_who_watched_is_known_by_minute() -> None:
    """Protects from quiet that nobody saw: connected, online, and not again in between."""
    presence = Presence()
    presence.connected(0)
    assert presence.standing("dock", 0) is Standing.UNKNOWN, "Frigate has not said that it is there"
    assert presence.available(True, True, 0) is None
    presence.heard(3 * M)
    assert presence.standing("dock", 2) is Standing.WATCHED
    assert presence.available(True, False, 3 * M + 5) == 3 * M, "said anew: it had lost its connection"
    assert presence.standing("dock", 2) is Standing.WATCHED
    assert presence.standing("dock", 3) is Standing.UNKNOWN
    presence.prove("dock", 3 * M, 4 * M)
    assert presence.standing("dock", 3) is Standing.PROVEN
    assert presence.standing("street", 3) is Standing.UNKNOWN
    presence.heard(6 * M)
    presence.camera("dock", "stream", False, 6 * M)
    presence.camera("dock", "detect/state", False, 6 * M + 1)
    presence.camera("dock", "stream", True, 7 * M)
    assert presence.standing("dock", 8) is Standing.UNKNOWN, "its detection is off"
    presence.camera("dock", "detect/state", True, 8 * M)
    assert presence.standing("dock", 8) is Standing.WATCHED
    presence.heard(9 * M)
    assert presence.disconnected() == 9 * M
    assert presence.standing("dock", 8) is Standing.WATCHED
    assert presence.standing("dock", 9) is Standing.UNKNOWN
