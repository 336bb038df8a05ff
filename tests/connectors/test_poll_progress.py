"""Protects readings of slow parts from quick ones, and services from being asked for days over and over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.poll_progress import Progress

HOUR = 3_600_000_000
DAY = 24 * HOUR
NOW = 1_795_190_400_000_000


def test_the_slowest_part_that_lives_says_since_when() -> None:
    """Protects rain that comes twice a day beside a stage that comes every quarter of an hour."""
    progress = Progress(None, NOW - 5 * DAY, 2 * DAY)
    assert progress.since("a") == NOW - 5 * DAY
    progress.saw("a", "stage", NOW)
    progress.saw("a", "stage", NOW - HOUR)
    progress.saw("a", "rain", NOW - 12 * HOUR)
    progress.saw("a", "dead", NOW - 3 * DAY)
    assert progress.since("a") == NOW - 12 * HOUR


def test_several_places_are_asked_since_the_slowest_that_lives() -> None:
    """Protects a question about fifty stations from the one that drowned."""
    progress = Progress(None, NOW - 5 * DAY, 2 * DAY)
    progress.saw("a", "stage", NOW)
    progress.saw("b", "stage", NOW - DAY)
    assert progress.since_all(["a", "b"]) == NOW - DAY
    assert progress.since_all(["a", "b", "dead"]) == NOW - 2 * DAY


def test_what_is_complete_is_not_asked_for_again() -> None:
    """Protects catching up from standing still at days in which nothing was measured."""
    progress = Progress(None, NOW - 5 * DAY, 2 * DAY)
    progress.complete(["a"], NOW - 3 * DAY)
    progress.complete(["a"], NOW - 4 * DAY)
    assert progress.since("a") == NOW - 3 * DAY


@given(st.none() | st.text() | st.just('{"since": {"a": "soon", "b": 7}}') | st.just('{"since": []}'))
def test_a_cursor_that_cannot_be_read_is_none(cursor: str | None) -> None:
    """Protects the start from whatever lies in the state."""
    assert Progress(cursor, NOW, DAY).since("a") == NOW


SEEN = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(NOW - 9 * DAY, NOW)))


Seen = list[tuple[str, str, int]]


@settings(max_examples=60)
@given(SEEN)
def test_no_part_that_lives_is_passed_over(seen: Seen) -> None:
    """Protects parts that lag: a place is asked since before the newest of each, in this life and the next."""
    progress = Progress(None, NOW - 10 * DAY, 2 * DAY)
    newest: dict[tuple[str, str], int] = {}
    for place, part, time_us in seen:
        progress.saw(place, part, time_us)
        newest[place, part] = max(time_us, newest.get((place, part), time_us))
    second = Progress(progress.cursor("ab"), NOW, 2 * DAY)
    for place in "ab":
        assert second.since(place) == progress.since(place)
        of_place = [time_us for (one, _), time_us in newest.items() if one == place]
        assert all(progress.since(place) <= one for one in of_place if one >= max(of_place) - 2 * DAY)
