"""ONVIF and Axis cameras over MQTT: what their payloads mean, and counts that equal the camera's through restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import axis_mqtt, onvif_mqtt
from connectors.axis_mqtt import AxisSource
from connectors.camera_messages import Report, Reports
from connectors.mqtt_messages import Broker, MqttMessage
from connectors.mqtt_subscribed import filters_in
from connectors.onvif_mqtt import OnvifSource
from connectors.reading import Quality, Reason
from connectors.refusal import Refusal
from connectors.source import ReadingSource
from pipeline.ingest.source_contract import (
    CHECKS,
    Check,
    Identity,
    check_a_bad_record_stops_nothing,
    check_everything_comes_once,
)
from pipeline.ingest.trial import Trial
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher, Told

NOW_US = 1_795_190_700_123_000
COUNTER = "Cam7/onvif-ej/RuleEngine/CountAggregation/Counter/&1/2/GateLine"
SCENARIO = "axis/ACCC8E000001/event/tns:axis:CameraApplicationPlatform/ObjectAnalytics/Device1Scenario1"
OCCUPANCY = "Cam7/onvif-ej/RuleEngine/CountAggregation/OccupancyCounter/&1/2/Yard"
SECOND = 1_000_000


def onvif(kind: str, data: Mapping[str, object], **more: object) -> Reports | Refusal:
    payload = {"UtcTime": "2026-11-20T16:05:00Z", "Source": {"VideoSource": "1", "Rule": "GateLine"}, "Data": data}
    raw = json.dumps({**payload, **more}).encode()
    return onvif_mqtt.read_event(MqttMessage(f"Cam7/onvif-ej/{kind}/&1/2/GateLine", raw, received_us=NOW_US))


def axis(data: object, topic: str = SCENARIO, occupancy: tuple[str, ...] = (), **more: object) -> Reports | Refusal:
    document = {"topic": "axis:x", "timestamp": NOW_US // 1000, "serial": "ACCC8E000001", "message": {"data": data}}
    message = MqttMessage(topic, json.dumps({**document, **more}).encode(), received_us=NOW_US)
    return axis_mqtt.read_event(message, occupancy)


def reported(outcome: Reports | Refusal) -> list[Report]:
    assert isinstance(outcome, Reports), outcome
    return list(outcome.reports)


@pytest.mark.parametrize(
    ("kind", "data", "channel", "value", "counter", "once"),
    [
        ("RuleEngine/CountAggregation/Counter", {"Count": "418"}, "count", 418.0, True, False),
        ("RuleEngine/CountAggregation/Counter", {"Count": 418}, "count", 418.0, True, False),
        ("RuleEngine/CountAggregation/OccupancyCounter", {"Count": "3"}, "occupancy", 3.0, False, False),
        ("RuleEngine/FieldDetector/ObjectsInside", {"IsInside": "true"}, "inside", 1.0, False, False),
        ("RuleEngine/FieldDetector/ObjectsInside", {"IsInside": False}, "inside", 0.0, False, False),
        ("VideoSource/MotionAlarm", {"State": "0"}, "motion", 0.0, False, False),
        ("RuleEngine/LineDetector/Crossed", {"ObjectId": "7"}, "crossed", 1.0, False, True),
    ],
)
def test_onvif_events(
    kind: str, data: dict[str, object], channel: str, value: float, counter: bool, once: bool
) -> None:
    """Protects what each rule's event means; numbers and booleans come with and without quotes."""
    (report,) = reported(onvif(kind, data))
    assert report == Report(("Cam7/GateLine", channel), value, 1_795_190_700_000_000, counter, None, once)


def test_onvif_rules_without_a_name_are_told_by_their_topic() -> None:
    """Protects two rules of one camera from becoming one."""
    (report,) = reported(onvif("RuleEngine/CountAggregation/Counter", {"Count": "1"}, Source={}))
    assert report.key == ("Cam7/1/2/GateLine", "count")


@pytest.mark.parametrize(
    "topic", ["Cam7/onvif-ej/Recognition/LicensePlate/&1", "Cam7/onvif-mj/VideoAnalytics/a/b", "x"]
)
def test_onvif_topics_of_no_interest_are_not_read(topic: str) -> None:
    """Protects people: plates and metadata are not even parsed."""
    outcome = onvif_mqtt.read_event(MqttMessage(topic, b"\xff"))
    assert outcome == Reports(event="other_topics")


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        ({"Count": "many"}, {}, Reason.WRONG_TYPE),
        ({"Count": "-1"}, {}, Reason.WRONG_TYPE),
        ({}, {}, Reason.MISSING_KEY),
        ({"Count": "1"}, {"UtcTime": "2026-11-20T16:05:00"}, Reason.NAIVE_TIME),
        ({"Count": "1"}, {"UtcTime": 17}, Reason.BAD_TIME),
        ({"Count": "1"}, {"Data": []}, Reason.WRONG_TYPE),
        ({"Count": "1"}, {"Source": {"Rule": "x" * 300}}, Reason.WRONG_TYPE),
    ],
)
def test_bad_onvif_events(data: dict[str, object], more: dict[str, object], reason: Reason) -> None:
    """Protects the counts, and says why."""
    outcome = onvif("RuleEngine/CountAggregation/Counter", data, **more)
    assert isinstance(outcome, Refusal)
    assert outcome.reason is reason


def test_axis_counts_by_class() -> None:
    """Protects totals by class, since their start; numbers are texts."""
    data = {"startTime": "2026-11-20T00:00:00Z", "reason": "human", "total": "1283", "totalHuman": "1101"}
    since_us = 1_795_132_800_000_000
    assert reported(axis(data)) == [
        Report(("ACCC8E000001/Device1Scenario1", "count"), 1283.0, NOW_US, True, since_us),
        Report(("ACCC8E000001/Device1Scenario1", "count_human"), 1101.0, NOW_US, True, since_us),
    ]


def test_axis_occupancy_and_activity() -> None:
    """Protects states from being summed up: totals without a start, or of scenarios named so, are what is there now."""
    entity = "ACCC8E000001/Device1Scenario1"
    assert [r.key[1] for r in reported(axis({"total": "4", "totalHuman": "3"}))] == ["occupancy", "occupancy_human"]
    data = {"startTime": "2026-11-20T00:00:00Z", "total": "4"}
    named = reported(axis(data, occupancy=("Device1Scenario1",)))
    assert named == [Report((entity, "occupancy"), 4.0, NOW_US)]
    assert reported(axis({"active": "1"})) == [Report((entity, "active"), 1.0, NOW_US)]


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        ({"total": "x"}, {}, Reason.WRONG_TYPE),
        ({"total": -1}, {}, Reason.WRONG_TYPE),
        ([], {}, Reason.WRONG_TYPE),
        ({"total": "1", "startTime": "yesterday"}, {}, Reason.BAD_TIME),
        ({"total": "1"}, {"timestamp": "soon"}, Reason.BAD_TIME),
        ({"total": "1"}, {"serial": "x" * 300}, Reason.WRONG_TYPE),
    ],
)
def test_bad_axis_events(data: object, more: dict[str, object], reason: Reason) -> None:
    """Protects the counts, and says why."""
    outcome = axis(data, **more)  # type: ignore[arg-type]
    assert isinstance(outcome, Refusal)
    assert outcome.reason is reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["UtcTime", "Source", "Data", "Count", "Rule", "message", "data", "total", "startTime", "serial"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from([COUNTER, SCENARIO]), st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode())
)
def test_any_payload_is_read_or_refused(topic: str, payload: bytes) -> None:
    """Protects the source from whatever cameras send."""
    message = MqttMessage(topic, payload, received_us=NOW_US)
    read: Callable[[MqttMessage], Reports | Refusal]
    for read in (onvif_mqtt.read_event, axis_mqtt.read_event):
        assert isinstance(read(message), Reports | Refusal)


# ---- on a real broker ----


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MosquittoServer]:
    with MosquittoServer(tmp_path / "broker") as running:
        yield running


class Yard:
    """A camera that tells how many are in its yard, on a broker with a session of ours; the peer of a contract."""

    keeps = True

    def __init__(self, server: MosquittoServer, folder: Path, make: str) -> None:
        self._server = server
        self._make = make
        self._time_ms = (time.time_ns() // 1_000_000_000 - 100_000) * 1000
        with Trial(folder) as trial:  # a broker keeps nothing for those who were never there
            trial.run(self.source())
            trial.until(lambda: None in trial.reasons)

    def source(self) -> ReadingSource:
        broker = Broker("127.0.0.1", "contract", self._server.port)
        return AxisSource(broker) if self._make == "axis" else OnvifSource(broker)

    def give(self, count: int) -> Sequence[Identity]:
        given: list[Identity] = []
        told: list[Told] = []
        for _ in range(count):
            self._time_ms += 1000
            entity = "ACCC8E000001/Device1Scenario1" if self._make == "axis" else "Cam7/Yard"
            given.append((entity, "occupancy", self._time_ms * 1000))
            told.append(self._axis() if self._make == "axis" else self._onvif())
        with Publisher(self._server.port) as publisher:
            publisher.tell(told)
        return given

    def _axis(self) -> Told:
        document = {"timestamp": self._time_ms, "serial": "ACCC8E000001", "message": {"data": {"total": "3"}}}
        return SCENARIO, json.dumps(document).encode()

    def _onvif(self) -> Told:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._time_ms / 1000))
        document = {"UtcTime": at, "Source": {"Rule": "Yard"}, "Data": {"Count": "3"}}
        return OCCUPANCY, json.dumps(document).encode()

    def give_bad(self) -> None:
        with Publisher(self._server.port) as publisher:
            publisher.tell([(SCENARIO if self._make == "axis" else OCCUPANCY, b'{"Data": 3}')])

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        self._server.start()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_onvif_keeps_the_contract(check: Check, server: MosquittoServer, tmp_path: Path) -> None:
    """Protects everything that the ingest process relies on."""
    check(Yard(server, tmp_path / "before", "onvif"), tmp_path / "life")


@pytest.mark.parametrize("check", [check_everything_comes_once, check_a_bad_record_stops_nothing])
def test_axis_keeps_the_contract(check: Check, server: MosquittoServer, tmp_path: Path) -> None:
    """Protects what is not the same as with ONVIF: how messages are read."""
    check(Yard(server, tmp_path / "before", "axis"), tmp_path / "life")


class Counting:
    """A camera that counts, in a time of its own; it knows the truth."""

    def __init__(self, server: MosquittoServer) -> None:
        self._server = server
        self.total = 100
        self.counted = 0
        self._time_us = (time.time_ns() // 1000 // (60 * SECOND) - 600) * 60 * SECOND

    def count(self, steps: list[int], reset: bool = False) -> None:
        """Report every 20 seconds of its time."""
        if reset:
            self.total = 0
        told = []
        for step in steps:
            self._time_us += 20 * SECOND
            self.total += step
            self.counted += step
            told.append((COUNTER, self._payload()))
        with Publisher(self._server.port) as publisher:
            publisher.tell(told, retain=True)

    def _payload(self) -> bytes:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._time_us / SECOND))
        return json.dumps({"UtcTime": at, "Source": {"Rule": "GateLine"}, "Data": {"Count": str(self.total)}}).encode()


def onvif_source(server: MosquittoServer) -> OnvifSource:
    return OnvifSource(Broker("127.0.0.1", "cameras", server.port), alive_us=60 * SECOND)


def told_sum(trials: list[Trial]) -> float:
    return sum(r.value or 0.0 for trial in trials for r in trial.readings())


def test_counts_equal_the_cameras_through_resets_and_restarts(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects the sum on a real broker: reset in one life, restart with messages waiting, and nothing twice."""
    camera = Counting(server)
    with Trial(tmp_path) as trial:
        trial.run(onvif_source(server))
        trial.until(lambda: None in trial.reasons)
        camera.count([0, 1, 2, 3, 4])
        camera.count([5, 6], reset=True)
        trial.until(lambda: trial.count("events", event="counters_new") == 1)
        trial.until(lambda: trial.count("events", event="counter_resets") == 1)
        trial.stop()
        first: list[Any] = trial.readings()
    camera.count([7, 8, 9])
    with Trial(tmp_path) as trial:
        trial.run(onvif_source(server))
        trial.until(lambda: sum(r.value or 0 for r in [*first, *trial.readings()]) == camera.counted)
        times = [r.time_us for r in [*first, *trial.readings()]]
        assert len(times) == len(set(times))
        assert {(r.entity, r.channel, r.unit) for r in trial.readings()} == {("Cam7/GateLine", "count", "1")}


def test_a_clock_that_ran_ahead_once_deafens_no_counter(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects the counts after a camera's clock was put right: without that they wait until that time comes."""
    camera = Counting(server)
    with Trial(tmp_path) as trial:
        trial.run(onvif_source(server))
        trial.until(lambda: None in trial.reasons)
        camera.count([0, 1, 2])
        right_us = camera._time_us
        camera._time_us += 3 * 365 * 86_400 * SECOND
        camera.count([3])
        camera._time_us = right_us
        camera.count([4, 5, 6])
        trial.until(lambda: told_sum([trial]) == camera.counted)
        ((_, headers),) = trial.dead_letters()
        assert headers["vedette-reason"] == "too_far_ahead"
        assert "camera's clock" in headers["vedette-detail"]


def test_a_deleted_property_is_missing_and_its_counter_forgotten(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects from the last state of a rule that is no more: a payload of no bytes takes it back."""
    inside = "Cam7/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/&1/Yard"
    event = json.dumps({"Source": {"Rule": "Yard"}, "Data": {"IsInside": "true"}}).encode()
    with Trial(tmp_path) as trial:
        trial.run(onvif_source(server))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([(inside, event)], retain=True)
            trial.until(lambda: len(trial.readings()) == 1)
            publisher.tell([(inside, b"")], retain=True)
        trial.until(lambda: len(trial.readings()) == 2)
        assert [(r.value, r.quality) for r in trial.readings()] == [(1.0, Quality.UNKNOWN), (None, Quality.MISSING)]


def test_axis_on_a_real_broker(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects the way of an Axis camera's counts, and a dead letter for what is none."""
    start_ms = (time.time_ns() // 1_000_000 // 60_000 - 60) * 60_000

    def event(minute: int, total: int) -> tuple[str, bytes]:
        data = {"startTime": "2026-01-01T00:00:00Z", "total": str(total)}
        document = {"timestamp": start_ms + minute * 60_000, "serial": "ACCC8E000001", "message": {"data": data}}
        return SCENARIO, json.dumps(document).encode()

    with Trial(tmp_path) as trial:
        trial.run(AxisSource(Broker("127.0.0.1", "axis", server.port), alive_us=60 * SECOND))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([event(0, 10), event(1, 12), (SCENARIO, b"{"), event(2, 12), event(3, 15)])
        trial.until(lambda: sum(r.value or 0 for r in trial.readings()) == 5 and trial.dead_letters())
        assert {r.entity for r in trial.readings()} == {"ACCC8E000001/Device1Scenario1"}


def test_the_cursor_keeps_counters_and_subscriptions(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects both from each other: counting goes on, and what is no more subscribed to is taken back."""
    camera = Counting(server)
    broker = Broker("127.0.0.1", "cameras", server.port)
    with Trial(tmp_path) as trial:
        trial.run(OnvifSource(broker, ["Cam7/#", "Cam8/#"]))
        trial.until(lambda: None in trial.reasons)
        camera.count([1, 1])
        trial.until(lambda: filters_in(trial.outlet.cursor()) == ["Cam7/#", "Cam8/#"])
        trial.until(lambda: trial.count("events", event="counted") == 1)
    with Trial(tmp_path) as trial:
        trial.run(OnvifSource(broker, ["Cam7/#"]))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([(COUNTER.replace("Cam7", "Cam8"), b"{")])
        camera.count([1])
        trial.until(lambda: trial.count("events", event="counted") == 1)
        trial.until(lambda: filters_in(trial.outlet.cursor()) == ["Cam7/#"])
        assert trial.dead_letters() == []
