"""Other people's connectors: the guide's example is a package that works, and a broken package harms nobody else."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from connectors.kafka_embedded import EmbeddedBroker
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.ingest import catalogue
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Found, IngestProcess
from tests.kafka_broker import fresh
from tests.replay_server import Asked, ReplayServer, Reply, json_reply

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "connectors" / "README.md").read_text(encoding="utf-8")
FIRST_US = 1_763_640_000_000_000
BROKEN = {
    "noisy": "raise RuntimeError('its library is missing')",
    "leaving": "raise SystemExit(3)",
    "plain": "KIND = 7",
    "usgs": "from pipeline.ingest.kinds.http import KIND",
    "odd": "from pipeline.ingest.kind import SourceKind, SourceOptions\nKIND = SourceKind(SourceOptions, None, 'odd')",
}
"""Packages that cannot be used, by the names of their entry points."""


def block(language: str, number: int = 0) -> str:
    """Return one of the guide's blocks of code."""
    return str(re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)[number])


def install(site: Path, name: str, code: str, entry_points: Mapping[str, str]) -> None:
    """Put a package where Python finds it, as pip would."""
    info = site / f"vedette_{name}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"vedette_{name}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vedette-{name}\nVersion: 0.1.0\n", encoding="utf-8")
    lines = [f"{kind} = {target}" for kind, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[vedette.sources]", *lines, ""]), encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the guide's package, and with broken ones."""
    project = tomllib.loads(block("toml"))["project"]
    assert project["name"] == "vedette-shed"
    folder = tmp_path / "site"
    install(folder, "shed", block("python"), project["entry-points"]["vedette.sources"])
    for name, code in BROKEN.items():
        install(folder, f"broken_{name}", code, {name: f"vedette_broken_{name}:KIND"})
    return folder


@pytest.fixture
def offered(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process find them; it forgets them afterwards."""
    monkeypatch.syspath_prepend(str(site))
    catalogue._catalogue.cache_clear()
    yield
    monkeypatch.undo()
    catalogue._catalogue.cache_clear()
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("vedette_")]:
        del sys.modules[name]


class ShedPeer:
    """The shed, in a test's hands."""

    keeps = True

    def __init__(self) -> None:
        self._server = ReplayServer()
        self._server.on("/readings", self._answer)
        self._server.start()
        self._rows: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return self._server.url

    def source(self) -> ReadingSource:
        kind = catalogue.source_kinds()["shed"]
        options = kind.options(name="shed", kind="shed", url=self.url, every="50ms")
        return kind.build(options, SourcePlace(Path(), {}))

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [FIRST_US + 60_000_000 * (len(self._rows) + i) for i in range(count)]
        self._rows += [{"station": "north", "time": to_text(time_us), "celsius": 3.5} for time_us in times_us]
        return [("north", "temperature", time_us) for time_us in times_us]

    def give_bad(self) -> None:
        self._rows.append({"station": "north", "celsius": "cold"})

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.close()

    def _answer(self, asked: Asked) -> Reply:
        return json_reply(self._rows[int(asked.query["after"]) :])


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_guides_example_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    """Protects whoever begins with the guide: what it shows is right, in every respect that is asked of a source."""
    with closing(ShedPeer()) as peer:
        check(peer, tmp_path)


@pytest.mark.usefixtures("offered")
def test_broken_packages_are_told_and_left_out() -> None:
    """Protects all other sources from a package that cannot be loaded, is none, or takes a name of ours."""
    kinds, unusable = catalogue.source_kinds(), catalogue.unusable_kinds()
    assert set(kinds) == {*catalogue.OURS, "shed"}
    assert set(unusable) == set(BROKEN)
    assert "RuntimeError: its library is missing" in unusable["noisy"]
    assert "not a SourceKind" in unusable["plain"]
    assert "vedette_broken_usgs:KIND" in unusable["usgs"]
    assert 'kind: Literal["odd"]' in unusable["odd"]


def test_an_installed_package_is_as_good_as_ours(tmp_path: Path, site: Path, embedded: EmbeddedBroker) -> None:
    """Protects the way of other people's readings: a real process finds the package, and its readings reach Kafka."""
    topic = fresh("shed")
    with closing(ShedPeer()) as peer:
        wanted = list(peer.give(30))
        section = f"  - {{name: shed, kind: shed, url: {peer.url}, every: 50ms}}\n"
        process = IngestProcess(
            tmp_path, embedded.bootstrap_servers, topic, section,
            settings='{api_version: "2.3", allow_auto_create_topics: true}', environment=finding(site),
        )  # fmt: skip
        with process:
            process.start()
            wait_until(lambda: process.metric("delivered_readings_total") >= 30, "its readings are delivered")
            assert process.stop() == 0
            said = process.said()
    assert set(Found(embedded.bootstrap_servers, topic, EmbeddedBroker.settings).ids) == set(wanted)
    assert "packages offer kinds of source that cannot be used" in said
    assert "its library is missing" in said


def test_a_source_of_a_broken_package_is_told_why(tmp_path: Path, site: Path) -> None:
    """Protects from looking for a mistake in the config that is one of a package; and `config-schema` from chatter."""
    process = IngestProcess(
        tmp_path, "127.0.0.1:1", "air", "  - {name: mine, kind: noisy}\n", environment=finding(site)
    )  # fmt: skip
    with process:
        process.start()
        assert process.ended() == 78
        assert "ingest.sources[0]" in process.said()
        assert "is of a kind that cannot be used: vedette_broken_noisy:KIND: RuntimeError" in process.said()
    schema = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "config-schema"],
        env={**os.environ, **finding(site)}, cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert schema.startswith("{")
    assert "ShedOptions" in schema


def finding(site: Path) -> dict[str, str]:
    """Return the environment of a process that finds the packages."""
    return {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
