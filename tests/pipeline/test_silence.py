"""Silent entities, channels and streams."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.incident import AlertMessage, Phase
from pipeline.silence import Silence
from tests.pipeline.incident_parts import STEP_US, facts, frames


def silence(after: int = 3, channel_after: int | None = 5) -> Silence:
    """Return a silence watch over two channels."""
    return Silence(facts(), ("pm25", "no2"), after, channel_after, capacity=4)


def run(subject: Silence, story: Sequence[str], first: int = 0) -> list[list[AlertMessage]]:
    """Let steps pass; a string a step with a letter per entity: ``b`` both channels came, ``p`` PM2.5, ``.`` none."""
    rows: dict[str, list[float | None]] = {"b": [1.0, 2.0], "p": [1.0, None], "n": [None, 2.0], ".": [None, None]}
    return [subject.step(frames(first + i, [rows[c] for c in step]), 0) for i, step in enumerate(story)]


def told(said: Sequence[Sequence[AlertMessage]]) -> list[tuple[int, str, str, Phase]]:
    """Return (step, entity, channel, phase) of every message."""
    return [(i, m.entity, m.name, m.phase) for i, messages in enumerate(said) for m in messages]


def test_a_silent_entity_is_named_with_the_time_of_its_last_reading_and_resolves_at_its_return() -> None:
    """Protects the dead sensor's alarm: three empty steps after its last one, and the length when it is back."""
    said = run(silence(), ["bb", "b.", "b.", "b.", "b.", "bb"])
    assert told(said) == [(3, "south/station-1", "", Phase.OPENED), (5, "south/station-1", "", Phase.RESOLVED)]
    assert said[3][0].reason == "south/station-1 has been silent for 30 min, since 2 March 2026 00:00 UTC."
    assert said[3][0].explanation["silent_since"] == "2026-03-02T00:00:00Z"
    assert said[5][0].reason == "south/station-1 is back after 50 min of silence."


def test_who_never_spoke_is_not_silent() -> None:
    """Protects from an alarm for every name that was only ever registered."""
    assert told(run(silence(), ["b."] * 20)) == []


def test_a_lost_channel_is_told_while_the_others_come() -> None:
    """Protects stations of which one instrument fails: five steps, with the channel's name, until it is back."""
    said = run(silence(), ["bb"] + ["pb"] * 5 + ["bb"])
    assert told(said) == [
        (5, "north/station-0", "no2", Phase.OPENED), (6, "north/station-0", "no2", Phase.RESOLVED),
    ]  # fmt: skip
    assert said[5][0].reason == (
        "NO2 of north/station-0 has been silent for 50 min, since 2 March 2026 00:00 UTC, "
        "while its other channels come."
    )


def test_a_whole_stream_that_falls_silent_is_one_incident() -> None:
    """Protects the pager from a message per station when the gateway fails, also where they stop a step apart."""
    said = run(silence(), ["bbb", "b.b", "...", "...", "...", "...", "..."])
    assert told(said) == [(4, "*", "", Phase.OPENED)]
    assert said[4][0].reason == (
        "The whole stream air, 3 entities, has been silent for 30 min, since 2 March 2026 00:10 UTC."
    )


def test_after_the_stream_is_back_each_entity_gets_time_to_follow_and_is_then_told_of_alone() -> None:
    """Protects the recovery: one end, no burst, and the one station that stayed away is named, since its real end."""
    subject = silence()
    run(subject, ["bbb", "...", "...", "..."])
    said = run(subject, ["b..", "bb.", "bb.", "bb."], first=4)
    assert told(said) == [(0, "*", "", Phase.RESOLVED), (3, "north/station-2", "", Phase.OPENED)]
    assert said[3][0].explanation["silent_since"] == "2026-03-02T00:00:00Z"


def test_the_only_entity_of_a_stream_is_named_itself() -> None:
    """Protects streams of one sensor: the water gauge is silent, not "the stream"."""
    assert told(run(silence(), ["b", ".", ".", "."])) == [(3, "north/station-0", "", Phase.OPENED)]


def test_long_gaps_are_closed_by_the_clock_in_jumps() -> None:
    """Protects time: steps that were never made count too."""
    subject = silence()
    run(subject, ["bb"])
    assert told(run(subject, ["b."], first=40)) == [(0, "south/station-1", "", Phase.OPENED)]


def test_late_readings_from_within_the_silence_take_it_back() -> None:
    """Protects trust: it was the network that was slow, not the sensor that was dead."""
    subject = silence()
    (opened,) = run(subject, ["bb", "b.", "b.", "b."])[3]
    assert subject.revise(frames(0, [[1.0, 2.0]], rows=[1]), 0) == []  # nothing new
    (said,) = subject.revise(frames(2, [[1.0, 2.0]], rows=[1]), 0)
    assert (said.incident_id, said.phase) == (opened.incident_id, Phase.CORRECTED)
    assert told(run(subject, ["b.", "b."], first=4)) == [(1, "south/station-1", "", Phase.OPENED)]


def test_a_restart_changes_nothing() -> None:
    """Protects checkpoints at every step of a story with a dead entity, a lost channel and a dead stream."""
    story = ["bbb", "bp.", "bp.", "bp.", "bp.", "bp.", "...", "...", "...", "...", "b..", "bbb", "bbb", "b.b"]
    whole = told(run(silence(), story))
    assert {m[1] for m in whole} == {"north/station-2", "south/station-1", "*"}
    slots = np.arange(3)
    for at in range(len(story)):
        first, second = silence(), silence()
        said = run(first, story[:at])
        for name, array in first.state.arrays.items():
            second.state[name][slots] = array[slots]
        second.restore_rows_shared(slots, json.loads(json.dumps(first.rows_shared(slots))))
        assert told(said + run(second, story[at:], first=at)) == whole


def test_zero_steps_of_patience_are_refused() -> None:
    """Protects from a configuration in which everything is always silent."""
    with pytest.raises(ValueError, match="after_steps must be 1 or more, not 0"):
        silence(after=0)


def test_a_known_missing_value_is_a_sign_of_life() -> None:
    """Protects sensors that say "no value": the entity speaks, though nothing can be scored."""
    subject = silence()
    run(subject, ["bb"])
    for step in range(1, 5):
        empty = frames(step, [[1.0, 2.0], [None, None]])
        empty.count[1, 0] = 1
        assert subject.step(empty, 0) == []
    assert empty.time_us % STEP_US == 0
