"""Protects files and others' topics in the whole process: kills lose nothing, and it ends when all files are read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka_topics import ensure_topics
from tests.connectors.foreign_topic import Topic
from tests.ingest.ingest_process import Found, IngestProcess
from tests.ingest.test_kills import broker_of
from tests.kafka_broker import fresh, until

ROWS = 20_000
KILLS = 2


def test_files_are_read_through_kills_and_then_the_process_ends_well(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Protects a history that is brought in while the process is killed: each row once, in order, and exit code 0."""
    servers, settings, words = broker_of(request)
    for file in range(2):
        times = (f"2026-11-{1 + row // 1440:02} {row // 60 % 24:02}:{row % 60:02}" for row in range(ROWS))
        rows = [f"{time},S{file},{row}\n" for row, time in enumerate(times)]
        (tmp_path / f"{file}.csv").write_text("time,station,pm\n" + "".join(rows))
    section = f"""
    - name: history
      kind: files
      path: {tmp_path}/*.csv
      mapping:
        time: {{field: time, zone: UTC}}
        entity: station
        channels: {{pm25: {{field: pm, unit: ug/m3}}}}
"""
    topic = fresh("air")
    ensure_topics(servers, {topic: 2}, settings=settings)
    with IngestProcess(tmp_path, servers, topic, section, settings=words) as process:
        _kill_within(process, "history", 2 * ROWS)
        assert process.ended(120.0) == 0, process.said()
    found = Found(servers, topic, settings)
    assert found.by_entity() == {"S0": ROWS, "S1": ROWS}
    assert not found.out_of_order()


@pytest.mark.kafka
def test_a_topic_of_others_is_read_through_kills(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Protects what others wrote while the process is killed: what was not committed comes again, none is skipped."""
    request.getfixturevalue("real_kafka")  # of the embedded broker a group is not taken over after a kill
    servers, settings, words = broker_of(request)
    plant, topic = Topic(servers, settings), fresh("air")
    ensure_topics(servers, {topic: 2, plant.name: 2}, settings=settings)
    plant.give(ROWS)
    section = f"""
    - name: plant
      kind: kafka
      topics: [{plant.name}]
      group: {plant.group}
      cluster:
        bootstrap_servers: ["{servers}"]
        settings: {{session_timeout_ms: 6000}}
"""
    with IngestProcess(tmp_path, servers, topic, section, settings=words) as process:
        _kill_within(process, "plant", ROWS)
        until(lambda: plant.committed() == ROWS)
        assert process.stop() == 0
    found = Found(servers, topic, settings)
    assert found.by_entity() == {"S7": ROWS}
    assert not found.out_of_order()


def _kill_within(process: IngestProcess, source: str, readings: int) -> None:
    """Kill it some times while it reads, each time at another moment; the last life goes on."""
    moments = random.Random(7)

    def brought(wanted: float) -> Callable[[], bool]:
        return lambda: process.metric("source_readings_total", source) >= wanted

    for kill in range(KILLS):
        process.start()
        process.wait_started()
        if kill:  # the first kill comes at once
            until(brought(moments.randrange(1, readings // (2 * KILLS))))
        process.kill()
    process.start()
