"""Protects years of kept answers of a service that ends: methods, sentinels, offsets, and whatever else was kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.reading import Quality, Reason
from connectors.timestamps import parse
from connectors.usgs_archive import read_archive
from pipeline.config import loads
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.trial import Trial

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
Fields = dict[str, object]


def row(value: object = "1.78", time: str = "2026-05-17T18:15:00.000-04:00", *qualifiers: str) -> Fields:
    """Return one value."""
    return {"value": value, "qualifiers": list(qualifiers or ("P",)), "dateTime": time}


def series(*groups: list[Fields], code: str = "00065", unit: str = "ft", **more: object) -> Fields:
    """Return one time series; a group of values for each method, the first without a description."""
    return {
        "name": f"USGS:02335000:{code}:00000",
        "sourceInfo": {
            "siteName": "CHATTAHOOCHEE RIVER NEAR NORCROSS, GA",
            "siteCode": [{"value": "02335000", "network": "NWIS", "agencyCode": "USGS"}],
            "geoLocation": {"geogLocation": {"srs": "EPSG:4326", "latitude": 33.997, "longitude": -84.202}},
        },
        "variable": {
            "variableCode": [{"value": code, "network": "NWIS", "vocabulary": "NWIS:UnitValues"}],
            "unit": {"unitCode": unit},
            "options": {"option": [{"name": "Statistic", "optionCode": "00000"}]},
            "noDataValue": -999999.0,
            **more,
        },
        "values": [
            {"value": rows, "method": [{"methodDescription": "LEFT BANK" if n else "", "methodID": 42000 + n}]}
            for n, rows in enumerate(groups)
        ],
    }


def body(*listed: object) -> bytes:
    """Return a document."""
    return json.dumps({"name": "ns1:timeSeriesResponseType", "value": {"queryInfo": {}, "timeSeries": listed}}).encode()


def test_a_value_and_its_site() -> None:
    """Protects each field of the everyday case; the entity is the one that is polled today."""
    archive = read_archive(body(series([row()])))
    (reading,) = archive.readings
    assert (reading.entity, reading.channel, reading.value, reading.unit) == ("USGS-02335000", "stage", 1.78, "ft")
    assert reading.time_us == parse("2026-05-17T22:15:00Z")
    assert reading.quality is Quality.PROVISIONAL
    assert reading.result_time_us is None
    site = archive.sites["USGS-02335000"]
    assert (site.latitude, site.longitude, site.channels) == (33.997, -84.202, {"stage": "ft"})


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (row("12.5", "2026-05-17T18:15:00.000-04:00", "A"), (12.5, Quality.GOOD)),
        (row("12.5", "2026-05-17T18:15:00.000-04:00", "A", "e"), (12.5, Quality.ESTIMATED)),
        (row("12.5", "2026-05-17T18:15:00.000-04:00", "P", "Ice"), (12.5, Quality.SUSPECT)),
        (row("-999999", "2026-05-17T18:15:00.000-04:00", "P", "Eqp"), (None, Quality.MISSING)),
        (row("-999999"), (None, Quality.MISSING)),
        (row("Ice"), (None, Quality.MISSING)),
        (row(""), (None, Quality.MISSING)),
    ],
)
def test_what_is_said_about_a_value(kept: Fields, expected: tuple[float | None, Quality]) -> None:
    """Protects models from a river of -999999 feet."""
    assert [(one.value, one.quality) for one in read_archive(body(series([kept]))).readings] == [expected]


def test_a_no_data_value_of_its_own() -> None:
    """Protects from a sentinel that only the document names."""
    (reading,) = read_archive(body(series([row("-9")], noDataValue=-9))).readings
    assert (reading.value, reading.quality) == (None, Quality.MISSING)


def test_methods_keep_apart() -> None:
    """Protects from two sensors in one channel: each method has its own."""
    archive = read_archive(body(series([row("1")], [row("2")], [row("3")])))
    assert [(one.channel, one.value) for one in archive.readings] == [
        ("stage", 1.0), ("stage.m42001", 2.0), ("stage.m42002", 3.0),
    ]  # fmt: skip
    assert set(archive.sites["USGS-02335000"].channels) == {"stage", "stage.m42001", "stage.m42002"}


def test_a_described_method_alone_keeps_its_name() -> None:
    """Protects the identity when another file lacks the first method."""
    archive = read_archive(body(series([], [row("2")])))
    assert [one.channel for one in archive.readings] == ["stage.m42001"]


def test_other_statistics_are_other_channels() -> None:
    """Protects instantaneous values from daily means; a day without an offset is refused, not guessed."""
    option = {"option": [{"name": "Statistic", "optionCode": "00003"}]}
    listed = [row(), row("2", "2024-01-01T00:00:00.000")]
    archive = read_archive(body(series(listed, code="00060", unit="ft3/s", options=option)))
    assert [one.channel for one in archive.readings] == ["discharge_mean"]
    assert [one.reason for one in archive.rejected] == [Reason.NAIVE_TIME]


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    """Protects the end of summer time: offsets tell the two apart."""
    listed = [row("1", "2026-11-01T01:30:00.000-04:00"), row("2", "2026-11-01T01:30:00.000-05:00")]
    first, second = read_archive(body(series(listed))).readings
    assert second.time_us - first.time_us == 3_600_000_000


@pytest.mark.parametrize("broken", [b"", b"<?xml", b"[]", b'{"value": {}}', b'{"value": {"timeSeries": {}}}'])
def test_what_is_no_archive(broken: bytes) -> None:
    """Protects from an error page read as an empty archive."""
    assert read_archive(broken).broken


def test_an_archive_without_values_is_none_broken() -> None:
    """Protects a quiet period."""
    archive = read_archive(body(series([])))
    assert not archive.broken
    assert not archive.rejected


@settings(max_examples=50)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the reader of a folder from one bad file."""
    read_archive(raw)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["sourceInfo", "variable", "values", "name"]), ANY),
    st.lists(st.dictionaries(st.sampled_from(["value", "qualifiers", "dateTime"]), ANY), max_size=4),
)
def test_any_series_is_read_or_rejected(change: Fields, changes: list[Fields]) -> None:
    """Protects from values lost without a word."""
    listed = [{**row(), **one} for one in changes]
    archive = read_archive(body(series(listed)))
    assert len(archive.readings) + len(archive.rejected) == len(listed)
    read_archive(body({**series(listed), **change}))


def test_a_folder_of_archives_becomes_readings(tmp_path: Path) -> None:
    """Protects the way from a user's folder to the topic: compressed or not, a broken file stops no other."""
    days = [f"2026-05-{day:02d}T18:15:00.000-04:00" for day in range(1, 29)]
    kept = tmp_path / "kept"
    kept.mkdir()
    newest_first = [row(str(n), day) for n, day in enumerate(days)][::-1]
    (kept / "a.json.gz").write_bytes(gzip.compress(body(series(newest_first))))
    (kept / "b.json").write_bytes(b"<html>Service Unavailable</html>")
    (kept / "c.json").write_bytes(body(series([row("7"), row("many")], code="00060", unit="ft3/s")))
    text = f"""
streams:
  - {{name: water, topics: [water], step: 15m, channels: [{{name: stage}}]}}
ingest:
  sources:
    - {{name: past, kind: usgs_archive, path: "{kept}/*.json*"}}
"""
    (options,) = loads(text, {}).ingest.sources
    with Trial(tmp_path) as trial:
        trial.run(source_kinds()["usgs_archive"].build(options, SourcePlace(tmp_path, {})))
        trial.until(lambda: trial.ended)
        assert trial.error is None
        assert [one.value for one in trial.readings() if one.channel == "stage"] == [float(n) for n in range(28)]
        assert [one.value for one in trial.readings() if one.channel == "discharge"] == [7.0]
        assert sorted(headers["vedette-reason"] for _, headers in trial.dead_letters()) == ["unsupported", "wrong_type"]
        assert trial.sites["USGS-02335000"].name.startswith("CHATTAHOOCHEE")
    with Trial(tmp_path) as again:
        again.run(source_kinds()["usgs_archive"].build(options, SourcePlace(tmp_path, {})))
        again.until(lambda: again.ended)
        assert again.readings() == []
