"""Protects the following of OpenAQ's sensors: turns, windows, late values, broken pages, second lives."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from connectors.errors import Misconfigured, SourceRefused
from connectors.http_service import HttpService
from connectors.openaq import LIMITS, OpenAQSource
from connectors.rate_limiting import Limit
from connectors.reading import Quality, Reading, Rejected
from connectors.source import Stopping
from connectors.timestamps import to_text
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.connectors.polled_outlet import QuickOutlet
from tests.openaq_service import LOCATION, NO2, PM25, OpenAQService, location, row, sensor
from tests.replay_server import ReplayServer, Reply, busy_reply, json_reply, page_reply

KEY = "0123456789-key"
ENTITY = f"openaq-{LOCATION}"


def ago(minutes: float) -> str:
    """Return a time in the past, to the second."""
    return to_text(time.time_ns() // 1000 // 1_000_000 * 1_000_000 - round(minutes * 60e6))


@pytest.fixture
def service(replay: ReplayServer) -> OpenAQService:
    """A service with one location and one sensor, without values."""
    return OpenAQService(replay)


Make = Callable[..., OpenAQSource]


@pytest.fixture
def source(service: OpenAQService) -> Make:
    """Makes sources that ask as fast as they may."""

    def make(**options: object) -> OpenAQSource:
        http = HttpService(base_url=service.url, key=KEY, tries=1, timeout_s=60.0)
        given = {"locations": () if {"bbox", "around"} & options.keys() else (LOCATION,), "every_s": 0.05, "limits": ()}
        return OpenAQSource(http, **(given | options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """One life of a source."""
    with Trial(tmp_path) as trial:
        yield trial


def polls(trial: Trial) -> float:
    """Return how many questions for values went well."""
    return trial.count("events", event="polls")


def test_values_of_many_pages(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects the rows beyond the first page, though ``found`` says ``">7"``; and the key, which goes with each."""
    service.most_rows = 7
    service.rows[PM25] = [row(ago(60.0 * n), n) for n in range(21)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 21)
    found = trial.readings()
    assert [one.value for one in found] == [float(n) for n in range(20, -1, -1)]
    assert {(one.entity, one.channel, one.unit) for one in found} == {(ENTITY, "pm25", "ug/m3")}
    assert [one.query["page"] for one in service.asked()[:4]] == ["1", "2", "3", "4"]
    assert {one.query["limit"] for one in service.asked()} == {"1000"}
    assert all(one.query["datetime_from"].endswith("Z") for one in service.asked())
    assert all(one.headers["x-api-key"] == KEY for one in service.server.asked)
    assert trial.sites[ENTITY].channels == {"pm25": "ug/m3"}


def test_a_location_with_several_sensors(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects parameters and units from one another; flags become doubts."""
    service.locations = [location(LOCATION, sensor(), sensor(NO2, "no2", "ppm"), sensor(99, "no2", "µg/m³"))]
    at = ago(60)
    service.rows = {
        PM25: [row(at, 11.4, flags=True)],
        NO2: [row(at, 0.0291, name="no2", units="ppm")],
        99: [row(at, 55.6, name="no2")],
    }
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 3)
    assert {(one.channel, one.value, one.unit, one.quality) for one in trial.readings()} == {
        ("pm25", 11.4, "ug/m3", Quality.SUSPECT),
        ("no2_ppb", 29.1, "[ppb]", Quality.UNKNOWN),
        ("no2", 55.6, "ug/m3", Quality.UNKNOWN),
    }


def test_late_and_changed_values_come(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects what ``latest`` would never show: a value behind the newest, and one that was put right."""
    service.rows[PM25] = [row(ago(120), 11.0), row(ago(60), 12.0)]
    trial.run(source(overlap_s=3 * 3600.0))
    trial.until(lambda: len(trial.readings()) == 2)
    changed = row(to_text(trial.readings()[0].time_us), 11.5)
    service.rows[PM25] = [row(ago(180), 10.0), changed, service.rows[PM25][1]]
    trial.until(lambda: len(trial.readings()) == 4)
    assert sorted(one.value or 0.0 for one in trial.readings()[2:]) == [10.0, 11.5]
    trial.until(lambda: trial.count("corrections") == 1)


def test_repeats_are_dropped(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects Kafka from the overlap at every poll, from rows that come twice, and from the same bad row."""
    one = row(ago(60), 11.0)
    service.rows[PM25] = [one, one, {**one, "value": "a lot"}]
    trial.run(source())
    trial.until(lambda: polls(trial) >= 4)
    assert len(trial.readings()) == 1
    assert len(trial.dead_letters()) == 1


def test_hours_are_asked_for_elsewhere(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects the choice of series; an hour without a mean is missing."""
    service.rows[PM25] = [row(ago(60), None)]
    trial.run(source(series="hours"))
    trial.until(lambda: len(trial.readings()) == 1)
    assert trial.readings()[0].quality is Quality.MISSING
    assert service.asked()[0].path == f"/v3/sensors/{PM25}/hours"


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({"bbox": (9.0, 48.123456, 10.0, 49.0)}, {"bbox": "9.0,48.1235,10.0,49.0"}),
        ({"around": (48.788, 9.188, 12_000)}, {"coordinates": "48.788,9.188", "radius": "12000"}),
    ],
)
def test_areas(
    service: OpenAQService, source: Make, trial: Trial, options: dict[str, object], query: dict[str, str]
) -> None:
    """Protects the locations beyond the first page of an area; the two ways of naming one are never mixed."""
    service.most_rows = 2
    service.locations = [location(n, sensor(n * 10)) for n in range(1, 6)]
    service.rows = {n * 10: [row(ago(60), n)] for n in range(1, 6)}
    trial.run(source(**options))
    trial.until(lambda: len(trial.readings()) == 5)
    assert {one.entity for one in trial.readings()} == {f"openaq-{n}" for n in range(1, 6)} == set(trial.sites)
    first = service.server.asked_at("/v3/locations")[0]
    assert {name: value for name, value in first.query.items() if name not in ("limit", "page")} == query


def test_an_area_that_is_refused_ends_it(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects from asking for ever what the service calls wrong."""
    service.server.on("/v3/locations", json_reply({"detail": "bbox too large"}, 422))
    trial.run(source(bbox=(9.0, 48.0, 10.0, 49.0)))
    with pytest.raises(Misconfigured, match="bbox too large"):
        trial.until(lambda: False)


def test_an_unknown_location_stops_no_other(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects the others from one id that was mistyped or taken down."""
    service.rows[PM25] = [row(ago(60), 1.0)]
    trial.run(source(locations=(7, LOCATION)))
    trial.until(lambda: len(trial.readings()) == 1)


def test_no_location_at_all_is_said(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects from a source that brings nothing and says nothing."""
    trial.run(source(locations=(7,)))
    trial.until(lambda: any("knows no sensor" in (one or "") for one in trial.reasons))


def test_a_sensor_that_is_gone_stops_no_other(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects the location's other sensors; the one that is gone is not asked again until the list is made anew."""
    service.locations = [location(LOCATION, sensor(5), sensor())]
    service.rows[PM25] = [row(ago(60), 1.0)]
    trial.run(source())
    trial.until(lambda: polls(trial) >= 5)
    assert len(trial.readings()) == 1
    assert len(service.asked(5)) == 1
    assert trial.count("events", event="sensors_gone") == 1


def test_a_sensor_that_fails_stops_no_other(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects the location's other sensors from one whose question never succeeds; it is said all the while."""
    service.locations = [location(LOCATION, sensor(5), sensor(6, "no2"), sensor())]
    service.rows = {PM25: [row(ago(60), 1.0)], 6: [row(ago(60), 2.0, name="no2")]}
    service.server.on("/v3/sensors/5/*", busy_reply(500))
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 2)
    trial.until(lambda: len(service.asked(5)) >= 2)
    assert any("answers 500" in (one or "") for one in trial.reasons)


@pytest.mark.parametrize(
    "bad",
    [
        page_reply(),
        Reply(body=b'{"meta": {}, "results": [', stop_after=20),
        Reply(body=b'{"meta": {}, "results": [', headers={"Content-Type": "application/json"}),
        json_reply({"detail": "an error as 200"}),
        busy_reply(500),
        busy_reply(429, retry_after="0"),
        Reply(reset=True),
    ],
    ids=["a page for people", "truncated", "half a document", "an error as 200", "500", "429", "reset"],
)
def test_a_broken_page_commits_nothing_of_its_sensor(
    service: OpenAQService, source: Make, trial: Trial, bad: Reply
) -> None:
    """Protects from a cursor past values that never came: pages need not be in order."""
    service.most_rows = 5
    service.rows[PM25] = [row(ago(60.0 * n), n) for n in range(1, 13)]
    service.instead = [None, bad] * 1000
    trial.run(source())
    trial.until(lambda: [one for one in trial.reasons if one is not None])
    assert trial.readings() == []
    assert trial.outlet.cursor() is None
    service.instead = []
    trial.until(lambda: len(trial.readings()) == 12)
    trial.until(lambda: trial.reasons[-1] is None)


def test_a_slow_body_ends_at_its_deadline(service: OpenAQService, trial: Trial) -> None:
    """Protects the turn of the others: a body of a byte now and then never ends."""
    service.rows[PM25] = [row(ago(60), 1.0)]
    service.instead = [Reply(drip=True)]
    http = HttpService(base_url=service.url, key=KEY, tries=1, timeout_s=0.5)
    trial.run(OpenAQSource(http, locations=[LOCATION], every_s=0.05, limits=()))
    trial.until(lambda: any("no whole answer within 0.5 s" in (one or "") for one in trial.reasons))
    trial.until(lambda: len(trial.readings()) == 1)


def test_429_with_a_reset_is_waited_for(service: OpenAQService) -> None:
    """Protects the key from a ban: nothing is asked until the reset, whose seconds OpenAQ calls a timestamp."""
    outlet = QuickOutlet()
    service.instead = [
        busy_reply(429, x_ratelimit_remaining="0", x_ratelimit_reset="37", x_ratelimit_limit="60"),
        Reply(410, b'{"message": "Version 1 and 2 are gone"}'),
    ]
    http = HttpService(base_url=service.url, key=KEY, tries=2)
    made = OpenAQSource(http, locations=[LOCATION], monotonic=outlet.monotonic)
    with pytest.raises(SourceRefused, match="answers 410"):
        made.run(outlet)
    assert len(service.asked()) == 2
    assert 36.0 < outlet.monotonic() < 50.0
    assert any("asks us to wait" in (one or "") for one in outlet.told)


def test_429_without_a_word_is_not_asked_again_soon(service: OpenAQService) -> None:
    """Protects the key from a ban: what is too often by the minute, or by the hour, is so a second later too."""
    outlet = QuickOutlet()
    service.instead = [*[busy_reply(429)] * 3, Reply(410, b'{"message": "Version 1 and 2 are gone"}')]
    http = HttpService(base_url=service.url, key=KEY)
    made = OpenAQSource(http, locations=[LOCATION], monotonic=outlet.monotonic)
    with pytest.raises(SourceRefused, match="answers 410"):
        made.run(outlet)
    assert len(service.asked()) == 4
    assert outlet.monotonic() >= 60.0 + 120.0 + 240.0


class TakingOutlet(QuickOutlet):
    """Takes whatever it is given."""

    def deliver(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> None:
        """Nothing is kept here."""


def test_the_allowance_is_kept_and_nobody_starves(service: OpenAQService) -> None:
    """Protects the key from a ban in any minute and any hour, and the last of too many sensors from being forgotten."""
    numbers = range(1, 41)
    outlet, asked_at = TakingOutlet(), list[float]()
    service.locations = [location(LOCATION, *(sensor(n) for n in numbers))]
    service.rows = {n: [row(ago(60), n)] for n in numbers}

    def note() -> None:
        before_s = outlet.monotonic() - outlet.waits[-1]
        asked_at.extend([before_s] * (len(service.server.asked) - len(asked_at)))
        if outlet.monotonic() > 2 * 3600.0:
            outlet.stop.set()

    outlet.on_wait = note
    limits = (Limit(6, 60.0), Limit(60, 3600.0))
    made = OpenAQSource(
        HttpService(base_url=service.url, key=KEY, tries=1),
        locations=[LOCATION],
        every_s=600.0,
        limits=limits,
        monotonic=outlet.monotonic,
    )
    with pytest.raises(Stopping):
        made.run(outlet)
    for limit in limits:
        most = max(sum(at <= other < at + limit.per_s for other in asked_at) for at in asked_at)
        assert most <= limit.n
    assert len(asked_at) > 0.7 * 2 * 60
    asked = Counter(int(one.path.split("/")[3]) for one in service.asked())
    assert set(asked) == set(numbers)
    assert max(asked.values()) - min(asked.values()) <= 1


@pytest.mark.parametrize("status", [401, 402, 403, 410])
def test_a_refusal_ends_it(service: OpenAQService, source: Make, trial: Trial, status: int) -> None:
    """Protects the account: repeated calls of what is gone get it banned. The key is not shown."""
    service.server.on("/v3/locations/*", json_reply({"message": f"no, {KEY}"}, status))
    trial.run(source())
    with pytest.raises(SourceRefused, match=f"answers {status}") as raised:
        trial.until(lambda: False)
    assert KEY not in str(raised.value)
    assert len(service.server.asked) == 1


def test_what_takes_too_long_is_asked_in_parts(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects a long history from a service that answers 408: the span is narrowed until it answers."""
    service.longest_s = 40 * 3600.0
    service.rows[PM25] = [row(ago(60.0 * n), n) for n in range(1, 200)]
    trial.run(source(history_s=10 * 86_400.0))
    trial.until(lambda: len(trial.readings()) == 199)
    times = [one.time_us for one in trial.readings()]
    assert times == sorted(times)
    assert not [one for one in trial.reasons if one is not None]
    assert len([one for one in service.asked() if "datetime_to" in one.query]) >= 5


def test_what_always_takes_too_long_is_said(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects from narrowing for ever."""
    service.longest_s = -1e9
    service.rows[PM25] = [row(ago(60), 1)]
    asked: list[int] = []
    report = trial.outlet._report

    def note(reason: str | None) -> None:
        asked.append(len(service.asked()))
        report(reason)

    trial.outlet._report = note
    trial.run(source())
    trial.until(lambda: any("takes too long (408)" in (one or "") for one in trial.reasons))
    assert asked[0] < 20


def test_a_second_life_goes_on_where_each_sensor_was(service: OpenAQService, source: Make, tmp_path: Path) -> None:
    """Protects the allowance from the whole history at each start, and a sensor that lags from the others' pace."""
    service.locations = [location(LOCATION, sensor(), sensor(NO2, "no2"))]
    service.rows = {PM25: [row(ago(60), 1.0)], NO2: [row(ago(1200), 2.0, name="no2")]}
    with Trial(tmp_path) as first:
        first.run(source(overlap_s=60.0))
        first.until(lambda: len(first.readings()) == 2)
        assert first.stop() < LEAVES_WITHIN_S
        cursor = json.loads(first.outlet.cursor() or "")
    assert {number for numbers in cursor["seen"].values() for number in numbers} == {PM25, NO2}
    asked = len(service.asked())
    service.rows[NO2].append(row(ago(1190), 3.0, name="no2"))
    with Trial(tmp_path) as second:
        second.run(source(overlap_s=60.0))
        second.until(lambda: 3.0 in [one.value for one in second.readings()])
        second.until(lambda: polls(second) >= 2)
    since = {one.path.split("/")[3]: one.query["datetime_from"] for one in reversed(service.asked()[asked:])}
    assert ago(1202) < since[str(NO2)] < ago(1200)
    assert ago(62) < since[str(PM25)] < ago(60)
    assert service.asked()[asked].path.split("/")[3] == str(NO2)  # that which is furthest behind comes first


def test_an_overlap_that_brings_nothing_new_writes_no_cursor(
    service: OpenAQService, source: Make, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the spool from a write for each question."""
    service.rows[PM25] = [row(ago(60), 1.0)]
    deliver, cursors = trial.outlet.deliver, list[str | None]()

    def noting(readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()) -> None:
        cursors.append(cursor)
        deliver(readings, cursor=cursor, rejected=rejected)

    monkeypatch.setattr(trial.outlet, "deliver", noting)
    trial.run(source())
    trial.until(lambda: len(cursors) >= 3)
    assert cursors[0] is not None
    assert set(cursors[1:]) == {None}


def test_a_value_of_the_future_does_not_move_the_cursor_there(
    service: OpenAQService, source: Make, trial: Trial
) -> None:
    """Protects from one wrong clock: everything until then would be passed over."""
    service.rows[PM25] = [row(ago(-30), 1.0)]
    trial.run(source(overlap_s=60.0))
    trial.until(lambda: len(trial.readings()) == 1)
    service.rows[PM25].append(row(ago(0), 2.0))
    trial.until(lambda: len(trial.readings()) == 2)


@pytest.mark.parametrize(
    "cursor", [b"", b"{", b"[]", b'{"seen": 7}', b'{"seen": {"soon": [1], "2026-01-01T00:00:00Z": 7}}']
)
def test_a_cursor_that_is_none(service: OpenAQService, source: Make, trial: Trial, cursor: bytes) -> None:
    """Protects the start after somebody else's hand was in the spool: it begins with the history."""
    trial.outlet.deliver([], cursor=cursor.decode())
    service.rows[PM25] = [row(ago(60), 1.0)]
    trial.run(source())
    trial.until(lambda: len(trial.readings()) == 1)


def test_too_many_sensors_are_told(service: OpenAQService, source: Make, trial: Trial) -> None:
    """Protects from a rate that nobody knows of: each is asked more rarely than configured, never beyond the limit."""
    service.rows[PM25] = [row(ago(60), 1.0)]
    with capture_logs() as logged:
        trial.run(source(limits=LIMITS))
        trial.until(lambda: len(trial.readings()) == 1)
    assert [one["sensors"] for one in logged if "allowance" in one["event"]] == [1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"locations": ()}, "either locations"),
        ({"locations": (1,), "bbox": (0.0, 0.0, 1.0, 1.0)}, "either locations"),
        ({"bbox": (10.0, 48.0, 9.0, 49.0)}, "least longitude"),
        ({"around": (48.0, 9.0, 30_000)}, "25000 m"),
        ({"locations": (0,)}, "is no id"),
    ],
)
def test_what_is_no_selection(source: Make, options: dict[str, object], said: str) -> None:
    """Protects from finding out by an empty answer, or by none."""
    with pytest.raises(Misconfigured, match=said):
        source(**options)
