"""Reads files with a mapping and no source around it: for the tests of formats."""

from __future__ import annotations

import io

from connectors.field_mapping import FieldMapping, Fields, Outcome
from connectors.file_formats import Format
from connectors.record_times import RecordTimes
from connectors.table_files import MappedRows

WIDE = Fields(time="time", entity="station", values={"pm25": "PM2.5", "no2": "NO2"}, units={"pm25": "µg/m³"})
LONG = Fields(time="time", entity="station", channel="parameter", value="value", unit="unit", quality="flag")


def mapped(fields: Fields = WIDE, **times: object) -> FieldMapping:
    """Return a mapping whose naive times are UTC."""
    return FieldMapping(fields, RecordTimes(**{"zone": "UTC", **times}))  # type: ignore[arg-type]


def read(format_: Format, body: bytes, mapping: FieldMapping, at: int = 0, whole: bool = True) -> Outcome:
    """Return what a mapping makes of a file."""
    reader = MappedRows(mapping)
    readings, refused = [], []
    for row in format_.rows(io.BytesIO(body), at, whole):
        good, bad = reader.read(row, {})
        readings += good
        refused += bad
    return readings, refused
