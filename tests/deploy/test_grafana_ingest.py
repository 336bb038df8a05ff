"""Grafana's dashboard Ingest: every query of it has an answer from a real ingest process, and its numbers are true."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.free_ports import free_port
from connectors.kafka_embedded import EmbeddedBroker
from connectors.timestamps import to_text
from deploy.grafana.ingest import PEERS_FAIL, SENT_BACK
from pipeline.ingest.metrics import IngestMetrics
from tests.connectors.pushing_peer import TOKEN
from tests.deploy.board_queries import FOLDER, INGEST, BoardQuery, load, panels, queries
from tests.deploy.prometheus_server import PrometheusServer
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Door, IngestProcess
from tests.kafka_broker import fresh
from tests.replay_server import ReplayServer, busy_reply, page_reply

QUERIES = list(queries(INGEST))
MAY_BE_EMPTY = {
    "ingest/annotation/Restarts/": "the process started once",
    "ingest/panel/Senders told to come again/A": "there was room all the time",
}
"""Queries that have no answer while all goes as it should, and why; each still has to be one that Prometheus takes."""
VALUES = {"instance": ".*", "source": ".*", "__rate_interval": "30s", "__interval": "5s", "__range": "1h"}
"""What Grafana would put in for each variable."""
_PAUSE_S, _SETTLED_S = 0.1, 2.0
"""Between two looks; and since when every scrape has ended, also one that was given up, after which all is missing."""
_PUSH_S = 60.0
FOR_EMBEDDED = '{api_version: "2.3", allow_auto_create_topics: true}'
PUSHED, FILED, REFUSED = 12, 3, 2
"""Readings that come each way, and records that cannot be read."""
AT_THE_TOP = {
    "Sources that answer": 2, "Away": 1, "Given up": 1, "Kafka takes readings": 1, "Spool": 0, "Waiting": 0,
}  # fmt: skip
"""What the numbers are in the end."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A Prometheus, asked as of the moment when it had seen everything."""

    prometheus: PrometheusServer
    at_s: float

    def series(self, expr: str) -> list[Any]:
        """Return the series that ``expr`` had then."""
        return self.prometheus.series(expr, self.at_s)

    def values_of(self, expr: str, label: str) -> list[str]:
        """Return the values that a label has in the series of ``expr``."""
        return self.prometheus.values_of(expr, label)

    def numbers(self) -> dict[str, float]:
        """Return the numbers at the top, without those that there were not yet."""
        found = {}
        for panel in panels(load(INGEST)):
            if panel["type"] == "stat":
                (query,) = [query for query in QUERIES if query.kind == "panel" and query.title == panel["title"]]
                for series in self.series(query.filled(VALUES)):
                    found[panel["title"]] = float(series["value"][1])
        return found


def sources(push_port: int, files: Path, away: str, refusing: str) -> str:
    """Return two sources that bring readings, one whose peer is busy, and one whose peer refuses us."""
    return f"""\
  - {{name: pushed, kind: http, port: {push_port}, senders: [{{name: peer, token: {TOKEN}}}]}}
  - {{name: filed, kind: files, path: "{files}/*.jsonl", follow: true, every: 200ms, settle: 0s}}
  - {{name: busy, kind: usgs, url: "{away}", sites: [USGS-1], every: 1s}}
  - {{name: refusing, kind: usgs, url: "{refusing}", sites: [USGS-1], every: 1s}}
"""


def readings(entity: str, count: int, first: int = 0) -> str:
    """Return canonical readings of the last minutes, one a line."""
    begin_us = time.time_ns() // 1000 - 600_000_000
    return "".join(
        json.dumps({"entity": entity, "channel": "pm25", "time": to_text(begin_us + i * 1_000_000), "value": float(i)})
        + "\n"
        for i in range(first, first + count)
    )


def push(port: int, body: str) -> None:
    """Send it as somebody who may."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/readings",
        body.encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=_PUSH_S) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One that has scraped `vedette ingest` while Kafka was away and came, one peer was busy, and one refused."""
    folder = tmp_path_factory.mktemp("grafana-ingest")
    files = folder / "files"
    files.mkdir()
    push_port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        door = Door(broker.bootstrap_servers)
        stack.callback(door.shut)
        busy, refusing = ReplayServer(), ReplayServer()
        for server, reply in ((busy, busy_reply(503)), (refusing, page_reply("no key, no data", 403))):
            stack.callback(server.close)
            server.on("/*", reply)
            server.start()
        process = stack.enter_context(
            IngestProcess(
                folder, door.address, fresh("air"), sources(push_port, files, busy.url, refusing.url),
                settings=FOR_EMBEDDED, dead_letters=fresh("dead"),
            )
        )  # fmt: skip
        process.start()
        config = folder / "prometheus.yml"
        config.write_text(
            f"""
global: {{scrape_interval: 500ms}}
scrape_configs:
  - job_name: vedette-ingest
    static_configs: [{{targets: ["127.0.0.1:{process.port}"]}}]
""",
            encoding="utf-8",
        )
        watching = stack.enter_context(PrometheusServer(folder, config))
        wait_until(lambda: shown(process, "source_up", 1, source="pushed"), "it listens")
        first = readings("station-1", PUSHED)
        push(push_port, first)
        wait_until(lambda: shown(process, "spool_readings", PUSHED), "what was pushed waits for Kafka")
        door.open()
        push(push_port, first + "not readings\n" * REFUSED)
        (files / "one.jsonl").write_text(readings("station-2", FILED), encoding="utf-8")
        asked = Asked(watching, 0.0)

        def all_seen() -> bool:
            nonlocal asked
            time.sleep(_PAUSE_S)
            asked = Asked(watching, time.time() - _SETTLED_S)
            return seen(asked)

        wait_until(all_seen, "what came last was scraped twice")
        yield asked


def shown(process: IngestProcess, name: str, value: float, **labels: str) -> bool:
    """Return whether the process shows this, after a pause."""
    time.sleep(_PAUSE_S)
    return process.metric(name, **labels) == value


def seen(prometheus: Asked) -> bool:
    """Return whether all that happened was scraped, and each counter of it has two samples."""
    said = f"vedette_ingest_delivered_readings_total == {PUSHED + FILED} and vedette_ingest_spool_readings == 0"
    rejected = 'count_over_time(vedette_ingest_source_rejected_total{source="pushed"}[1m]) > 1'
    polls = f'count_over_time(vedette_ingest_source_events_total{{event=~"{PEERS_FAIL}"}}[1m]) > 1'
    others = f'count_over_time(vedette_ingest_source_events_total{{event!~"{PEERS_FAIL}|{SENT_BACK}"}}[1m]) > 1'
    scraped = all(prometheus.series(expr) for expr in (said, rejected, polls, others))
    return scraped and prometheus.numbers() == AT_THE_TOP


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_has_an_answer(prometheus: Asked, query: BoardQuery) -> None:
    """Protects from panels that stay empty, or that always say zero: asked of a Prometheus that scraped the process."""
    for asked in (query, query.without_zeros()):
        expr = asked.filled(VALUES)
        found = prometheus.values_of(expr, asked.label) if asked.label else prometheus.series(expr)
        assert found or query.name in MAY_BE_EMPTY, f"nothing for {expr}"


def test_every_metric_is_on_the_dashboard() -> None:
    """Protects from a metric that nobody looks at: whoever adds one says where it is seen."""
    asked = set().union(*(query.metrics() for query in QUERIES))
    assert {each["name"] for each in IngestMetrics().describe()} <= {name.removesuffix("_bucket") for name in asked}


def test_the_list_of_empty_answers_names_queries() -> None:
    """Protects the list from outliving what it excuses."""
    assert {query.name for query in QUERIES} >= MAY_BE_EMPTY.keys()


def test_the_numbers_at_the_top_are_true(prometheus: Asked) -> None:
    """Protects whoever has a minute: who answers, who does not, who was given up, and that nothing waits."""
    assert prometheus.numbers() == AT_THE_TOP


def test_what_was_counted_is_what_was_sent(prometheus: Asked) -> None:
    """Protects the truth of the curves: readings by source, repeats and refusals are what the peers gave."""
    for name, truth in (
        ("readings", {"pushed": PUSHED, "filed": FILED, "busy": 0, "refusing": 0}),
        ("repeats", {"pushed": PUSHED, "filed": 0, "busy": 0, "refusing": 0}),
        ("rejected", {"pushed": REFUSED}),
    ):
        found = prometheus.series(f"sum by (source) (vedette_ingest_source_{name}_total)")
        assert {each["metric"]["source"]: int(each["value"][1]) for each in found} == truth, name


def test_events_that_are_told_apart_are_counted_somewhere() -> None:
    """Protects the two panels of named events from an event that was renamed: such a panel stays at zero."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (FOLDER.parents[1] / "connectors").glob("*.py"))
    counted = set(re.findall(r'\bcount\("(\w+)"', source))
    assert {*PEERS_FAIL.split("|"), *SENT_BACK.split("|")} <= counted
