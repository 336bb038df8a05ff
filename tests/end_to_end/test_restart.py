"""Two lives over one broker inside this process: killed without a word, or told to stop, the second goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from pipeline.build import build_daemon
from pipeline.config import Config, loads
from pipeline.daemon import Daemon
from pipeline.exit_codes import OK
from pipeline.incident import Phase
from pipeline.metrics import Metrics
from tests.end_to_end.kafka_parts import Record, produce, read_all, wait_until
from tests.pipeline.daemon_parts import STEP_US, name_of, reading, wandering

ENTITIES, STEPS, PARTITIONS = 6, 60, 4
CUT = 30 * ENTITIES * 2 + 5
"""Records before the restart: the middle of a step."""
CONFIG = """
kafka:
  bootstrap_servers: '{servers}'
  group: of-{topic}
  settings: {{session_timeout_ms: 5000, heartbeat_interval_ms: 500}}  # it forgets members only by time
outputs: {{alerts_topic: alerts-{topic}, scores_topic: scores-{topic}, dead_letter_topic: letters-{topic}}}
state: {folder}
checkpoints: {{every: {every}}}
streams:
  - name: air
    topics: [{topic}]
    step: 1m
    grace: 1m
    idle_timeout: 1h
    horizons: [1]
    channels: [{{name: pm25, limits: [{{name: legal, above: 300, forecast: false}}]}}, {{name: no2}}]
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    """A broker inside this process."""
    with EmbeddedBroker() as running:
        yield running


def records() -> list[Record]:
    """Return readings in the order of time; entity 1 lies above its limit from step 25 to 54, over the restart."""
    first = int(datetime.now(UTC).timestamp()) * 1_000_000 // STEP_US - STEPS - 5
    data = wandering(ENTITIES, STEPS, {1: 25})
    return [
        Record(reading(e, c, t, float(data[i, e, c])), name_of(e).encode(), (), t // 1000, e % PARTITIONS)
        for i in range(STEPS)
        for t in [(first + i + 1) * STEP_US]
        for e in range(ENTITIES)
        for c in range(2)
    ]


def config_for(broker: EmbeddedBroker, folder: Path, topic: str, every: str) -> Config:
    """Return a configuration, and have its topics made."""
    names = (topic, f"alerts-{topic}", f"scores-{topic}", f"letters-{topic}")
    ensure_topics(broker.bootstrap_servers, dict.fromkeys(names, 4), settings=EmbeddedBroker.settings)
    text = CONFIG.format(servers=broker.bootstrap_servers, folder=folder, topic=topic, every=every)
    return loads(text, {})


def read_until(daemon: Daemon, readings: int) -> None:
    """Let the daemon read so many readings in this life."""

    def done() -> bool:
        daemon.turn()
        return (daemon.metrics.registry.get_sample_value("vedette_readings_total", {"stream": "air"}) or 0) >= readings

    wait_until(done, f"{readings} readings")


@pytest.mark.parametrize("killed", [True, False])
def test_the_second_life_goes_on(broker: EmbeddedBroker, tmp_path: Path, killed: bool) -> None:
    """Protects a restart over Kafka: every entity-step is scored, nothing contradicts, incidents open under one id."""
    topic = "killed" if killed else "stopped"
    config = config_for(broker, tmp_path, topic, "1h" if killed else "1m")
    servers, settings = broker.bootstrap_servers, EmbeddedBroker.settings
    sent = records()
    first = build_daemon(config, embedded=True, metrics=Metrics())
    produce(servers, topic, sent[:CUT], settings)
    read_until(first, CUT)
    if killed:
        # A kill as Kafka sees it: no last checkpoint, no last commit. (Its sockets must not outlive the test.)
        first.source.close()
        first.outputs.close()
    else:
        assert first.shut_down() == OK
    second = build_daemon(config, embedded=True, metrics=Metrics())
    produce(servers, topic, sent[CUT:], settings)
    if killed:
        wait_until(lambda: second.turn() or bool(second.handled), "the second life has begun")
        wait_until(lambda: not second.turn() and sum(second.handled.values()) == len(sent), "all is handled")
    else:
        read_until(second, len(sent) - CUT)
    assert second.shut_down() == OK
    check_scores([json.loads(r.value or b"") for r in read_all(servers, f"scores-{topic}", settings)])
    check_alerts([json.loads(r.value or b"") for r in read_all(servers, f"alerts-{topic}", settings)], killed)


def check_scores(scores: list[dict[str, Any]]) -> None:
    """Every entity-step but those of the last, still open step is there, and none is there in two versions."""
    by_step: dict[tuple[str, int], dict[str, Any]] = {}
    for record in scores:
        assert by_step.setdefault((record["entity"], record["step"]), record) == record
    assert len(by_step) == ENTITIES * (STEPS - 1)


def check_alerts(alerts: list[dict[str, Any]], killed: bool) -> None:
    """The crossing that spans the restart is one incident, opened once (or in the same words again) and resolved."""
    crossing = [e for e in alerts if e["data"]["kind"] == "limit"]
    assert {e["subject"] for e in crossing} == {name_of(1)}
    assert len({e["data"]["incident_id"] for e in crossing}) == 1
    assert {e["data"]["phase"] for e in crossing} == {Phase.OPENED, Phase.RESOLVED}
    if not killed:
        ids = [e["id"] for e in alerts]
        assert len(set(ids)) == len(ids)
