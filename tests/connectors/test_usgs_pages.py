"""Protects readings from everything that the USGS's service may send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.reading import Quality, Reason
from connectors.timestamps import parse
from connectors.usgs_codes import channel_of, value_of
from connectors.usgs_pages import names_of, series_page, sites_page, values_page
from tests.usgs_service import FLOW, SITE, STAGE, Fields, collection, series, value

TIME, MODIFIED = "2026-11-20T14:15:00", "2026-11-20T14:25:07.672769"
NAMES = {STAGE: "stage", FLOW: "discharge"}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def body(*rows: Fields, next_link: str | None = None) -> bytes:
    """Return a page."""
    return json.dumps(collection(rows, next_link)).encode()


def test_a_value() -> None:
    """Protects each field of the everyday case."""
    page = values_page(body(value(TIME, "1.59", MODIFIED), next_link="https://host/next"), NAMES)
    (reading,) = page.readings
    assert (reading.entity, reading.channel, reading.value, reading.unit) == (SITE, "stage", 1.59, "ft")
    assert reading.time_us == parse(f"{TIME}Z")
    assert reading.result_time_us == parse(f"{MODIFIED}Z") == page.newest_modified_us
    assert reading.quality is Quality.PROVISIONAL
    assert page.next_link == "https://host/next"
    assert not page.rejected
    assert not page.broken


@pytest.mark.parametrize(
    ("written", "approval", "qualifier", "expected"),
    [
        ("0.39", "Approved", None, (0.39, Quality.GOOD)),
        ("535", "Provisional", [], (535.0, Quality.PROVISIONAL)),
        (12, None, None, (12.0, Quality.UNKNOWN)),
        ("1.59", "Provisional", ["ICE"], (1.59, Quality.SUSPECT)),
        ("1.59", "Approved", ["Ice affected"], (1.59, Quality.SUSPECT)),
        ("1.59", "Provisional", ["Bkw", "e"], (1.59, Quality.SUSPECT)),
        ("1.59", "Provisional", ["e"], (1.59, Quality.ESTIMATED)),
        ("1.59", "Provisional", ["ESTIMATED"], (1.59, Quality.ESTIMATED)),
        ("1.59", "Provisional", "e", (1.59, Quality.ESTIMATED)),
        ("1.59", "Provisional", ["Eqp"], (None, Quality.MISSING)),
        ("1.59", "Provisional", ["EQUIP"], (None, Quality.MISSING)),
        ("1.59", "Approved", ["discharge computed"], (1.59, Quality.GOOD)),
        ("1.59", "Approved", ["REVISED"], (1.59, Quality.GOOD)),
        ("-999999", "Provisional", None, (None, Quality.MISSING)),
        ("-999999.00", "Provisional", None, (None, Quality.MISSING)),
        (None, "Provisional", None, (None, Quality.MISSING)),
        ("", "Provisional", None, (None, Quality.MISSING)),
        ("Ice", "Provisional", None, (None, Quality.MISSING)),
        ("Eqp", "Provisional", None, (None, Quality.MISSING)),
        ("***", "Provisional", None, (None, Quality.MISSING)),
        ("-1.25", "Provisional", None, (-1.25, Quality.PROVISIONAL)),
        ("0", "Provisional", None, (0.0, Quality.PROVISIONAL)),
    ],
)
def test_what_is_said_about_a_value(
    written: object, approval: str, qualifier: object, expected: tuple[float | None, Quality]
) -> None:
    """Protects models from -999999 feet, and people from provisional values shown as approved."""
    page = values_page(body(value(TIME, written, MODIFIED, approval=approval, qualifier=qualifier)), NAMES)
    assert [(one.value, one.quality) for one in page.readings] == [expected]


def test_a_bad_row_costs_itself_only() -> None:
    """Protects the rows beside it, and tells which was bad and why."""
    good = value(TIME, "1.59", MODIFIED)
    bad: list[Fields] = [
        {**good, "value": "a lot"},
        {**good, "value": {"a": 1}},
        {**good, "value": "1e999"},
        {**good, "time": "yesterday"},
        {**good, "time": "2026-11-20T14:15:00"},
        {**good, "time": None},
        {**good, "last_modified": "soon"},
        {**good, "monitoring_location_id": None},
        {**good, "parameter_code": ""},
    ]
    page = values_page(body(good, *bad, good), NAMES)
    assert len(page.readings) == 2
    assert [one.reason for one in page.rejected] == [
        Reason.WRONG_TYPE, Reason.WRONG_TYPE, Reason.NOT_FINITE, Reason.BAD_TIME, Reason.NAIVE_TIME, Reason.BAD_TIME,
        Reason.BAD_TIME, Reason.MISSING_KEY, Reason.MISSING_KEY,
    ]  # fmt: skip
    assert all(SITE in one.detail for one in page.rejected[:7])
    assert all(json.loads(one.raw) for one in page.rejected)


@pytest.mark.parametrize(
    "broken", [b"", b"<html>", b"[]", b"null", b'{"features": 7}', b'{"code": "InvalidQuery"}', body()[:40]]
)
def test_a_page_that_is_none_is_broken(broken: bytes) -> None:
    """Protects from taking an error page for an empty one: the cursor would move past what was not read."""
    page = values_page(broken, NAMES)
    assert page.broken
    assert not page.readings


def test_an_empty_page_is_none_broken() -> None:
    """Protects quiet rivers."""
    assert values_page(body(), NAMES).broken == ""


def test_several_series_of_one_site_and_code_keep_apart() -> None:
    """Protects from two sensors flapping in one channel: each has its own, told by the series."""
    page = series_page(
        body(
            series("cccccccc33", begin="2020-01-01T00:00:00+00:00", sublocation_identifier="left bank"),
            series("bbbbbbbb22", begin="2019-01-01T00:00:00+00:00"),
            series("aaaaaaaa11", begin="2001-01-01T00:00:00+00:00", primary=None),
            series("dddddddd44", "00060"),
            series("eeeeeeee55", begin="1990-01-01T00:00:00+00:00", statistic_id="00003"),
        )
    )
    names = names_of(page.series)
    assert names == {
        "bbbbbbbb22": "stage",
        "cccccccc33": "stage.cccccccc",
        "aaaaaaaa11": "stage.aaaaaaaa",
        "dddddddd44": "discharge",
    }
    assert names_of(reversed(page.series)) == names
    rows = [value(TIME, "1", MODIFIED, series=one) for one in ("aaaaaaaa11", "bbbbbbbb22", "ffffffff66")]
    values = values_page(body(*rows), names)
    assert [one.channel for one in values.readings] == ["stage.aaaaaaaa", "stage", "stage.ffffffff"]
    assert values.unknown_series == {"ffffffff66"}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ST"), st.sampled_from(["00065", "00060"]), st.booleans(), st.text())))
def test_no_two_series_share_a_channel(found: list[tuple[str, str, bool, str]]) -> None:
    """Protects the identity of readings whatever the metadata say."""
    rows = [
        series(f"{n:08x}0000", code, site, primary="Primary" if primary else None, sublocation_identifier=place)
        for n, (site, code, primary, place) in enumerate(found)
    ]
    listed = series_page(body(*rows)).series
    names = names_of(listed)
    assert len({(one.site, names[one.id]) for one in listed}) == len(found)
    assert {one.site for one in listed if names[one.id] == "stage"} == {
        site for site, code, _, _ in found if code == "00065"
    }


def test_sites() -> None:
    """Protects the map: where a site is, what it is called and what is measured there."""
    found = series_page(body(series(), series(FLOW, "00060"))).series
    row: Fields = {"id": SITE, "monitoring_location_name": "MEDICINE CREEK", "site_type": "Stream", "altitude": 871.5}
    (site,) = sites_page(body(row), found, names_of(found)).sites
    assert (site.entity, site.name, site.latitude, site.longitude) == (SITE, "MEDICINE CREEK", 40.234, -92.686)
    assert site.channels == {"stage": "ft", "discharge": "ft^3/s"}
    assert site.attributes == {"site_type": "Stream", "altitude": "871.5"}


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the thread from whatever is sent."""
    for page in (values_page(raw, NAMES), series_page(raw), sites_page(raw, [], {})):
        assert page.broken or page.next_link is None


FIELD = st.sampled_from([*value(TIME, "1.59", MODIFIED), "id", "geometry"])


@settings(max_examples=60)
@given(st.lists(st.dictionaries(FIELD, ANY, max_size=6), max_size=3), ANY)
def test_any_row_is_a_reading_or_rejected(changes: list[Fields], links: object) -> None:
    """Protects from rows lost without a word, and from values that are no numbers."""
    rows = [{**value(TIME, "1.59", MODIFIED), **change} for change in changes]
    document = {**collection(rows), "links": links}
    page = values_page(json.dumps(document).encode(), NAMES)
    assert len(page.readings) + len(page.rejected) == len(rows)
    for reading in page.readings:
        assert reading.value is None or abs(reading.value) < float("inf")
    series_page(json.dumps(document).encode())
    sites_page(json.dumps(document).encode(), [], {})


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["Provisional", "Approved"]))
def test_values_come_back_exactly(number: float, approval: str) -> None:
    """Protects the precision that the texts preserve."""
    found = value_of(repr(number), [approval])
    assert isinstance(found, tuple)
    assert found[0] == number or number in (-999999.0, -9999999.0)


def test_codes_nobody_named_are_channels_of_their_own() -> None:
    """Protects rarer measurements from being lost."""
    assert channel_of("80154") == "p80154"
