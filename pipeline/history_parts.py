"""Parts as Parquet: what the columns are called, and the way there and back without a Python object per row.

Legend: n rows, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.history import NO_LEVEL, HistoryPart
from pipeline.history_files import PartFile
from pipeline.history_forecasts import floats, forecast_columns, rounded

FORMAT_VERSION = 1

_META = b"vedette"
# What hive partitioning makes columns of, and our own columns without an underscore.
_RESERVED = frozenset(("time", "step", "entity", "stream", "day"))
_CHANNEL = "_channel:"
_LEARN = "_learn:"
_TYPES = {
    "time": pa.timestamp("us", "UTC"),
    "step": pa.int64(),
    "entity": pa.dictionary(pa.int32(), pa.string()),
    "_score": pa.float32(),
    "_level": pa.int8(),
    "_revision": pa.int64(),
}
_MERGED_ROWS = 65_536
"""Of a row group in a merged part, which is in the order of entities: one entity is in few of them."""
# A part is written every minute and merged once: the one should be fast, the other small.
_FAST, _SMALL = 1, 9


class DamagedPartError(Exception):
    """A file is no part of ours, or is not whole."""


@dataclass(slots=True)
class StoredPart:
    """A part as it was read; the arrays are as a HistoryPart's, the names stay in Arrow."""

    names: Any
    """Arrow array of the entities' names, each once."""
    channels: tuple[str, ...]
    step_us: int
    merged: bool
    """Each entity and step is in it once."""
    codes: NDArray[np.int32]
    step: NDArray[np.int64]
    revision: NDArray[np.int64]
    level: NDArray[np.int8]
    score: NDArray[np.float32]
    values: NDArray[np.float64]
    learn: NDArray[np.bool_]
    expected: NDArray[np.float32] | None = None
    """None where it was not asked for, or none of it is there."""
    spread: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class Keys:
    """Which entities and steps are in a part; all that is known before its values are read."""

    names: Any
    """Arrow array of the entities' names, each once."""
    codes: NDArray[np.int32]
    step: NDArray[np.int64]


def column_of(channel: str) -> str:
    """Return the column of a channel: its own name, unless that could be taken for one of ours.

    >>> column_of("pm25"), column_of("time"), column_of("_level")
    ('pm25', '_channel:time', '_channel:_level')
    """
    name = _text(channel)
    return f"{_CHANNEL}{name}" if name in _RESERVED or name.startswith("_") or not name else name


def channel_of(column: str) -> str | None:
    """Return the channel whose column that is; None if it is none's."""
    if column.startswith(_CHANNEL):
        return column.removeprefix(_CHANNEL)
    return None if column in _RESERVED or column.startswith("_") else column


def encode(stream: str, part: HistoryPart, *, merged: bool) -> memoryview:
    """Return the bytes of a Parquet file with the rows of ``part``."""
    about = {"version": FORMAT_VERSION, "stream": stream, "step_us": part.step_us, "merged": merged}
    unjudged = part.level == NO_LEVEL
    columns = {
        "time": pa.array(part.step * part.step_us, _TYPES["time"]),
        "step": pa.array(part.step),
        "entity": _entities(part),
    }
    for c, channel in enumerate(part.channels):
        values = np.ascontiguousarray(part.values[:, c])
        columns[column_of(channel)] = pa.array(values, mask=np.isnan(values))
    for c, channel in enumerate(part.channels):
        columns[f"{_LEARN}{_text(channel)}"] = pa.array(np.ascontiguousarray(part.learn[:, c]))
    if part.expected is not None and part.spread is not None:
        told = zip(forecast_columns(part.channels), rounded(part.expected, part.spread), strict=True)
        for names, numbers in told:
            for c, name in enumerate(names):
                column = np.ascontiguousarray(numbers[:, c])
                columns[_text(name)] = pa.array(column, mask=np.isnan(column) | unjudged)
    columns["_score"] = pa.array(part.score, mask=unjudged)
    columns["_level"] = pa.array(part.level, mask=unjudged)
    columns["_revision"] = pa.array(part.revision)
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(about)})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=_SMALL if merged else _FAST,
        write_statistics=["step"] if not merged else True,
        row_group_size=_MERGED_ROWS if merged else None,
    )
    return memoryview(sink.getvalue())


def decode(
    file: PartFile,
    data: bytes,
    stream: str,
    step_us: int | None,
    channels: Sequence[str] | None,
    *,
    forecasts: bool = False,
) -> StoredPart | None:
    """Return the rows of a part; None if its steps have another length.

    Args:
        file: what its name tells.
        data: all that is in it.
        stream: whose part it should be.
        step_us: the length of a step; None takes any.
        channels: which, in this order, NaN for those that it lacks; None: those that it has.
        forecasts: whether what was forecast is wanted too.

    Raises:
        DamagedPartError: if it is no part of this stream, is damaged, or was made by a newer version.
    """
    try:
        parquet = _open(file, data)
        about = _about(parquet, stream)
        if step_us is not None and about["step_us"] != step_us:
            return None
        wanted, columns = _wanted(parquet, channels, forecasts)
        table = parquet.read(columns=columns)
        _compare(file, table, about["step_us"])
        return _stored(table, wanted, about)
    except DamagedPartError:
        raise
    except Exception as error:  # whatever Arrow makes of bytes that anybody may have written
        raise DamagedPartError(f"{type(error).__name__}: {error}") from error


def decode_entity(
    file: PartFile, data: bytes, stream: str, step_us: int, channels: Sequence[str], entity: str
) -> StoredPart | None:
    """Return one entity's rows of a part with what was forecast, as ``decode`` does, and raises; others are not built.

    In a merged part only the row groups are read that may hold the entity.
    """
    try:
        parquet = _open(file, data)
        about = _about(parquet, stream)
        if about["step_us"] != step_us:
            return None
        wanted, columns = _wanted(parquet, channels, True)
        source = pa.BufferReader(data)
        table = pq.read_table(
            source, columns=columns, filters=pc.field("entity") == _text(entity), use_threads=False, partitioning=None
        )
        return _stored(table, wanted, about) if table.num_rows else None
    except DamagedPartError:
        raise
    except Exception as error:  # as in decode
        raise DamagedPartError(f"{type(error).__name__}: {error}") from error


def decode_keys(file: PartFile, data: bytes, stream: str, step_us: int) -> Keys | None:
    """Return which entities and steps are in a part, as ``decode`` does, and raises, but for the values."""
    try:
        parquet = _open(file, data)
        if _about(parquet, stream)["step_us"] != step_us:
            return None
        table = parquet.read(columns=["step", "entity"])
        _compare(file, table, step_us)
        return Keys(*_names_and_codes(table), _whole_numbers(table, "step"))
    except DamagedPartError:
        raise
    except Exception as error:  # as in decode
        raise DamagedPartError(f"{type(error).__name__}: {error}") from error


# ---- inner ----


def _wanted(parquet: Any, channels: Sequence[str] | None, forecasts: bool) -> tuple[tuple[str, ...], list[str]]:
    """Return the channels to give, and the columns to read for them."""
    here = set(parquet.schema_arrow.names)
    known = [c for name in parquet.schema_arrow.names if (c := channel_of(name)) is not None]
    wanted = tuple(known if channels is None else channels)
    there = [c for c in wanted if _text(c) in known]
    columns = [*list(_TYPES)[1:], *map(column_of, there), *(f"{_LEARN}{_text(c)}" for c in there)]
    if forecasts:
        columns += [_text(name) for names in forecast_columns(there) for name in names if _text(name) in here]
    return wanted, columns


def _text(name: str) -> str:
    """Return ``name`` as UTF-8 can hold it: half a surrogate pair, which JSON can spell, is spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _entities(part: HistoryPart) -> Any:
    """Return [n] names as an Arrow dictionary of those that are used."""
    used = np.zeros(len(part.names), np.bool_)
    used[part.codes] = True
    codes = (np.cumsum(used) - 1).astype(np.int32)[part.codes]
    names = [part.names[i] for i in np.flatnonzero(used).tolist()]
    try:
        dictionary = pa.array(names, pa.string())
    except UnicodeEncodeError:
        dictionary = pa.array(map(_text, names), pa.string())
    return pa.DictionaryArray.from_arrays(codes, dictionary)


def _open(file: PartFile, data: bytes) -> Any:
    if not file.is_whole(data):  # before Arrow sees it, which was made for files that are what they say
        raise DamagedPartError(f"its checksum is not the one in its name; it has {len(data):,} bytes")
    return pq.ParquetFile(pa.BufferReader(data))


def _about(parquet: Any, stream: str) -> dict[str, Any]:
    """Return what a part says of itself; raise DamagedPartError unless it is one of ``stream`` that can be read."""
    schema = parquet.schema_arrow
    if _META not in (schema.metadata or {}):
        raise DamagedPartError("it was not written by Vedette")
    about = json.loads(schema.metadata[_META])
    if about["version"] > FORMAT_VERSION:
        raise DamagedPartError(f"its format is {about['version']}; this version of Vedette reads {FORMAT_VERSION}")
    if about["stream"] != stream:
        raise DamagedPartError(f"it is of stream {about['stream']}")
    for name, kind in _TYPES.items():
        if schema.field(name).type != kind:
            raise DamagedPartError(f"its column {name} is {schema.field(name).type}, not {kind}")
    return {"step_us": int(about["step_us"]), "merged": bool(about["merged"])}


def _compare(file: PartFile, table: Any, step_us: int) -> None:
    """Raise DamagedPartError unless the rows are those that the name tells of: by names is decided what is read."""
    step = _whole_numbers(table, "step")
    first, last = (int(step.min()), int(step.max())) if len(step) else (0, 0)
    if (len(step), first * step_us, last * step_us) != (file.rows, file.first_us, file.last_us):
        raise DamagedPartError("its rows are not those that its name tells of")


def _stored(table: Any, channels: tuple[str, ...], about: dict[str, Any]) -> StoredPart:
    n = table.num_rows
    values, learn = np.full((n, len(channels)), np.nan), np.zeros((n, len(channels)), np.bool_)
    here = set(table.column_names)
    for c, channel in enumerate(channels):
        if (name := column_of(channel)) in here:
            values[:, c] = table.column(name).to_numpy()  # null becomes NaN
            learn[:, c] = pc.fill_null(table.column(f"{_LEARN}{_text(channel)}"), False).to_numpy()
    entities, codes = _names_and_codes(table)
    forecasts = [floats(table, [_text(name) for name in names]) for names in forecast_columns(channels)]
    return StoredPart(
        entities,
        channels,
        about["step_us"],
        about["merged"],
        codes,
        _whole_numbers(table, "step"),
        _whole_numbers(table, "_revision"),
        pc.fill_null(table.column("_level"), NO_LEVEL).to_numpy(),
        pc.fill_null(table.column("_score"), 0.0).to_numpy(),
        values,
        learn,
        *forecasts,
    )


def _names_and_codes(table: Any) -> tuple[Any, NDArray[np.int32]]:
    column = table.select(["entity"]).unify_dictionaries().combine_chunks().column("entity")
    if column.null_count:
        raise DamagedPartError("it has rows without an entity")
    if column.num_chunks == 0:
        return pa.array([], pa.string()), np.zeros(0, np.int32)
    return column.chunk(0).dictionary, column.chunk(0).indices.to_numpy()


def _whole_numbers(table: Any, name: str) -> NDArray[np.int64]:
    column = table.column(name)
    if column.null_count:
        raise DamagedPartError(f"it has rows without a value in column {name}")
    numbers: NDArray[np.int64] = column.to_numpy()
    return numbers
