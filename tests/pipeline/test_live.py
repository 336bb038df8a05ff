"""The newest steps are there for readers, within the room that there is."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from models.detection import Detection
from pipeline.exit_codes import OK
from pipeline.frames import Frames
from pipeline.housekeeping import Housekeeping
from pipeline.live import Live
from pipeline.live import live_step as step_of
from pipeline.stream import Stream
from pipeline.stream_state import Expected
from tests.pipeline.daemon_parts import CHANNELS, Rig, blocks_of, name_of, wandering
from tests.pipeline.live_parts import STEP_US, live_step


def test_the_newest_step_and_the_recent_series_of_an_entity_are_there() -> None:
    """Protects pages and metrics from showing another entity's numbers."""
    live, names = Live(), ["a", "b"]
    assert live.newest("air") is None
    assert live.recent("air", 0) is None
    for step in (1, 2, 3):
        live.stepped(live_step(step, names, [[step, 10], [20 + step, 30]]))
    newest = live.newest("air")
    assert newest is not None
    assert newest.step == 3
    series = live.recent("air", 1)
    assert series is not None
    np.testing.assert_array_equal(series.times_us, [STEP_US, 2 * STEP_US, 3 * STEP_US])
    np.testing.assert_array_equal(series.values, [[21, 30], [22, 30], [23, 30]])
    np.testing.assert_array_equal(series.expected, [[20, 29], [21, 29], [22, 29]])
    assert live.recent("air", 2) is None


def test_a_row_is_found_by_name_among_those_of_the_step() -> None:
    """Protects from an entity that the stream's list names already, while the step was made without it."""
    live, names = Live(), ["a", "b"]
    live.stepped(live_step(1, names, [[1, 1], [2, 2]]))
    names.append("c")
    assert live.row("air", "b") == 1
    assert live.row("air", "c") is None
    assert live.row("water", "b") is None


def test_an_entity_that_came_later_has_the_steps_since_then() -> None:
    """Protects a chart of a new entity from failing on the steps before it."""
    live, names = Live(), ["a"]
    live.stepped(live_step(1, names, [[1, 1]]))
    names.append("b")
    live.stepped(live_step(2, names, [[1, 1], [2, 2]]))
    series = live.recent("air", 1)
    assert series is not None
    np.testing.assert_array_equal(series.values, [[2, 2]])


def test_rows_given_anew_do_not_mix_with_those_before() -> None:
    """Protects from a series that is one entity's up to a rebalance and another's after it."""
    live = Live()
    live.stepped(live_step(1, ["a", "b"], [[1, 1], [2, 2]]))
    live.stepped(live_step(2, ["b"], [[3, 3]]))
    series = live.recent("air", 0)
    assert series is not None
    np.testing.assert_array_equal(series.values, [[3, 3]])


def test_old_steps_make_room_and_the_newest_of_each_stream_stays() -> None:
    """Protects memory, and a small stream from being pushed out by a large one."""
    each = live_step(1, ["a"], [[1, 1]]).nbytes
    live = Live(max_bytes=10 * each)
    live.stepped(live_step(1, ["x"], [[1, 1]], stream="water"))
    for step in range(1, 100):
        live.stepped(live_step(step, ["a"], [[1, 1]]))
    held = live.steps_after("air", 0)
    assert 1 < len(held) <= 9
    assert held[-1].step == 99
    assert [step.step for step in live.steps_after("water", 0)] == [1]
    for step in range(1, 50):  # as much again from a stream of steps too large for all the room
        live.stepped(live_step(step, ["a"] * 100, [[1, 1]] * 100, stream="events"))
    assert [step.step for step in live.steps_after("events", 0)] == [49]
    assert live.newest("air") is not None


def test_only_the_newest_step_holds_forecasts() -> None:
    """Protects the room for series: forecasts would be most of it."""
    live = Live()
    for step in (1, 2):
        live.stepped(live_step(step, ["a"], [[1, 1]], forecast=True))
    first, second = live.steps_after("air", 0)
    assert first.forecast is None
    assert second.forecast is not None


def test_a_step_of_a_real_stream_is_what_was_scored_and_stays_so() -> None:
    """Protects readers from arrays that the loop goes on writing to."""
    live, shown = Live(), []

    class Showing(Housekeeping):
        """Shows each step, and keeps a copy of what was shown."""

        def stepped(self, stream: Stream, frames: Frames, expected: Expected, detection: Detection) -> None:
            live.stepped(step_of(stream, frames, expected, detection, forecast=True))
            newest = live.newest("air")
            assert newest is not None
            scores = [stream.shown_score(detection, row) for row in range(newest.n)]
            shown.append((newest, deepcopy(newest), scores))

    rig = Rig(blocks_of(wandering(3, 8)))
    rig.daemon.housekeeping = Showing()
    assert rig.daemon.run() == OK
    assert len(shown) >= 5
    for step, copy, scores in shown:
        assert step.channels == CHANNELS
        assert list(step.names) == [name_of(entity) for entity in range(3)]
        np.testing.assert_allclose(step.score, scores)
        for name in ("values", "expected", "spread", "score", "level", "warming", "forecast"):
            np.testing.assert_array_equal(getattr(step, name), getattr(copy, name))
