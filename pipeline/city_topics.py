"""What has come onto the city's topics, read beside the daemon: each reading once, in its newest version."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from connectors.kafka_embedded import PARTITIONS
from connectors.timestamps import parse

Key = tuple[str, str, int]
"""Entity, channel, and time in microseconds."""
_POLL_S = 0.1
_AT_ONCE = 200


class _Wire(msgspec.Struct):
    """What is looked at of a reading on a topic."""

    entity: str
    channel: str
    time: str
    source: str
    value: float | None = None
    result_time: str = ""


@dataclass(slots=True)
class Arrived:
    """What has come of a source."""

    newest_us: int = 0
    readings: dict[Key, tuple[int, float | None]] = field(default_factory=dict)
    """Each reading's result time and value, in the newest version."""


class CityTopics(threading.Thread):
    """Reads topics of the embedded broker from their beginnings until ``close``.

    Args:
        bootstrap_servers: of the broker.
        topics: that are read.
        sources: of which there are readings on them.
    """

    def __init__(self, bootstrap_servers: str, topics: Sequence[str], sources: Sequence[str]) -> None:
        super().__init__(name="city-topics", daemon=True)
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": "city-topics", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(t, p, OFFSET_BEGINNING) for t in topics for p in range(PARTITIONS)])
        self._leave = threading.Event()
        self.of = {source: Arrived() for source in sources}
        """What has come, by source."""
        self.records = 0
        """That have come."""
        self.error: Exception | None = None

    @property
    def readings(self) -> int:
        """Return how many readings have come."""
        return sum(len(one.readings) for one in self.of.values())

    def run(self) -> None:
        """Read; an error is kept for whoever waits."""
        decode = msgspec.json.Decoder(_Wire | list[_Wire]).decode
        try:
            while not self._leave.is_set():
                for message in self._consumer.consume(_AT_ONCE, _POLL_S):
                    if message.error() is None:
                        wires = decode(message.value() or b"[]")
                        self._take(wires if isinstance(wires, list) else [wires])
        except Exception as error:  # a thread cannot raise to its starter
            self.error = error
        finally:
            self._consumer.close()

    def close(self) -> None:
        """Stop reading."""
        self._leave.set()
        self.join()

    def _take(self, wires: Sequence[_Wire]) -> None:
        for wire in wires:
            arrived = self.of[wire.source]
            time_us = parse(wire.time)
            if not isinstance(time_us, int):
                raise ValueError(f"time {wire.time!r} of {wire.source}/{wire.entity}/{wire.channel} cannot be read")
            key = wire.entity, wire.channel, time_us
            result = parse(wire.result_time) if wire.result_time else 0
            result_us = result if isinstance(result, int) else 0
            before = arrived.readings.get(key)
            if before is None or before[0] <= result_us:
                arrived.readings[key] = result_us, wire.value
            arrived.newest_us = max(arrived.newest_us, time_us)
        self.records += 1
