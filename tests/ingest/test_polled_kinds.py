"""The kinds of source that poll for water: from what a user writes to readings."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.config import effective, loads
from pipeline.config_errors import ConfigError
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.trial import Trial
from tests.hubeau_service import HubeauService, observation
from tests.replay_server import ReplayServer
from tests.uk_flood_service import UkFloodService, reading
from tests.usgs_service import UsgsService, value

HEAD = """
streams:
  - {name: water, topics: [water], step: 15m, channels: [{name: stage}]}
ingest:
  sources:
"""
KEY = "not-to-be-shown"
USGS = f"kind: usgs, sites: [USGS-06904500], parameters: ['00065'], key: {KEY}"
UK = "kind: uk_flood, stations: [1491TH], parameter: level"
FRANCE = "kind: hubeau, codes: [K447001001], quantities: [H]"


def built(options: str, path: Path) -> ReadingSource:
    """Return the source that a line of the config describes."""
    (read,) = loads(f"{HEAD}    - {{name: river, {options}}}\n", {}).ingest.sources
    return source_kinds()[read.kind].build(read, SourcePlace(path, {}))


def services(replay: ReplayServer) -> dict[str, str]:
    """Return each kind's service, with one reading, by its options; the address included."""
    now_us = time.time_ns() // 1_000_000_000 * 1_000_000 - 60_000_000
    text = to_text(now_us)
    usgs = UsgsService(replay, [value(text.rstrip("Z"), "1.5", text.rstrip("Z"))])
    flood = UkFloodService(replay, [reading(text, 1.5)])
    hubeau = HubeauService(replay, [observation(text, 1.5)])
    return {USGS: usgs.url, UK: flood.url, FRANCE: hubeau.url}


@pytest.mark.parametrize("options", [USGS, UK, FRANCE])
def test_a_line_of_config_becomes_readings(options: str, replay: ReplayServer, tmp_path: Path) -> None:
    """Protects the way from a user's file to the topic."""
    url = services(replay)[options]
    source = built(f"{options}, url: '{url}', every: 1h, contact: ops@town.example", tmp_path)
    with Trial(tmp_path) as trial:
        trial.run(source)
        trial.until(trial.readings)
        (found,) = trial.readings()
        assert (found.channel, found.value) == ("stage", 1.5)
        assert trial.sites[found.entity].name
    assert {one.headers["user-agent"] for one in replay.asked} == {"vedette (ops@town.example)"}
    if options == USGS:
        assert {one.headers["x-api-key"] for one in replay.asked} == {KEY}


@pytest.mark.parametrize("options", [USGS, UK, FRANCE])
def test_nothing_is_asked_while_it_is_built(options: str, tmp_path: Path) -> None:
    """Protects `vedette check`, which builds everything; the real addresses are the defaults."""
    assert built(options, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("kind: usgs, sites: ['06904500']", "sites"),
        ("kind: usgs, sites: []", "sites"),
        ("kind: usgs, sites: [USGS-1], parameters: ['65']", "parameters"),
        ("kind: hubeau, codes: [K44]", "codes"),
        ("kind: hubeau, codes: [K447001001], quantities: [T]", "quantities"),
        ("kind: uk_flood, stations: ['a/b']", "stations"),
        ("kind: uk_flood, url: 'ftp://host/'", "url"),
        ("kind: uk_flood, url: 'https://me:secret@host/'", "url"),
        ("kind: uk_flood, every: 0s", "every"),
        ("kind: usgs, sites: [USGS-1], key: [secret]", "key"),
    ],
)
def test_mistakes_are_named(options: str, said: str) -> None:
    """Protects from finding out by an empty answer."""
    with pytest.raises(ConfigError, match=said) as raised:
        loads(f"{HEAD}    - {{name: river, {options}}}\n", {})
    assert "secret" not in str(raised.value)


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    """Protects the key from `vedette check --effective`, and the source from telling it."""
    config = loads(f"{HEAD}    - {{name: river, {USGS}}}\n", {})
    assert KEY not in effective(config)
    assert KEY not in repr(config)
    assert KEY not in repr(vars(built(USGS, tmp_path)))
