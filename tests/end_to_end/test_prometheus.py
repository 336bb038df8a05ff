"""A real Prometheus watches a real daemon break."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from pipeline.live import Live
from pipeline.metrics_entities import EntityMetrics, exposition
from tests.end_to_end.kafka_parts import Record, produce, wait_until
from tests.pipeline.live_parts import live_step
from tests.prometheus_server import PrometheusServer

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "vedette.rules.yml"
TOPICS = {"sensors": 4, "vedette.alerts": 4, "letters": 4}
DAEMON = """
kafka: {{bootstrap_servers: '{servers}', group: watched}}
outputs: {{alerts_topic: vedette.alerts, dead_letter_topic: letters}}
http: {{port: 0}}
state: {folder}
streams:
  - name: air
    topics: [sensors]
    step: 1m
    channels: [{{name: pm25, unit: ug/m3}}]
"""
PROMETHEUS = """
global: {{scrape_interval: {timeout}, scrape_timeout: {timeout}, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: vedette, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
"""


def within(event: Event, done: Callable[[], bool]) -> Callable[[], bool]:
    """Return ``done`` with a short wait before each look, for servers that can only be asked."""

    def look() -> bool:
        event.wait(0.1)
        return done()

    return look


def seen(done: Callable[[], bool], what: str) -> None:
    """Wait until Prometheus has seen it."""
    wait_until(within(Event(), done), what)


@contextmanager
def running(config: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a daemon and yield its process and port; it is gone afterwards."""
    command = [sys.executable, "-m", "tests.end_to_end.lone_daemon", str(config)]
    with (config.parent / "daemon.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()
            process.communicate()


def readings(count: int, bad: int) -> list[Record]:
    """Return so many readings, one a minute until now, and so many records that are none."""
    now = datetime.now(UTC)
    good = [
        {"entity": "harbour", "channel": "pm25", "time": (now - timedelta(minutes=i)).isoformat(), "value": 1.0 + i}
        for i in reversed(range(count))
    ]
    return [Record(json.dumps(reading).encode()) for reading in good] + [Record(b"{")] * bad


def test_alerts_fire_when_the_broker_and_then_the_daemon_are_gone(tmp_path: Path) -> None:
    """Protects operators: what the rules say of made-up series comes true for a real daemon, and not while it is well.

    Only the time for which a state must last is shortened.
    """
    rules = re.sub(r"\bfor: \w+$", "for: 1s", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / "quick.rules.yml").write_text(rules, encoding="utf-8")
    broker = EmbeddedBroker()
    ensure_topics(broker.bootstrap_servers, TOPICS, settings=EmbeddedBroker.settings)
    produce(broker.bootstrap_servers, "sensors", readings(50, bad=0), EmbeddedBroker.settings)
    config = tmp_path / "vedette.yaml"
    config.write_text(DAEMON.format(servers=broker.bootstrap_servers, folder=tmp_path / "state"), encoding="utf-8")
    with (
        running(config) as (daemon, port),
        PrometheusServer(
            tmp_path, PROMETHEUS.format(rules="quick.rules.yml", port=port, timeout="250ms")
        ) as prometheus,
    ):
        seen(lambda: value(prometheus, "sum(vedette_readings_total)") == 50, "the daemon has read what there is")
        seen(lambda: (value(prometheus, 'vedette_observed{entity="harbour"}') or 0) >= 1, "what it measured is told")
        seen(lambda: value(prometheus, "vedette_ready") == 1, "the daemon is ready")
        seen(lambda: value(prometheus, "vedette:consumer_lag_records:sum") == 0, "recording rules are evaluated")
        # As a fresh Prometheus comes to a daemon that was not ready at its start, that may have fired for a moment.
        seen(lambda: not prometheus.alerts(), "nothing is wrong")

        def half_bad() -> bool:
            produce(broker.bootstrap_servers, "sensors", readings(5, bad=5), EmbeddedBroker.settings)
            return prometheus.firing() == {"VedetteDeadLetters"}

        # On a busy machine a few scrapes in a row may take too long, for which an alert is due: it must not last.
        seen(half_bad, "half of what comes is bad, and nothing else is wrong")

        broker.close()
        away = {"VedetteSourceUnreachable"}
        seen(lambda: prometheus.firing() & {"VedetteDown", *away} == away, "the broker is gone, and not the daemon")

        daemon.kill()
        seen(lambda: "VedetteDown" in prometheus.firing(), "the daemon is gone")
        (alert,) = [each for each in prometheus.alerts() if each["labels"]["alertname"] == "VedetteDown"]
        assert alert["annotations"]["summary"] == f"Vedette on 127.0.0.1:{port} does not answer"


def value(prometheus: PrometheusServer, expression: str) -> float | None:
    """Return the one number that an expression gives now; None: nothing."""
    result = prometheus.query(expression)
    return float(result[0]["value"][1]) if result else None


@pytest.fixture
def hostile() -> Iterator[tuple[list[str], int]]:
    """Serve the gauges of entities with hostile names; yield the names and the port."""
    names = [
        'quo"te',
        "back\\slash",
        "new\nline",
        "\r",
        "nul\0",
        "\ud800",
        "\x85\u2028",
        "</script>",
        "{a='b'}",
        "z" * 10**4,
    ]
    live, registry = Live(), CollectorRegistry()
    live.stepped(live_step(1, names, [[float(i), 0.0] for i in range(len(names))]))
    entities = EntityMetrics(live, registry)

    class Handler(BaseHTTPRequestHandler):
        """Answers every path with the gauges."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(exposition(registry, entities))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield names, server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_prometheus_takes_entities_with_hostile_names(hostile: tuple[list[str], int], tmp_path: Path) -> None:
    """Protects every other metric: one label that Prometheus' parser refuses costs the whole scrape."""
    names, port = hostile
    with PrometheusServer(tmp_path, PROMETHEUS.format(rules="", port=port, timeout="1s")) as prometheus:
        stored: list[dict[str, Any]] = []

        def scraped() -> bool:  # some scrapes may be too slow: the first one loads Arrow
            stored[:] = prometheus.query('vedette_observed{channel="pm25"}')
            return bool(stored)

        seen(scraped, "Prometheus has scraped")
        assert sorted(float(each["value"][1]) for each in stored) == list(range(len(names)))
        by_value = {int(float(each["value"][1])): each["metric"]["entity"] for each in stored}
        for i in (0, 1, 2, 3, 6, 7, 8):
            assert by_value[i] == names[i]
