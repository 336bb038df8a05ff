"""Protects readings from everything that OpenAQ may send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.openaq_parameters import Quantity, quantity_of
from connectors.openaq_rows import Sensor, locations_page, measurements_page
from connectors.reading import Quality, Reason
from connectors.timestamps import parse
from tests.openaq_service import LOCATION, NO2, PM25, Fields, location, results, row, sensor

TIME = "2026-11-20T14:00:00Z"
ENTITY = f"openaq-{LOCATION}"
SENSOR = Sensor(PM25, ENTITY, quantity_of("pm25", "µg/m³"), "pm25")
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def body(*rows: object, **more: object) -> bytes:
    """Return a page."""
    return json.dumps({**results(rows), **more}).encode()


def test_a_value() -> None:
    """Protects each field of the everyday case; the time is the end of the hour."""
    page = measurements_page(body(row(TIME, 11.4)), SENSOR)
    (reading,) = page.readings
    assert (reading.entity, reading.channel, reading.value, reading.unit) == (ENTITY, "pm25", 11.4, "ug/m3")
    assert reading.time_us == parse(TIME) == page.newest_us
    assert reading.quality is Quality.UNKNOWN
    assert (page.broken, page.rejected, page.rows) == ("", [], 1)


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("pm25", "µg/m³", ("pm25", "ug/m3", 1.0)),
        ("pm25", "μg/m³", ("pm25", "ug/m3", 1.0)),
        ("no2", "µg/m³", ("no2", "ug/m3", 1.0)),
        ("no2", "ppb", ("no2_ppb", "[ppb]", 1.0)),
        ("no2", "ppm", ("no2_ppb", "[ppb]", 1000.0)),
        ("ozone", "ppb", ("o3_ppb", "[ppb]", 1.0)),
        ("co", "ppm", ("co_ppb", "[ppb]", 1000.0)),
        ("co2", "ppm", ("co2", "[ppm]", 1.0)),
        ("co2", "umol/mol", ("co2", "[ppm]", 1.0)),
        ("ch4", "ppb", ("ch4", "[ppb]", 1.0)),
        ("bc", "ng/m3", ("bc", "ng/m3", 1.0)),
        ("um003", "particles/cm³", ("um003", "/cm3", 1.0)),
        ("temperature", "c", ("temperature", "Cel", 1.0)),
        ("ambient_temp", "deg_c", ("temperature", "Cel", 1.0)),
        ("temperature", "f", ("temperature", "[degF]", 1.0)),
        ("relativehumidity", "%", ("humidity", "%", 1.0)),
        ("rh", "%", ("humidity", "%", 1.0)),
        ("pressure", "hpa", ("pressure", "hPa", 1.0)),
        ("pressure", "mb", ("pressure", "mbar", 1.0)),
        ("wind_speed", "m/s", ("wind_speed", "m/s", 1.0)),
    ],
)
def test_parameters_and_units(name: str, units: str, expected: tuple[str, str, float]) -> None:
    """Protects from a pollutant by mass in the channel of its mixing ratio: 40 ppb of NO2 are 75 µg/m³."""
    quantity = quantity_of(name, units)
    (reading,) = measurements_page(
        body(row(TIME, 1.0, name=name, units=units)), Sensor(PM25, ENTITY, quantity, quantity.channel)
    ).readings
    assert (reading.channel, reading.unit, reading.value) == expected


def test_ppm_and_ppb_of_one_value_are_one() -> None:
    """Protects overlap from corrections that are none: 0.0291 ppm is 29.1 ppb, not 29.099999999999998."""
    assert quantity_of("no2", "ppm").value(0.0291) == 29.1


@pytest.mark.parametrize(
    ("value", "flags", "expected"),
    [
        (11.4, False, (11.4, Quality.UNKNOWN)),
        (11.4, True, (11.4, Quality.SUSPECT)),
        (0, False, (0.0, Quality.UNKNOWN)),
        (-0.8, False, (-0.8, Quality.UNKNOWN)),
        (None, False, (None, Quality.MISSING)),
        ("nan", False, (None, Quality.MISSING)),
        (-999, False, (None, Quality.MISSING)),
        (-9999.0, True, (None, Quality.MISSING)),
        ("12.5", False, (12.5, Quality.UNKNOWN)),
    ],
)
def test_values_and_flags(value: object, flags: bool, expected: tuple[float | None, Quality]) -> None:
    """Protects models from -999 µg/m³ and from learning what is flagged."""
    (reading,) = measurements_page(body(row(TIME, value, flags=flags)), SENSOR).readings
    assert (reading.value, reading.quality) == expected


def test_flags_as_older_servers_write_them() -> None:
    """Protects from a flag that is no object."""
    (reading,) = measurements_page(body({**row(TIME, 1.0), "flagInfo": True}), SENSOR).readings
    assert reading.quality is Quality.SUSPECT
    (reading,) = measurements_page(body({**row(TIME, 1.0), "flagInfo": None}), SENSOR).readings
    assert reading.quality is Quality.UNKNOWN


def test_a_bad_row_costs_itself_only() -> None:
    """Protects the rows beside it, and tells which was bad and why."""
    good = row(TIME, 11.4)
    bad = [
        {**good, "value": "a lot"},
        {**good, "value": {"a": 1}},
        {**good, "value": "1e999"},
        {**good, "period": None},
        {**good, "period": {"datetimeTo": {"utc": "2026-11-20T14:00:00"}}},
        {**good, "parameter": {"name": "pm25", "units": "ng/m3"}},
        {**good, "parameter": {"name": "pm10", "units": "µg/m³"}},
        "a text",
    ]
    page = measurements_page(body(good, *bad, good), SENSOR)
    assert len(page.readings) == 2
    assert [one.reason for one in page.rejected] == [
        Reason.WRONG_TYPE, Reason.WRONG_TYPE, Reason.NOT_FINITE, Reason.BAD_TIME, Reason.NAIVE_TIME,
        Reason.UNIT_MISMATCH, Reason.UNIT_MISMATCH, Reason.WRONG_TYPE,
    ]  # fmt: skip
    assert all(f"sensor {PM25}" in one.detail for one in page.rejected)
    assert all(json.loads(one.raw) for one in page.rejected)


@pytest.mark.parametrize(
    "broken", [b"", b"<html>", b"[]", b"null", b'{"results": 7}', b'{"detail": "no"}', body()[:40]]
)
def test_a_page_that_is_none_is_broken(broken: bytes) -> None:
    """Protects from taking an error page for the last one."""
    assert measurements_page(broken, SENSOR).broken
    assert locations_page(broken).broken


@pytest.mark.parametrize(
    ("rows", "meta", "full"),
    [
        (5, {"found": ">5", "limit": 5}, True),
        (5, {"found": 5, "limit": 5}, True),
        (4, {"found": 4, "limit": 5}, False),
        (3, {"found": 900, "limit": 1000}, False),
        (5, {"found": None}, False),
        (5, {"limit": "5"}, False),
        (1000, None, True),
        (0, {"found": ">1000", "limit": 1000}, False),
    ],
)
def test_when_another_page_follows(rows: int, meta: object, full: bool) -> None:
    """Protects from `found`: a number, a text, or what was found on this page alone."""
    page = measurements_page(json.dumps({"meta": meta, "results": [{}] * rows}).encode(), SENSOR)
    assert page.full(1000) is full


def test_a_location() -> None:
    """Protects the map, the limits, and the licences under which the values may be used."""
    (site,) = locations_page(
        body(location(LOCATION, sensor(), sensor(NO2, "no2", "ppm"), sensor(1, "um003", "particles/cm³")))
    ).sites
    assert (site.entity, site.name, site.latitude, site.longitude) == (ENTITY, f"Station {LOCATION}", 48.788, 9.188)
    assert site.channels == {"pm25": "ug/m3", "no2_ppb": "[ppb]", "um003": "/cm3"}
    assert site.limits == {"pm25": (0.0, 1000.0), "no2_ppb": (0.0, 1000.0)}
    assert site.attributes == {
        "locality": "Stuttgart", "timezone": "Europe/Berlin", "country": "DE", "provider": "EEA",
        "owner": "Unknown Governmental Organization", "reference_monitor": "yes", "mobile": "no",
        "licenses": "CC BY 4.0",
    }  # fmt: skip


def test_limits_are_in_the_channels_unit() -> None:
    """Protects 14 °F from being below -90 °C, and black carbon in ng/m³ from a limit in µg/m³."""
    assert quantity_of("temperature", "c").limits == (-90.0, 60.0)
    assert quantity_of("temperature", "f").limits is None
    assert quantity_of("bc", "ng/m3").limits is None
    assert quantity_of("o3", "ppm").limits == (0.0, 500.0)


def test_several_sensors_of_one_parameter_keep_apart() -> None:
    """Protects from two instruments in one channel: the oldest has the plain name, in whatever order they come."""
    sensors = [sensor(90), sensor(7), sensor(50, "pm25", "ng/m3"), sensor(8, "no2", "ppb"), sensor(9, "no2")]
    page = locations_page(body(location(LOCATION, *sensors)))
    assert {one.id: one.channel for one in page.sensors} == {
        7: "pm25", 50: "pm25.50", 90: "pm25.90", 8: "no2_ppb", 9: "no2",
    }  # fmt: skip
    assert page == locations_page(body(location(LOCATION, *reversed(sensors))))


@pytest.mark.parametrize(("wanted", "kept"), [((), 3), (("no2",), 2), (("no2_ppb",), 1), (("pm10",), 0)])
def test_only_what_is_wanted(wanted: tuple[str, ...], kept: int) -> None:
    """Protects the allowance: each sensor costs a request."""
    rows = location(LOCATION, sensor(), sensor(8, "no2", "ppb"), sensor(9, "no2", "µg/m³"))
    assert len(locations_page(body(rows), wanted).sensors) == kept


def test_odd_locations() -> None:
    """Protects the list from one odd member."""
    odd = [7, {}, location(-1), location(5, coordinates=None, sensors=None, country="DE", licenses={})]
    odd += [location(6, coordinates={"latitude": 91.0, "longitude": "9"}, sensors=[None, {"id": 1}, sensor(True)])]
    page = locations_page(body(*odd, location()))
    assert [one.entity for one in page.sites] == ["openaq-5", "openaq-6", ENTITY]
    assert page.sites[1].latitude is None
    assert len(page.sensors) == 1


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the thread from whatever is sent."""
    for page in (measurements_page(raw, SENSOR), locations_page(raw)):
        assert page.broken or page.rows >= 0


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(list(row(TIME, 1.0))), ANY, max_size=4), max_size=3), ANY)
def test_any_row_is_a_reading_or_rejected(changes: list[Fields], meta: object) -> None:
    """Protects from rows lost without a word, and from values that are no numbers."""
    rows = [{**row(TIME, 1.5), **change} for change in changes]
    page = measurements_page(json.dumps({"meta": meta, "results": rows}).encode(), SENSOR)
    assert len(page.readings) + len(page.rejected) == len(rows)
    assert all(one.value is None or abs(one.value) < float("inf") for one in page.readings)


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(list(location())), ANY, max_size=4), max_size=3))
def test_any_location_is_taken_or_left(changes: list[Fields]) -> None:
    """Protects the list of places from whatever one of them holds."""
    page = locations_page(body(*({**location(), **change} for change in changes)))
    assert len(page.sites) <= len(changes)


@given(st.text(max_size=80), st.text(max_size=80), st.floats(allow_nan=False, allow_infinity=False))
def test_any_parameter_has_a_channel(name: str, units: str, value: float) -> None:
    """Protects from names too long, and values from anything but a factor of a thousand."""
    quantity: Quantity = quantity_of(name, units)
    assert len(quantity.channel) <= 65
    assert quantity.value(value) in (value, pytest.approx(value * 1000))
