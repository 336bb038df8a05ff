"""Tables become readings in time order; bad rows are reported with their number, mistakes with what to do."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.decoding import ReadingDecoder
from connectors.errors import Misconfigured
from connectors.pacing import paced
from connectors.reading import Quality, ReadingBatch, Reason, Rejected
from connectors.replay import Replay
from connectors.table_mapping import Long, Times, Wide
from connectors.timestamps import parse
from tests.connectors.blocks import block_of

UTC_TIMES = Times(column="time", zone="UTC")
WIDE = Wide(time=UTC_TIMES, entity="site", channels={"pm": "pm25", "t": "temperature"}, units={"pm25": "ug/m3"})
LONG = Long(time=UTC_TIMES, entity="site", channel="what", value="value", unit="unit", quality="quality")
WIDE_CSV = "site,time,extra,pm,t\nb,2026-11-21 10:10:00,x,2,\na,2026-11-21 10:00:00,x,1.5,-3\n"

Told = tuple[str, str, str, float | None, str]


def file(tmp_path: Path, text: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(path: Path, table: Wide | Long, **options: Any) -> tuple[list[Told], list[Rejected]]:
    """Return a table's readings, told in plain values, and the rejected rows."""
    replay = Replay(path, table, **options)
    told: list[Told] = []
    rejected: list[Rejected] = []
    for batch in replay.batches():
        rejected += batch.rejected
        for row in range(len(batch)):
            value = float(batch.value[row])
            told.append(
                (
                    replay.entities.names[batch.entity[row]],
                    replay.channels.names[batch.channel[row]],
                    str(batch.time_us[row].astype("datetime64[us]").astype("datetime64[s]")),
                    None if np.isnan(value) else value,
                    replay.units.names[batch.unit[row]],
                )
            )
    return told, rejected


EXPECTED = [
    ("a", "pm25", "2026-11-21T10:00:00", 1.5, "ug/m3"),
    ("a", "temperature", "2026-11-21T10:00:00", -3.0, ""),
    ("b", "pm25", "2026-11-21T10:10:00", 2.0, "ug/m3"),
    ("b", "temperature", "2026-11-21T10:10:00", None, ""),
]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize("chunk", [50_000, 1, 3])
def test_a_wide_table(tmp_path: Path, name: str, chunk: int) -> None:
    """Protects time order, channel names, units, empty cells, ignored columns and any chunk size."""
    assert read(file(tmp_path, WIDE_CSV, name), WIDE, chunk=chunk) == (EXPECTED, [])


def test_parquet(tmp_path: Path) -> None:
    """Protects Parquet, with naive, aware and text times, as the same table."""
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame({"site": ["b", "a"], "pm": [2.0, 1.5], "t": [None, -3.0], "extra": [1, 2]})
    texts = ["2026-11-21T10:10:00", "2026-11-21T10:00:00"]
    for times in (pd.to_datetime(texts), pd.to_datetime(texts, utc=True).tz_convert("Europe/Berlin"), texts):
        frame.assign(time=times).to_parquet(path)
        assert read(path, WIDE) == (EXPECTED, [])


def test_a_long_table(tmp_path: Path) -> None:
    """Protects long tables, and that a row with too many or too few cells does not end the replay."""
    text = (
        "time,site,what,value,unit,quality\n"
        "2026-11-21T10:00:00Z,a,pm25,1.5,ug/m3,good\n"
        "2026-11-21T11:00:00+01:00,a,t,-3,,PROVISIONAL,too,many\n"
        "2026-11-21T10:00:00Z,b\n"
    )
    path = file(tmp_path, text)
    told, (rejected,) = read(path, LONG)
    assert told == [
        ("a", "pm25", "2026-11-21T10:00:00", 1.5, "ug/m3"),
        ("a", "t", "2026-11-21T10:00:00", -3.0, ""),
    ]
    assert (rejected.reason, rejected.offset) == (Reason.MISSING_KEY, 3)
    (batch,) = Replay(path, LONG).batches()
    assert batch.quality.tolist() == [Quality.GOOD, Quality.PROVISIONAL]


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ("a,2026-11-21 10:00:00,,high,1", Reason.WRONG_TYPE, "column 'pm': 'high'"),
        ("a,2026-11-21 10:00:00,,inf,1", Reason.NOT_FINITE, "column 'pm': 'inf'"),
        ("a,2026-11-21 10:00:00,,1,1e999", Reason.NOT_FINITE, "column 't': '1e999'"),
        ("a,noon,,1,1", Reason.BAD_TIME, "column 'time': 'noon'"),
        ("a,,,1,1", Reason.BAD_TIME, "column 'time'"),
        ("a,1969-12-31 23:59:59,,1,1", Reason.BAD_TIME, "1970 to 2200"),
        ("a,2300-01-01 00:00:00,,1,1", Reason.BAD_TIME, "1970 to 2200"),
        (",2026-11-21 10:00:00,,1,1", Reason.MISSING_KEY, "a name"),
        (f"{'a' * 257},2026-11-21 10:00:00,,1,1", Reason.WRONG_TYPE, "256"),
    ],
)
def test_a_bad_row_is_reported_with_its_number(tmp_path: Path, row: str, reason: Reason, said: str) -> None:
    """Protects the good rows around a bad one, blank lines included in the count."""
    path = file(tmp_path, f"{WIDE_CSV}\n{row}\n")
    told, (rejected,) = read(path, WIDE)
    assert told == EXPECTED
    assert (rejected.reason, rejected.offset, rejected.topic) == (reason, 4, "table.csv")
    assert "row 4" in rejected.detail
    assert said in rejected.detail
    assert b",1" in rejected.raw


def test_the_zone_of_naive_times(tmp_path: Path) -> None:
    """Protects summer time: 10:00 in Berlin is 08:00Z in July; the hours that a change doubles or skips are refused."""
    text = (
        "time,v\n2026-07-01 10:00:00,1\n2026-01-01 10:00:00,2\n2026-10-25 02:30:00,3\n2026-03-29 02:30:00,4\n"
        "2026-07-01T10:00:00Z,5\n"
    )
    table = Wide(time=Times(column="time", zone="Europe/Berlin"), fixed_entity="x", channels={"v": "v"})
    told, rejected = read(file(tmp_path, text), table)
    assert [(when, value) for _, _, when, value, _ in told] == [
        ("2026-01-01T09:00:00", 2.0),
        ("2026-07-01T08:00:00", 1.0),
        ("2026-07-01T10:00:00", 5.0),
    ]
    assert [(row.reason, row.offset) for row in rejected] == [(Reason.BAD_TIME, 3), (Reason.BAD_TIME, 4)]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("21.11.2026 10:00", {"format": "%d.%m.%Y %H:%M", "zone": "UTC"}),
        ("21.11.2026 11:00 +0100", {"format": "%d.%m.%Y %H:%M %z"}),
        ("1795255200", {"epoch": "s"}),
        ("1795255200000", {"epoch": "ms"}),
        ("2026-11-21T11+01:00", {}),
        ("2026-11-21T10:00Z", {}),
        ("20261121T100000Z", {}),
    ],
)
def test_how_times_are_written(tmp_path: Path, text: str, options: Mapping[str, Any]) -> None:
    """Protects formats, epoch numbers, and offsets in all of ISO 8601's spellings."""
    table = Wide(time=Times(column="time", **options), fixed_entity="x", channels={"v": "v"})
    told, rejected = read(file(tmp_path, f"time,v\n{text},1\n"), table)
    assert rejected == []
    assert [when for _, _, when, _, _ in told] == ["2026-11-21T10:00:00"]


@pytest.mark.parametrize(
    ("text", "table", "said"),
    [
        ("time,v\n2026-11-21,1\n", Times(column="time"), "row 1, column 'time': '2026-11-21' has no offset"),
        (
            "time,v\n2026-11-21T10:00:00Z,1\n2026-11-21 11:00,1\n",
            Times(column="time"),
            "row 2, column 'time': '2026-11-21 11:00' has no offset from UTC; set the time zone",
        ),
        ("time,v\n1795255200.5,1\n", UTC_TIMES, "set the format, or epoch"),
        ("time,v\n2026-11-21,1\n", Times(column="time", zone="Mars/Base"), "unknown time zone 'Mars/Base'"),
        ("tine,v\n2026-11-21,1\n", UTC_TIMES, "no column 'time' (nearest: 'tine'); its columns are tine, v"),
        ("", UTC_TIMES, "cannot be read"),
    ],
)
def test_mistakes_say_what_to_do(tmp_path: Path, text: str, table: Times, said: str) -> None:
    """Protects the messages for what a person has to put right."""
    with pytest.raises(Misconfigured) as caught:
        read(file(tmp_path, text), Wide(time=table, fixed_entity="x", channels={"v": "v"}))
    assert said in str(caught.value)
    assert "table.csv" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Protects the messages for missing, unknown and damaged files."""
    file(tmp_path, WIDE_CSV)
    with pytest.raises(Misconfigured, match=r"tabel.csv: no such file \(nearest: 'table.csv'\)"):
        read(tmp_path / "tabel.csv", WIDE)
    with pytest.raises(Misconfigured, match=r"allowed: .csv, .csv.gz, .parquet"):
        read(file(tmp_path, "", "table.xlsx"), WIDE)
    for name in ("table.parquet", "broken.csv.gz"):
        (tmp_path / name).write_bytes(b"not what its name says")
        with pytest.raises(Misconfigured, match="cannot be read"):
            read(tmp_path / name, WIDE)
    cut = file(tmp_path, WIDE_CSV * 100, "cut.csv.gz")
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(Misconfigured, match="cannot be read"):
        read(cut, WIDE)


def test_a_wide_table_needs_an_entity() -> None:
    """Protects against readings that belong to nobody."""
    with pytest.raises(Misconfigured, match="fixed entity"):
        Wide(time=UTC_TIMES, channels={"v": "v"})


def test_a_table_without_rows(tmp_path: Path) -> None:
    """Protects the empty case: one empty batch, no error."""
    assert read(file(tmp_path, "site,time,extra,pm,t\n"), WIDE) == ([], [])


def test_pairs_are_what_the_decoder_reads(tmp_path: Path) -> None:
    """Protects replay into Kafka: keys are entities, and values decode to the same readings."""
    replay = Replay(file(tmp_path, WIDE_CSV), WIDE)
    (batch,) = replay.batches()
    pairs = replay.pairs(batch)
    assert [key for key, _ in pairs] == [b"a", b"a", b"b", b"b"]
    decoder = ReadingDecoder(replay.entities, replay.channels, replay.units)
    again = decoder.decode(block_of(*(value for _, value in pairs)))
    for name in ("entity", "channel", "time_us", "value", "unit", "quality"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name), err_msg=name)


class ManualClock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def seconds_batch(times_s: list[int]) -> ReadingBatch:
    start = parse("2026-11-21T10:00:00Z")
    assert isinstance(start, int)
    zeros = np.zeros(len(times_s), np.int32)
    time_us = start + np.array(times_s, np.int64) * 1_000_000
    refused = [Rejected(Reason.EMPTY, "", b"")]
    return ReadingBatch(
        zeros, zeros, time_us, zeros.astype(np.float64), zeros, zeros.astype(np.int8), time_us, zeros, refused
    )


def test_readings_come_when_they_are_due() -> None:
    """Protects the speed factor: an hour a second, readings of one moment together, refusals once."""
    clock = ManualClock()
    batches = iter([seconds_batch([0, 0, 3600]), seconds_batch([3600, 5400, 9000])])
    came = [(clock.now_s, len(batch), len(batch.rejected)) for batch in paced(batches, 3600.0, clock, clock.sleep)]
    assert came == [(50.0, 2, 1), (51.0, 1, 0), (51.0, 1, 1), (51.5, 1, 0), (52.5, 1, 0)]


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=4), st.sampled_from([0.0, 0.5, 7.0]))
def test_pacing_loses_nothing_and_is_never_early(parts: list[list[int]], speed: float) -> None:
    """Protects every reading's passage, in order, at any speed; speed 0 never sleeps."""
    times = sorted(second for part in parts for second in part)
    batches, start = [], 0
    for part in parts:
        batches.append(seconds_batch(times[start : start + len(part)]))
        start += len(part)
    clock = ManualClock()
    came: list[int] = []
    refused = 0
    for batch in paced(iter(batches), speed, clock, clock.sleep):
        refused += len(batch.rejected)
        for time_us in batch.time_us.tolist():
            came.append(time_us)
            if speed:
                assert (time_us - came[0]) / 1e6 / speed <= clock.now_s - 50.0 + 1e-6
    assert came == [time_us for batch in batches for time_us in batch.time_us.tolist()]
    assert refused == len(parts)
    assert speed or not clock.slept


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=8), st.text(max_size=8)), max_size=5))
def test_any_cells_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    """Protects replay from raising for what is in a cell, once one row shows that the mapping is right."""
    path = tmp_path_factory.mktemp("cells") / "table.csv"
    good = ("a", "2026-11-21 10:00:00", "1")
    pd.DataFrame([good, *rows], columns=["site", "time", "v"]).to_csv(path, index=False)
    table = Wide(time=UTC_TIMES, entity="site", channels={"v": "v"})
    batches = list(Replay(path, table).batches())
    read_rows = {int(row) for batch in batches for row in batch.record}
    refused = {rejected.offset - 1 for batch in batches for rejected in batch.rejected}
    assert 0 in read_rows
    assert not read_rows & refused
