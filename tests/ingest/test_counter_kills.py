"""`kill -9` of `vedette ingest` at many moments: what counters counted is on the topic, once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from connectors.kafka_topics import ensure_topics
from connectors.timestamps import parse, to_text
from tests.end_to_end.kafka_parts import read_all, wait_until
from tests.ingest.ingest_process import Door, Found, Identity, IngestProcess
from tests.ingest.keeping_peers import Feeding, Gauge, KeepingPeer, Mosquitto, Pusher
from tests.ingest.nursery import Nursery
from tests.ingest.test_kills import broker_of
from tests.kafka_broker import fresh
from tests.usgs_service import SITE, value

KILLS = 6
AWAY = frozenset((3, 4))
"""Kills while Kafka is away."""
_COUNTERS = '    counters: ["*"]\n'


class Meter(Pusher):
    """Totals of which every fourth or so was reset: those that the peer makes of its times."""

    def __init__(self) -> None:
        super().__init__()
        self.section += _COUNTERS

    @staticmethod
    def total(time_us: int) -> float:
        return float(time_us % 97)


class Flow(Gauge):
    """A polled total of which each poll brings the newest three seconds again."""

    def __init__(self) -> None:
        super().__init__()
        self.section += _COUNTERS

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [self._first_us + 1_000_000 * (self._given + i) for i in range(count)]
        self._given += count
        modified = to_text(time.time_ns() // 1000).removesuffix("Z")
        self._service.rows += [value(to_text(t).removesuffix("Z"), str(self.total(t)), modified) for t in times_us]
        return [(SITE, "stage", time_us) for time_us in times_us]

    def total(self, time_us: int) -> float:
        return float((time_us - self._first_us) // 1_000_000 * 3 % 50)


class Lamp(Mosquitto):
    """A total that its broker keeps for us, as small as a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.section += _COUNTERS

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [self._first_us + 1000 * (self._given + i) for i in range(count)]
        self._given += count
        self._publisher.tell(
            ("sensors/lamp-4", b'{"pm10": %d, "time": "%s"}' % (self.total(t), to_text(t).encode())) for t in times_us
        )
        return [("lamp-4", "pm10", time_us) for time_us in times_us]

    def total(self, time_us: int) -> float:
        return float((time_us - self._first_us) // 1000 * 5 % 83)


def test_counters_of_a_process_that_is_killed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Protects sums: pushed, polled with overlaps, and kept by a broker, each increase is there, and has one value."""
    moments = random.Random(10)
    servers, settings, words = broker_of(request)
    topic = fresh("counted")
    ensure_topics(servers, {topic: 2}, settings=settings)
    with ExitStack() as parts:
        meter, flow, lamp = Meter(), Flow(), Lamp(tmp_path / "mosquitto")
        peers: list[KeepingPeer] = [parts.enter_context(closing(peer)) for peer in (meter, flow, lamp)]
        door = parts.enter_context(Door(servers))
        sections = "".join(peer.section for peer in peers)
        process = parts.enter_context(IngestProcess(tmp_path, door.address, topic, sections, settings=words))
        process.start()
        wait_until(lambda: all(process.metric("source_up", peer.name) for peer in peers), "all peers answer")
        nursery = parts.enter_context(Nursery())
        feeding = parts.enter_context(Feeding(peers))
        for kill in range(KILLS):
            process.wait_started()
            time.sleep(moments.uniform(0.0, 0.6))
            process.kill()
            door.shut() if kill + 1 in AWAY else door.open()
            process.start(nursery)
        truth = _truth(feeding.finish(), {"station-7": meter.total, SITE: flow.total, "lamp-4": lamp.total})
        Found.once_there(set(truth), servers, topic, settings)
        assert process.stop() == 0
    found: dict[Identity, set[float]] = {}
    for record in read_all(servers, topic, settings):
        document = msgspec.json.decode(record.value or b"")
        for one in document if isinstance(document, list) else [document]:
            time_us = parse(one["time"])
            assert isinstance(time_us, int)
            found.setdefault((one["entity"], one["channel"], time_us), set()).add(round(one["value"], 6))
    assert {key: values for key, values in found.items() if len(values) > 1} == {}
    assert {key: values.pop() for key, values in found.items()} == truth


def _truth(given: Sequence[Identity], totals: dict[str, Callable[[int], float]]) -> dict[Identity, float]:
    """Return what was added until each reading, but for the first of each entity."""
    truth: dict[Identity, float] = {}
    for entity, total in totals.items():
        own = sorted((identity for identity in given if identity[0] == entity), key=lambda identity: identity[2])
        for before, now in pairwise(own):
            was, is_now = total(before[2]), total(now[2])
            truth[now] = is_now - was if is_now >= was else is_now
    return truth
