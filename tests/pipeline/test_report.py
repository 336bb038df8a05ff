"""The report: complete, self-contained, small, and deaf to whatever names and texts try to make it do."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.incident import Kind, Phase, Tier
from pipeline.recording import Recorder
from pipeline.report import SummaryRow, embedded_json, render
from pipeline.report_data import MAX_INCIDENTS, report_data
from tests.pipeline.recordings import POSITIONS, Run, message, synthetic_run
from tests.pipeline.test_recording import STEP, feed

HOSTILE = "</script><!--<script>document.title='broken'</script><img src=x onerror=document.title='broken'>\u2028&amp;"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def run() -> Run:
    return synthetic_run(days=24.0, training_days=3.0)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    rows = [SummaryRow("air", 17, 16, 18, 1, 9.0, "attention-lstm", 50_000.0, simulated=True), SummaryRow("x", 0)]
    return render(run.recorder, rows, "A run", subtitle="of tests", verdicts=run.reckoning.verdicts)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_page_holds_everything(page: str, run: Run) -> None:
    """Protects the report's content: all entities with band and score, all incidents with their evidence."""
    data = data_of(page)
    assert {s["name"]: len(s["entities"]) for s in data["streams"]} == {"water": 1, "air": 6, "events": 4}
    assert len(data["incidents"]) == len(run.raised)
    channel = data["streams"][1]["entities"][0]["channels"][0]
    assert all(len(channel[part]) == len(channel["lo"]) for part in ("e", "l", "u", "hi"))
    told = next(i for i in data["incidents"] if i["stream"] == "air" and i["kind"] == "anomaly")
    assert told["reason"]
    assert sum(told["moment"]["share"]) == pytest.approx(1.0, abs=0.01)
    assert len(told["moment"]["attention"]["w"][0]) == len(POSITIONS)
    assert told["moment"]["t"] == told["opened"]
    assert told["opened"] in told["zoom"]["t"]


def test_nothing_is_loaded_from_outside(page: str) -> None:
    """Protects readers' privacy and offline use: no address but an XML name space's, and a policy that bars loads."""
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|img|iframe|script[^>]+src)|@import|url\((?!#)", page)


def test_page_stays_small(page: str) -> None:
    """Protects the promise of a file that can be mailed: under 10 MB."""
    assert len(page.encode()) < 10_000_000


def test_rendering_changes_nothing(page: str, run: Run) -> None:
    """Protects determinism: the same recorder gives the same data after it was rendered."""
    data = report_data(run.recorder, run.reckoning.verdicts)
    rendered = data_of(page)
    assert {name: rendered[name] for name in data} == json.loads(json.dumps(data))


def test_thinning_keeps_a_single_spike() -> None:
    """Protects from pretty lies: however wide a bucket, its greatest and least value are drawn."""
    recorder = Recorder()
    for t in range(5_000):
        feed(recorder, t, ["a"])
    recorder.streams["air"].steps[3_333].columns[0, 0] = 1e6
    entity = report_data(recorder)["streams"][0]["entities"][0]
    assert len(entity["t"]) <= 1_000
    assert max(entity["channels"][0]["hi"]) == 1_000_000


def test_messages_of_an_incident_are_folded() -> None:
    """Protects the story of an incident: opened as a watch, grown to an alert, ended; the reason is the alert's."""
    recorder = Recorder()
    for t in range(1, 9):
        said = {
            2: message("air", "a", Kind.ANOMALY, 2 * STEP, tier=Tier.WATCH, score=1.1, reason="odd"),
            4: message("air", "a", Kind.ANOMALY, 4 * STEP, phase=Phase.UPDATED, opened_us=2 * STEP, score=2.5,
                       reason="very odd", explanation={"x": 1}),
            7: message("air", "a", Kind.ANOMALY, 7 * STEP, phase=Phase.RESOLVED, opened_us=2 * STEP, reason="over"),
        }  # fmt: skip
        feed(recorder, t, ["a"], [said[t]] if t in said else [])
    (incident,) = report_data(recorder)["incidents"]
    seconds = STEP / 1e6
    assert (incident["opened"], incident["alerted"], incident["resolved"]) == (2 * seconds, 4 * seconds, 7 * seconds)
    assert (incident["tier"], incident["score"], incident["reason"]) == (2, 2.5, "very odd")


def test_floods_of_incidents_are_cut_to_the_worst() -> None:
    """Protects the page's size: the least incidents are counted instead of shown."""
    recorder = Recorder()
    for t in range(1, MAX_INCIDENTS + 51):
        feed(recorder, t, ["a"], [message("air", "a", Kind.ANOMALY, t * STEP, score=float(t))])
    data = report_data(recorder)
    assert (len(data["incidents"]), data["hidden"]) == (MAX_INCIDENTS, 50)
    assert min(i["score"] for i in data["incidents"]) == 51


def test_embedded_json_cannot_leave_its_element() -> None:
    """Protects from script injection by names: no bracket or ampersand remains, and the data comes back equal."""
    text = embedded_json({"name": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": HOSTILE}


def test_empty_recorder_renders() -> None:
    """Protects a run that saw nothing: the page says so instead of failing."""
    assert data_of(render(Recorder()))["streams"] == []


@pytest.fixture(scope="module")
def hostile_page() -> str:
    recorder = Recorder()
    recorder.describe("air", [HOSTILE, "b"], [HOSTILE, "1"], STEP, model=HOSTILE, witnesses=[HOSTILE] * 3)
    told = message("air", HOSTILE, Kind.ANOMALY, 30 * STEP, reason=HOSTILE, explanation={HOSTILE: [HOSTILE]})
    for t in range(1, 60):
        feed(recorder, t, [HOSTILE], [told] if t == 30 else [])
    return render(recorder, [SummaryRow(HOSTILE, 1, model=HOSTILE)], HOSTILE, subtitle=HOSTILE)


def test_hostile_title_is_text(hostile_page: str) -> None:
    """Protects the head of the page, which is filled before any script runs."""
    assert "<title>&lt;/script&gt;" in hostile_page
    assert hostile_page.count("</script>") == 2


def browse(page: str, folder: Path, width: int, *extra: str, address: str = "") -> str:
    """Open ``page`` in headless Chromium and return its standard output."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (chromium, chromium-browser or google-chrome on PATH)")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},3400", "--virtual-time-budget=5000",
        *extra, f"{file.as_uri()}{address}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")
    return done.stdout


@pytest.mark.browser
def test_browser_draws_series_band_incident_and_heat_map(page: str, tmp_path: Path) -> None:
    """Protects what people look at: the script runs to its end, and an incident's address opens all its evidence."""
    told = next(i for i in data_of(page)["incidents"] if i["stream"] == "air" and i["kind"] == "anomaly")
    dom = browse(page, tmp_path, 1440, "--dump-dom", address=f"#incident={told['id']}")
    assert 'data-ready="true"' in dom
    assert dom.count('class="band"') == 6 + 3
    assert len(re.findall(r'class="(range|obs)"', dom)) == 6 + 3
    assert 'class="shade"' in dom
    assert re.search(r'<canvas role="img" aria-label="Attention weights, \d+ steps by 74 positions"', dom)
    for text in (
        "Share of each channel",
        "Score of each witness",
        "What the model saw when it fired",
        "Nearest example",
    ):
        assert text in dom


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1440])
def test_browser_screenshot(page: str, tmp_path: Path, width: int) -> None:
    """Protects the page at a telephone's and a desk's width: it can be photographed and is not blank."""
    shot = tmp_path / "shot.png"
    browse(page, tmp_path, width, f"--screenshot={shot}")
    picture = shot.read_bytes()
    assert struct.unpack(">II", picture[16:24]) == (width, 3400)
    assert len(picture) > 60_000  # a blank page of this size compresses to some 10 kB


@pytest.mark.browser
def test_browser_without_attention_says_so(tmp_path: Path) -> None:
    """Protects the cold start's report: the place of the heat map tells why there is none."""
    recorder = Recorder()
    for t in range(1, 60):
        feed(recorder, t, ["a"], [message("air", "a", Kind.ANOMALY, t * STEP)] if t == 30 else [])
    dom = browse(render(recorder), tmp_path, 1440, "--dump-dom")
    assert 'data-ready="true"' in dom
    assert "No attention was recorded" in dom


@pytest.mark.browser
def test_browser_runs_nothing_of_hostile_names(hostile_page: str, tmp_path: Path) -> None:
    """Protects readers from their sensors: hostile names are shown as text, the page works, no element came of them."""
    dom = browse(hostile_page, tmp_path, 1440, "--dump-dom")
    assert 'data-ready="true"' in dom
    assert "<title>broken" not in dom
    assert "<img" not in dom
