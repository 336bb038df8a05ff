"""A real Apache Kafka, the real command, 100,000 readings, and a SIGTERM in the middle that is not to be seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient
from numpy.typing import NDArray

from connectors.free_ports import free_port
from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics
from pipeline.config import Config, load
from pipeline.exit_codes import OK
from pipeline.incident import Kind, Phase, decode
from tests.end_to_end.kafka_parts import Record, produce, read_all, wait_until
from tests.kafka_broker import fresh
from tests.pipeline.daemon_parts import STEP_US, Rig, blocks_of, name_of, reading, scored, wandering

ENTITIES, STEPS = 50, 1_000
READINGS = ENTITIES * 2 * STEPS
PARTITIONS = 4
SHIFTS = {7: 400, 19: 520, 33: 800}
"""Entity to the step at which both channels jump by 400, for 30 steps; they wander by about 2."""
HALF, HELD_BACK = READINGS // 2, READINGS * 3 // 4
"""SIGTERM comes once half is read; what follows the second mark is not even sent before the first life is over."""
STOP_DEADLINE_S = 20
CONFIG = """
kafka: {{bootstrap_servers: '{servers}', group: {topic}}}
outputs:
  scores_file: {folder}/scores.jsonl
  alerts_topic: {topic}.alerts
  dead_letter_topic: {topic}.letters
state: {folder}
http: {{port: {port}}}
shutdown_timeout: {deadline}s
streams:
  - name: air
    topics: [{topic}]
    step: 1m
    grace: 1m  # readings of one step bear one time here, and a poll may end between them
    idle_timeout: 1h
    horizons: [1, 3]
    channels: [{{name: pm25, unit: ug/m3}}, {{name: no2, unit: ug/m3}}]
"""

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif("KAFKA_HOME" not in os.environ, reason="KAFKA_HOME names no unpacked Apache Kafka"),
]


class Life:
    """One process of ``vedette run``."""

    def __init__(self, config: Path, port: int, log: Path) -> None:
        self._port = port
        self._log = log
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pipeline.cli", "run", "--config", str(config)]
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(command, stderr=stderr, env=environment)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels, 0 while nobody listens."""
        assert self._process.poll() is None, self._log.read_text()
        time.sleep(0.02)  # a poll, not a wait
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60) as answer:
                lines = answer.read().decode().splitlines()
        except ConnectionError:
            return 0.0
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def until(self, name: str, least: float) -> None:
        """Wait until a metric has come so far."""
        wait_until(lambda: self.metric(name) >= least, f"{name} >= {least}\n{self._log.read_text()}")

    def stop(self) -> int:
        """Send SIGTERM; return the exit code, which has to come within the deadline."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_DEADLINE_S)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass
class Outcome:
    """What is left of two lives and of one that was never interrupted."""

    exit_codes: list[int] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    scores: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    reference: Rig | None = None


def values() -> NDArray[np.float64]:
    """Return [T, E, C] quiet values with the planted jumps."""
    return wandering(ENTITIES, STEPS, SHIFTS)


def records(first_step: int) -> list[Record]:
    """Return every reading as a record in the order of event time, which is the records' time too."""
    data = values()
    return [
        Record(reading(e, c, time_us, float(data[t, e, c])), name_of(e).encode(), (), time_us // 1000, e % PARTITIONS)
        for t in range(STEPS)
        for time_us in [(first_step + t + 1) * STEP_US]
        for e in range(ENTITIES)
        for c in range(2)
    ]


def committed(servers: str, topic: str) -> int:
    """Return the sum of the group's committed offsets; it is named like the topic."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        offsets = admin.list_group_offsets({topic: None})[topic]
        return sum(offset.offset for partition, offset in offsets.items() if partition.topic == topic)
    finally:
        admin.close()


def two_lives(servers: str, topic: str, path: Path, port: int, sent: list[Record], outcome: Outcome) -> None:
    """Run, stop in the middle, run again to the end; note what can be seen from outside."""
    first = Life(path, port, path.parent / "first.log")
    try:
        produce(servers, topic, sent[:HALF], {})
        more = threading.Thread(target=produce, args=(servers, topic, sent[HALF:HELD_BACK], {}))
        more.start()
        first.until("vedette_readings_total", HALF)
        outcome.exit_codes.append(first.stop())
        more.join()
    finally:
        first.close()
    outcome.committed.append(committed(servers, topic))
    second = Life(path, port, path.parent / "second.log")
    try:
        produce(servers, topic, sent[HELD_BACK:], {})
        second.until("vedette_readings_total", READINGS - outcome.committed[0])
        outcome.read.append(second.metric("vedette_readings_total"))
        outcome.exit_codes.append(second.stop())
    finally:
        second.close()
    outcome.committed.append(committed(servers, topic))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, real_kafka: LocalKafka) -> Outcome:
    """Two lives of the daemon over one topic, and one in memory over the same readings."""
    folder = tmp_path_factory.mktemp("plant")
    path, port = folder / "vedette.yaml", free_port()
    first_step = int(time.time()) * 1_000_000 // STEP_US - STEPS - 5
    found = Outcome()
    servers, topic = real_kafka.bootstrap_servers, fresh("plant")
    ensure_topics(servers, {topic: PARTITIONS, f"{topic}.alerts": 1, f"{topic}.letters": 1})
    path.write_text(CONFIG.format(servers=servers, topic=topic, folder=folder, port=port, deadline=STOP_DEADLINE_S))
    two_lives(servers, topic, path, port, records(first_step), found)
    found.alerts = [json.loads(r.value or b"") for r in read_all(servers, f"{topic}.alerts", {})]
    found.dead_letters = len(read_all(servers, f"{topic}.letters", {}))
    for line in (folder / "scores.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert found.scores.setdefault((record["entity"], record["step"]), record) == record
    found.reference = reference(load(path), first_step)
    return found


def reference(config: Config, first_step: int) -> Rig:
    """Return a daemon in memory that has read the same readings without interruption."""
    blocks = blocks_of(values(), PARTITIONS, per_step=1, first_step=first_step)
    rig = Rig(blocks, config=config.streams[0], warmup_steps=None)
    rig.clock.us = int(time.time() * 1e6)
    assert rig.daemon.run() == OK
    return rig


def test_both_lives_end_well(outcome: Outcome) -> None:
    """Protects orchestrators: SIGTERM is answered with exit code 0 within the deadline, now and at the end."""
    assert outcome.exit_codes == [OK, OK]


def test_nothing_is_lost_or_read_twice(outcome: Outcome) -> None:
    """Protects the data: both lives together read each of the 100,000 readings once, and all is committed."""
    assert HALF <= outcome.committed[0] <= HELD_BACK
    assert outcome.read == [READINGS - outcome.committed[0]]
    assert outcome.committed[1] == READINGS
    assert outcome.dead_letters == 0


def test_every_frame_is_that_of_an_uninterrupted_run(outcome: Outcome) -> None:
    """Protects state: each of the 49,950 closed entity-steps has the values and scores that it has without the stop."""
    assert outcome.reference is not None
    assert outcome.reference.value("readings_late_total", stream="air") == 0
    expected = scored(outcome.reference)
    assert len(expected) == ENTITIES * (STEPS - 1)  # the last step is still within its grace
    assert outcome.scores.keys() == expected.keys()
    different = [at for at, record in expected.items() if outcome.scores[at] != record]
    assert different == []


def test_what_is_said_is_what_an_uninterrupted_run_says(outcome: Outcome) -> None:
    """Protects from alerts that a restart adds, loses or changes: the same messages, each incident opened once."""
    assert outcome.reference is not None
    ids = [event["id"] for event in outcome.alerts]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {message.id for message in outcome.reference.messages()}
    opened = [e["data"]["incident_id"] for e in outcome.alerts if e["data"]["phase"] == Phase.OPENED]
    assert len(set(opened)) == len(opened)


def test_the_planted_jumps_are_incidents(outcome: Outcome) -> None:
    """Protects the point of it all: each planted jump is in the topic as an anomaly, opened as it begins."""
    assert outcome.reference is not None
    begin_us = outcome.reference.source.first_time_us()
    messages = [decode(json.dumps(event).encode()) for event in outcome.alerts]
    for entity, step in SHIFTS.items():
        opened = [
            (m.opened_us - begin_us) // STEP_US
            for m in messages
            if m.phase is Phase.OPENED and m.kind is Kind.ANOMALY and m.entity == name_of(entity)
        ]
        assert any(step <= at <= step + 2 for at in opened), (entity, step, opened)
