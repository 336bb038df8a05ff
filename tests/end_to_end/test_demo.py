"""The demo as a newcomer runs it: the real daemon, the embedded broker, training in the run, what was found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo_data import demo_streams
from pipeline.found import Raised, reckon
from pipeline.incident import decode
from pipeline.planted import FaultKind


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that a demo left."""
    out = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "demo", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "What was found" in done.stdout
    return out


@pytest.fixture(scope="module")
def said(demo: Path) -> dict[str, list[Any]]:
    """Return the alert messages of the run by incident, as the file of alerts has them."""
    incidents: dict[str, list[Any]] = {}
    for line in (demo / "alerts.jsonl").read_bytes().splitlines():
        message = decode(line)
        incidents.setdefault(message.incident_id, []).append(message)
    return incidents


def raised(said: dict[str, list[Any]]) -> list[Raised]:
    """Return the incidents as the reckoning needs them."""
    return [
        Raised(
            id=incident,
            stream=messages[0].stream,
            entity=messages[0].entity,
            kind=str(messages[0].kind),
            opened_us=messages[0].opened_us,
            alert=any(m.tier.name == "ALERT" for m in messages),
            told_us=tuple(m.time_us for m in messages if m.phase == "updated"),
        )
        for incident, messages in said.items()
    ]


def test_every_incident_opens_once_and_gives_its_reason(said: dict[str, list[Any]]) -> None:
    """Protects the promise of the first screen: alerts that explain themselves, each said to open once."""
    for messages in said.values():
        assert [m.phase for m in messages].count("opened") == 1
        assert all(m.reason for m in messages)


def test_the_real_water_events_are_raised_and_its_gaps_are_silences(said: dict[str, list[Any]]) -> None:
    """Protects the detection on the one real series: 3 of 4 documented events, every gap, at most 3 other anomalies."""
    truths = [fault for s in demo_streams() if s.series.stream == "water" for fault in s.truths]
    found = reckon([r for r in raised(said) if r.stream == "water"], truths)
    documented = [v for v in found.verdicts if v.fault.kind is FaultKind.DOCUMENTED]
    gaps = [v for v in found.verdicts if v.fault.kind is FaultKind.GAP]
    credited = {v.by.id for v in documented if v.by is not None}
    others = [r for r in raised(said) if r.stream == "water" and r.kind == "anomaly" and r.id not in credited]
    assert sum(v.found for v in documented) >= 3
    assert all(v.found for v in gaps)
    assert len(others) <= 3


def test_the_planted_faults_are_found_within_the_budget(said: dict[str, list[Any]]) -> None:
    """Protects what is promised of faults: every kind found, nine in ten, false alerts at most twice the budget."""
    streams = [s for s in demo_streams() if s.series.simulated]
    result = reckon([r for r in raised(said) if r.stream != "water"], [f for s in streams for f in s.truths])
    promised = 0.0
    for s in streams:
        days = (len(s.series.times_us) - s.first_scored_step) * s.series.step_s / 86_400
        promised += len(s.series.entities) * days / 30
    assert not result.missed_kinds
    assert result.found >= 0.9 * len(result.verdicts)
    assert len(result.false_alerts) <= 2 * promised


def test_the_report_holds_bands_incidents_and_attention(demo: Path) -> None:
    """Protects the page that people look at: it carries the run's data, not just its frame."""
    page = (demo / "report.html").read_text(encoding="utf-8")
    begin = page.index('type="application/json"')
    data = json.loads(page[page.index(">", begin) + 1 : page.index("</script>", begin)])
    assert {s["name"] for s in data["streams"]} == {"water", "air", "events"}
    assert any(i["moment"] and i["moment"]["attention"] for i in data["incidents"])
