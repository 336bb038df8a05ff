"""Every sink keeps the sink contract, and the contract is worth keeping: a sink that drops breaks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.structs import TopicPartition as KafkaPartition

from connectors import kafka_sink
from connectors.errors import SinkUnavailable
from connectors.json_lines import JsonLinesSink
from connectors.kafka_connecting import opened
from connectors.kafka_embedded import PARTITIONS, EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from connectors.memory import MemorySink
from tests.contracts.sink_contract import CHECKS, Make, Sent, World
from tests.kafka_broker import fresh


def in_memory(kind: type[MemorySink] = MemorySink) -> Make:
    """Return a maker of sinks in memory."""

    def make() -> World:
        sink = kind()

        def away(yes: bool) -> None:
            sink.available = not yes

        return World(sink, lambda: [Sent(*message) for message in sink.messages], away)

    return make


def to_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a maker of files; a disk is taken away by having its syncs fail."""

    def make() -> World:
        path = folder / f"{fresh('lines')}.jsonl"

        def away(yes: bool) -> None:
            monkeypatch.setattr(os, "fsync", _refuse if yes else _fsync)

        return World(JsonLinesSink(path), lambda: [Sent("", line) for line in _lines(path)], away, whole=False)

    return make


def to_kafka(broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a maker of topics; the broker is taken away by having connections to it fail."""

    def make() -> World:
        topic = fresh("sink")
        settings = {**EmbeddedBroker.settings, "enable_idempotence": False}
        sink = KafkaSink(broker.bootstrap_servers, topic, settings=settings)

        def away(yes: bool) -> None:
            if yes:
                sink._discard()
            monkeypatch.setattr(kafka_sink, "opened", _unreachable if yes else opened)

        return World(sink, lambda: _read(broker, topic), away)

    return make


def _refuse(descriptor: int) -> None:
    raise OSError("no space left")


_fsync = os.fsync


def _unreachable(*arguments: Any) -> Any:
    raise SinkUnavailable("no broker listens")


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def _read(broker: EmbeddedBroker, topic: str) -> list[Sent]:
    """Return all messages of ``topic``."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=None, **EmbeddedBroker.settings)
    try:
        partitions = [KafkaPartition(topic, p) for p in range(PARTITIONS)]
        consumer.assign(partitions)
        for p in partitions:
            consumer.seek(p, 0)
        ends = consumer.end_offsets(partitions)
        found: list[Any] = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            for records in consumer.poll(1000).values():
                found += records
        return [Sent((r.key or b"").decode(), r.value, tuple(r.headers)) for r in found]
    finally:
        consumer.close()


class DroppingSink(MemorySink):
    """Drops what it cannot flush at once, never minds keys it knows, and forgets all on leaving."""

    def send(self, key: str, value: bytes, headers: Any = ()) -> None:
        if key.isprintable():
            super().send(key, value)

    def flush(self, timeout_s: float) -> None:
        if not self.available:
            self._pending.clear()
        super().flush(timeout_s)

    def close(self) -> None:
        pass


EACH = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@EACH
def test_the_sink_in_memory_keeps_the_contract(check: Callable[[Make], None]) -> None:
    """Protects tests from a fake that is kinder than a real sink."""
    check(in_memory())


@EACH
def test_a_file_keeps_the_contract(
    check: Callable[[Make], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects alerts in a file."""
    check(to_file(tmp_path, monkeypatch))


@EACH
def test_kafka_keeps_the_contract(
    check: Callable[[Make], None], embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects alerts in a topic."""
    check(to_kafka(embedded, monkeypatch))


@EACH
def test_the_contract_refuses_a_careless_sink(check: Callable[[Make], None]) -> None:
    """Protects the contract itself: each of its checks is broken by a sink that drops."""
    with pytest.raises(AssertionError):
        check(in_memory(DroppingSink))
