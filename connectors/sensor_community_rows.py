"""Sensor.Community's rows to readings and sites. Pure; never raises; works through a document row by row.

A document holds up to five megabytes: rows are cut out of it first and read one at a time, so that neither one bad row
nor many good ones cost more than themselves. Source: feinstaub-api (models, serializers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connectors.airrohr_channels import LIMITS, measured
from connectors.json_documents import NOT_JSON, number_of, parsed, written
from connectors.pushed import Pushed
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse

Text = str | int | float | None
"""Numbers are often written as texts, and texts as numbers."""
Flag = bool | int | float | str | None


class SensorType(msgspec.Struct):
    """The kind of a sensor."""

    name: str = ""
    manufacturer: str | None = None


class SensorPart(msgspec.Struct):
    """A sensor."""

    id: int
    sensor_type: SensorType = msgspec.field(default_factory=SensorType)
    pin: Text = None


class LocationPart(msgspec.Struct):
    """Where it is; blurred by some hundred metres unless ``exact_location`` is 1."""

    id: int | None = None
    latitude: Text = None
    longitude: Text = None
    altitude: Text = None
    country: str | None = None
    exact_location: Flag = None
    indoor: Flag = None


class ValuePart(msgspec.Struct):
    """One value; the column behind it is a text."""

    value_type: str
    value: Any = None


class Row(msgspec.Struct):
    """What one sensor sent at one time."""

    timestamp: str
    sensor: SensorPart
    sensordatavalues: list[ValuePart]
    location: LocationPart = msgspec.field(default_factory=LocationPart)


@dataclass(slots=True)
class Rows(Pushed):
    """A piece of a document."""

    sites: list[Site] = field(default_factory=list)
    """Of the sensors in it; each once in a document."""
    indoor: int = 0
    """Rows of sensors in houses that were left out."""
    broken: str = ""
    """Why nothing of the document can be used; empty if it can."""


_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_row = msgspec.json.Decoder(Row, strict=True).decode
_MOST_VALUES = 100


def rows_of(body: bytes, *, indoor: bool = False) -> Iterator[Rows]:
    """Yield what a document holds, in pieces of bounded size.

    The entity is ``sc-`` and the sensor's id. Times have no offset in the document; they are UTC, stamped by the server
    when the values came.

    Args:
        body: as it came.
        indoor: whether sensors in houses count too.
    """
    piece = Rows()
    seen: set[int] = set()
    for number, raw in enumerate(_cut(body, piece), 1):
        row = _typed(raw)
        if isinstance(row, Refusal):
            piece.refuse(row, raw if isinstance(raw, bytes) else written(raw), number, f"row {number}")
            continue
        if _is_set(row.location.indoor) and not indoor:
            piece.indoor += 1
            continue
        _read(row, raw, number, piece)
        if row.sensor.id not in seen:
            seen.add(row.sensor.id)
            piece.sites.append(_site(row))
        if piece.full:
            yield piece
            piece = Rows()
    yield piece


def _cut(body: bytes, piece: Rows) -> Iterator[bytes | object]:
    """Yield each row's bytes; as an object where the document is only leniently JSON."""
    try:
        raws = _rows(body)
    except NOT_JSON:
        document = parsed(body)
        if isinstance(document, Refusal):
            piece.broken = document.detail
        elif not isinstance(document, list):
            piece.broken = f"no list of rows: {shortened(document)}"
        else:
            yield from document
        return
    for raw in raws:
        yield bytes(raw)


def _typed(raw: bytes | object) -> Row | Refusal:
    try:
        return _row(raw) if isinstance(raw, bytes) else msgspec.convert(raw, Row)
    except NOT_JSON as error:  # ValidationError is a DecodeError
        return Refusal(Reason.WRONG_TYPE, f"no row of a sensor: {error}"[:200])


def _read(row: Row, raw: bytes | object, number: int, piece: Rows) -> None:
    sensor = row.sensor
    time_us = _time_us(row.timestamp)
    if isinstance(time_us, int) and len(row.sensordatavalues) > _MOST_VALUES:
        time_us = Refusal(Reason.TOO_LARGE, f"{len(row.sensordatavalues)} values; allowed: {_MOST_VALUES}")
    if isinstance(time_us, Refusal):
        piece.refuse(time_us, raw if isinstance(raw, bytes) else written(raw), number, f"sensor {sensor.id}")
        return
    for one in row.sensordatavalues:
        where = measured(sensor.sensor_type.name, one.value_type)
        if where is None:
            piece.ignored += 1
            continue
        value = number_of(one.value)
        if isinstance(value, Refusal):
            place = f"sensor {sensor.id}, {shortened(one.value_type)}"
            piece.refuse(value, raw if isinstance(raw, bytes) else written(raw), number, place)
            continue
        quality = Quality.MISSING if value is None else Quality.UNKNOWN
        piece.readings.append(Reading(f"sc-{sensor.id}", where.channel, time_us, value, where.unit, quality))


def _time_us(text: str) -> int | Refusal:
    """Return a time; what has no offset is UTC by declaration, wherever this runs."""
    plain = text.strip()
    named = len(plain) > 19 and (plain[-1] in "zZ" or "+" in plain[19:] or "-" in plain[19:])
    return parse(plain.replace(" ", "T", 1) + ("" if named else "Z"))


def _site(row: Row) -> Site:
    where, kind = row.location, row.sensor.sensor_type
    latitude, longitude = _degrees(where.latitude, 90.0), _degrees(where.longitude, 180.0)
    places = [measured(kind.name, one.value_type) for one in row.sensordatavalues[:_MOST_VALUES]]
    channels = {one.channel: one.unit for one in places if one is not None}
    about = {
        "sensor_type": kind.name[:60],
        "station": "" if where.id is None else str(where.id),
        "country": (where.country or "")[:60],
        "altitude": "" if where.altitude is None else str(where.altitude)[:20],
        "exact_location": "" if where.exact_location is None else "yes" if _is_set(where.exact_location) else "no",
        "indoor": "yes" if _is_set(where.indoor) else "",
    }
    return Site(
        f"sc-{row.sensor.id}",
        f"Sensor.Community {kind.name[:60]} {row.sensor.id}",
        latitude,
        longitude,
        channels,
        {channel: LIMITS[channel] for channel in channels if channel in LIMITS},
        {name: value for name, value in about.items() if value},
    )


def _is_set(flag: Flag) -> bool:
    return flag in (1, True, "1", "true")


def _degrees(value: Text, most: float) -> float | None:
    number = number_of(value)
    return number if isinstance(number, float) and abs(number) <= most else None
