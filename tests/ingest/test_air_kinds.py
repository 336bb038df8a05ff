"""The kinds of source that poll for air: from what a user writes to readings."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from connectors.errors import Misconfigured
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.config import effective, loads
from pipeline.config_errors import ConfigError
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.trial import Trial
from tests.openaq_service import LOCATION, PM25, OpenAQService
from tests.openaq_service import row as openaq_row
from tests.replay_server import ReplayServer
from tests.sensor_community_service import SensorCommunity
from tests.sensor_community_service import row as sensor_row

HEAD = """
streams:
  - {name: air, topics: [air], step: 15m, channels: [{name: pm25}]}
ingest:
  sources:
"""
KEY = "not-to-be-shown"
CONTACT = "ops@town.example"
OPENAQ = f"kind: openaq, key: {KEY}, locations: [{LOCATION}], parameters: [pm25], overlap: 1h"
OPENAQ_AREA = (
    f"kind: openaq, key: {KEY}, around: {{latitude: 48.788, longitude: 9.188, radius_m: 12000}}, series: hours"
)
COMMUNITY = f"kind: sensor_community, contact: {CONTACT}"
COMMUNITY_AREA = (
    f"kind: sensor_community, contact: {CONTACT}, types: [SDS011], "
    "area: {latitude: 48.788, longitude: 9.188, radius_km: 10}"
)


def built(options: str, path: Path) -> ReadingSource:
    """Return the source that a line of the config describes."""
    (read,) = loads(f"{HEAD}    - {{name: town, {options}}}\n", {}).ingest.sources
    return source_kinds()[read.kind].build(read, SourcePlace(path, {}))


def services(replay: ReplayServer) -> dict[str, str]:
    """Return the addresses of both services, each with one reading, by kind."""
    text = to_text(time.time_ns() // 1_000_000_000 * 1_000_000 - 60_000_000)
    openaq = OpenAQService(replay, rows={PM25: [openaq_row(text, 12.5)]})
    community = SensorCommunity(replay, [sensor_row(text.replace("T", " ").rstrip("Z"), ("P2", "12.5"))])
    return {"openaq": openaq.url, "sensor_community": community.server.url}


@pytest.mark.parametrize("options", [OPENAQ, OPENAQ_AREA, COMMUNITY, COMMUNITY_AREA])
def test_a_line_of_config_becomes_readings(options: str, replay: ReplayServer, tmp_path: Path) -> None:
    """Protects the way from a user's file to the topic; the key goes to OpenAQ, the contact to both."""
    kind = options.split(",")[0].removeprefix("kind: ")
    more = "" if "contact" in options else f", contact: {CONTACT}"
    source = built(f"{options}, url: '{services(replay)[kind]}', every: 1m{more}", tmp_path)
    with Trial(tmp_path) as trial:
        trial.run(source)
        trial.until(trial.readings)
        (found,) = trial.readings()
        assert (found.channel, found.value) == ("pm25", 12.5)
        trial.until(lambda: trial.sites)
        assert trial.sites[found.entity].limits["pm25"][0] == 0.0
    assert {one.headers["user-agent"] for one in replay.asked} == {f"vedette ({CONTACT})"}
    assert {one.headers.get("x-api-key") for one in replay.asked} == {KEY if kind == "openaq" else None}


@pytest.mark.parametrize("options", [OPENAQ, OPENAQ_AREA, COMMUNITY, COMMUNITY_AREA])
def test_nothing_is_asked_while_it_is_built(options: str, tmp_path: Path) -> None:
    """Protects `vedette check`, which builds everything; the real addresses are the defaults."""
    assert built(options, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"kind: openaq, key: {KEY}", "exactly one of locations"),
        (f"kind: openaq, key: {KEY}, locations: [1], bbox: [9, 48, 10, 49]", "exactly one of locations"),
        ("kind: openaq, locations: [1]", "key"),
        (f"kind: openaq, key: {KEY}, locations: [0]", "locations"),
        (f"kind: openaq, key: {KEY}, bbox: [9, 480, 10, 49]", "bbox"),
        (f"kind: openaq, key: {KEY}, around: {{latitude: 48, longitude: 9, radius_m: 30000}}", "radius_m"),
        (f"kind: openaq, key: {KEY}, locations: [1], series: days", "series"),
        ("kind: sensor_community", "contact"),
        (f"{COMMUNITY}, sensors: [1], types: [SDS011]", "one of them"),
        (f"{COMMUNITY}, types: ['SDS011&country=DE']", "types"),
        (f"{COMMUNITY}, countries: [Germany]", "countries"),
        (f"{COMMUNITY_AREA}, box: [48, 9, 49, 10]", "an area and a box"),
    ],
)
def test_mistakes_are_named(options: str, said: str) -> None:
    """Protects from finding out by an empty answer."""
    with pytest.raises(ConfigError, match=said) as raised:
        loads(f"{HEAD}    - {{name: town, {options}}}\n", {})
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"kind: openaq, key: {KEY}, bbox: [10, 48, 9, 49]", "least longitude"),
        (f"{COMMUNITY}, url: 'https://api.sensor.community'", "for stations to push to"),
    ],
)
def test_mistakes_that_only_the_source_knows(options: str, said: str, tmp_path: Path) -> None:
    """Protects from a box that is empty, and the service from being asked at the wrong place."""
    with pytest.raises(Misconfigured, match=said):
        built(options, tmp_path)


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    """Protects the key from `vedette check --effective`, and the source from telling it."""
    config = loads(f"{HEAD}    - {{name: town, {OPENAQ}}}\n", {})
    assert KEY not in effective(config)
    assert KEY not in repr(config)
    assert KEY not in repr(vars(built(OPENAQ, tmp_path)))
