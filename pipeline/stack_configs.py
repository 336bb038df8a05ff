"""The files that the stack's servers read: Vedette's own, and ours in ``deploy/`` with the ports of this stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.stack_stations import STEP_S, STEPS_A_DAY, Tape

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "vedette.rules.yml"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
ALERTS_TOPIC, DEAD_LETTERS_TOPIC = "vedette.alerts", "vedette.dead_letters"
_DAY_S = STEPS_A_DAY * STEP_S
"""Of the stations. What an operator would say in hours and days is said in this measure."""
_HOUR_S = _DAY_S // 24
_SCRAPE = "5s"
"""A step's length: every step is to be seen."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen on loopback."""

    kafka: int = 9092
    vedette: int = 9464
    prometheus: int = 9090
    alertmanager: int = 9093


def vedette_config(
    ports: Ports, state: Path, bootstrap_servers: str, settings: Mapping[str, Any], played: Sequence[Tape], told: bool
) -> str:
    """Return Vedette's YAML: the demo's streams with their times in the stations' measure.

    Args:
        ports: where everything listens.
        state: the directory of everything that is kept.
        bootstrap_servers: of the broker.
        settings: kafka-python's own for it.
        played: what the stations send.
        told: whether there is an Alertmanager to be told.
    """
    receiver = {
        "name": "alertmanager",
        "kind": "alertmanager",
        "urls": [f"http://127.0.0.1:{ports.alertmanager}"],
        "tier": "watch",
    }
    document = {
        "kafka": {"bootstrap_servers": bootstrap_servers, "group": "vedette-stack", "settings": dict(settings)},
        "outputs": {
            "alerts_topic": ALERTS_TOPIC,
            "dead_letter_topic": DEAD_LETTERS_TOPIC,
            "alerts_file": str(state.parent / "alerts.jsonl"),
            "receivers": [receiver] if told else [],
        },
        "http": {"port": ports.vedette},
        "state": str(state),
        "history": {"flush": "10s", "retention": "2d"},
        "streams": [_stream(tape) for tape in played],
    }
    return "# Written by `make stack`: one daemon, one file.\n" + yaml.safe_dump(document, sort_keys=False, width=120)


def _stream(tape: Tape) -> dict[str, Any]:
    series = tape.series
    channels: list[dict[str, Any]] = [
        {"name": name, "unit": unit} for name, unit in zip(series.channels, series.units, strict=True)
    ]
    for channel in channels:
        if channel["name"] in tape.limits:
            channel["limits"] = [{"name": f"{channel['name']}-limit", "above": tape.limits[channel["name"]]}]
    neighbours = {"k": 3} if len(series.entities) > 2 else {}
    return {
        "name": series.stream,
        "topics": [series.stream],
        "step": f"{STEP_S}s",
        "grace": "1s",
        "idle_timeout": f"{3 * STEP_S}s",
        "silence_after": f"{_HOUR_S}s",
        "budget": f"1 per {30 * _DAY_S}s",
        "horizons": [1, 2, 3, 6],
        "channels": channels,
        "model": {
            "attention": {"seasonal_lags": [f"{_DAY_S}s", f"{7 * _DAY_S}s"]},
            "neighbours": neighbours,
        },
        "retrain": {"every": "1h", "jitter": "0s", "on_drift": False, "probation": f"{2 * _DAY_S}s"},
        "alerts": {
            "cooldown": f"{_HOUR_S}s",
            "max_duration": f"{2 * _DAY_S}s",
            "flap": {"times": 4, "within": f"{6 * _HOUR_S}s"},
        },
    }


def prometheus_config(ports: Ports) -> str:
    """Return ``deploy/prometheus/prometheus.yml`` with this stack's ports, at a pace that fits its stations.

    Its stations write to Kafka themselves, so there is no ingest process to ask.
    """
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    document["global"] |= {"scrape_interval": _SCRAPE, "scrape_timeout": _SCRAPE, "evaluation_interval": _SCRAPE}
    document["rule_files"] = [str(RULES)]
    at = {"vedette": ports.vedette, "prometheus": ports.prometheus}
    document["scrape_configs"] = [job for job in document["scrape_configs"] if job["job_name"] in at]
    for job in document["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{at[job['job_name']]}"]}]
    document["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{ports.alertmanager}"]}]}]
    return yaml.safe_dump(document, sort_keys=False)
