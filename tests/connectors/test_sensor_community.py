"""Protects the polling of Sensor.Community: what is asked, overlapping documents, broken ones, manners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from connectors.errors import Misconfigured, SourceRefused
from connectors.http_service import HttpService
from connectors.reading import Quality
from connectors.sensor_community import SensorCommunitySource
from pipeline.ingest.trial import Trial
from tests.replay_server import ReplayServer, Reply, busy_reply, gzipped, json_reply, page_reply
from tests.sensor_community_service import SENSOR, SensorCommunity, row

CONTACT = "ops@town.example"


def ago(seconds: float) -> str:
    """Return a time in the past as the service writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture
def service(replay: ReplayServer) -> SensorCommunity:
    """A service without rows."""
    return SensorCommunity(replay)


Make = Callable[..., SensorCommunitySource]


@pytest.fixture
def source(service: SensorCommunity) -> Make:
    """Makes sources that ask as fast as they like."""

    def make(*, timeout_s: float = 20.0, **options: object) -> SensorCommunitySource:
        http = HttpService(base_url=service.server.url, contact=CONTACT, tries=1, timeout_s=timeout_s)
        return SensorCommunitySource(http, **({"every_s": 0.05, "limits": ()} | options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """One life of a source."""
    with Trial(tmp_path) as trial:
        yield trial


def polls(trial: Trial) -> float:
    """Return how many polls went well."""
    return trial.count("events", event="polls")


def paths(service: SensorCommunity) -> list[str]:
    """Return what was asked for so far."""
    with service.server.changed:
        return [one.target for one in service.server.asked]


def test_all_sensors_in_one_document(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the first run of a newcomer: no key, one request; who asks says how to be reached."""
    service.rows = [
        row(ago(60), ("P1", "18.40"), ("P2", "unknown")),
        row(ago(60), ("temperature", "8.1"), ("pressure", "98642.75"), sensor=2, kind="BME280"),
        row(ago(60), ("P1", "1234.5"), sensor=3, kind="PPD42NS"),
        row(ago(60), ("P1", "99.0"), sensor=4, indoor=1),
    ]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 5)
    assert {(one.entity, one.channel, one.value, one.unit) for one in trial.readings()} == {
        (f"sc-{SENSOR}", "pm10", 18.4, "ug/m3"), (f"sc-{SENSOR}", "pm25", None, "ug/m3"),
        ("sc-2", "temperature", 8.1, "Cel"), ("sc-2", "pressure", 98642.75, "Pa"), ("sc-3", "count_1um", 1234.5, "1"),
    }  # fmt: skip
    assert [one.quality for one in trial.readings() if one.value is None] == [Quality.MISSING]
    assert trial.count("events", event="indoor") >= 1
    trial.until(lambda: len(trial.sites) == 3)
    assert trial.sites[f"sc-{SENSOR}"].attributes["exact_location"] == "no"
    assert set(paths(service)) == {"/static/v1/data.json"}
    assert {one.headers["user-agent"] for one in service.server.asked} == {f"vedette ({CONTACT})"}


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"averages": True}, {"/static/v2/data.json"}),
        ({"types": ("SDS011", "BME280")}, {"/airrohr/v1/filter/type=SDS011,BME280"}),
        ({"area": (48.788, 9.188, 10)}, {"/airrohr/v1/filter/area=48.788,9.188,10"}),
        ({"countries": ("DE", "AT")}, {"/airrohr/v1/filter/country=DE,AT"}),
        ({"box": (48, 9, 49, 10), "types": ("HPM",)}, {"/airrohr/v1/filter/type=HPM&box=48,9,49,10"}),
        ({"sensors": (67890, 2, 67890)}, {"/airrohr/v1/sensor/67890/", "/airrohr/v1/sensor/2/"}),
    ],
)  # fmt: skip
def test_what_is_asked(
    service: SensorCommunity, source: Make, trial: Trial, options: dict[str, object], asked: set[str]
) -> None:
    """Protects the service from being asked for all where a part is wanted."""
    service.rows = [row(ago(60), ("P1", "1"))]
    trial.run(source(**options))
    trial.until(lambda: len(trial.readings()) == 1 and set(paths(service)) == asked)


def test_overlapping_documents_repeat_nothing(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects Kafka from five minutes at every poll: one reading for a sensor at a time, also twice in a document."""
    first = row(ago(200), ("P1", "1"))
    service.rows = [first, {**first, "id": 7}, row(ago(60), ("P1", "a lot"))]
    trial.run(source())
    trial.until(lambda: polls(trial) >= 2)
    for n in (2, 3, 4):
        service.rows = [*service.rows[-2:], row(ago(52 - n), ("P1", str(n)))]
        trial.until(lambda: float(n) in [one.value for one in trial.readings()])  # noqa: B023 - asked at once
    assert [one.value for one in trial.readings()] == [1.0, 2.0, 3.0, 4.0]
    assert len(trial.dead_letters()) == 1
    assert trial.count("corrections") == 0


def test_a_row_that_is_changed_comes_as_a_correction(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects from keeping what the service has put right."""
    service.rows = [row(ago(60), ("P1", "1"))]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)
    service.rows = [{**service.rows[0], "sensordatavalues": [{"id": 1, "value_type": "P1", "value": "2"}]}]
    trial.until(lambda: len(trial.readings()) == 2)
    trial.until(lambda: trial.count("corrections") == 1)


def test_what_has_not_changed_is_not_sent_again(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the service's traffic: five megabytes only where there is something new."""
    service.rows = [row(ago(60), ("P1", "1"))]
    trial.run(source())
    trial.until(lambda: trial.count("events", event="unchanged") >= 3)
    assert service.server.asked[1].headers["if-none-match"]
    service.rows = [*service.rows, row(ago(10), ("P1", "2"))]
    trial.until(lambda: len(trial.readings()) == 2)


@pytest.mark.parametrize(
    "bad",
    [
        page_reply(),
        Reply(body=b'[{"id": 1, "sensor"', stop_after=10),
        Reply(body=b'[{"id": 1, "sensor"', chunked=True, stop_after=15),
        Reply(body=b'[{"id": 1, "sensor"', headers={"Content-Type": "application/json"}),
        json_reply({"detail": "Not found."}),
        json_reply({"detail": "Not found."}, 404),
        busy_reply(503),
        busy_reply(429, retry_after="0"),
        Reply(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
        Reply(reset=True),
    ],
    ids=[
        "a page for people", "truncated", "chunks break off", "half a document", "an error as 200", "404", "503", "429",
        "half packed", "reset",
    ],
)  # fmt: skip
def test_a_broken_document_is_asked_for_again(service: SensorCommunity, source: Make, trial: Trial, bad: Reply) -> None:
    """Protects from taking a broken document for quiet minutes."""
    service.rows = [row(ago(60), ("P1", "1"))]
    service.instead = [bad]
    trial.run(source())
    trial.until(lambda: [one for one in trial.reasons if one is not None])
    trial.until(lambda: len(trial.readings()) == 1)
    trial.until(lambda: trial.reasons[-1] is None)


def test_a_slow_document_ends_at_its_deadline(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the next poll from a body of a byte now and then."""
    service.rows = [row(ago(60), ("P1", "1"))]
    service.instead = [Reply(drip=True)]
    trial.run(source(timeout_s=0.5))
    trial.until(lambda: any("no whole answer within 0.5 s" in (one or "") for one in trial.reasons))
    trial.until(lambda: len(trial.readings()) == 1)


def test_a_packed_document(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the line: the document is asked for and taken as gzip."""
    service.instead = [gzipped(json_reply([row(ago(60), ("P1", "1"))]))]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)
    assert "gzip" in service.server.asked[0].headers["accept-encoding"]


def test_a_sensor_that_fails_stops_no_other(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the sensors that are listed behind one whose answer is broken, or that nobody knows."""
    service.server.on("/airrohr/v1/sensor/1/", busy_reply(500))
    service.server.on("/airrohr/v1/sensor/3/", json_reply({"detail": "Not found."}, 404))
    service.rows = [row(ago(60), ("P1", "2"), sensor=2), row(ago(60), ("P1", "4"), sensor=4)]
    trial.run(source(sensors=(1, 2, 3, 4)))
    trial.until(lambda: len(trial.readings()) == 2)
    assert trial.count("events", event="sensors_unknown") >= 1


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_refusal_ends_it(service: SensorCommunity, source: Make, trial: Trial, status: int) -> None:
    """Protects the service from whom it has shut out."""
    service.server.on("/static/v1/data.json", json_reply({"detail": "go away"}, status))
    trial.run(source())
    with pytest.raises(SourceRefused, match=f"answers {status}"):
        trial.until(lambda: False)
    assert len(service.server.asked) == 1


def test_sites_are_told_once(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects the registry from thousands of sites every two minutes; one that moves is told anew."""
    told: list[int] = []
    trial.outlet._describe = lambda source, sites: told.append(len(sites))
    service.rows = [row(ago(60 - n), ("P1", str(n)), sensor=n + 1) for n in range(3)]
    trial.run(source())
    trial.until(lambda: told)
    service.rows = [*service.rows, row(ago(5), ("P1", "9"), sensor=1)]
    trial.until(lambda: len(trial.readings()) == 4)
    service.rows = [row(ago(1), ("P1", "9"), sensor=2, latitude="48.9")]
    trial.until(lambda: len(trial.readings()) == 5)
    assert told == [3, 1]


def test_rare_polls_are_told(source: Make, trial: Trial) -> None:
    """Protects from gaps that nobody knows of."""
    with capture_logs() as logged:
        trial.run(source(every_s=900.0))
        trial.until(lambda: polls(trial) >= 1 or trial.reasons)
    assert any(one.get("kept_s") == 300.0 for one in logged)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sensors": (1,), "types": ("SDS011",)}, "either sensors"),
        ({"averages": True, "types": ("SDS011",)}, "either sensors"),
        ({"types": ("SDS011&country=DE",)}, "no type"),
        ({"countries": ("D/E",)}, "no country"),
        ({"area": (95.0, 9.0, 10.0)}, "no latitude"),
        ({"area": (48.0, 9.0, 0.0)}, "area"),
        ({"area": (48.0, 9.0, 1.0), "box": (48.0, 9.0, 49.0, 10.0)}, "an area or a box"),
        ({"sensors": (0,)}, "no id"),
    ],
)
def test_what_is_no_selection(source: Make, options: dict[str, object], said: str) -> None:
    """Protects from finding out by an empty answer."""
    with pytest.raises(Misconfigured, match=said):
        source(**options)


def test_manners() -> None:
    """Protects the service: who asks says who he is, and does not ask where stations push."""
    with pytest.raises(Misconfigured, match="contact is missing"):
        SensorCommunitySource(HttpService(base_url="https://data.sensor.community"))
    with pytest.raises(Misconfigured, match="for stations to push to"):
        SensorCommunitySource(HttpService(base_url="https://api.sensor.community", contact=CONTACT))


def test_a_document_goes_on_oldest_first(service: SensorCommunity, source: Make, trial: Trial) -> None:
    """Protects windows downstream: rows stand in a document in any order."""
    service.rows = [row(ago(60 - n % 50), ("P1", str(n)), sensor=n + 1) for n in range(200)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 200)
    times = [one.time_us for one in trial.readings()]
    assert times == sorted(times)
