"""PUBLISH packets are read as paho reads them, and what paho would read on its own way arrives too."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt import client as paho

from connectors.mqtt_client import Published, SwiftClient, published
from connectors.mqtt_messages import Broker, Subscription
from pipeline.ingest.trial import Trial
from tests.connectors.test_mqtt_connection import Connected
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher

PROPERTIES = st.sampled_from(
    [
        b"\x00",
        b"\x02\x01\x01",  # payload format indicator
        b"\x05\x02\x00\x00\x00\x3c",  # message expiry
        b"\x05\x03\x00\x02ab",  # content type
        b"\x87\x01" + b"\x26\x00\x02ab\x00\x7e" + b"c" * 126 + b"\x01\x01",  # a user property: two bytes of length
    ]
)


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.integers(0, 1), st.integers(1, 65_535), PROPERTIES, st.binary(max_size=200), st.booleans(), st.booleans(),
    st.sampled_from([4, 5]),
)  # fmt: skip
def test_packets_are_read_as_paho_reads_them(
    topic: str, qos: int, mid: int, properties: bytes, payload: bytes, retained: bool, duplicate: bool, version: int
) -> None:
    """Protects from a second reading of the protocol that differs."""
    command = 0x30 | duplicate << 3 | qos << 1 | retained
    name = topic.encode()
    packet = struct.pack("!H", len(name)) + name + (struct.pack("!H", mid) if qos else b"")
    packet += (properties if version == 5 else b"") + payload
    found = published(command, packet, version)
    theirs = _packet.decode_publish(command, bytearray(packet), version)
    assert found == Published(topic, payload, qos, retained, mid if qos else 0, duplicate)
    assert (theirs.topic, theirs.payload, theirs.qos, theirs.retain, theirs.mid, theirs.dup) == (
        name, found.payload, found.qos, found.retained, found.mid, found.duplicate,
    )  # fmt: skip


@given(st.integers(0x30, 0x3F), st.binary(max_size=40), st.sampled_from([4, 5]))
def test_no_bytes_raise(command: int, packet: bytes, version: int) -> None:
    """Protects the connection: what is damaged is left to paho, which ends it."""
    found = published(command, packet, version)
    assert found is None or found.topic


@pytest.mark.parametrize("version", [4, 5])
def test_all_works_on_pahos_own_way(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a later paho that does not call what we replace: it is slower then, and no less right."""
    monkeypatch.setattr(SwiftClient, "_handle_publish", paho.Client._handle_publish)
    with MosquittoServer(tmp_path / "broker") as server, Trial(tmp_path / "life") as trial:
        source = Connected(Broker("127.0.0.1", "c", server.port, version=version), [Subscription("s/#")])
        trial.run(source)
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([("s/a", b"1"), ("s/b", b"2")])
        trial.until(lambda: len(trial.readings()) == 2)
        assert [(m.topic, m.payload, m.qos) for m in source.listener.messages] == [("s/a", b"1", 1), ("s/b", b"2", 1)]
