"""Tables of the past as readings in time order: CSV, CSV.gz and Parquet, wide or long, as fast as wanted.

Legend: R rows of the table, C channels, n = R·C readings of a wide table, R of a long one. Rows count from 1, without
the header. A row is read or refused as a whole; an empty cell is a reading that is known to be missing.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow.parquet
from numpy.typing import NDArray

from connectors.codec_json import LONGEST_NAME, QUALITY_CODES, encode_readings
from connectors.errors import Misconfigured
from connectors.pacing import pick
from connectors.reading import NO_TIME, Quality, ReadingBatch, Reason, Rejected, Vocabulary
from connectors.refusal import shortened
from connectors.table_mapping import Long, Times, Wide
from connectors.timestamps import EARLIEST_US, LATEST_US

OFFSET = re.compile(r"[T ]\s*\d\d(?::?\d\d){0,2}(?:[.,]\d+)?\s*(?:[Zz]|[+-]\d\d(?::?\d\d)?)\s*$")
"""A time of day and then an offset: the -21 of 2026-11-21 is none."""
UNREADABLE = (OSError, EOFError, zlib.error, ValueError)  # pandas' ParserError and EmptyDataError are ValueErrors


class Replay:
    """Reads one table and gives its readings in time order. The columns that are asked for are held in memory.

    Args:
        path: a file whose name ends in .csv, .csv.gz or .parquet.
        table: which columns mean what.
        entities, channels, units: vocabularies that the batches' codes refer to; new ones when left out.
        chunk: readings a batch, at most.
    """

    def __init__(
        self,
        path: Path,
        table: Wide | Long,
        entities: Vocabulary | None = None,
        channels: Vocabulary | None = None,
        units: Vocabulary | None = None,
        chunk: int = 50_000,
    ) -> None:
        self.path = path
        self.entities = Vocabulary() if entities is None else entities
        self.channels = Vocabulary() if channels is None else channels
        self.units = Vocabulary() if units is None else units
        self._table = table
        self._chunk = chunk

    def batches(self) -> Iterator[ReadingBatch]:
        """Yield the table's readings in time order, rows of one time in file order; refused rows come with the first.

        ``record`` is the row's index (its number less one); a refused row's ``offset`` is its number.

        Raises:
            Misconfigured: if the file or a column is not there, or times lack an offset and no zone is given.
        """
        whole = self._read()
        for start in range(0, max(1, len(whole)), self._chunk):
            batch = pick(whole, slice(start, start + self._chunk))
            yield batch if start else dataclasses.replace(batch, rejected=whole.rejected)

    def pairs(self, batch: ReadingBatch) -> list[tuple[bytes, bytes]]:
        """Return a batch as Kafka records: the entity as key, one canonical JSON reading as value."""
        values = encode_readings(batch, self.entities, self.channels, self.units)
        keys = {code: self.entities.names[code].encode() for code in np.unique(batch.entity).tolist()}
        return [(keys[code], value) for code, value in zip(batch.entity.tolist(), values, strict=True)]

    def _read(self) -> ReadingBatch:
        frame = load(self.path, self._table.columns())
        rows = _Rows(self.path.name, frame)
        time_us = _times(self.path, frame, self._table.time, rows)
        quality = _qualities(frame, self._table.quality, rows)
        if isinstance(self._table, Wide):
            batch = self._wide(self._table, frame, rows, time_us, quality)
        else:
            batch = self._long(self._table, frame, rows, time_us, quality)
        order = np.argsort(batch.time_us, kind="stable")
        batch = pick(batch, order[rows.good[batch.record[order]]])
        return dataclasses.replace(batch, rejected=rows.rejected())

    def _wide(
        self, table: Wide, frame: pd.DataFrame, rows: _Rows, time_us: NDArray[np.int64], quality: NDArray[np.int8]
    ) -> ReadingBatch:
        names = list(table.channels.values())
        value = np.stack([_values(frame[column], rows) for column in table.channels], axis=1)  # [R, C]
        if table.entity is None:
            entity = np.full(len(frame), self.entities.code(table.fixed_entity), np.int32)
        else:
            entity = _codes(frame[table.entity], self.entities, Reason.TOO_MANY_ENTITIES, rows)
        channel = np.array([self.channels.code(name) for name in names], np.int32)
        unit = np.array([self.units.code(table.units.get(name, "")) for name in names], np.int32)
        R, C = value.shape
        return self._batch(
            entity=np.repeat(entity, C),
            channel=np.tile(channel, R),
            time_us=np.repeat(time_us, C),
            value=value.ravel(),
            unit=np.tile(unit, R),
            quality=np.repeat(quality, C),
            record=np.repeat(np.arange(R, dtype=np.int32), C),
        )

    def _long(
        self, table: Long, frame: pd.DataFrame, rows: _Rows, time_us: NDArray[np.int64], quality: NDArray[np.int8]
    ) -> ReadingBatch:
        R = len(frame)
        unit = np.full(R, self.units.code(""), np.int32)
        if table.unit is not None:
            unit = _codes(frame[table.unit].fillna(""), self.units, Reason.UNIT_MISMATCH, rows, required=False)
        return self._batch(
            entity=_codes(frame[table.entity], self.entities, Reason.TOO_MANY_ENTITIES, rows),
            channel=_codes(frame[table.channel], self.channels, Reason.UNKNOWN_CHANNEL, rows),
            time_us=time_us,
            value=_values(frame[table.value], rows),
            unit=unit,
            quality=quality,
            record=np.arange(R, dtype=np.int32),
        )

    def _batch(self, record: NDArray[np.int32], **columns: Any) -> ReadingBatch:
        result_time_us = np.full(len(record), NO_TIME, np.int64)
        end = int(record[-1]) + 1 if len(record) else 0
        return ReadingBatch(
            **columns,
            record=record,
            result_time_us=result_time_us,
            topic=self.path.name,
            partition=0,
            next_offset=end,
        )


def load(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return ``columns`` of a table; those of a CSV as text, NaN where a cell is empty.

    Raises:
        Misconfigured: if the file or a column is not there (the nearest name is told), or it cannot be read.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        raise Misconfigured(f"{path}: no such file{_nearest(near)}; give the path of a .csv, .csv.gz or .parquet file")
    parquet = path.suffix == ".parquet"
    if not parquet and not path.name.endswith((".csv", ".csv.gz")):
        raise Misconfigured(f"{path}: unknown kind of file; allowed: .csv, .csv.gz, .parquet")
    try:
        known = pyarrow.parquet.read_schema(path).names if parquet else list(pd.read_csv(path, nrows=0).columns)
        _check_columns(path, columns, known)
        if parquet:
            return pd.read_parquet(path, columns=columns)
        # usecols makes the parser forgive rows with too many fields; too few become empty cells
        return pd.read_csv(path, usecols=columns, dtype=str, encoding_errors="replace", skip_blank_lines=False)
    except UNREADABLE as error:
        raise Misconfigured(f"{path}: cannot be read: {error}") from error


def _check_columns(path: Path, wanted: list[str], known: list[str]) -> None:
    for name in wanted:
        if name not in known:
            near = _nearest(difflib.get_close_matches(name, known, n=1, cutoff=0.4))
            listed = ", ".join(known[:30])
            raise Misconfigured(f"{path}: no column {name!r}{near}; its columns are {listed}")


def _nearest(found: list[str]) -> str:
    return f" (nearest: {found[0]!r})" if found else ""


class _Rows:
    """Which rows of a table are good so far, and why the others are not; the first reason counts."""

    def __init__(self, name: str, frame: pd.DataFrame) -> None:
        self.good = frame.notna().any(axis=1).to_numpy()  # blank lines are nobody's error
        self._name = name
        self._frame = frame
        self._why: dict[int, tuple[Reason, str]] = {}

    def refuse(self, bad: NDArray[np.bool_], column: str, reason: Reason, allowed: str) -> None:
        """Refuse the rows where ``bad`` [R] holds, for what is in ``column``."""
        cells = self._frame[column]
        for row in np.flatnonzero(bad & self.good).tolist():
            value = shortened(str(cells.iat[row]))
            self._why[row] = reason, f"row {row + 1}, column {column!r}: {value}; allowed: {allowed}"
        self.good = self.good & ~bad

    def rejected(self) -> list[Rejected]:
        """Return the refused rows in file order, each with its cells as text."""
        out = []
        for row, (reason, detail) in sorted(self._why.items()):
            raw = ",".join(str(cell) for cell in self._frame.iloc[row]).encode()
            out.append(Rejected(reason, detail, raw, self._name, 0, row + 1))
        return out


def _times(path: Path, frame: pd.DataFrame, times: Times, rows: _Rows) -> NDArray[np.int64]:
    """Return [R] microseconds; rows without a readable time are refused and have 0."""
    cells = frame[times.column]
    moments = _moments(path, cells, times)
    known = moments.notna().to_numpy()
    time_us = np.where(known, moments.dt.as_unit("us").astype("int64").to_numpy(), 0)
    bad = ~known | (time_us < EARLIEST_US) | (time_us >= LATEST_US)
    told = np.flatnonzero(rows.good)
    if len(told) and bad[told].all():
        value = shortened(str(cells.iat[told[0]]))
        advice = "set the format, or epoch for numbers counted from 1970"
        where = f"{path}, row {told[0] + 1}, column {times.column!r}"
        raise Misconfigured(f"{where}: {value} is no time, nor is any other; {advice}")
    rows.refuse(bad, times.column, Reason.BAD_TIME, "a time from 1970 to 2200 that exists once in its zone")
    return np.where(bad, 0, time_us)


def _moments(path: Path, cells: pd.Series[Any], times: Times) -> pd.Series[Any]:
    """Return aware UTC times, NaT where a cell holds none."""
    if times.epoch is not None:
        return pd.to_datetime(pd.to_numeric(cells, errors="coerce"), unit=times.epoch, utc=True, errors="coerce")
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        return cells.dt.tz_convert("UTC")
    if pd.api.types.is_datetime64_dtype(cells.dtype):
        return _localized(path, cells, cells, times)
    texts = cells.astype("string").fillna("")
    form = times.format or "ISO8601"
    if times.format is None:
        aware = texts.str.contains(OFFSET)
    else:
        aware = pd.Series("%z" in times.format.lower(), index=texts.index)
    moments = pd.to_datetime(texts, utc=True, errors="coerce", format=form)  # takes naive ones for UTC
    if aware.all():
        return moments
    return moments.where(aware, _localized(path, cells, moments.where(~aware).dt.tz_localize(None), times))


def _localized(path: Path, cells: pd.Series[Any], naive: pd.Series[Any], times: Times) -> pd.Series[Any]:
    found = np.flatnonzero(naive.notna().to_numpy())
    if times.zone is None:
        if len(found):
            row = int(found[0])
            advice = "set the time zone that it was written in, as UTC or Europe/Berlin"
            value = shortened(str(cells.iat[row]))
            where = f"{path}, row {row + 1}, column {times.column!r}"
            raise Misconfigured(f"{where}: {value} has no offset from UTC; {advice}")
        return naive.dt.tz_localize("UTC")
    try:
        zone = ZoneInfo(times.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Misconfigured(
            f"{path}: unknown time zone {times.zone!r}; allowed: IANA names, as Europe/Berlin"
        ) from error
    return naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")


def _values(cells: pd.Series[Any], rows: _Rows) -> NDArray[np.float64]:
    """Return [R] numbers, NaN for empty cells; rows with something else are refused."""
    name = str(cells.name)
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        rows.refuse(np.ones(len(cells), np.bool_), name, Reason.WRONG_TYPE, "numbers, not times")
        return np.full(len(cells), np.nan)
    value = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    rows.refuse(np.isnan(value) & cells.notna().to_numpy(), name, Reason.WRONG_TYPE, "a number, or empty")
    rows.refuse(np.isinf(value), name, Reason.NOT_FINITE, "a finite number, or empty")
    return value


def _qualities(frame: pd.DataFrame, column: str | None, rows: _Rows) -> NDArray[np.int8]:
    if column is None:
        return np.full(len(frame), int(Quality.UNKNOWN), np.int8)
    names = [None if pd.isna(name) else str(name).strip().lower() for name in frame[column]]
    codes = np.array([QUALITY_CODES.get(name, -1) for name in names], np.int8)
    rows.refuse(codes < 0, column, Reason.BAD_QUALITY, ", ".join(name for name in QUALITY_CODES if name))
    return codes


def _codes(
    cells: pd.Series[Any], vocabulary: Vocabulary, full: Reason, rows: _Rows, required: bool = True
) -> NDArray[np.int32]:
    """Return [R] codes of the names in ``cells``; rows without a name, or with one too many, are refused."""
    places, names = pd.factorize(cells.astype("string").str.strip())  # -1 for empty cells
    codes = np.array([vocabulary.code(str(name)) for name in names] or [-1], np.int32)
    long = np.array([len(name) > LONGEST_NAME for name in names] or [False], np.bool_)
    column = str(cells.name)
    if required:
        empty = np.array([not name for name in names] or [False], np.bool_)
        rows.refuse((places < 0) | empty[places], column, Reason.MISSING_KEY, "a name")
    rows.refuse(long[places], column, Reason.WRONG_TYPE, f"at most {LONGEST_NAME} characters")
    rows.refuse(codes[places] < 0, column, full, f"{vocabulary.max_size} names")
    return codes[places]
