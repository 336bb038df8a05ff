"""Protects what is in files: each format by what other programs write, from any place on, and whatever is broken."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.field_mapping import Fields
from connectors.file_formats import BadFile, CsvStyle, Format, Row, Wanted, make_format, stem_of, told_by_name
from connectors.file_lines import CsvFormat, JsonDocument, JsonLines
from connectors.reading import Reason
from connectors.refusal import Refusal
from tests.connectors.file_reading import LONG, mapped, read

TABLE = b"time,station,PM2.5,NO2\n2026-11-20T12:00:00,S7,12.5,31\n2026-11-20T12:01:00,S7,,32\n"
COLUMNS = ("time", "station", "PM2.5", "NO2")
NOON_US = 1_795_176_000_000_000
MINUTE_US = 60_000_000


def csv_format(**style: object) -> CsvFormat:
    return CsvFormat(Wanted(columns=COLUMNS, csv=CsvStyle(**style)))  # type: ignore[arg-type]


def rows(format_: Format, body: bytes, at: int = 0, whole: bool = True) -> list[Row]:
    return list(format_.rows(io.BytesIO(body), at, whole))


def test_a_wide_csv() -> None:
    """Protects the plainest table there is."""
    readings, refused = read(csv_format(), TABLE, mapped())
    assert [(r.channel, (r.time_us - NOON_US) // MINUTE_US, r.value) for r in readings] == [
        ("pm25", 0, 12.5), ("no2", 0, 31.0), ("pm25", 1, None), ("no2", 1, 32.0),
    ]  # fmt: skip
    assert not refused


def test_a_csv_as_it_is_in_the_wild() -> None:
    """Protects from BOMs, semicolons, Latin 1, comments, lines before the header, quotes with line ends, short rows."""
    body = (
        "Station Überall\n\ufefftime;station;PM2.5;NO2\r\n# calibrated\n"
        '2026-11-20T12:00;"S ""7""\nnorth";12,5;31\n\n2026-11-20T12:01;S7;13,5\n'
    ).encode("utf-8")
    style = csv_format(delimiter=";", skip_lines=1, comment="#")
    fields = Fields(time="time", entity="station", values={"pm25": "PM2.5", "no2": "NO2"}, decimal_comma=True)
    readings, refused = read(style, body, mapped(fields))
    assert [(r.entity, r.channel, r.value) for r in readings] == [
        ('S "7"\nnorth', "pm25", 12.5), ('S "7"\nnorth', "no2", 31.0), ("S7", "pm25", 13.5), ("S7", "no2", None),
    ]  # fmt: skip
    assert not refused
    latin = CsvFormat(Wanted(columns=("größe",), csv=CsvStyle(encoding="latin-1")))
    assert rows(latin, "größe\n3\n".encode("latin-1"))[0].record == {"größe": "3"}


def test_every_place_of_a_csv_is_one_to_go_on_from() -> None:
    """Protects a restart in the middle of a file: what is behind a row's place is the rest, header or not."""
    whole = rows(csv_format(), TABLE)
    for done, row in enumerate(whole, 1):
        assert rows(csv_format(), TABLE, at=row.next_at) == whole[done:]


def test_a_line_without_an_end_waits_while_the_file_may_grow() -> None:
    """Protects from half a number, and from half a quoted cell."""
    for cut in (b"2026-11-20T12:02:00,S7,1", b'2026-11-20T12:02:00,"S7\nno'):
        assert len(rows(csv_format(), TABLE + cut, whole=False)) == 2
        assert len(rows(csv_format(), TABLE + cut, whole=True)) == 3
    assert rows(csv_format(), b"time,station,PM2", whole=False) == []


def test_rows_that_are_none_cost_only_themselves() -> None:
    """Protects the rows around one with too many cells, one with text only, and one without an end of its quotes."""
    body = TABLE + b"1,2,3,4,5\nend of file\n" + b'"' + b"x" * 200_000 + b"\n2026-11-20T12:09:00,S9,1,2\n"
    readings, refused = read(csv_format(), body, mapped())
    assert [r.value for r in readings if r.entity == "S9"] == [1.0, 2.0]
    assert [r.reason for r in refused] == [Reason.WRONG_TYPE, Reason.WRONG_TYPE, Reason.UNSUPPORTED]


def test_a_missing_column_is_told_with_the_nearest() -> None:
    """Protects whoever configures from searching."""
    with pytest.raises(BadFile, match=r"no column 'PM2.5' \(nearest: 'PM25'\)"):
        rows(csv_format(), b"time,station,PM25,NO2\n")


def test_json_lines_and_documents() -> None:
    """Protects JSON in lines, from any place on, and as one document."""
    fields = Fields(time="t", entity="site.id", values={"stage": "v"})
    lines = (
        b'{"t": "2026-11-20T12:00Z", "site": {"id": "A"}, "v": 1.5}\n\nnonsense\n[1]\n{"t": 5, "site": {"id": "A"}}\n'
    )
    found = rows(JsonLines(Wanted()), lines)
    assert [isinstance(row.record, Refusal) for row in found] == [False, True, True, False]
    assert rows(JsonLines(Wanted()), lines, at=found[1].next_at) == found[2:]
    readings, refused = read(JsonLines(Wanted()), lines, mapped(fields))
    assert [r.value for r in readings] == [1.5]
    assert len(refused) == 3
    readings, refused = read(
        JsonDocument(), b'[\n{"t": "2026-11-20T12:00Z",\n"site": {"id": "A"}, "v": 1.5}]', mapped(fields)
    )
    assert [r.value for r in readings] == [1.5]
    with pytest.raises(BadFile):
        rows(JsonDocument(), b"[{")


def parquet_of(table: pa.Table, group: int = 2) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, row_group_size=group)
    return out.getvalue()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet(unit: str, zone: str | None) -> None:
    """Protects times of all units, with zone and without, row groups, and nulls."""
    times = pa.array([NOON_US + i * MINUTE_US for i in range(5)], pa.timestamp("us")).cast(pa.timestamp(unit))
    if zone is not None:
        times = times.cast(pa.timestamp(unit, tz=zone))
    table = pa.table({
        "time": times, "station": ["S7"] * 5, "parameter": pa.array(["o3"] * 5).dictionary_encode(),
        "value": [1.5, None, 3, 4, 5], "unit": ["[ppb]"] * 5, "flag": [None] * 5, "more": [{}] * 5,
    })  # fmt: skip
    format_ = make_format("parquet", Wanted(columns=("time", "station", "parameter", "value", "unit", "flag")))
    body = parquet_of(table.drop_columns(["more"]))
    readings, refused = read(format_, body, mapped(LONG))
    assert [(r.time_us, r.value) for r in readings] == [
        (NOON_US + i * MINUTE_US, value) for i, value in enumerate([1.5, None, 3.0, 4.0, 5.0])
    ]
    assert not refused
    whole = rows(format_, body)
    assert rows(format_, body, at=3) == whole[3:]


def test_broken_parquet_is_a_bad_file() -> None:
    """Protects from files that were cut, or are something else."""
    body = parquet_of(pa.table({"a": list(range(10_000))}), 1000)
    format_ = make_format("parquet", Wanted(columns=("a",)))
    for broken in (b"", b"PAR1", body[: len(body) // 2], b"x" * 100, body[:20] + b"\0" * 500 + body[520:]):
        with pytest.raises(BadFile):
            rows(format_, broken)
    with pytest.raises(BadFile, match="no column 'b'"):
        rows(make_format("parquet", Wanted(columns=("b",))), body)


def test_netcdf_with_cf_times_and_packed_values(tmp_path: Path) -> None:
    """Protects what attributes say about numbers: the epoch, the fill value, scale and offset."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        time = file.create_dataset("time", data=np.array([20_777 * 24 + 12, 20_777 * 24 + 13], "int32"))
        time.attrs["units"] = "hours since 1970-01-01 00:00:00"
        value = file.create_dataset("river/level", data=np.array([150, -32768], "int16"))
        value.attrs["scale_factor"], value.attrs["add_offset"] = 0.01, 1.0
        value.attrs["_FillValue"] = np.int16(-32768)
        file.create_dataset("name", data=[b"S7", b"S7"])
    fields = Fields(time="time", entity="name", values={"stage": "river/level"})
    format_ = make_format("hdf5", Wanted(columns=("time", "name", "river/level")))
    readings, refused = read(format_, path.read_bytes(), mapped(fields))
    assert [(r.entity, r.time_us, r.value) for r in readings] == [
        ("S7", NOON_US, 2.5), ("S7", NOON_US + 60 * MINUTE_US, None),
    ]  # fmt: skip
    assert not refused
    assert len(rows(format_, path.read_bytes(), at=1)) == 1


def test_hdf5_with_a_compound_dataset(tmp_path: Path) -> None:
    """Protects tables as PyTables and pandas write them; and says what is wrong with others."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    table = np.array([(NOON_US // 1_000_000, 1.5)], dtype=[("t", "i8"), ("v", "f8")])
    with h5py.File(path, "w") as file:
        file.create_dataset("log/table", data=table)
        file.create_dataset("flat", data=np.zeros((2, 2)))
        file.create_dataset("short", data=np.zeros(1))
        file.create_dataset("long", data=np.zeros(3))
    body = path.read_bytes()
    found = rows(make_format("hdf5", Wanted(columns=("t", "v"), table="log/table")), body)
    assert [row.record for row in found] == [{"t": NOON_US // 1_000_000, "v": 1.5}]
    for wanted, told in [
        (Wanted(columns=("flat",)), "shape"),
        (Wanted(columns=("short", "long")), "different lengths"),
        (Wanted(columns=("shrt",)), "nearest: 'short'"),
        (Wanted(columns=("t",), table="flat"), "no compound"),
    ]:
        with pytest.raises(BadFile, match=told):
            rows(make_format("hdf5", wanted), body)
    with pytest.raises(BadFile):
        rows(make_format("hdf5", Wanted()), body[:200])


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_are_rows_refusals_or_a_bad_file(body: bytes, whole: bool) -> None:
    """Protects the source from every file there is."""
    for format_ in (csv_format(), csv_format(delimiter=";", quote="", header=COLUMNS), JsonLines(Wanted())):
        for data in (body, b"time,station,PM2.5,NO2\n" + body):
            try:
                found = rows(format_, data, whole=whole)
            except BadFile:
                continue
            places = [row.next_at for row in found]
            assert places == sorted(places)
            assert all(place <= len(data) for place in places)
            for row in found:
                if not isinstance(row.record, Refusal):
                    mapped().read(row.record, {})


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=6))
def test_what_a_csv_writer_wrote_comes_back(cells: list[list[str]]) -> None:
    """Protects quotes, line ends and delimiters within cells."""
    import csv

    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["a", "b"], *cells])
    found = rows(CsvFormat(Wanted(columns=("a", "b"))), text.getvalue().encode())
    expected = [{"a": a.replace("\0", "\ufffd"), "b": b.replace("\0", "\ufffd")} for a, b in cells if a or b]
    assert [row.record for row in found] == expected


def test_formats_are_told_by_names() -> None:
    """Protects ``format: auto``."""
    told = {name: told_by_name(name) for name in ("a.CSV.gz", "b.parquet", "c.nc", "d.ndjson", "e.json", "f.xlsx")}
    assert told == {
        "a.CSV.gz": "csv", "b.parquet": "parquet", "c.nc": "hdf5", "d.ndjson": "json_lines", "e.json": "json",
        "f.xlsx": None,
    }  # fmt: skip
    assert stem_of("s3://b/x.y/S 7.v2.csv.gz") == "S 7.v2"
