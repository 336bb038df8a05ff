"""Protects French rivers: doubles of sites, ranks of values, pages that are 206, and everything that may be sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import Misconfigured, SourceRefused
from connectors.http_service import HttpService
from connectors.hubeau import HubeauSource
from connectors.hubeau_pages import highest, observations_page, stations_page
from connectors.reading import Quality, Reason
from connectors.timestamps import to_text
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.hubeau_service import AT, SITE, STATION, Fields, HubeauService, observation
from tests.replay_server import ReplayServer, Reply, busy_reply, json_reply, page_reply

TIME = "2026-11-20T14:00:00Z"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def ago(minutes: float) -> str:
    """Return a time in the past, on a whole second."""
    return to_text(time.time_ns() // 1_000_000_000 * 1_000_000 - round(minutes * 60) * 1_000_000)


def body(*rows: object, **more: object) -> bytes:
    """Return a page."""
    return json.dumps({"count": len(rows), "next": None, "data": rows, **more}).encode()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (observation(TIME, -1232.0), ("stage", -1232.0, "mm", Quality.PROVISIONAL)),
        (observation(TIME, 0), ("stage", 0.0, "mm", Quality.PROVISIONAL)),
        (observation(TIME, 4480, grandeur_hydro="Q"), ("discharge", 4480.0, "L/s", Quality.PROVISIONAL)),
        (observation(TIME, 501847, code_qualification_obs=12), ("stage", 501847.0, "mm", Quality.SUSPECT)),
        (observation(TIME, 1.0, code_qualification_obs=20), ("stage", 1.0, "mm", Quality.GOOD)),
        (observation(TIME, 1.0, code_qualification_obs="20"), ("stage", 1.0, "mm", Quality.GOOD)),
        (observation(TIME, 1.0, code_qualification_obs=None), ("stage", 1.0, "mm", Quality.UNKNOWN)),
        (observation(TIME, None), ("stage", None, "mm", Quality.MISSING)),
    ],
)
def test_an_observation(row: Fields, expected: tuple[str, float | None, str, Quality]) -> None:
    """Protects heights below zero, which are legitimate, and doubt, which is not hidden."""
    (reading,) = highest(observations_page(body(row)).ranked)
    assert (reading.channel, reading.value, reading.unit, reading.quality) == expected
    assert reading.entity == STATION


def test_what_a_site_repeats_is_dropped() -> None:
    """Protects from every reading twice where a site's code is asked for."""
    page = observations_page(body(observation(TIME, 1.0), observation(TIME, 1.0, code_station=None)))
    assert len(page.ranked) == 1
    assert page.of_sites == 1
    assert not page.rejected


def test_the_higher_status_counts_in_any_order() -> None:
    """Protects from a raw value in the place of one that was validated."""
    rows = [
        observation(TIME, 1.0, code_statut=4, date_debut_serie="2026-11-20T12:00:00Z"),
        observation(TIME, 2.0, code_statut=12),
        observation(TIME, 3.0, code_statut=4),
        observation(TIME, 9.0, code_statut=16, grandeur_hydro="Q"),
    ]
    for listed in (rows, rows[::-1]):
        found = highest(observations_page(body(*listed)).ranked)
        assert {(one.channel, one.value) for one in found} == {("stage", 2.0), ("discharge", 9.0)}
    (of_equals,) = highest(observations_page(body(rows[0], rows[2])).ranked)
    assert of_equals.value == 1.0  # the series that began later


def test_bad_rows_cost_themselves_only() -> None:
    """Protects the rows beside them."""
    good = observation(TIME, 1.0)
    bad: list[object] = [
        {**good, "resultat_obs": "beaucoup"},
        {**good, "date_obs": "2026-11-20T14:00:00"},
        {**good, "grandeur_hydro": "X"},
        {**good, "code_station": None, "code_site": None},
        7,
    ]
    page = observations_page(body(good, *bad))
    assert len(page.ranked) == 1
    assert [one.reason for one in page.rejected] == [
        Reason.WRONG_TYPE, Reason.NAIVE_TIME, Reason.UNKNOWN_CHANNEL, Reason.MISSING_KEY, Reason.WRONG_TYPE,
    ]  # fmt: skip


@pytest.mark.parametrize("broken", [b"", b"<html>", b"[]", b'{"data": null}', b'{"code": "InvalidRequest"}'])
def test_a_page_that_is_none_is_broken(broken: bytes) -> None:
    """Protects from an error page taken for an empty one."""
    assert observations_page(broken).broken


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the thread from whatever is sent."""
    page = observations_page(raw)
    assert page.broken or page.next_link is None
    stations_page(raw)


FIELD = st.sampled_from([*observation(TIME, 1.0), "latitude_station", "libelle_station"])


@settings(max_examples=60)
@given(st.lists(st.dictionaries(FIELD, ANY)))
def test_any_row_is_an_observation_or_rejected(changes: list[Fields]) -> None:
    """Protects from rows lost without a word."""
    rows = [{**observation(TIME, 1.0), **change} for change in changes]
    page = observations_page(body(*rows))
    assert len(page.ranked) + len(page.rejected) + page.of_sites == len(rows)
    highest(page.ranked)
    stations_page(body(*rows))


# ---- the source ----

Make = Callable[..., HubeauSource]


@pytest.fixture
def service(replay: ReplayServer) -> HubeauService:
    """A service without observations."""
    return HubeauService(replay)


@pytest.fixture
def source(service: HubeauService) -> Make:
    """Makes sources that poll as fast as they may."""

    def make(*codes: str, **options: object) -> HubeauSource:
        http = HttpService(base_url=service.url, tries=1)
        return HubeauSource(http, codes or (STATION,), **{"every_s": 0.05, **options})  # type: ignore[arg-type]

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """One life of a source."""
    with Trial(tmp_path) as trial:
        yield trial


def test_pages_that_are_parts_are_success(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects all pages but the last: each is a 206, and its link forgets TLS and port."""
    service.page_size = 4
    service.rows = [observation(ago(5 * n), n) for n in range(1, 11)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 10)
    assert trial.sites[STATION].latitude == 47.586
    assert trial.sites[STATION].attributes["code_site"] == SITE
    service.rows.append(observation(ago(0), 99))
    trial.until(lambda: len(trial.readings()) == 11)


def test_a_validated_value_comes_as_a_correction(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects from keeping the raw value when a better one is beside it."""
    row = observation(ago(30), 1000)
    service.rows = [row]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)
    service.rows.append({**row, "resultat_obs": 1010, "code_statut": 12})
    trial.until(lambda: len(trial.readings()) == 2)
    polls = trial.count("events", event="polls")
    trial.until(lambda: trial.count("events", event="polls") >= polls + 3)
    assert [one.value for one in trial.readings()] == [1000.0, 1010.0]


def test_a_site_brings_its_stations_once(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects from doubles, and from a site that is asked for all again at each poll."""
    service.rows = [
        observation(ago(10), 1),
        observation(ago(10), 1, code_station=None),
        observation(ago(5), 2, code_station=f"{SITE}02"),
    ]
    trial.run(source(SITE))
    trial.until(lambda: trial.count("events", event="polls") >= 3)
    assert {(one.entity, one.value) for one in trial.readings()} == {(STATION, 1.0), (f"{SITE}02", 2.0)}
    assert len(trial.readings()) == 2
    assert service.asked()[-1].query["date_debut_obs"] >= ago(10 + 121)


def test_a_dead_station_holds_back_no_other(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects the service from the same days over and over for a gauge that has drowned."""
    dead = "A111222201"
    service.rows = [observation(ago(3 * 1440), 1, code_station=dead), observation(ago(10), 2)]
    trial.run(source(STATION, dead, history_s=4 * 86_400.0))
    trial.until(lambda: len(trial.readings()) == 2)
    polls = trial.count("events", event="polls")
    trial.until(lambda: trial.count("events", event="polls") >= polls + 3)
    assert service.asked()[-1].query["date_debut_obs"] >= ago(2 * 1440 + 132)


def test_a_time_to_come_hides_nothing(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects what a station measures after one observation of a clock that ran ahead."""
    service.rows = [observation(ago(30), 1), observation(ago(-3 * 1440), 9)]
    trial.run(source())
    trial.until(lambda: len(service.asked()) >= 3)
    service.rows.append(observation(ago(2), 2))
    trial.until(lambda: [one.value for one in trial.readings()] == [1.0, 2.0])


def test_an_absence_of_weeks_is_caught_up_in_parts(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects the memory: two days at a time, and quiet days in between do not stop it."""
    service.rows = [observation(ago(60 * n), n) for n in range(1, 600) if not 100 < n < 400]
    trial.run(source(history_s=20 * 86_400.0, every_s=3600.0))
    wanted = sum(1 for n in range(1, 480) if not 100 < n < 400)
    trial.until(lambda: len(trial.readings()) >= wanted)
    times = [one.time_us for one in trial.readings()]
    assert times == sorted(times)
    assert sum("date_fin_obs" in one.query for one in service.asked()) >= 5


@pytest.mark.parametrize(
    "bad", [page_reply(status=206), Reply(206, b'{"data": []}', stop_after=5), json_reply({}), busy_reply(503)]
)
def test_a_broken_page_commits_nothing_of_its_poll(
    service: HubeauService, source: Make, trial: Trial, bad: Reply
) -> None:
    """Protects from a cursor past readings that never came."""
    service.page_size = 4
    service.rows = [observation(ago(5 * n), n) for n in range(10)]
    service.instead = [None, bad] * 1000
    trial.run(source())
    trial.until(lambda: any(trial.reasons))
    assert trial.readings() == []
    service.instead = []
    trial.until(lambda: len(trial.readings()) == 10)


def test_a_second_life_goes_on(service: HubeauService, source: Make, tmp_path: Path) -> None:
    """Protects what came between the lives."""
    service.rows = [observation(ago(600), 1), observation(ago(300), 2)]
    with Trial(tmp_path) as first:
        first.run(source())
        first.until(lambda: len(first.readings()) == 2)
        assert first.stop() < LEAVES_WITHIN_S
    service.rows.append(observation(ago(200), 3))
    with Trial(tmp_path) as second:
        second.run(source())
        second.until(lambda: [one.value for one in second.readings()] == [2.0, 3.0])


def test_a_list_of_stations_that_fails_stops_nothing(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects observations from a catalogue that is down; it is asked again later."""
    service.server.on(f"{AT}/referentiel/stations", page_reply())
    service.rows = [observation(ago(5), 1)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)
    assert trial.count("events", event="failed_looks") == 1
    assert not trial.sites


def test_a_service_that_is_gone_ends_it(service: HubeauService, source: Make, trial: Trial) -> None:
    """Protects from asking for ever what is no more."""
    service.server.on(f"{AT}/referentiel/stations", Reply(410))
    trial.run(source())
    with pytest.raises(SourceRefused, match="gone for good"):
        trial.until(lambda: False)


@pytest.mark.parametrize(("codes", "said"), [(("K44",), "is no code"), (("K4470010,A",), "is no code")])
def test_codes_that_are_none(source: Make, codes: tuple[str, ...], said: str) -> None:
    """Protects from finding out by an empty answer."""
    with pytest.raises(Misconfigured, match=said):
        source(*codes)


def test_quantities_that_are_none(source: Make) -> None:
    """Protects from a poll for nothing."""
    with pytest.raises(Misconfigured, match="allowed: H, Q"):
        source(quantities=("T",))
