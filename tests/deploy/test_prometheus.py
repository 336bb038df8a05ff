"""What Prometheus is given is sound: configuration, rules, and for every alert a test and a section of the runbook."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from pipeline.exit_codes import OK
from pipeline.ingest.metrics import IngestMetrics
from pipeline.live import Live
from pipeline.metrics import Metrics
from pipeline.metrics_entities import FAMILIES, EntityMetrics, exposition
from tests.deploy.board_queries import DASHBOARDS, load, panels
from tests.pipeline.daemon_parts import Rig, blocks_of, wandering
from tests.pipeline.live_parts import live_step
from tests.prometheus_server import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "vedette.rules.yml"
RULE_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.test.yml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALL_RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}


def checked(*arguments: str, text: str | None = None) -> None:
    """Run a tool and fail with what it says if it finds anything."""
    done = subprocess.run(
        [tool(arguments[0]), *arguments[1:]], input=text, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def test_the_configurations_are_what_the_servers_take() -> None:
    """Protects whoever starts Prometheus and Alertmanager with them from an error at the start."""
    checked("promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    checked("amtool", "check-config", str(DEPLOY / "alertmanager" / "alertmanager.yml"))


def test_the_rules_are_sound_and_none_is_there_twice() -> None:
    """Protects from rules that Prometheus refuses, which takes all of them away."""
    checked("promtool", "check", "rules", "--lint-fatal", str(RULES))
    names = [rule.get("alert") or rule["record"] for rule in ALL_RULES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name.removesuffix(".test.yml"))
def test_each_alert_fires_when_it_should_and_only_then(path: Path) -> None:
    """Protects operators from alerts that never fire, or always."""
    checked("promtool", "test", "rules", str(path))


def test_each_alert_is_tested_both_ways() -> None:
    """Protects from an alert that nobody tried, or whose test only shows that it is silent."""
    fires: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                fires[case["alertname"]].add(bool(case["exp_alerts"]))
    assert {name: both for name, both in fires.items() if both != {True, False}} == {}


def test_each_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    """Protects whoever is woken: a summary, a description, a severity, and a section of the runbook of that name."""
    for name, rule in ALERTS.items():
        assert name.startswith("Vedette")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"]["runbook_url"] == f"runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert() -> None:
    """Protects the links in alerts from leading nowhere, and the runbook from alerts that are gone."""
    runbook = DEPLOY / "runbook.md"
    if not runbook.exists():
        pytest.skip("there is no runbook yet")
    sections = set(re.findall(r"^#+ (Vedette[A-Z]\w+)$", runbook.read_text(encoding="utf-8"), re.MULTILINE))
    assert sections == set(ALERTS)


def test_the_runbook_names_panels_and_pages_that_there_are() -> None:
    """Protects whoever reads it at night from looking for a panel that was renamed: all names in italics exist."""
    boards = [load(path) for path in DASHBOARDS]
    known = {panel["title"] for board in boards for panel in panels(board)} | {board["title"] for board in boards}
    text = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", text))
    assert len(named) > 20
    assert named <= known | ALERTS.keys() | {"Models", "Now", "System"}  # the last are pages of the console


def test_rules_ask_for_metrics_and_labels_that_there_are() -> None:
    """Protects rules from a metric that was renamed: such a rule never fires, and nothing says so."""
    labels = {description.name: set(description.labels) for description in Metrics().describe()}
    labels |= {name: set(of) for name, of, _ in FAMILIES}
    labels |= {each["name"]: set(each["labels"]) for each in IngestMetrics(CollectorRegistry()).describe()}
    recorded = {rule["record"] for rule in ALL_RULES if "record" in rule}
    for rule in ALL_RULES:
        for name in re.findall(r"\bvedette[_:][\w:]+", rule["expr"]):
            assert name in labels or name in recorded, f"{name} in {rule}"
        for name, matchers in re.findall(r"\b(vedette_\w+)\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= labels[name], f"{name}{{{matchers}}}"


def test_both_processes_say_when_they_started() -> None:
    """Protects the rule on restarts, which finds its processes by job: one that does not say so never fires it."""
    for registry in (Metrics().registry, IngestMetrics().registry):
        assert registry.get_sample_value("process_start_time_seconds")


def test_every_metric_is_named_and_described_as_promtool_wants_it() -> None:
    """Protects users' conventions: units, _total, help; over all metrics of both processes, used or not."""
    lines = []
    ingest = [(each["name"], each["type"], each["labels"], each["help"]) for each in IngestMetrics().describe()]
    for name, kind, labels, text in [*Metrics().describe(), *ingest]:
        label = ",".join(f'{each}="x"' for each in labels)
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        if kind == "histogram":
            bucket = label and label + ","
            lines += [f'{name}_bucket{{{bucket}le="+Inf"}} 1', f"{name}_sum{{{label}}} 1", f"{name}_count{{{label}}} 1"]
        else:
            lines.append(f"{name}{{{label}}} 1")
    checked("promtool", "check", "metrics", text="\n".join(lines) + "\n")


def test_what_a_daemon_answers_is_what_promtool_wants() -> None:
    """Protects the whole answer of /metrics, entities with hostile names among it."""
    rig = Rig(blocks_of(wandering(3, 6)))
    rig.turns(20)
    live = Live()
    live.stepped(live_step(1, ["a", 'quo"te', "new\nline", "back\\", "nul\0", "\ud800"], [[1.0, 2.0]] * 6))
    entities = EntityMetrics(live, rig.metrics.registry)
    checked("promtool", "check", "metrics", text=exposition(rig.metrics.registry, entities).decode())


def test_buckets_grow_evenly_enough_to_tell_quantiles() -> None:
    """Protects latency panels: a quantile read from a histogram is wrong by as much as its buckets are apart."""
    rig = Rig(blocks_of(wandering(3, 6)))
    assert rig.daemon.run() == OK
    bounds: dict[str, list[float]] = {}
    for sample in (sample for family in rig.metrics.registry.collect() for sample in family.samples):
        if sample.name.endswith("_bucket") and sample.labels["le"] != "+Inf":
            bounds.setdefault(sample.name, []).append(float(sample.labels["le"]))
    assert len(bounds) >= 3
    for name, of in bounds.items():
        assert len(of) >= 10, name
        assert max(high / low for low, high in pairwise(of)) <= 6.0, name
