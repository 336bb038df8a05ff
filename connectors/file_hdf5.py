"""HDF5, and so NetCDF 4: columns are datasets of one dimension and one length, or the fields of a compound dataset.

Of the CF conventions those are kept that change what a number means: ``units`` of times ("seconds since …"),
``_FillValue`` and ``missing_value``, ``scale_factor`` and ``add_offset``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import numpy as np

from connectors.errors import Misconfigured
from connectors.file_formats import BadFile, Row, Wanted
from connectors.file_lines import check_columns

_ROWS = 8192
_SINCE = re.compile(r"(?i)^\s*(\w+)\s+since\s+(.+?)\s*$")
_SECONDS = {
    "microsecond": 1e-6, "millisecond": 1e-3, "msec": 1e-3, "second": 1.0, "sec": 1.0, "s": 1.0,
    "minute": 60.0, "min": 60.0, "hour": 3600.0, "hr": 3600.0, "h": 3600.0, "day": 86400.0, "d": 86400.0,
}  # fmt: skip
"""UDUNITS' names that CF files use; months and years have no fixed length."""
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


class Hdf5Format:
    """The place is a row's number, counted from 0.

    Raises:
        Misconfigured: if h5py is not installed.
    """

    appendable = False

    def __init__(self, wanted: Wanted) -> None:
        try:
            import h5py
        except ImportError as error:
            raise Misconfigured("HDF5 and NetCDF need h5py: pip install 'vedette[hdf5]'") from error
        self._h5py: Any = h5py
        self._columns = wanted.columns
        self._table = wanted.table

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """See ``Format.rows``."""
        try:
            with self._h5py.File(file, "r") as root:
                columns = self._compound(root) if self._table else self._datasets(root)
                names = [column.name for column in columns]
                length = columns[0].length
                for start in range(at, length, _ROWS):
                    parts = [column.read(start, min(start + _ROWS, length)) for column in columns]
                    for number, cells in enumerate(zip(*parts, strict=True), start + 1):
                        yield Row(dict(zip(names, cells, strict=True)), number)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, OSError) and error.errno is not None and "file" not in str(error).lower():
                raise  # the disk or the network, not the file
            raise BadFile(f"no HDF5 that can be read: {error}") from error

    def _datasets(self, root: Any) -> list[_Column]:
        known: list[str] = []
        root.visititems(lambda name, node: known.append(name) if isinstance(node, self._h5py.Dataset) else None)
        check_columns(tuple(name.strip("/") for name in self._columns), known)
        columns = [_column(name, root[name.strip("/")]) for name in self._columns or sorted(known)]
        if not columns:
            raise BadFile("it holds no dataset")
        lengths = {column.name: column.length for column in columns}
        if len(set(lengths.values())) > 1:
            raise BadFile(f"its columns have different lengths: {lengths}"[:400])
        return columns

    def _compound(self, root: Any) -> list[_Column]:
        node = root.get(self._table)
        names = getattr(getattr(node, "dtype", None), "names", None)
        if names is None:
            raise BadFile(f"{self._table!r} is no compound dataset; without table, each column is a dataset")
        check_columns(self._columns, list(names))
        return [_Column(name, node, field=name) for name in self._columns or names]


@dataclass(slots=True)
class _Column:
    name: str
    dataset: Any
    field: str | None = None
    epoch: datetime | None = None
    step_s: float = 1.0
    fills: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0

    @property
    def length(self) -> int:
        return int(self.dataset.shape[0])

    def read(self, start: int, end: int) -> list[object]:
        """Return the cells of some rows as Python's own objects; None where the file says that nothing is."""
        part = self.dataset[start:end]
        values = np.asarray(part if self.field is None else part[self.field])
        if values.dtype.kind in "OSU":
            return [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in values.tolist()]
        gone = np.isin(values, np.array(self.fills)) if self.fills else np.zeros(len(values), np.bool_)
        if self.scale != 1.0 or self.offset != 0.0:
            values = values * self.scale + self.offset
        cells: list[object] = values.tolist()
        if self.epoch is not None:
            cells = [_moment(self.epoch, self.step_s, cell) for cell in cells]
        return [None if absent else cell for absent, cell in zip(gone.tolist(), cells, strict=True)]


def _moment(epoch: datetime, step_s: float, count: object) -> object:
    try:
        return epoch + timedelta(microseconds=round(float(count) * step_s * 1e6))  # type: ignore[arg-type]
    except (OverflowError, ValueError):
        return str(count)  # no time; who reads times will say so


def _column(name: str, dataset: Any) -> _Column:
    if len(dataset.shape) != 1:
        raise BadFile(f"{name!r} has the shape {dataset.shape}; allowed: one dimension")
    column = _Column(name, dataset)
    attributes = {key: _plain(dataset.attrs[key]) for key in dataset.attrs if not key.startswith("DIMENSION")}
    if dataset.dtype.kind in "iuf":
        column.scale = _number(attributes.get("scale_factor"), 1.0)
        column.offset = _number(attributes.get("add_offset"), 0.0)
        marks = (attributes.get(key) for key in ("_FillValue", "missing_value"))
        column.fills = tuple(float(mark) for mark in marks if isinstance(mark, int | float))
    since = _SINCE.match(str(attributes.get("units", "")))
    if since is not None:
        column.epoch, column.step_s = _epoch(name, since[1], since[2], str(attributes.get("calendar", "standard")))
    return column


def _epoch(name: str, step: str, text: str, calendar: str) -> tuple[datetime, float]:
    seconds = _SECONDS.get(step.lower()) or _SECONDS.get(step.lower().removesuffix("s"))
    if seconds is None or calendar.lower() not in _CALENDARS:
        allowed = f"microseconds to days in the calendar {' or '.join(_CALENDARS)}"
        raise BadFile(f"{name!r} counts {step} in the calendar {calendar}; allowed: {allowed}")
    plain = re.sub(r"\s*(UTC|Z)$", "", text)
    try:
        moment = datetime.fromisoformat(re.sub(r"\s+(?=[+-]\d)", "", plain))
    except ValueError as error:
        raise BadFile(f"{name!r} counts from {text!r}, which is no time") from error
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)), seconds  # CF: UTC when none is told


def _plain(value: Any) -> object:
    """Return an attribute as a Python object."""
    array = np.asarray(value)
    if array.size == 1:
        value = array.reshape(-1)[0].item() if hasattr(array.reshape(-1)[0], "item") else array.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
