"""Grafana's dashboards are what the code makes of them, and every query of theirs has an answer."""

from __future__ import annotations

import doctest
import itertools
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from deploy.grafana import generate, preview_asking, preview_units, promql
from pipeline.ingest.metrics import IngestMetrics
from pipeline.metrics import Metrics
from pipeline.metrics_entities import FAMILIES
from tests.deploy.board_queries import DASHBOARDS, FOLDER, INGEST, BoardQuery, load, panels, queries
from tests.deploy.prometheus_server import PrometheusServer
from tests.deploy.shown_daemon import shown_daemon
from tests.end_to_end.kafka_parts import wait_until
from tests.end_to_end.retraining_parts import STATIONS, STREAM, Monitor

QUERIES = [query for path in DASHBOARDS if path != INGEST for query in queries(path)]
"""Those that a daemon answers; the others are in test_grafana_ingest.py."""
OF_OTHERS = {
    "ALERTS": {"alertname", "alertstate"},
    "process_resident_memory_bytes": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_open_fds": set[str](),
    "process_max_fds": set[str](),
    "process_start_time_seconds": set[str](),
}
"""Metrics of Prometheus itself and of its client library."""
EVERYWHERE = {"instance", "job", "le"}
"""Labels that Prometheus adds."""
MAY_BE_EMPTY = {
    "overview/annotation/Alerts of the watch itself/": "no rule fires while all is well",
    "entity/annotation/Watches/": "the planted fault is an alert, so it is no watch",
    "models/panel/Largest score: champion and challenger/B": "a challenger runs only where retrain.shadow is set",
    "models/annotation/Swaps/": "a mark is there only where the counter changed within the interval",
    "models/annotation/Rollbacks/": "nothing was given up",
    "daemon/annotation/Restarts/": "the daemon started once",
}
"""Queries that have no answer while all goes as it should, and why; each still has to be one that Prometheus takes."""
SETTLED_S = 2.0
"""So long ago every scrape has ended, also one that was given up, after which all series are missing for a moment."""
PAUSE_S = 0.1
FED = 520
"""Steps, of ten minutes, that the model learns from."""
SHIFTED = STATIONS[0]
VALUES = {
    "entity": SHIFTED,
    "channel": ".*",
    "instance": ".*",
    "__rate_interval": "30s",
    "__interval": "5s",
    "__range": "1h",
}
"""What Grafana would put in for each variable, but for the stream."""
FROM_LABELS = re.compile(r"\$\{[\w.]*?(stream|entity|source):percentencode\}", re.IGNORECASE)
FILLED = {"stream": STREAM, "Stream": STREAM, "entity": SHIFTED, "Entity": SHIFTED, "source": "pushed"}


def test_the_generated_files_are_those_of_the_code(tmp_path: Path) -> None:
    """Protects from dashboards changed by hand, or code whose files were not made anew."""
    generate.main(tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json")}
    assert made == {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS}


@pytest.mark.parametrize("module", [promql, preview_asking, preview_units], ids=lambda module: module.__name__)
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    """Protects readers of the builders: what they show is what they make."""
    done = doctest.testmod(module)
    assert done.attempted
    assert done.failed == 0


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side_and_say_what_they_show(path: Path) -> None:
    """Protects the eye: no panel covers another or leaves the grid, each has words, a unit and a source."""
    board = load(path)
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        mine = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not mine & cells, f"{panel['title']} covers another panel"
        cells |= mine
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_dashboards_lead_to_each_other_and_to_the_console() -> None:
    """Protects from dead ends: each dashboard is linked by its tag, and links within name dashboards that there are."""
    boards = [load(path) for path in DASHBOARDS]
    uids = {board["uid"] for board in boards}
    for board in boards:
        assert {link["title"] for link in board["links"]} == {"Vedette", "Console"}
        assert "vedette" in board["tags"]
        assert {"datasource", "console"} <= {variable["name"] for variable in board["templating"]["list"]}
        for panel in panels(board):
            for link in links_of(panel):
                place = link["url"].partition("?")[0]
                assert place.removeprefix("/d/") in uids or place.startswith("${console}/"), link["url"]


def test_every_metric_and_label_exists() -> None:
    """Protects queries that answer zero by ``or`` from asking for what nobody exposes."""
    known = {d.name: set(d.labels) for d in Metrics().describe()}
    known |= {name: set(labels) for name, labels, _ in FAMILIES} | OF_OTHERS
    known |= {each["name"]: set(each["labels"]) for each in IngestMetrics().describe()}
    known |= {f"{name}_bucket": labels for name, labels in known.items()}
    for query in (query for path in DASHBOARDS for query in queries(path)):
        unknown = query.metrics() - known.keys()
        assert query.metrics(), query.name
        assert not unknown, f"{query.name} asks for {unknown}"
        labels = set().union(*(known[name] for name in query.metrics())) | EVERYWHERE
        assert query.labels() <= labels, f"{query.name} names {query.labels() - labels}"


def test_the_list_of_empty_answers_names_queries() -> None:
    """Protects the list from outliving what it excuses."""
    assert {query.name for query in QUERIES} >= MAY_BE_EMPTY.keys()


def test_what_is_provisioned_fits_together() -> None:
    """Protects from a Grafana that starts without source or dashboards."""
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8"))
    providers = yaml.safe_load((FOLDER / "provisioning/dashboards/vedette.yaml").read_text(encoding="utf-8"))
    assert [source["type"] for source in sources["datasources"] if source.get("isDefault")] == ["prometheus"]
    assert [provider["options"]["path"] for provider in providers["providers"]] == ["/etc/grafana/dashboards"]


@dataclass(frozen=True, slots=True)
class World:
    """A daemon that has trained, swapped its model, and seen a station go wrong, and who asks it."""

    prometheus: PrometheusServer
    seen_s: float
    """When it had seen all that; what is asked is asked as of then."""
    console: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prometheus that has scraped a daemon while it lived through something."""
    folder = tmp_path_factory.mktemp("grafana")
    with shown_daemon(folder) as (monitor, port):
        config = folder / "prometheus.yml"
        config.write_text(
            f"""
global: {{scrape_interval: 500ms, evaluation_interval: 1s}}
scrape_configs:
  - job_name: vedette
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""",
            encoding="utf-8",
        )
        with PrometheusServer(folder, config) as prometheus:
            lived(monitor)
            seen_s = time.time()

            def all_seen() -> bool:
                nonlocal seen_s
                time.sleep(PAUSE_S)
                seen_s = time.time() - SETTLED_S
                return seen(prometheus, seen_s)

            wait_until(all_seen, "what came last was scraped twice")
            yield World(prometheus, seen_s, f"http://127.0.0.1:{port}")


def lived(monitor: Monitor) -> None:
    """Let a model be trained and take charge, and one station jump."""
    for _ in range(3):  # so little to learn from is just enough, or not: then what came meanwhile and as much again is
        monitor.feed(FED)
        assert monitor.http(f"/api/train?stream={STREAM}", "POST")["accepted"]
        monitor.feed_through_job()
        if monitor.metric("training_jobs_total", outcome="promoted") == 1:
            break
    monitor.feed_until(lambda: monitor.metric("model_swaps_total") == 1, "the model is in charge")
    ordinary = monitor.stations.step
    jump = np.zeros((len(STATIONS), 1))
    jump[0] = 200.0
    monitor.stations.step = lambda: ordinary() + jump  # type: ignore[method-assign]
    monitor.feed_until(lambda: monitor.metric("open_incidents", kind="anomaly", tier="alert") > 0, "an alert is open")


def seen(prometheus: PrometheusServer, at_s: float) -> bool:
    """Return whether the open incident had been scraped by then, and counters that it brought had two samples."""
    opened = f'vedette_alerts_total{{stream="{STREAM}", phase="opened", tier="alert"}}'
    counters = [opened, "vedette_receiver_delivered_total", "vedette_receiver_delay_seconds_count"]
    twice = [f"count_over_time({counter}[1m]) > 1" for counter in counters]
    return all(prometheus.series(expr, at_s) for expr in ["vedette_incident == 2", *twice])


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_has_an_answer(world: World, query: BoardQuery) -> None:
    """Protects from panels that stay empty: Prometheus takes the query, and has an answer from a daemon that lives."""
    expr = query.filled(VALUES | {"stream": STREAM if query.board == "entity" else ".*"})
    asked = world.prometheus
    found = asked.values_of(expr, query.label) if query.label else asked.series(expr, world.seen_s)
    assert found or query.name in MAY_BE_EMPTY, f"nothing for {expr}"


def test_every_link_to_the_console_leads_to_a_page(world: World) -> None:
    """Protects the way from a curve to its reasons: each link is opened, with the entity that went wrong filled in."""
    urls = {link["url"] for path in DASHBOARDS for panel in panels(load(path)) for link in links_of(panel)}
    wanted = {url.removeprefix("${console}") for url in urls if url.startswith("${console}")}
    assert len(wanted) >= 4
    for url in wanted:
        names = FROM_LABELS.sub(lambda match: FILLED[match[1]], url)
        assert "$" not in names, url
        with urllib.request.urlopen(world.console + names, timeout=60) as answer:
            page = answer.read().decode()
        assert answer.headers.get_content_type() == "text/html"
        if "entity=" in names:
            assert SHIFTED in page, names


def links_of(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the links of a panel's values."""
    links: list[dict[str, Any]] = panel["fieldConfig"]["defaults"].get("links", [])
    return links
