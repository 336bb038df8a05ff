"""Protects the following of USGS gauges: modifications, windows, broken pages, second lives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.errors import Misconfigured, SourceRefused
from connectors.http_service import HttpService
from connectors.reading import Quality
from connectors.timestamps import to_text
from connectors.usgs import KEY_HEADER, UsgsSource
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.replay_server import ReplayServer, Reply, busy_reply, json_reply, page_reply
from tests.usgs_service import FLOW, SITE, STAGE, UsgsService, collection, series, value

KEY = "0123456789-key"


def ago(minutes: float) -> str:
    """Return a time in the past, as ``usgs_service.value`` wants it."""
    return to_text(time.time_ns() // 1000 // 1_000_000 * 1_000_000 - round(minutes * 60e6)).rstrip("Z")


@pytest.fixture
def service(replay: ReplayServer) -> UsgsService:
    """A service without values."""
    return UsgsService(replay)


Make = Callable[..., UsgsSource]


@pytest.fixture
def source(service: UsgsService) -> Make:
    """Makes sources that poll as fast as they may."""

    def make(sites: tuple[str, ...] = (SITE,), **options: object) -> UsgsSource:
        http = HttpService(base_url=service.url, key=KEY, key_header=KEY_HEADER, tries=2, timeout_s=60.0)
        given = {"every_s": 0.05, "overlap_s": 1800.0, "limits": ()} | options
        return UsgsSource(http, sites, ("00065", "00060"), **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """One life of a source."""
    with Trial(tmp_path) as trial:
        yield trial


def polls(trial: Trial) -> float:
    """Return how many polls went well."""
    return trial.count("events", event="polls")


def test_values_of_many_pages_come_in_the_order_of_time(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects windows downstream: pages come by series, readings by time."""
    service.page_size = 7
    times = [ago(15.0 * n) for n in range(12)]
    service.rows = [value(t, "1.5", t) for t in times]
    service.rows += [value(t, "90", t, series=FLOW, code="00060", unit="ft^3/s") for t in times]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 24)
    found = trial.readings()
    assert [one.time_us for one in found[:2]] == sorted(one.time_us for one in found[:2])
    by_time = [one.time_us for one in found if one.channel == "stage"]
    assert by_time == sorted(by_time)
    assert {(one.channel, one.unit) for one in found} == {("stage", "[ft_i]"), ("discharge", "[ft_i]3/s")}
    trial.until(lambda: trial.sites)
    assert trial.sites[SITE].channels == {"stage": "ft", "discharge": "ft^3/s"}
    assert trial.sites[SITE].latitude == 40.234
    assert all(one.headers["x-api-key"] == KEY for one in service.server.asked)


def test_what_is_rewritten_comes_again_as_a_correction(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects from following the time of values: the old one with a new ``last_modified`` would be missed."""
    service.rows = [value(ago(120), "1.5", ago(110)), value(ago(15), "1.6", ago(10))]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 2)
    service.rows[0] = {**service.rows[0], "value": "2.5", "approval_status": "Approved", "last_modified": f"{ago(0)}Z"}
    trial.until(lambda: len(trial.readings()) == 3)
    corrected = trial.readings()[-1]
    assert (corrected.value, corrected.quality) == (2.5, Quality.GOOD)
    assert corrected.time_us == trial.readings()[0].time_us
    trial.until(lambda: trial.count("corrections") == 1)


def test_overlapping_polls_repeat_nothing(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects Kafka from the same readings at every poll, and from the same bad row."""
    service.rows = [value(ago(5), "1.5", ago(4)), value(ago(4), "a lot", ago(3))]
    trial.run(source())
    trial.until(lambda: polls(trial) >= 4)
    assert len(trial.readings()) == 1
    assert len(trial.dead_letters()) == 1


def test_a_refresh_that_changes_nothing_is_no_correction(
    service: UsgsService, source: Make, trial: Trial
) -> None:
    """Protects everybody downstream from a month of corrections that correct nothing."""
    service.rows = [value(ago(n), str(n), ago(n - 1)) for n in range(2, 12)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 10)
    service.rows = [{**row, "last_modified": f"{ago(0)}Z"} for row in service.rows]
    trial.until(lambda: trial.count("events", event="unchanged") >= 100)
    service.rows[0] = {**service.rows[0], "approval_status": "Approved"}
    trial.until(lambda: len(trial.readings()) == 11)
    assert trial.readings()[-1].quality is Quality.GOOD
    trial.until(lambda: trial.count("corrections") == 1)


def test_metadata_that_fail_later_stop_no_values(
    service: UsgsService, source: Make, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects values from a catalogue that is down: what is known of the series holds."""
    monkeypatch.setattr("connectors.usgs._LOOK_AGAIN_US", 0)
    service.rows = [value(ago(10), "1", ago(9))]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)
    service.server.on("/ogcapi/v0/collections/time-series-metadata/items", Reply(404))
    trial.until(lambda: trial.count("events", event="failed_looks") >= 1)
    service.rows.append(value(ago(5), "2", ago(4)))
    trial.until(lambda: len(trial.readings()) == 2)


def test_a_long_absence_is_caught_up_in_spans(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects progress: the cursor moves with each span, so that no life has to bring all days at once."""
    service.rows = [value(ago(60.0 * n), str(n), ago(60.0 * n - 1)) for n in range(1, 72)]
    trial.run(source(history_s=3 * 86_400.0))
    trial.until(lambda: len(trial.readings()) == 71)
    times = [one.time_us for one in trial.readings()]
    assert times == sorted(times)
    spans = [one.query["last_modified"] for one in service.asked()]
    assert sum(not span.endswith("..") for span in spans) >= 10


@pytest.mark.parametrize(
    "bad",
    [
        page_reply(),
        Reply(body=b'{"type": "FeatureCollection", "features": [', stop_after=20),
        json_reply({"code": "InvalidParameterValue", "description": "cannot"}),
        busy_reply(500),
        json_reply({}, 404),
    ],
    ids=["a page for people", "truncated", "an error as 200", "500", "404"],
)
def test_a_broken_page_commits_nothing_of_its_poll(
    service: UsgsService, source: Make, trial: Trial, bad: Reply
) -> None:
    """Protects from a cursor past readings that never came."""
    service.page_size = 5
    service.rows = [value(ago(15.0 * n), str(n), ago(15.0 * n - 1)) for n in range(1, 13)]
    service.instead = [None, bad, bad] * 1000
    trial.run(source(history_s=4 * 3600.0))
    trial.until(lambda: [one for one in trial.reasons if one is not None])
    assert trial.readings() == []
    assert trial.outlet.cursor() is None
    service.instead = []
    trial.until(lambda: len(trial.readings()) == 12)
    trial.until(lambda: trial.reasons[-1] is None)


def test_a_second_life_goes_on_where_the_first_ended(service: UsgsService, source: Make, tmp_path: Path) -> None:
    """Protects what came while nobody looked, and the service from the whole history at each start."""
    service.rows = [value(ago(300), "1", ago(290)), value(ago(60), "2", ago(50))]
    with Trial(tmp_path) as first:
        first.run(source())
        first.until(lambda: len(first.readings()) == 2)
        assert first.stop() < LEAVES_WITHIN_S
    service.rows.append(value(ago(30), "3", ago(20)))
    asked = len(service.asked())
    with Trial(tmp_path) as second:
        second.run(source())
        second.until(lambda: len(second.readings()) == 2)  # that in the overlap comes twice
        assert [one.value for one in second.readings()] == [2.0, 3.0]
    start = service.asked()[asked].query["last_modified"].split("/")[0]
    assert ago(51 + 31) < start.rstrip("Z") < ago(50 + 29)


def test_a_life_that_ends_between_pages_loses_nothing(service: UsgsService, source: Make, tmp_path: Path) -> None:
    """Protects from a crash in the middle of a sequence of pages: the cursor says only what is complete."""
    service.page_size = 3
    service.rows = [value(ago(15.0 * n), str(n), ago(15.0 * n - 1)) for n in range(1, 8)]
    service.instead = [None, Reply(hang=True)]
    with Trial(tmp_path) as first:
        first.run(source(history_s=4 * 3600.0))
        service.server.wait_until(lambda: len(service.asked()) == 2)
        assert first.stop() < LEAVES_WITHIN_S
        assert first.readings() == []
    with Trial(tmp_path) as second:
        second.run(source())
        second.until(lambda: len(second.readings()) == 7)


def test_another_set_of_sites_begins_with_its_history(service: UsgsService, source: Make, tmp_path: Path) -> None:
    """Protects a site that is added later: the old cursor is not about it."""
    other = "USGS-05427718"
    service.series.append(series("99999999aa", site=other))
    service.rows = [
        value(ago(60), "2", ago(50)),
        value(ago(700), "7", ago(690), site=other, series="99999999aa"),
    ]
    with Trial(tmp_path) as first:
        first.run(source())
        first.until(lambda: len(first.readings()) == 1)
    with Trial(tmp_path) as second:
        second.run(source((SITE, other)))
        second.until(lambda: len(second.readings()) == 2)


def test_a_clock_ahead_of_theirs_loses_nothing(
    service: UsgsService, source: Make, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from our clock: what counts is the service's, by its Date header."""
    real = time.time_ns
    service.rows = [value(ago(40), "1", ago(40))]
    late = value(ago(10), "2", ago(5))
    monkeypatch.setattr("connectors.http_polling.time.time_ns", lambda: real() + 5 * 3600 * 10**9)
    trial.run(source(every_s=0.05, history_s=600.0))  # by our clock, ten minutes back would be in five hours
    trial.until(lambda: polls(trial) >= 2)
    service.rows.append(late)
    trial.until(lambda: len(trial.readings()) >= 1)
    assert trial.readings()[-1].value in (1.0, 2.0)
    trial.until(lambda: 2.0 in [one.value for one in trial.readings()])


def test_a_modification_in_the_future_does_not_move_the_cursor_there(
    service: UsgsService, source: Make, trial: Trial
) -> None:
    """Protects from one wrong ``last_modified``: everything until then would be passed over."""
    service.rows = [value(ago(40), "1", ago(-600))]
    trial.run(source(overlap_s=60.0))
    trial.until(lambda: polls(trial) >= 2)
    cursor = trial.outlet.cursor()
    assert cursor is not None
    assert json.loads(cursor)["modified"] <= f"{ago(-1)}Z"


def test_a_blocked_key_ends_it(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects the key from being used on, and from being shown."""
    service.server.on("/ogcapi/v0/collections/*", json_reply({"error": f"API_KEY_INVALID {KEY}"}, 403))
    for at in ("continuous", "time-series-metadata", "monitoring-locations"):
        service.server.on(f"/ogcapi/v0/collections/{at}/items", json_reply({"error": f"bad {KEY}"}, 403))
    trial.run(source())
    with pytest.raises(SourceRefused, match="answers 403") as raised:
        trial.until(lambda: False)
    assert KEY not in str(raised.value)
    assert len(service.server.asked) == 1


def test_a_series_that_appears_is_looked_up(service: UsgsService, source: Make, trial: Trial) -> None:
    """Protects a new sensor from sharing the channel of the old one before its name is known."""
    service.rows = [value(ago(10), "1", ago(9)), value(ago(10), "9", ago(9), series="ffffffff66")]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 2)
    assert {(one.channel, one.value) for one in trial.readings()} == {("stage", 1.0), ("stage.ffffffff", 9.0)}


@pytest.mark.parametrize(("sites", "said"), [((), "no site"), (("06904500",), "is no site"), (("USGS-1,2",), "is no")])
def test_sites_that_are_none(source: Make, sites: tuple[str, ...], said: str) -> None:
    """Protects from finding out by an empty answer."""
    with pytest.raises(Misconfigured, match=said):
        source(sites)


def test_the_service_of_the_tests_pages_as_the_real_one() -> None:
    """Protects the tests: a next link is there until the last page."""
    assert collection([], "https://x/")["links"] != collection([])["links"]
    assert STAGE != FLOW
