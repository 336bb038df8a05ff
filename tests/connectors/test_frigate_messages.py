"""What Frigate's payloads say, in every variant; arbitrary bytes are refused, and nothing of a person is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.frigate_cursor import place_of, written
from connectors.frigate_messages import (
    Phase,
    Review,
    Rows,
    Sighting,
    event_message,
    event_rows,
    redacted,
    review_message,
    review_rows,
)
from connectors.frigate_objects import MOST_OBJECTS, Ledger, Tally, Tracked
from connectors.frigate_scene import plans_of
from connectors.frigate_topics import Available, CameraState, ObjectCount, read, subscriptions
from connectors.mqtt_messages import MqttMessage
from connectors.refusal import Refusal

START = 1795190411.48213
ID = "1795190411.48213-k3vq9z"
START_US = 1795190411482130
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["id", "camera", "label", "start_time", "end_time", "after", "type", "severity", "zones"]),
        inner,
        max_size=8,
    ),
    max_leaves=12,
)  # fmt: skip


def event(kind: str = "end", /, **changed: object) -> bytes:
    """Return a message as it is documented."""
    after: dict[str, object] = {
        "id": ID, "camera": "dock", "label": "person", "sub_label": None, "top_score": 0.89, "score": 0.83,
        "false_positive": False, "start_time": START, "end_time": 1795190447.90651, "frame_time": 1795190442.1,
        "current_zones": [], "entered_zones": ["gate"], "active": False, "stationary": False, "position_changes": 3,
    }  # fmt: skip
    return json.dumps({"type": kind, "before": after, "after": after | changed}).encode()


def row(**changed: object) -> dict[str, object]:
    """Return a row as the API gives it."""
    return {
        "id": ID, "camera": "dock", "label": "person", "zones": ["gate"], "start_time": START, "end_time": None,
        "false_positive": None, "sub_label": "Ada Lovelace", "data": {"type": "object", "description": "red umbrella"},
    } | changed  # fmt: skip


def test_an_end_is_read() -> None:
    """Protects the documented message."""
    said = event_message(event())
    assert said == Sighting(
        Phase.END, ID, "dock", "person", START_US, 1795190447906510, 1795190442100000, False, ("gate",), ()
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"sub_label": "Ada Lovelace"},
        {"sub_label": ["Ada Lovelace", 0.93]},
        {"recognized_license_plate": ["B-XY 1234", 0.9], "current_estimated_speed": 31.5},
        {"snapshot": None, "attributes": {"face": 0.9}, "path_data": [[[0.5, 0.5], START]]},
    ],
    ids=["name", "name and score", "plate", "much else"],
)
def test_people_are_not_looked_at(changed: dict[str, object]) -> None:
    """Protects persons: whatever Frigate knows of them, the same is read."""
    assert event_message(event("end", **changed)) == event_message(event())


def test_an_end_without_its_time_ends_with_its_last_frame() -> None:
    """Protects the dwell from versions whose ``end_time`` stays null."""
    said = event_message(event(end_time=None))
    assert isinstance(said, Sighting)
    assert said.end_us == 1795190442100000


@pytest.mark.parametrize("changed", [{"false_positive": True}, {"data": {"type": "audio"}}, {"data": {"type": "api"}}])
def test_what_is_no_object_is_left_out(changed: dict[str, object]) -> None:
    """Protects counts from sounds, manual events and what turned out to be nothing."""
    assert event_message(event("end", **changed)) is None


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "no JSON, 0 bytes"),
        (b"offline", "no JSON"),
        (b"[]", "a list without an object 'after'"),
        (b'{"type": "new"}', "without an object 'after'"),
        (event("gone"), "type 'gone'; known: new, update, end"),
        (event(id=7), "id 7"),
        (event(camera="a/b"), "camera 'a/b'"),
        (event(label=None), "label None"),
        (event(start_time="yesterday"), "start_time 'yesterday' is no time in epoch seconds"),
        (event(start_time=-5), "start_time -5"),
        (event(end_time=True), "end_time True"),
        (event(end_time=None, frame_time=None), "an end without end_time and frame_time"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, says: str) -> None:
    """Protects whoever has to find out what a dead letter is about."""
    said = event_message(payload)
    assert isinstance(said, Refusal)
    assert says in said.detail


def test_reviews_are_read() -> None:
    """Protects severities: those that are counted, and those that are not."""
    said = {"id": ID, "camera": "dock", "start_time": START, "end_time": None, "severity": "alert", "data": {}}
    assert review_message(json.dumps({"type": "new", "after": said}).encode()) == Review(ID, "dock", START_US, "alert")
    motion = {**said, "severity": "significant_motion"}
    assert review_message(json.dumps({"type": "new", "after": motion}).encode()) is None
    rows = review_rows(json.dumps([said, motion]).encode())
    assert isinstance(rows, Rows)
    assert (rows.reviews, rows.n) == ([Review(ID, "dock", START_US, "alert")], 2)


def test_rows_of_old_versions_are_narrowed() -> None:
    """Protects times: up to 0.13 a row begins and ends with its recording; its id says when the object began."""
    rows = event_rows(json.dumps([row(start_time=START - 5.0, end_time=START + 36.0 + 5.0)]).encode())
    assert isinstance(rows, Rows)
    assert rows.sightings == [
        Sighting(Phase.ROW, ID, "dock", "person", START_US, START_US + 36_000_000, None, None, ("gate",), ())
    ]


def test_a_bad_row_stops_no_page() -> None:
    """Protects the good rows around it; and what is kept of it has no name."""
    rows = event_rows(json.dumps([row(), row(camera=None), 7]).encode())
    assert isinstance(rows, Rows)
    assert (len(rows.sightings), len(rows.rejected), rows.n) == (1, 2, 3)
    assert b"dock" not in rows.rejected[0].raw
    assert b"Ada" not in rows.rejected[0].raw + rows.rejected[1].raw
    assert b"umbrella" not in rows.rejected[0].raw


def test_what_is_kept_of_a_refused_message_has_no_name() -> None:
    """Protects persons in dead letters, also where the payload broke off."""
    payload = event(sub_label="Ada Lovelace", camera=None, description="A red umbrella")
    assert b"Ada" not in redacted(payload)
    assert b"umbrella" not in redacted(payload)
    assert ID.encode() in redacted(payload)
    assert len(redacted(payload[:-1])) <= 40


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_nothing(payload: bytes) -> None:
    """Protects the connection from whatever somebody publishes."""
    for reading in (event_message, review_message, event_rows, review_rows):
        reading(payload)
    redacted(payload)
    place_of(payload.decode("utf-8", "replace"))
    for topic in (
        "events",
        "reviews",
        "available",
        "dock/status/detect",
        "dock/person",
        "dock/detect/state",
        "\x00/a/b",
    ):
        read(MqttMessage(f"frigate/{topic}", payload), "frigate")


@given(json_values)
def test_arbitrary_configs_raise_nothing(document: object) -> None:
    """Protects the start from whatever ``/api/config`` becomes."""
    plans_of(document)
    plans_of({"cameras": document})
    plans_of({"cameras": {"dock": document}})


def test_topics_are_told_apart() -> None:
    """Protects from taking a count for a state, and from asking for pictures or names."""

    def said(topic: str, payload: bytes) -> object:
        return read(MqttMessage(f"frigate/{topic}", payload), "frigate")

    assert said("available", b"online") == Available(True)
    assert said("available", b"stopped") == Available(False)
    assert said("dock/status/detect", b"offline") == CameraState("dock", "stream", False)
    assert said("dock/detect/state", b"OFF") == CameraState("dock", "detect/state", False)
    assert said("dock/person", b"2") == ObjectCount("dock", "person", 2)
    assert said("dock/motion", b"ON") is None
    assert said("dock/person/active", b"2") is None
    filters = [one.filter for one in subscriptions("frigate", True)]
    assert not [one for one in filters if "#" in one or "snapshot" in one or "tracked_object" in one]


def test_a_place_comes_back_as_it_went() -> None:
    """Protects a second life."""
    one = Tracked(ID, "dock", "person", START_US, ("gate", "kerb"))
    place = place_of(written(29919840, 29919842, [one]))
    assert place is not None
    assert (place.settled, place.closed, place.there) == (29919840, 29919842, (one,))
    assert place_of("{}") is None
    assert place_of(None) is None


def test_what_emits_for_ever_takes_no_memory() -> None:
    """Protects from a parked car that flickers, and what it was at a recent minute's end."""
    one = Tracked(ID, "dock", "car", START_US)
    for second in range(30):
        one.learn((START_US + second, bool(second % 2), ()))
    assert [one.state_at(START_US + second)[1] for second in range(30)] == [bool(n % 2) for n in range(30)]  # type: ignore[index]
    for second in range(30, 5000):
        one.learn((START_US + second, bool(second % 2), ()))
    assert len(one.states) < 100
    assert one.state_at(START_US + 4990) == (START_US + 4990, False, ())
    for second in range(5000, 6000):
        one.learn((START_US + second, False, ()))
    assert len(one.states) < 100
    assert one.frame_us == START_US + 5999


def test_the_place_for_objects_is_bounded() -> None:
    """Protects the memory from a flood of ids; what there is no room for is told."""
    ledger = Ledger(29919840)
    for number in range(MOST_OBJECTS + 5):
        ledger.see(Sighting(Phase.NEW, str(number), "dock", "car", 29919840 * 60_000_000, None, None, True), 0)
    assert (len(ledger.objects), ledger.refused) == (MOST_OBJECTS, 5)


LIVES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400), st.booleans(), st.booleans()), min_size=1, max_size=12
)


@given(LIVES, st.randoms(use_true_random=False))
def test_any_order_with_repeats_counts_the_same(lives: list[tuple[int, int, bool, bool]], chance: object) -> None:
    """Protects counts: messages and rows in any order, repeated, with any of them lost but one, give the same."""
    base = 29919840 * 60_000_000
    told: list[list[Sighting]] = []
    for number, (start_s, stay_s, listed, zoned) in enumerate(lives):
        start_us, end_us = base + start_s * 1_000_000, base + (start_s + stay_s) * 1_000_000
        zones = ("gate",) if zoned else ()
        about = (f"{number}", "dock", "person", start_us)
        end = Sighting(Phase.END, *about, end_us, end_us, False, zones)
        messages = [
            Sighting(Phase.NEW, *about, None, start_us, True),
            Sighting(Phase.UPDATE, *about, None, start_us + 1, True, zones, zones),
            end,
        ]
        found = Sighting(Phase.ROW, *about, end_us, None, None, zones)
        told.append([found, *messages] if listed else messages)
    whole, lossy = Ledger(29919840), Ledger(29919840)
    for ledger in (whole, lossy):
        ledger.now = 29919860
    for said in (one for every in told for one in every):
        whole.see(said, base)
    mixed = [one for every in told for one in every if one.phase in (Phase.ROW, Phase.END)] * 2
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    for said in mixed:
        lossy.see(said, base)

    def counts(tally: Tally) -> object:
        return tally.begun, {series: (one.n, one.lived_us) for series, one in tally.ended.items()}

    for minute in range(29919840, 29919860):
        assert counts(whole.tally(minute)) == counts(lossy.tally(minute))
    assert not whole.open
