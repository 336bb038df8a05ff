"""Protects readings from everything that Sensor.Community's documents hold."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.reading import Quality, Reason
from connectors.sensor_community_rows import Rows, rows_of
from connectors.timestamps import parse
from tests.sensor_community_service import SENSOR, Fields, row

TIME = "2026-11-20 14:03:11"
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def read(*rows: object, indoor: bool = False) -> Rows:
    """Return the only piece of a document."""
    (piece,) = rows_of(json.dumps(rows).encode(), indoor=indoor)
    return piece


def test_a_row() -> None:
    """Protects each field of the everyday case; the time has no offset and is UTC."""
    piece = read(row(TIME, ("P1", "18.40"), ("P2", "7.02")))
    assert [(one.entity, one.channel, one.value, one.unit) for one in piece.readings] == [
        (f"sc-{SENSOR}", "pm10", 18.4, "ug/m3"), (f"sc-{SENSOR}", "pm25", 7.02, "ug/m3"),
    ]  # fmt: skip
    assert {one.time_us for one in piece.readings} == {parse("2026-11-20T14:03:11Z")}
    assert {one.quality for one in piece.readings} == {Quality.UNKNOWN}
    assert (piece.broken, piece.rejected) == ("", [])


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_this_machines_zone_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a shift by the hours of wherever this runs, also in the hour that summer time repeats."""
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        (reading,) = read(row("2026-11-01 05:30:00", ("P1", "1"))).readings
    finally:
        monkeypatch.undo()
        time.tzset()
    assert reading.time_us == parse("2026-11-01T05:30:00Z")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-20 14:03:11", "2026-11-20T14:03:11Z"),
        ("2026-11-20T14:03:11", "2026-11-20T14:03:11Z"),
        ("2026-11-20T14:03:11Z", "2026-11-20T14:03:11Z"),
        ("2026-11-20 14:03:11.25", "2026-11-20T14:03:11.25Z"),
        ("2026-11-20T15:03:11+01:00", "2026-11-20T14:03:11Z"),
    ],
)
def test_times(text: str, same: str) -> None:
    """Protects times that are written another way one day."""
    assert read(row(text, ("P1", "1"))).readings[0].time_us == parse(same)


@pytest.mark.parametrize(
    ("kind", "name", "channel", "unit"),
    [
        ("SDS011", "P1", "pm10", "ug/m3"), ("SDS011", "P2", "pm25", "ug/m3"), ("PMS5003", "P0", "pm1", "ug/m3"),
        ("SPS30", "P4", "pm4", "ug/m3"), ("SPS30", "N05", "n05", ""), ("HPM", "P1", "pm10", "ug/m3"),
        ("NextPM", "P2", "pm25", "ug/m3"), ("IPS-7100", "P05", "pm0_5", "ug/m3"),
        ("PPD42NS", "P1", "count_1um", "1"), ("PPD42NS", "P2", "count_2_5um", "1"),
        ("DSM501A", "P25", "count_2_5um", "1"), ("GP2Y10", "P1", "gp2y10_p1", ""),
        ("BME280", "temperature", "temperature", "Cel"),
        ("BME280", "pressure", "pressure", "Pa"), ("BME280", "pressure_at_sealevel", "pressure_sealevel", "Pa"),
        ("DHT22", "humidity", "humidity", "%"), ("Laerm", "noise_LAeq", "noise", "dB"),
        ("DNMS (Laerm)", "noise_LA_max", "noise_max", "dB"), ("SCD30", "co2_ppm", "co2", "[ppm]"),
        ("Radiation Si22G", "counts_per_minute", "counts_per_minute", ""),
    ],
)  # fmt: skip
def test_kinds_and_names(kind: str, name: str, channel: str, unit: str) -> None:
    """Protects PM10 from counts of particles that bear the same name."""
    (reading,) = read(row(TIME, (name, "1.5"), kind=kind)).readings
    assert (reading.channel, reading.unit, reading.value) == (channel, unit, 1.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5.33", 5.33), (5.33, 5.33), (5, 5.0), ("0", 0.0), ("-0.5", -0.5), (" 7 ", 7.0)],
)
def test_values(value: object, expected: float) -> None:
    """Protects values however they are written; zero is one."""
    assert [one.value for one in read(row(TIME, ("P1", value))).readings] == [expected]


@pytest.mark.parametrize("value", ["unknown", "nan", "NaN", "", None])
def test_no_value(value: object) -> None:
    """Protects models from texts that stand for nothing."""
    (reading,) = read(row(TIME, ("P1", value))).readings
    assert (reading.value, reading.quality) == (None, Quality.MISSING)


def test_a_bare_nan_costs_nothing() -> None:
    """Protects a whole document from one value that is not JSON."""
    raw = json.dumps([row(TIME, ("P1", float("nan")), ("P2", "7"))]).encode()
    assert b"NaN" in raw
    (piece,) = rows_of(raw)
    assert [(one.channel, one.value) for one in piece.readings] == [("pm10", None), ("pm25", 7.0)]


def test_a_bad_row_costs_itself_only() -> None:
    """Protects the rows beside it, and tells which was bad and why."""
    good = row(TIME, ("P1", "18.40"))
    bad: list[object] = [
        row(TIME, ("P1", "a lot")), row(TIME, ("P1", "1e999")), row("yesterday", ("P1", "1")),
        {**good, "sensor": None}, {**good, "sensor": {"id": "x"}}, {**good, "sensordatavalues": 7}, "a text", None,
        {**good, "sensordatavalues": [{"value": "1"}]}, {**good, "sensordatavalues": good["sensordatavalues"] * 101},
        {**good, "timestamp": None},
    ]  # fmt: skip
    piece = read(good, *bad, good)
    assert len(piece.readings) == 2
    assert [one.reason for one in piece.rejected] == [
        Reason.WRONG_TYPE, Reason.NOT_FINITE, Reason.BAD_TIME, *[Reason.WRONG_TYPE] * 6, Reason.TOO_LARGE,
        Reason.WRONG_TYPE,
    ]  # fmt: skip
    assert [one.offset for one in piece.rejected] == list(range(2, 13))
    assert all(one.raw for one in piece.rejected)


@pytest.mark.parametrize("broken", [b"", b"<html>", b"{}", b"null", b'{"detail": "no"}', b'[{"id": 1}, {"id"'])
def test_a_document_that_is_none_is_broken(broken: bytes) -> None:
    """Protects from taking an error page for five quiet minutes."""
    (piece,) = rows_of(broken)
    assert piece.broken
    assert piece.empty


def test_sensors_in_houses_are_left_out_unless_they_are_wanted() -> None:
    """Protects the air outside from kitchens."""
    rows = [row(TIME, ("P1", "1")), row(TIME, ("P1", "900"), sensor=2, indoor=1), row(TIME, ("P1", "9"), indoor="1")]
    piece = read(*rows)
    assert ([one.value for one in piece.readings], piece.indoor) == ([1.0], 2)
    assert [one.entity for one in piece.sites] == [f"sc-{SENSOR}"]
    piece = read(*rows, indoor=True)
    assert ([one.value for one in piece.readings], piece.indoor) == ([1.0, 900.0, 9.0], 0)
    assert piece.sites[1].attributes["indoor"] == "yes"


def test_a_site() -> None:
    """Protects the map: coordinates are texts, and often blurred, which is said."""
    (site,) = read(row(TIME, ("P1", "1"), ("P2", "2"), ("durP1", "3")), row(TIME, ("P1", "1"))).sites
    assert (site.entity, site.name) == (f"sc-{SENSOR}", f"Sensor.Community SDS011 {SENSOR}")
    assert (site.latitude, site.longitude) == (48.782, 9.18)
    assert site.channels == {"pm10": "ug/m3", "pm25": "ug/m3"}
    assert site.limits == {"pm10": (0.0, 1999.9), "pm25": (0.0, 1999.9)}
    assert site.attributes == {
        "sensor_type": "SDS011", "station": "51233", "country": "DE", "altitude": "247.3", "exact_location": "no",
    }  # fmt: skip


@pytest.mark.parametrize("where", [{"latitude": ""}, {"latitude": "91"}, {"latitude": "north"}, {"latitude": None}])
def test_a_place_that_is_none(where: dict[str, Any]) -> None:
    """Protects the map from points nowhere, and readings from their site's oddities."""
    piece = read(row(TIME, ("P1", "1"), **where))
    assert piece.sites[0].latitude is None
    assert len(piece.readings) == 1


def test_a_large_document_is_read_in_pieces_and_little_memory() -> None:
    """Protects the process: what a document of megabytes becomes is never there as a whole."""
    one = json.dumps(row(TIME, ("P1", "18.40"), ("P2", "7.02"), ("durP1", "3"))).encode()
    body = b"[" + b",".join(one.replace(b": 67890", b": %d" % n) for n in range(12_000)) + b"]"
    assert len(body) > 5_000_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = [(len(piece.readings), len(piece.sites)) for piece in rows_of(body)]
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert [sum(column) for column in zip(*found, strict=True)] == [24_000, 12_000]
    assert max(readings for readings, _ in found) <= 20_000
    assert most < 4 * len(body)


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the thread from whatever is sent."""
    for piece in rows_of(raw):
        assert piece.broken or not piece.readings or piece.sites


FIELD = st.sampled_from([*row(TIME), "unknown"])
INNER = st.sampled_from(["id", "latitude", "indoor", "exact_location", "country", "sensor_type", "name", "pin"])


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.dictionaries(FIELD, ANY, max_size=2), st.dictionaries(INNER, ANY, max_size=3)), max_size=3),
    st.booleans(),
)
def test_any_row_is_read_or_rejected(changes: list[tuple[Fields, Fields]], indoor: bool) -> None:
    """Protects from rows lost without a word, and from values that are no numbers."""
    rows = []
    for outer, inner in changes:
        made = row(TIME, ("P1", "1.5"))
        rows.append({**made, "location": {**made["location"], **inner}, "sensor": {**made["sensor"], **inner}, **outer})
    readings = rejected = others = 0
    for piece in rows_of(json.dumps(rows).encode(), indoor=indoor):
        readings += len(piece.readings)
        rejected += len(piece.rejected)
        others += piece.indoor + piece.ignored
        assert all(one.value is None or abs(one.value) < float("inf") for one in piece.readings)
        assert all(0 < len(one.channel) <= 256 for one in piece.readings)
    empty = sum(made.get("sensordatavalues") == [] for made in rows)
    assert readings + rejected + others + empty >= len(rows)
