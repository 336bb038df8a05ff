"""How long a receiver is left alone after a failure, and what Alertmanager is told of an incident."""

from __future__ import annotations

import doctest
import json
import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import http_post, webhook
from connectors.alertmanager import encode_alerts
from pipeline import alertmanager_alerts, couriers, delivering
from pipeline.alertmanager_alerts import AlertWriter, summary
from pipeline.delivering import back_off_s, put_off_us
from pipeline.incident import AlertMessage, Phase
from tests.pipeline.alert_parts import START_US, message
from tests.pipeline.test_incident import MESSAGES

FAR_US = 253_000_000_000_000_000
WRITER = AlertWriter("https://console.example/", 300_000_000)


@pytest.mark.parametrize("module", [http_post, webhook, alertmanager_alerts, couriers, delivering])
def test_examples_are_true(module: ModuleType) -> None:
    """Protects the docstrings' examples."""
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 3600))
def test_waits_are_bounded(failures: int, chance: float, asked_s: float) -> None:
    """Protects a receiver from being hammered, and messages from waiting for ever."""
    wait_s = back_off_s(failures, 1.0, 60.0, chance, asked_s)
    assert max(asked_s, 0.5) <= wait_s <= max(asked_s, 60.0)
    assert 1_000_000 <= put_off_us(failures, 0) <= 60_000_000


@given(MESSAGES, st.integers(-FAR_US // 10, FAR_US))
def test_any_message_becomes_an_alert(said: AlertMessage, now_us: int) -> None:
    """Protects alerts from names, texts and times that Alertmanager would refuse: what it has to be is checked."""
    (alert,) = json.loads(encode_alerts([WRITER.write(said, now_us)]))
    assert all(isinstance(value, str) and 0 < len(value) <= 500 for value in alert["labels"].values())
    assert alert["labels"]["alertname"].isalpha()
    assert all(isinstance(value, str) and len(value) <= 2_000 for value in alert["annotations"].values())
    assert alert["generatorURL"] == f"https://console.example/incidents/{said.incident_id}"
    whole = WRITER.write(said, now_us)
    assert set(whole.labels) == {
        "alertname", "stream", "entity", "site", "kind", "name", "tier", "severity", "incident",
    }  # fmt: skip


def test_an_alert_is_over_when_the_incident_is() -> None:
    """Protects from alerts that end before they began, or that a clock running ahead keeps firing."""
    now_us = START_US + 3_600_000_000
    firing = WRITER.write(message(0), now_us)
    assert (firing.starts, firing.ends) == ("2026-03-01T23:59:00Z", "2026-03-02T01:05:00Z")
    over = WRITER.write(message(0, 1, phase=Phase.RESOLVED, resolved_us=START_US + 60_000_000), now_us)
    assert (over.labels, over.starts, over.ends) == (firing.labels, firing.starts, "2026-03-02T00:01:00Z")
    ahead = WRITER.write(message(0, 1, phase=Phase.CORRECTED, resolved_us=now_us + 10**12), now_us)
    assert ahead.ends == "2026-03-02T01:00:00Z"
    begun_ahead = WRITER.write(message(0, 1, phase=Phase.RESOLVED, resolved_us=START_US), START_US - 10**9)
    assert begun_ahead.starts == begun_ahead.ends


def test_what_is_observed_is_said_where_there_is_something() -> None:
    """Protects from annotations that say nothing: limits have one channel, anomalies several, silence none."""
    limit = {"channel": "no2", "limit": "alert threshold", "observed": 412.0, "lower": 10.0, "upper": 60.5}
    said = WRITER.write(message(0, explanation=limit), START_US).annotations
    assert (said["observed"], said["expected"]) == ("NO2 412", "NO2 10 to 60.5")
    nothing = {"channel": None, "silent_since": "x"}
    assert {"observed", "expected"}.isdisjoint(WRITER.write(message(0, explanation=nothing), START_US).annotations)
    hostile = {
        "channels": [{"channel": 3}, "x", {"channel": "a\n<b>", "observed": True, "lower": "x", "upper": math.pi}]
    }
    assert {"observed", "expected"}.isdisjoint(WRITER.write(message(0, explanation=hostile), START_US).annotations)


def test_a_summary_is_a_sentence() -> None:
    """Protects notifications from essays, and numbers from being taken for ends of sentences."""
    assert summary("PM2.5 is 182 µg/m³. It looked at 2 h before.") == "PM2.5 is 182 µg/m³."
    assert summary("No end") == "No end"
    assert len(summary("x" * 5_000)) == 300
