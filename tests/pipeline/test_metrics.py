"""Metrics count what happened, under bounded labels, and each is documented."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from connectors.base import RecordBlock, TopicPartition
from connectors.reading import Reason, Rejected
from pipeline.checkpoint_format import Unusable
from pipeline.incident import AlertMessage, Kind, Phase, Severity, Tier
from pipeline.live import Live
from pipeline.metrics import Metrics
from pipeline.metrics_entities import FAMILIES, EntityMetrics, exposition
from pipeline.status import NotReady

_README = Path(__file__).parents[2] / "README.md"


@dataclass
class Came:
    """What came of a block: as much of it as metrics look at."""

    slot: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


@dataclass
class Verdict:
    """What came of a step: as much of it as metrics look at."""

    score: Any
    warming: Any
    values: Any
    time_us: int = 0
    name: str = "air"


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def message(incident: str, phase: Phase, tier: Tier = Tier.WATCH) -> AlertMessage:
    return AlertMessage(
        incident, phase, 0, "air", "a", Kind.ANOMALY, "", "", tier, Severity.INFO,
        0, 0, 0, 0, None, None, None, "", {}, "", False, "", 0,
    )  # fmt: skip


def test_records_readings_and_dead_letters_are_counted_by_reason() -> None:
    """Protects the numbers that say whether data is lost."""
    metrics = Metrics()
    refused = [Rejected(Reason.INVALID_JSON, "", b""), Rejected(Reason.INVALID_JSON, "", b"")]
    block = RecordBlock("t", 3, [b""] * 5, np.arange(5), np.zeros(5, np.int64), 5)
    unit = [Rejected(Reason.UNIT_MISMATCH, "", b"")]
    metrics.saw("air", block, cast(Any, Came(rejected=refused)), cast(Any, Came([0, 1], unit)))
    metrics.late("air", 4)
    assert value(metrics, "vedette_records_consumed_total", topic="t", partition="3") == 5
    assert value(metrics, "vedette_readings_total", stream="air") == 2
    assert value(metrics, "vedette_readings_late_total", stream="air") == 4
    assert value(metrics, "vedette_dead_letters_total", stream="air", reason="invalid_json") == 2
    assert value(metrics, "vedette_dead_letters_total", stream="air", reason="unit_mismatch") == 1


def test_open_incidents_follow_their_life() -> None:
    """Protects the gauge: a watch that grows into an alert is one incident, said twice is once, ended is none."""
    metrics = Metrics()
    metrics.said([message("1", Phase.OPENED), message("1", Phase.OPENED), message("2", Phase.OPENED)])
    metrics.said([message("1", Phase.UPDATED, Tier.ALERT), message("2", Phase.CORRECTED), message("3", Phase.RESOLVED)])
    assert value(metrics, "vedette_open_incidents", stream="air", kind="anomaly", tier="watch") == 0
    assert value(metrics, "vedette_open_incidents", stream="air", kind="anomaly", tier="alert") == 1
    opened = {"stream": "air", "kind": "anomaly", "tier": "watch", "phase": "opened"}
    assert value(metrics, "vedette_alerts_total", **opened) == 3


def test_a_step_moves_the_watermark_and_its_lag() -> None:
    """Protects event-time lag: the clock against the newest closed step."""
    metrics = Metrics()
    step = Verdict(np.array([0.2, 1.5]), np.array([True, False]), np.zeros((2, 1)), time_us=90_000_000)
    metrics.stepped(cast(Any, step), cast(Any, step), cast(Any, step), [])
    metrics.ticked(100_000_000)
    assert value(metrics, "vedette_watermark_timestamp_seconds", stream="air") == 90
    assert value(metrics, "vedette_event_time_lag_seconds", stream="air") == 10
    assert value(metrics, "vedette_loop_tick_timestamp_seconds") == 100
    assert value(metrics, "vedette_entities", stream="air") == 2
    assert value(metrics, "vedette_entities_warming", stream="air") == 1
    assert value(metrics, "vedette_score_max", stream="air") == 1.5
    assert metrics.frames_closed() == {"air": 1}


def test_a_step_without_entities_is_counted_too() -> None:
    """Protects a stream that has heard of nobody yet."""
    metrics = Metrics()
    step = Verdict(np.zeros(0), np.zeros(0, bool), np.zeros((0, 1)))
    metrics.stepped(cast(Any, step), cast(Any, step), cast(Any, step), [])
    assert value(metrics, "vedette_score_max", stream="air") == 0


def test_partitions_that_left_leave_no_series_behind() -> None:
    """Protects against lag that looks stuck, and against labels without end."""
    metrics = Metrics()
    kept, gone = TopicPartition("t", 0), TopicPartition("t", 1)
    metrics.partitions({kept, gone})
    metrics.lag({kept: 5, gone: 7})
    metrics.partitions({kept})
    assert value(metrics, "vedette_consumer_lag_records", topic="t", partition="0") == 5
    assert value(metrics, "vedette_consumer_lag_records", topic="t", partition="1") is None
    assert value(metrics, "vedette_assigned_partitions") == 1
    assert value(metrics, "vedette_rebalances_total") == 2


def test_readiness_follows_the_loop() -> None:
    """Protects /readyz: joined and reachable is ready; an outage and a shutdown are not."""
    metrics = Metrics()
    assert metrics.status.reasons() == [NotReady.JOINING]
    metrics.partitions(set())
    metrics.source_reachable(True)
    assert metrics.status.reasons() == []
    assert value(metrics, "vedette_ready") == 1
    metrics.source_reachable(False)
    assert metrics.status.reasons() == [NotReady.SOURCE]
    assert value(metrics, "vedette_ready") == 0
    metrics.source_reachable(True)
    metrics.draining()
    assert metrics.status.reasons() == [NotReady.DRAINING]


def test_stages_add_up() -> None:
    """Protects the shares that benchmarks quote."""
    metrics = Metrics()
    metrics.stage("decode", 0.25)
    metrics.stage("decode", 0.5)
    metrics.stage("commit", 0.125)
    assert metrics.stage_seconds() == {"decode": 0.75, "commit": 0.125}
    assert value(metrics, "vedette_stage_seconds_total", stage="decode") == 0.75
    assert value(metrics, "vedette_commit_seconds_count") == 1


def test_checkpoints_models_and_suppressions() -> None:
    """Protects the remaining numbers that alert rules rest on."""
    metrics = Metrics()
    metrics.checkpointed(1000, 0.5)
    metrics.checkpoint_failed()
    metrics.checkpoint_unusable(Unusable.DAMAGED)
    metrics.model("air", "m1")
    metrics.model("air", "m2", previous="m1")
    metrics.so_far("air", 1, {"maintenance": 2}, False)
    metrics.so_far("air", 3, {"maintenance": 2}, True)
    assert value(metrics, "vedette_checkpoint_size_bytes") == 1000
    assert value(metrics, "vedette_checkpoint_errors_total") == 1
    assert value(metrics, "vedette_checkpoints_unusable_total", reason="damaged") == 1
    assert value(metrics, "vedette_model_info", stream="air", version="m1") is None
    assert value(metrics, "vedette_model_info", stream="air", version="m2") == 1
    assert value(metrics, "vedette_suppressed_total", stream="air", reason="maintenance") == 2
    assert value(metrics, "vedette_revisions_total", stream="air") == 3
    assert value(metrics, "vedette_circuit_breaker_open", stream="air") == 1


def test_two_daemons_in_a_process_do_not_mix() -> None:
    """Protects tests and the demo: nothing goes into a global registry."""
    one, other = Metrics(), Metrics(CollectorRegistry())
    one.late("air", 1)
    assert value(other, "vedette_readings_late_total", stream="air") is None


def test_every_metric_described_is_exposed_and_the_other_way_round() -> None:
    """Protects `describe` from drifting away from what Prometheus sees."""
    metrics = Metrics()
    text = exposition(metrics.registry, EntityMetrics(Live(), metrics.registry)).decode()
    exposed = set(re.findall(r"^# TYPE (vedette_\w+) (\w+)$", text, re.MULTILINE))
    known = {(description.name, description.type) for description in metrics.describe()}
    assert {(name, kind) for name, kind in exposed if not name.endswith("_created")} == known


def test_labels_are_about_entities_only_where_their_number_is_bounded() -> None:
    """Protects Prometheus from one series per sensor."""
    allowed = {"stream", "topic", "partition", "reason", "kind", "tier", "phase", "stage", "version"} | {
        "signal", "role", "outcome", "receiver", "address", "cause"
    }  # fmt: skip
    bounded = {name for name, _, _ in FAMILIES}
    for description in Metrics().describe():
        single = {"entity", "channel", "site"} if description.name in bounded else set()
        assert set(description.labels) <= allowed | single


def test_an_incident_counts_once_when_it_becomes_an_alert() -> None:
    """Protects the rule on the budget: it rests on incidents, not on how often they were told of."""
    metrics = Metrics()
    metrics.said([message("a", Phase.OPENED, Tier.ALERT), message("b", Phase.OPENED, Tier.WATCH)])
    assert value(metrics, "vedette_incidents_alerted_total", stream="air", kind="anomaly") == 1
    metrics.said([message("a", Phase.UPDATED, Tier.ALERT), message("b", Phase.UPDATED, Tier.ALERT)])
    metrics.said([message("a", Phase.RESOLVED, Tier.ALERT), message("b", Phase.RESOLVED, Tier.ALERT)])
    metrics.said([message("from before a restart", Phase.UPDATED, Tier.ALERT)])
    assert value(metrics, "vedette_incidents_alerted_total", stream="air", kind="anomaly") == 2


def test_a_step_is_timed_and_so_is_its_delay() -> None:
    """Protects latency panels: a step's time is that of its own stages, its delay counts from its end."""
    metrics = Metrics()
    calm = cast(Any, Verdict(np.zeros(1), np.zeros(1, bool), np.zeros((1, 1)), 40_000_000))
    metrics.ticked(100_000_000)
    for seconds in (0.2, 0.3):
        metrics.stage("predict", seconds)
        metrics.stage("commit", 9.0)
        metrics.stepped(calm, calm, calm, [])
    assert value(metrics, "vedette_step_seconds_sum", stream="air") == pytest.approx(0.5)
    assert value(metrics, "vedette_step_seconds_bucket", stream="air", le="0.25") == 1
    assert value(metrics, "vedette_step_delay_seconds_sum", stream="air") == 120.0


def test_what_has_not_happened_yet_is_zero_and_not_absent() -> None:
    """Protects alert rules: a counter that appears with its first count has not increased, for Prometheus."""
    metrics = Metrics()
    metrics.models.configured("air", 600.0, 0.1)
    assert value(metrics, "vedette_training_jobs_total", stream="air", outcome="failed") == 0
    assert value(metrics, "vedette_history_dropped_total", stream="air") == 0
    assert value(metrics, "vedette_stream_step_seconds", stream="air") == 600
    assert value(metrics, "vedette_alert_budget_per_day", stream="air") == 0.1


def test_the_readme_documents_every_metric() -> None:
    """Protects whoever builds a dashboard: the README's table is the code's."""
    text = _README.read_text(encoding="utf-8")
    section = re.search(r"^##+ Metrics\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        pytest.skip("the README has no section Metrics yet")
    rows = re.findall(r"^\| `(vedette_\w+)` \| (\w+) \|", section[1], re.MULTILINE)
    assert sorted(rows) == [(description.name, description.type) for description in Metrics().describe()]
