"""Counters as their senders write them come out as increases: OTLP, remote-write, line protocol, MQTT."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from connectors.http_push import HttpPush
from connectors.mqtt import MqttSource
from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.mqtt_messages import Broker
from connectors.timestamps import to_text
from pipeline.config import loads
from pipeline.ingest.build import build_ingest
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import Rules
from pipeline.ingest.trial import DEAD_LETTERS, READINGS, ListDelivery, Trial
from tests.connectors.remote_write_body import block, request, series
from tests.kafka_broker import until
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher

NOW_US = 1_795_190_400_000_000
STEP_US = 15_000_000
TOTALS = (100.0, 104.0, 104.0, 3.0)
"""The last one after a reset."""
INCREASES = [4.0, 0.0, 3.0]


def times_us() -> list[int]:
    return [NOW_US + number * STEP_US for number in range(len(TOTALS))]


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        yield client


def pushed(trial: Trial, client: httpx.Client, send: Callable[[str, int, float], httpx.Response]) -> None:
    """Send each total by itself, the second one twice, and see what comes out."""
    source = HttpPush(now_us=lambda: times_us()[-1])
    trial.run(source)
    trial.until(lambda: None in trial.reasons)
    for time_us, value in [*zip(times_us(), TOTALS, strict=True), (times_us()[1], TOTALS[1])]:
        answer = send(f"http://127.0.0.1:{source.port}", time_us, value)
        assert answer.is_success, answer.text
    assert [r.value for r in trial.readings()] == INCREASES
    assert [r.time_us for r in trial.readings()] == times_us()[1:]
    assert trial.count("events", event="counter_resets") == 1


def otlp(*points: dict[str, Any], temporality: int = 2) -> dict[str, Any]:
    told = {"dataPoints": list(points), "aggregationTemporality": temporality, "isMonotonic": True}
    return {"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "gate-1"}}]},
        "scopeMetrics": [{"metrics": [{"name": "cars", "unit": "1", "sum": told}]}]}]}  # fmt: skip


def point(time_us: int, value: float, since_us: int) -> dict[str, Any]:
    return {"asDouble": value, "timeUnixNano": str(time_us * 1000), "startTimeUnixNano": str(since_us * 1000)}


def test_otlp_says_itself_what_counts(tmp_path: Path, client: httpx.Client) -> None:
    """Protects OTLP's counters without a word in the config; what was reset and has overtaken itself is told too."""
    with Trial(tmp_path) as trial:

        def send(url: str, time_us: int, value: float) -> httpx.Response:
            since_us = NOW_US - 1_000_000 if value > 50.0 else time_us - 1_000_000
            return client.post(f"{url}/v1/metrics", json=otlp(point(time_us, value, since_us)))

        pushed(trial, client, send)


def test_an_otlp_counter_that_overtook_itself(tmp_path: Path, client: httpx.Client) -> None:
    """Protects from a reset that the totals alone do not show; a delta stays what it is."""
    with Trial(tmp_path) as trial:
        source = HttpPush(now_us=lambda: NOW_US + 100_000_000)
        trial.run(source)
        trial.until(lambda: None in trial.reasons)
        url = f"http://127.0.0.1:{source.port}/v1/metrics"
        points = (point(NOW_US, 3.0, NOW_US - 9), point(NOW_US + 100, 8.0, NOW_US + 50))
        assert client.post(url, json=otlp(*points)).is_success
        assert [r.value for r in trial.readings()] == [8.0]
        assert client.post(url, json=otlp(point(NOW_US + 150, 2.0, NOW_US + 100), temporality=1)).is_success
        assert [r.value for r in trial.readings()] == [8.0, 2.0]


def test_remote_write_counters_are_named(tmp_path: Path, client: httpx.Client) -> None:
    """Protects Prometheus' counters: a pattern on the name, whatever labels stand behind it."""
    rules = Rules(READINGS, DEAD_LETTERS, counters=("*_total",))
    labels = {"__name__": "cars_total", "instance": "gate-1", "lane": "2"}
    with Trial(tmp_path, rules=rules) as trial:

        def send(url: str, time_us: int, value: float) -> httpx.Response:
            return client.post(
                f"{url}/api/v1/write", content=block(request(series(labels, [(value, time_us // 1000)])))
            )

        pushed(trial, client, send)
        assert {r.channel for r in trial.readings()} == {'cars_total{lane="2"}'}


def test_line_protocols_fields_are_named(tmp_path: Path, client: httpx.Client) -> None:
    """Protects fields of Telegraf, which are totals as often as not."""
    with Trial(tmp_path, rules=Rules(READINGS, DEAD_LETTERS, counters=("bytes_recv",))) as trial:

        def send(url: str, time_us: int, value: float) -> httpx.Response:
            line = f"net,host=gate-1 bytes_recv={int(value)}i {time_us}"
            return client.post(f"{url}/api/v2/write?precision=us", content=line)

        pushed(trial, client, send)


def test_mqtt_totals_are_named(tmp_path: Path) -> None:
    """Protects meters that publish their reading; what is retained or redelivered is not counted again."""
    rule = MappingRule(topic="meters/{entity}", values=(ValueRule(value="$.kWh", channel="energy", time="$.t"),))
    with MosquittoServer(tmp_path / "broker") as server:
        broker = Broker("127.0.0.1", "counting", port=server.port)
        with Trial(tmp_path / "life", rules=Rules(READINGS, DEAD_LETTERS, counters=("energy",))) as trial:
            trial.run(MqttSource(broker, [rule]))
            trial.until(lambda: None in trial.reasons)
            told = [*zip(times_us(), TOTALS, strict=True)]
            with Publisher(server.port) as publisher:
                publisher.tell(
                    ("meters/gate-1", json.dumps({"kWh": value, "t": to_text(time_us)}).encode())
                    for time_us, value in [*told[:2], told[1], *told[2:], told[1]]
                )
            trial.until(lambda: len(trial.readings()) >= len(INCREASES))
            trial.until(lambda: trial.count("events", event="counters_outdated") == 2)
            assert [r.value for r in trial.readings()] == INCREASES


def test_the_config_makes_it_so(tmp_path: Path, client: httpx.Client) -> None:
    """Protects the way from the file to the topic, and from one life to the next; where a stream makes rates itself,
    what OTLP says is left to it."""
    text = f"""
streams:
  - name: gate
    topics: [gate]
    step: 1m
    channels: [{{name: entered, aggregate: sum}}, {{name: cars, aggregate: rate}}]
ingest:
  spool: {tmp_path}/spool.db
  sources:
    - {{name: pushed, kind: http, port: 0, rename: {{ins: entered}}, counters: [entered], counter_gap: 1h}}
"""
    found = []
    for totals in ((5, 7), (9,)):
        lists = ListDelivery()
        ingest = build_ingest(loads(text, {}), IngestMetrics(CollectorRegistry()), delivery=lists)
        ingest.delivering.start()
        ingest.supervisor.start()
        (supervised,) = ingest.supervisor.sources
        until(lambda: supervised.condition.state == "working")  # noqa: B023 it is waited for at once
        url = f"http://127.0.0.1:{supervised._source.port}"  # type: ignore[attr-defined]
        now_us = time.time_ns() // 1000 - 60_000_000
        for total in totals:
            lines = f"gate,host=gate-1 ins={total} {now_us + total}"
            assert client.post(f"{url}/api/v2/write?precision=us", content=lines).is_success
        assert client.post(f"{url}/v1/metrics", json=otlp(point(now_us + totals[0], 10.0, NOW_US))).is_success
        assert ingest.supervisor.stop(60.0) == []
        ingest.delivering.close()
        ingest.spool.close()
        found.append([(one["channel"], one["value"]) for one in (json.loads(m.value) for m in lists.messages)])
    assert found == [[("entered", 2.0), ("cars", 10.0)], [("entered", 2.0), ("cars", 10.0)]]
    assert (tmp_path / "sources" / "pushed" / "counters.db").exists()
