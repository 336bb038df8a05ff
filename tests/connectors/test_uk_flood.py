"""Protects England's rivers: batches, stations that differ, datums, and everything the service may send."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import Misconfigured, SourceRefused
from connectors.http_service import HttpService
from connectors.reading import Quality, Reason
from connectors.timestamps import to_text
from connectors.uk_flood import UkFloodSource
from connectors.uk_flood_pages import Measure, measure_of, readings_page, sites_page
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.replay_server import ReplayServer, Reply, busy_reply, json_reply, page_reply
from tests.uk_flood_service import AT, HOST, RAIN, STAGE, STATION, UkFloodService, items, reading

TIME = "2026-11-20T14:00:00Z"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def ago(minutes: float) -> str:
    """Return a time in the past, on a whole second."""
    return to_text(time.time_ns() // 1_000_000_000 * 1_000_000 - round(minutes * 60) * 1_000_000)


def body(listed: object) -> bytes:
    """Return an answer."""
    return json.dumps(items(listed)).encode()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1491TH-level-downstage-i-15_min-mASD", Measure("1491TH", "stage_downstage", "m")),
        ("1491TH-level-stage-i-15_min-mASD", Measure("1491TH", "stage", "m")),
        ("1491TH-level-stage-i-15_min-mAOD", Measure("1491TH", "stage_maod", "m")),
        ("E71839-level-tidal_level-Mean-15_min-mAOD", Measure("E71839", "stage_tidal_level_mean_maod", "m")),
        ("53107-flow--i-15_min-m3_s", Measure("53107", "discharge", "m3/s")),
        ("53107-flow-logged-i-15_min-m3_s", Measure("53107", "discharge_logged", "m3/s")),
        ("3680-rainfall-tipping_bucket_raingauge-t-15_min-mm", Measure("3680", "rain", "mm")),
        ("3680-rainfall-tipping_bucket_raingauge-t-1_h-mm", Measure("3680", "rain_1_h", "mm")),
        ("4-27-level-stage-i-15_min-m", Measure("4-27", "stage_m", "m")),
        ("E100-level-stage-i-15_min----", Measure("E100", "stage_unitless", "")),
        (f"{HOST}/id/measures/3-temperature-dry_bulb-i-15_min-deg_C", Measure("3", "temperature_dry_bulb", "Cel")),
    ],
)
def test_a_measures_address_tells_all(address: str, expected: Measure) -> None:
    """Protects the identity: what sets two measures of a station apart, the datum above all."""
    assert measure_of(address) == expected


def test_no_two_measures_share_a_channel() -> None:
    """Protects from two measures flapping in one channel, in all combinations that stations have."""
    parts = product(
        ("level", "flow", "rainfall"),
        ("", "stage", "downstage", "logged", "tipping_bucket_raingauge"),
        ("i", "t", "Mean", "max"),
        ("15_min", "1_h", "1_day"),
        ("mASD", "mAOD", "m", "m3_s", "mm", "---"),
    )
    found = [measure_of(f"S-{'-'.join(one)}") for one in parts]
    assert len({one.channel for one in found if one is not None}) == len(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.877, 1.877), (-0.1, -0.1), (0, 0.0), ("1.5", 1.5), (None, None), ("", None)],
)
def test_values(value: object, expected: float | None) -> None:
    """Protects numbers, texts of numbers, and nothing."""
    (one,) = readings_page(body([reading(TIME, value)])).readings
    assert (one.value, one.unit, one.entity, one.channel) == (expected, "m", STATION, "stage")
    assert one.quality is (Quality.MISSING if expected is None else Quality.UNKNOWN)


def test_one_row_may_come_without_its_list() -> None:
    """Protects from the service's habit: one item is an object, several are a list."""
    assert len(readings_page(body(reading(TIME, 1.0))).readings) == 1


def test_a_value_that_is_left_out_is_missing() -> None:
    """Protects from a row without ``value``."""
    row = reading(TIME, 1.0)
    del row["value"]
    assert readings_page(body([row])).readings[0].quality is Quality.MISSING


def test_bad_rows_cost_themselves_only() -> None:
    """Protects the rows beside them."""
    good = reading(TIME, 1.0)
    bad: list[object] = [
        {**good, "value": [0.1, 0.2]},
        {**good, "dateTime": "2026-11-20"},
        {**good, "dateTime": "2026-11-20T14:00:00"},
        {**good, "measure": "http://host/id/measures/what"},
        {**good, "measure": None},
        "http://host/data/readings/1",
    ]
    page = readings_page(body([good, *bad]))
    assert len(page.readings) == 1
    assert [one.reason for one in page.rejected] == [
        Reason.WRONG_TYPE, Reason.BAD_TIME, Reason.NAIVE_TIME,
        Reason.UNSUPPORTED, Reason.MISSING_KEY, Reason.WRONG_TYPE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"label": ["Kings Mill", "Old"], "lat": [51.7, 0], "long": [-1.2], "riverName": "R"},
        {"label": "Kings Mill", "lat": 51.7, "long": -1.2, "riverName": ["R"]},
    ],
)
@pytest.mark.parametrize("one_measure", [True, False])
def test_stations_in_all_their_forms(row: dict[str, object], one_measure: bool) -> None:
    """Protects from lists where one value is usual, and one measure where a list is."""
    stage = {"@id": f"{HOST}/id/measures/{STAGE}", "unitName": "mASD"}
    station = {"stationReference": STATION, **row}
    (site,), broken = sites_page(body({**station, "measures": stage if one_measure else [stage, f"{HOST}/x/{RAIN}"]}))
    assert not broken
    assert (site.entity, site.name, site.latitude, site.longitude) == (STATION, "Kings Mill", 51.7, -1.2)
    assert site.channels == ({"stage": "m"} if one_measure else {"stage": "m", "rain": "mm"})
    assert site.attributes["riverName"] == "R"
    assert "Environment Agency" in site.attributes["attribution"]


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the thread from whatever is sent."""
    page = readings_page(raw)
    assert page.broken or page.rows == len(page.readings) + len(page.rejected)
    sites_page(raw)


FIELD = st.sampled_from(["@id", "dateTime", "measure", "value", "lat", "label", "measures"])


@settings(max_examples=60)
@given(st.lists(st.dictionaries(FIELD, ANY)))
def test_any_row_is_a_reading_or_rejected(changes: list[dict[str, object]]) -> None:
    """Protects from rows lost without a word."""
    rows = [{**reading(TIME, 1.0), "stationReference": STATION, **change} for change in changes]
    page = readings_page(body(rows))
    assert len(page.readings) + len(page.rejected) == len(rows)
    assert len(sites_page(body(rows))[0]) == len(rows)


# ---- the source ----

Make = Callable[..., UkFloodSource]


@pytest.fixture
def service(replay: ReplayServer) -> UkFloodService:
    """A service without readings."""
    return UkFloodService(replay)


@pytest.fixture
def source(service: UkFloodService) -> Make:
    """Makes sources that poll as fast as they may."""

    def make(*stations: str, **options: object) -> UkFloodSource:
        http = HttpService(base_url=service.url, tries=1)
        return UkFloodSource(http, stations, **{"every_s": 0.05, **options})  # type: ignore[arg-type]

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """One life of a source."""
    with Trial(tmp_path) as trial:
        yield trial


def test_a_batch_comes_whole(service: UkFloodService, source: Make, trial: Trial) -> None:
    """Protects the readings of a station that sends twice a day; those of its quicker measure do not hide them."""
    service.rows = [reading(ago(15 * n), n) for n in range(8, 12)] + [reading(ago(700), 0.2, RAIN)]
    trial.run(source(STATION))
    trial.until(lambda: len(trial.readings()) == 5)
    service.rows += [reading(ago(15 * n), n) for n in range(8)]
    trial.until(lambda: len(trial.readings()) == 13)
    service.rows += [reading(ago(15 * n), 0.1, RAIN) for n in range(40)]
    trial.until(lambda: len(trial.readings()) == 53)
    trial.until(lambda: trial.count("repeats") > 0)
    assert trial.sites[STATION].channels == {"stage": "m", "rain": "mm"}


def test_more_than_one_answer_holds_comes_in_several(
    service: UkFloodService, source: Make, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from the service's limit, which cuts without a word."""
    monkeypatch.setattr("connectors.uk_flood.MOST_ROWS", 50)
    service.rows = [reading(ago(5 * n), n) for n in range(1, 240)]
    trial.run(source(STATION, every_s=3600.0))
    trial.until(lambda: len(trial.readings()) == 239)
    assert {one.query["_limit"] for one in service.asked()} == {"50"}


def test_a_second_life_asks_since_the_first(service: UkFloodService, source: Make, tmp_path: Path) -> None:
    """Protects what came between, and the service from the whole history again."""
    service.rows = [reading(ago(300), 1), reading(ago(200), 2)]
    with Trial(tmp_path) as first:
        first.run(source(STATION))
        first.until(lambda: len(first.readings()) == 2)
        assert first.stop() < LEAVES_WITHIN_S
    service.rows.append(reading(ago(10), 3))
    with Trial(tmp_path) as second:
        second.run(source(STATION))
        second.until(lambda: 3.0 in [one.value for one in second.readings()])
        assert [one.value for one in second.readings()] == [2.0, 3.0]


def test_a_time_to_come_hides_nothing(service: UkFloodService, source: Make, tmp_path: Path) -> None:
    """Protects what a station measures after one reading of a clock that ran ahead, in this life and the next."""
    service.rows = [reading(ago(30), 1), reading(ago(-3 * 1440), 9)]
    with Trial(tmp_path) as first:
        first.run(source(STATION))
        first.until(lambda: len(service.asked()) >= 3)
        service.rows.append(reading(ago(2), 2))
        first.until(lambda: [one.value for one in first.readings()] == [1.0, 2.0])
    service.rows.append(reading(ago(1), 3))
    with Trial(tmp_path) as second:
        second.run(source(STATION))
        second.until(lambda: 3.0 in [one.value for one in second.readings()])


@pytest.mark.parametrize(
    "bad", [page_reply(), Reply(body=b'{"items": []}', stop_after=5), json_reply({}), busy_reply(503)]
)
def test_a_broken_answer_moves_nothing(service: UkFloodService, source: Make, trial: Trial, bad: Reply) -> None:
    """Protects from going on after readings that never came."""
    service.rows = [reading(ago(300), 1), reading(ago(200), 2)]
    service.instead = [bad]
    trial.run(source(STATION))
    trial.until(lambda: len(trial.readings()) == 2)
    assert any(one is not None for one in trial.reasons)


def test_a_broken_station_holds_up_no_other(service: UkFloodService, source: Make, trial: Trial) -> None:
    """Protects three hundred stations from one."""
    other = STAGE.replace(STATION, "3680")
    service.rows = [reading(ago(30), 1), reading(ago(20), 2, other)]
    service.server.on(f"{AT}/id/stations/{STATION}/readings", page_reply())
    trial.run(source(STATION, "3680"))
    trial.until(lambda: [one.entity for one in trial.readings()] == ["3680"])
    trial.until(lambda: any(trial.reasons))
    service.server.on(f"{AT}/id/stations/{STATION}/readings", json_reply(items(service.rows[:1])))
    trial.until(lambda: {one.entity for one in trial.readings()} == {"3680", STATION})


def test_a_station_that_nobody_knows_is_told(service: UkFloodService, source: Make, trial: Trial) -> None:
    """Protects from a closed station, or a slip of the pen, that stops the rest."""
    service.rows = [reading(ago(30), 1)]
    trial.run(source(STATION, "X99"))
    trial.until(lambda: len(trial.readings()) == 1)
    assert trial.count("events", event="unknown_stations") >= 1


def test_the_latest_of_all(service: UkFloodService, source: Make, trial: Trial) -> None:
    """Protects the recommended pattern: one request for all, and none of its megabytes when nothing is new."""
    service.rows = [reading(ago(30), 1), reading(ago(15), 2), reading(ago(15), 0.2, RAIN)]
    trial.run(source(parameter="level"))
    trial.until(lambda: len(trial.readings()) == 2)
    trial.until(lambda: trial.count("events", event="unchanged") >= 2)
    service.rows.append(reading(ago(1), 3))
    trial.until(lambda: len(trial.readings()) == 3)
    assert service.server.asked_at(f"{AT}/data/readings")[0].target == f"{AT}/data/readings?latest&parameter=level"


def test_a_service_that_is_gone_ends_it(service: UkFloodService, source: Make, trial: Trial) -> None:
    """Protects from asking for ever what is no more."""
    service.server.on(f"{AT}/id/stations/*", Reply(410))
    trial.run(source(STATION))
    with pytest.raises(SourceRefused, match="gone for good"):
        trial.until(lambda: False)


def test_a_reference_that_is_none(source: Make) -> None:
    """Protects from a path made of a mistake."""
    with pytest.raises(Misconfigured, match="no station reference"):
        source("1491TH/../..")
