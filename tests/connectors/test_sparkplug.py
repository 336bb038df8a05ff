"""Sparkplug B: payloads, the state of edge nodes, and a whole edge node on a real mosquitto."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from connectors.mqtt_messages import Broker, MqttMessage
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal
from connectors.source import ReadingSource
from connectors.sparkplug import SparkplugSource
from connectors.sparkplug_nodes import Heard, SparkplugNodes, address_of
from connectors.sparkplug_payload import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    MESSAGES,
    UINT8,
    UINT32,
    UINT64,
    decode,
    number,
    rebirth_command,
)
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from pipeline.ingest.trial import Trial
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher, Told

NOW_MS = 1_795_190_400_123
FIELDS = {
    INT8: "int_value", INT16: "int_value", INT32: "int_value", UINT8: "int_value", UINT32: "int_value",
    INT64: "long_value", UINT64: "long_value", FLOAT: "float_value", DOUBLE: "double_value", BOOLEAN: "boolean_value",
}  # fmt: skip


def packed(seq: int | None, *metrics: Mapping[str, Any], time_ms: int | None = NOW_MS) -> bytes:
    """Return a payload; a metric's ``quality`` and ``unit`` become properties."""
    payload = MESSAGES["Payload"]()
    if time_ms is not None:
        payload.timestamp = time_ms
    if seq is not None:
        payload.seq = seq
    for fields in metrics:
        given = dict(fields)
        quality, unit = given.pop("quality", None), given.pop("unit", None)
        metric = payload.metrics.add(**given)
        if quality is not None:
            metric.properties.keys.append("Quality")
            metric.properties.values.add(type=INT32, int_value=quality)
        if unit is not None:
            metric.properties.keys.append("engUnit")
            metric.properties.values.add(type=12, string_value=unit)
    return bytes(payload.SerializeToString())


def said(kind: str, payload: bytes, device: str = "", node: str = "edge", received_ms: int = NOW_MS) -> MqttMessage:
    topic = "/".join(filter(None, ("spBv1.0", "plant", kind, node, device)))
    return MqttMessage(topic, payload, received_us=received_ms * 1000)


def values(heard: Heard) -> list[tuple[str, str, float | None]]:
    return [(one.entity, one.channel, one.value) for one in heard.readings]


LEVEL = {"name": "Tank/Level", "alias": 4, "datatype": DOUBLE, "double_value": 7.42, "unit": "m"}
BD_SEQ = {"name": "bdSeq", "datatype": INT64, "long_value": 3}


def test_field_numbers_are_those_of_the_specification() -> None:
    """Protects from a description that only agrees with itself: bytes put together by hand from the .proto file."""
    metric = (
        b"\x0a\x05Level" + b"\x10\x04" + b"\x20\x0a" + b"\x69" + struct.pack("<d", 7.42)
    )  # name 1, alias 2, datatype 4, double_value 13
    raw = b"\x08\xe8\x07" + b"\x12" + bytes([len(metric)]) + metric + b"\x18\x11"  # timestamp 1, metrics 2, seq 3
    payload = decode(raw)
    assert not isinstance(payload, Refusal)
    assert (payload.time_ms, payload.seq) == (1000, 17)
    (found,) = payload.metrics
    assert (found.name, found.alias, found.datatype, found.value) == ("Level", 4, DOUBLE, 7.42)


@pytest.mark.parametrize(
    ("datatype", "sent", "meant"),
    [
        (INT8, 0xFF, -1), (INT8, 0xFFFFFFFF, -1), (INT8, 127, 127), (INT16, 0xFFFE, -2), (INT32, 0xFFFFFFFF, -1),
        (INT64, 2**64 - 5, -5), (UINT8, 255, 255), (UINT32, 2**32 - 1, 2**32 - 1), (UINT64, 2**63, 2**63),
        (FLOAT, 1.5, 1.5), (DOUBLE, -0.25, -0.25), (BOOLEAN, True, 1),
    ],
)  # fmt: skip
def test_datatypes(datatype: int, sent: float, meant: float) -> None:
    """Protects negative numbers, which travel as large ones, in both widths that edge nodes use."""
    payload = decode(packed(0, {"name": "x", "datatype": datatype, FIELDS[datatype]: sent}))
    assert not isinstance(payload, Refusal)
    value = payload.metrics[0].value
    assert value is not None
    assert number(value, datatype) == meant


def test_aliases_after_a_birth() -> None:
    """Protects the usual way: a birth names, data has aliases only; units and types are the birth's."""
    nodes = SparkplugNodes()
    born = nodes.hear(said("NBIRTH", packed(0, BD_SEQ, {"name": "Node Control/Rebirth", "datatype": BOOLEAN}, LEVEL)))
    assert values(born) == [("plant/edge", "Tank/Level", 7.42)]
    assert [site.channels for site in born.sites] == [{"Tank/Level": "m"}]
    data = nodes.hear(said("NDATA", packed(1, {"alias": 4, "timestamp": NOW_MS + 5, "double_value": 7.5})))
    assert data.readings == [Reading("plant/edge", "Tank/Level", (NOW_MS + 5) * 1000, 7.5, "m", Quality.UNKNOWN)]
    assert data.rebirth is None


def test_devices_have_their_own_entities_and_births() -> None:
    """Protects the tree: node, device, and data of each."""
    nodes = SparkplugNodes()
    nodes.hear(said("NBIRTH", packed(0, BD_SEQ)))
    nodes.hear(said("DBIRTH", packed(1, {"name": "flow", "alias": 9, "datatype": INT16, "int_value": 5}), "pump-3"))
    data = nodes.hear(said("DDATA", packed(2, {"alias": 9, "int_value": 0xFFFF}), "pump-3"))
    assert values(data) == [("plant/edge/pump-3", "flow", -1.0)]
    dead = nodes.hear(said("DDEATH", packed(3), "pump-3"))
    assert [(one.channel, one.value, one.quality) for one in dead.readings] == [("flow", None, Quality.MISSING)]
    late = nodes.hear(said("DDATA", packed(4, {"alias": 9, "int_value": 6}), "pump-3"))
    assert not late.readings
    assert late.refused[0].reason is Reason.MISSING_KEY


def test_a_missing_birth_is_asked_for_once_and_nothing_is_guessed() -> None:
    """Protects from values under a wrong name; and the node from a flood of requests."""
    nodes = SparkplugNodes()
    first = nodes.hear(said("NDATA", packed(7, {"alias": 4, "double_value": 1.0}, {"name": "x", "double_value": 2.0})))
    assert values(first) == [("plant/edge", "x", 2.0)]
    assert "alias 4" in first.refused[0].detail
    assert first.rebirth == "spBv1.0/plant/NCMD/edge"
    assert nodes.hear(said("NDATA", packed(8, {"alias": 4, "double_value": 1.0}))).rebirth is None
    nodes.hear(said("NBIRTH", packed(0, LEVEL)))
    assert values(nodes.hear(said("NDATA", packed(1, {"alias": 4, "double_value": 3.0}))))


def test_a_gap_in_the_sequence_makes_aliases_doubtful() -> None:
    """Protects from a birth that was missed; 255 is followed by 0."""
    nodes = SparkplugNodes()
    nodes.hear(said("NBIRTH", packed(254, LEVEL)))
    assert not nodes.hear(said("NDATA", packed(255, {"alias": 4, "double_value": 1.0}))).refused
    assert not nodes.hear(said("NDATA", packed(0, {"alias": 4, "double_value": 1.0}))).refused
    gap = nodes.hear(said("NDATA", packed(2, {"alias": 4, "double_value": 1.0})))
    assert gap.refused
    assert gap.rebirth
    assert "sequence_gaps" in gap.events


def test_a_node_that_never_answers_is_believed_in_the_end() -> None:
    """Protects data of nodes that may not be commanded: ten seconds later the old aliases count again."""
    nodes = SparkplugNodes()
    nodes.hear(said("NBIRTH", packed(0, LEVEL)))
    nodes.hear(said("NDATA", packed(5, {"alias": 4, "double_value": 1.0})))
    nodes.hear(said("NDATA", packed(6, {"alias": 4, "double_value": 1.0}, time_ms=None), received_ms=NOW_MS + 11_000))
    late = nodes.hear(said("NDATA", packed(7, {"alias": 4, "double_value": 2.0}), received_ms=NOW_MS + 12_000))
    assert values(late) == [("plant/edge", "Tank/Level", 2.0)]


def test_a_death_makes_everything_missing_and_an_old_will_nothing() -> None:
    """Protects the living from the will of their former session (bdSeq), and the monitor from a node that is gone."""
    nodes = SparkplugNodes()
    nodes.hear(said("NBIRTH", packed(0, BD_SEQ, LEVEL)))
    nodes.hear(said("DBIRTH", packed(1, {"name": "flow", "datatype": FLOAT, "float_value": 5.0}), "pump-3"))
    old = nodes.hear(said("NDEATH", packed(None, {**BD_SEQ, "long_value": 2}, time_ms=1)))
    assert not old.readings
    dead = nodes.hear(said("NDEATH", packed(None, BD_SEQ, time_ms=1)))
    assert [(one.entity, one.channel, one.value, one.time_us) for one in dead.readings] == [
        ("plant/edge", "Tank/Level", None, NOW_MS * 1000),
        ("plant/edge/pump-3", "flow", None, NOW_MS * 1000),
    ]


@pytest.mark.parametrize(
    ("fields", "value", "quality"),
    [
        ({"quality": 192}, 7.0, Quality.GOOD),
        ({"quality": 0}, 7.0, Quality.BAD),
        ({"quality": 500}, None, Quality.MISSING),
        ({"is_null": True}, None, Quality.MISSING),
        ({"double_value": float("nan")}, None, Quality.MISSING),
        ({"is_historical": True}, 7.0, Quality.UNKNOWN),
    ],
)
def test_null_quality_and_history(fields: dict[str, Any], value: float | None, quality: Quality) -> None:
    """Protects what a value is worth: never a number for what is null or stale."""
    metric = {"name": "x", "datatype": DOUBLE, "double_value": 7.0, **fields}
    (reading,) = SparkplugNodes().hear(said("NBIRTH", packed(0, metric))).readings
    assert (reading.value, reading.quality) == (value, quality)


def test_texts_are_no_measurements() -> None:
    """Protects from refusing a whole node for the serial number that it tells."""
    heard = SparkplugNodes().hear(said("NBIRTH", packed(0, {"name": "serial", "datatype": 12, "string_value": "a7"})))
    assert not heard.readings
    assert not heard.refused


@pytest.mark.parametrize("topic", ["spBv1.0/STATE/host", "spBv1.0/g/NCMD/n", "spBv1.0/g/NDATA", "x/g/NDATA/n", "", "/"])
def test_topics_of_others(topic: str) -> None:
    """Protects from commands and host applications being taken for edge nodes."""
    assert address_of(topic) is None


KINDS = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"])
METRICS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "bdSeq", ""]), "alias": st.integers(0, 3), "datatype": st.integers(0, 40),
        "timestamp": st.integers(0, 2**64 - 1), "is_null": st.booleans(), "quality": st.sampled_from([0, 192, 500, 9]),
        "long_value": st.integers(0, 2**64 - 1),
    },
)  # fmt: skip
MESSAGE = st.builds(
    lambda kind, seq, metrics, device: said(kind, packed(seq, *metrics), device if kind[0] == "D" else ""),
    KINDS, st.integers(0, 2**64 - 1), st.lists(METRICS, max_size=3), st.sampled_from(["d", "e"]),
)  # fmt: skip


@given(st.lists(MESSAGE, max_size=12))
def test_any_order_of_messages_is_survived(messages: list[MqttMessage]) -> None:
    """Protects the source: whatever nodes say, in whatever order; and a name is never empty or invented."""
    nodes = SparkplugNodes()
    for message in messages:
        for reading in nodes.hear(message).readings:
            assert reading.channel in ("a", "b")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_payload_or_refused(raw: bytes) -> None:
    """Protects the source from bytes that are no Sparkplug."""
    nodes = SparkplugNodes()
    assert isinstance(nodes.hear(said("NBIRTH", raw)), Heard)
    nodes.hear(said("DDATA", raw, "d"))


class EdgeNode:
    """An edge node as one in the field: birth, data by alias, a will, and it answers rebirth requests.

    Args:
        port: the broker's.
        deaf: it does not hear requests.
    """

    def __init__(self, port: int) -> None:
        self.rebirths = 0
        self.truth: list[float] = []
        self._seq = 0
        self._clock_ms = int(time.time() * 1000) - 1_000_000
        self._turn = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "edge")
        self._client.will_set("spBv1.0/plant/NDEATH/edge", packed(None, BD_SEQ), qos=1)
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_connect = lambda *_: self._client.subscribe("spBv1.0/plant/NCMD/edge", 1)
        self._client.on_message = self._commanded
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(60)

    def bear(self) -> Any:
        """Say the births; return what tells when they are on their way."""
        with self._turn:
            self._seq = 0
            self._say("NBIRTH", BD_SEQ)
            return self._say("DBIRTH", {"name": "flow", "alias": 1, "datatype": INT32, "is_null": True}, device="pump")

    def tell(self, value: int) -> None:
        with self._turn:
            self._clock_ms += 1000
            self._say(
                "DDATA", {"alias": 1, "int_value": value & 0xFFFFFFFF, "timestamp": self._clock_ms}, device="pump"
            )
            self.truth.append(float(value))

    def skip(self) -> None:
        """Lose a message on the way."""
        self._seq = (self._seq + 1) % 256

    def vanish(self) -> None:
        """Break the connection, so that the broker reads out the will."""
        self._client.socket().shutdown(2)
        self._client.loop_stop()

    def _commanded(self, _: Any, __: Any, message: Any) -> None:
        asked = decode(message.payload)
        assert not isinstance(asked, Refusal)
        assert [metric.name for metric in asked.metrics] == ["Node Control/Rebirth"]
        self.bear()
        self.rebirths += 1  # only now: whoever waits for it tells something at once, which must come after the birth

    def _say(self, kind: str, *metrics: Mapping[str, Any], device: str = "") -> Any:
        topic = "/".join(filter(None, ("spBv1.0", "plant", kind, "edge", device)))
        said = self._client.publish(topic, packed(self._seq, *metrics), qos=0)
        self._seq = (self._seq + 1) % 256
        return said


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MosquittoServer]:
    with MosquittoServer(tmp_path / "broker") as running:
        yield running


class Plant:
    """A node that names its metrics, and publishes at QoS 0; the peer of a contract."""

    keeps = False

    def __init__(self, server: MosquittoServer) -> None:
        self._server = server
        self._time_ms = (time.time_ns() // 1_000_000_000 - 100_000) * 1000
        self._seq = 0

    def source(self) -> ReadingSource:
        return SparkplugSource(Broker("127.0.0.1", "contract", self._server.port), ["plant"])

    def give(self, count: int) -> Sequence[Identity]:
        given: list[Identity] = []
        told: list[Told] = []
        for _ in range(count):
            self._time_ms += 1000
            self._seq = (self._seq + 1) % 256
            metric = {"name": "flow", "datatype": DOUBLE, "double_value": 1.5, "timestamp": self._time_ms}
            told.append(("spBv1.0/plant/NDATA/edge", packed(self._seq, metric)))
            given.append(("plant/edge", "flow", self._time_ms * 1000))
        with Publisher(self._server.port) as publisher:
            publisher.tell(told, qos=0)
        return given

    def give_bad(self) -> None:
        with Publisher(self._server.port) as publisher:
            publisher.tell([("spBv1.0/plant/NDATA/edge", b"\xff\xff")])

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        self._server.start()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check: Check, server: MosquittoServer, tmp_path: Path) -> None:
    """Protects everything that the ingest process relies on."""
    check(Plant(server), tmp_path / "life")


def test_an_edge_node_from_birth_to_death(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects the whole way on a real broker: a missed birth is asked for and answered, a gap too, then death."""
    node = EdgeNode(server.port)
    node.bear().wait_for_publish(60)  # else it may be heard by who only comes now
    with Trial(tmp_path / "life") as trial:
        trial.run(SparkplugSource(Broker("127.0.0.1", "host", server.port)))
        trial.until(lambda: None in trial.reasons)

        def flows() -> list[float]:
            return [r.value for r in trial.readings() if r.channel == "flow" and r.value is not None]

        node.tell(-1)  # its birth was before our time
        trial.until(lambda: node.rebirths == 1)
        node.tell(-2)
        node.tell(3)
        trial.until(lambda: flows() == [-2.0, 3.0])
        node.skip()
        node.tell(4)
        trial.until(lambda: node.rebirths == 2)
        node.tell(5)
        trial.until(lambda: flows() == [-2.0, 3.0, 5.0])
        node.vanish()
        trial.until(lambda: trial.readings()[-1].quality is Quality.MISSING and "deaths" in trial_events(trial))
        assert trial.sites["plant/edge/pump"].channels == {"flow": ""}


def trial_events(trial: Trial) -> set[str]:
    return {name for name in ("deaths", "sequence_gaps") if trial.count("events", event=name)}


def test_the_rebirth_command_is_one() -> None:
    """Protects the request: metric Node Control/Rebirth, Boolean, true (6.4.18)."""
    command = decode(rebirth_command(NOW_MS))
    assert not isinstance(command, Refusal)
    (metric,) = command.metrics
    assert (metric.name, metric.datatype, metric.value, command.seq) == ("Node Control/Rebirth", BOOLEAN, 1, None)
