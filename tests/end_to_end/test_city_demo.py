"""The demo of a city, with fewer days: real protocols, a real ingest process, the real daemon, and what is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import cli
from pipeline.city_scene import PLACES, city
from pipeline.exit_codes import UNAVAILABLE, USAGE
from pipeline.incident import AlertMessage, decode
from tests.mosquitto_server import mosquitto

_DAYS, _SEED = 11, 0


@dataclass(frozen=True)
class Left:
    """What a run left."""

    text: str
    messages: list[AlertMessage]
    folder: Path


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Run the demo once."""
    mosquitto()  # or skip
    out = tmp_path_factory.mktemp("city")
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--site", "city", "--out", str(out)]
    done = subprocess.run(
        [*command, "--days", str(_DAYS), "--seed", str(_SEED)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-3000:]
    messages = [decode(line) for line in (out / "alerts.jsonl").read_bytes().splitlines()]
    return Left(done.stdout, messages, out)


def leading(message: AlertMessage, n: int) -> list[tuple[str, int]]:
    """Return the channels with the largest shares, and on which side of the expected they lie."""
    channels: Any = message.explanation.get("channels", [])
    channels = sorted(channels, key=lambda entry: -entry["share"])
    return [(entry["channel"], entry["sign"]) for entry in channels[:n]]


def test_the_blocked_road_is_raised_with_vehicles_and_no2(left: Left) -> None:
    """Protects the reason for joining sources: one incident at that place, explained by a camera and an air monitor."""
    blocked = city(_DAYS, _SEED).road_blocked()
    raised = [
        message
        for message in left.messages
        if message.kind == "anomaly"
        and message.entity == blocked.entity
        and blocked.start_us <= message.opened_us <= blocked.end_us
    ]
    assert len({message.incident_id for message in raised}) == 1
    assert any(message.tier.name == "ALERT" for message in raised)
    named = {channel: sign for message in raised for channel, sign in leading(message, 3)}
    assert named["car"] == -1
    assert named["no2"] == -1


def test_every_count_at_the_sources_is_on_the_topics(left: Left) -> None:
    """Protects the way in: MQTT, a fetch after the cut of the broker, HTTP push and pages lose and change nothing."""
    rows = re.findall(r"│ (cameras|air|river): [a-z ]+│\s+([\d,]+) │\s+([\d,]+) │\s+([\d,]+) │", left.text)
    assert [source for source, *_ in rows] == ["cameras", "air", "river"]
    for source, said, there, differ in rows:
        assert said == there, source
        assert differ == "0", source
        assert int(said.replace(",", "")) > 1000, source
    cut = re.search(r"broker cut: ([\d,]+) of ([\d,]+) objects came from Frigate's database", left.text)
    assert cut is not None
    assert cut[1] == cut[2] != "0"


def test_a_camera_without_a_picture_counts_nothing_and_raises_no_anomaly(left: Left) -> None:
    """Protects honesty: what nobody saw is missing and not zero, so it is no fall of the traffic."""
    assert re.search(
        r"camera without a picture: [1-9][\d,]* readings say that they are missing, none of them 0", left.text
    )
    scene = city(_DAYS, _SEED)
    first_us, last_us = scene.span_us(scene.dark)
    within = [m for m in left.messages if m.entity == PLACES[-1] and first_us <= m.opened_us <= last_us]
    assert not [m for m in within if m.kind == "anomaly" and m.tier.name == "ALERT"]


def test_the_report_shows_both_streams(left: Left) -> None:
    """Protects the page that people look at."""
    page = (left.folder / "report.html").read_text(encoding="utf-8")
    begin = page.index('type="application/json"')
    data = json.loads(page[page.index(">", begin) + 1 : page.index("</script>", begin)])
    assert {s["name"] for s in data["streams"]} == {"city", "river"}
    assert any(known["kind"] == "road_blocked" for s in data["streams"] for e in s["entities"] for known in e["known"])


def test_without_a_broker_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects whoever has no mosquitto and cannot get it: a sentence and an exit code, no trace of a program."""
    monkeypatch.setattr("pipeline.city_broker.program", lambda name: None)
    assert cli.main(["demo", "--site", "city", "--out", str(tmp_path)]) == UNAVAILABLE
    assert "install Debian's package mosquitto" in " ".join(capsys.readouterr().out.split())


def test_too_few_days_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the promise of the demo: a network that has nothing to learn from finds nothing."""
    assert cli.main(["demo", "--site", "city", "--out", str(tmp_path), "--days", "10"]) == USAGE
    assert "allowed: 11" in capsys.readouterr().out


def test_a_seed_gives_the_same_days_whatever_the_date_is() -> None:
    """Protects the demo from finding the event on some weekdays only."""
    one = city(_DAYS, 7, datetime(2026, 11, 21, 12, tzinfo=UTC))
    other = city(_DAYS, 7, datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    for name in ("cars", "people", "air", "stage_ft"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for scene in (one, other):
        assert datetime.fromtimestamp(scene.start_us / 1e6, UTC).time().isoformat() == "00:00:00"
        assert datetime.fromtimestamp(scene.end_us / 1e6 - 1, UTC).strftime("%A") == "Wednesday"
    assert other.end_us <= datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp() * 1e6
