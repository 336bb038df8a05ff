"""A message of any size takes bounded memory: its beginning is kept, refused and counted, and the next one is read."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from connectors.mqtt import MqttSource
from connectors.mqtt_client import MQTT_3_1_1, Published, SwiftClient
from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.mqtt_messages import Broker
from connectors.mqtt_socket import BufferedSocket
from pipeline.ingest.trial import Trial
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher

LARGE = 40 * 1_048_576
MOST_KEPT = 8 * 1_048_576
RULE = MappingRule(topic="s/{entity}/{channel}", values=(ValueRule(value="$.v"),))


def packet(command: int, body: bytes) -> bytes:
    """Return an MQTT packet with its length."""
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return bytes([command]) + length + bytes([left]) + body


def connected(sock: socket.socket) -> SwiftClient:
    client = SwiftClient(CallbackAPIVersion.VERSION2, "c", clean_session=False, protocol=MQTT_3_1_1, manual_ack=True)
    client.on_socket_register_write = lambda *_: None
    client.opened = BufferedSocket(sock)
    client.connect("127.0.0.1")
    return client


def read_all(client: SwiftClient, ours: socket.socket, sent: bytes, theirs: socket.socket) -> tuple[int, int]:
    """Read what the broker sends until nothing more comes; return the most that was held, and how it ended."""

    def send() -> None:
        with contextlib.suppress(OSError):  # not all of it is wanted
            theirs.sendall(sent)
            theirs.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    most, outcome = 0, 0
    while not outcome and select.select([ours], [], [], 60.0)[0]:
        outcome = int(client.loop_read())
        most = max(most, len(client._in_packet["packet"]))
    return most, outcome


def test_a_message_of_any_size_takes_bounded_memory() -> None:
    """Protects memory with MQTT 3.1.1, where a broker cannot be told a limit: up to 256 MB were put together."""
    ours, theirs = socket.socketpair()
    client = connected(ours)
    came: list[Published] = []
    client.received = came.append
    large = packet(0x32, struct.pack("!H", 5) + b"s/a/b" + struct.pack("!H", 7) + b"x" * LARGE)
    small = packet(0x32, struct.pack("!H", 5) + b"s/a/c" + struct.pack("!H", 8) + b"1")
    with ours, theirs:
        most, _ = read_all(client, ours, large + small, theirs)
    assert most < MOST_KEPT
    assert [(one.topic, one.qos, one.mid) for one in came] == [("s/a/b", 1, 7), ("s/a/c", 1, 8)]
    assert (came[0].whole, came[1].whole) == (LARGE, 0)
    assert set(came[0].payload) == {ord("x")}
    assert len(came[0].payload) <= MOST_KEPT


def test_only_messages_may_be_large() -> None:
    """Protects memory from what calls itself a broker: an endless answer ends the connection."""
    ours, theirs = socket.socketpair()
    client = connected(ours)
    with ours, theirs:
        most, outcome = read_all(client, ours, packet(0x90, b"x" * LARGE)[:30_000_000], theirs)
    assert most < MOST_KEPT
    assert outcome == paho.MQTT_ERR_PROTOCOL


@pytest.mark.parametrize("limit", [1 << 20, 24 << 20])
def test_a_large_message_is_refused_and_the_next_is_read(limit: int, tmp_path: Path) -> None:
    """Protects what comes behind a message that is too large, the count of it, and limits that are set higher."""
    broker_path, life = tmp_path / "broker", tmp_path / "life"
    with MosquittoServer(broker_path) as server, Trial(life) as trial:
        broker = Broker("127.0.0.1", "c", server.port, version=MQTT_3_1_1)
        trial.run(MqttSource(broker, [RULE], most_payload_bytes=limit))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([("s/a/b", b'{"v": 2, "more": "' + b"x" * (20 << 20) + b'"}'), ("s/a/c", b'{"v": 1}')])
        trial.until(lambda: any(one.channel == "c" for one in trial.readings()))
        refused = trial.dead_letters()
        if limit < 20 << 20:
            assert len(refused) == 1
            assert f"{(20 << 20) + 20} bytes; allowed: at most {limit}" in refused[0][1]["vedette-detail"]
            assert len(refused[0][0]) <= 65_536
        else:
            assert [(one.channel, one.value) for one in trial.readings()] == [("b", 2.0), ("c", 1.0)]
