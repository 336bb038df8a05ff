"""What the Environment Agency's flood-monitoring service sends, to readings and sites. Pure; never raises.

Source: environment.data.gov.uk/flood-monitoring/doc/reference. What a measure is stands in its address, which is all
that a reading carries: ``1491TH-level-downstage-i-15_min-mASD`` is station, parameter, qualifier, kind of value
(instantaneous, total, mean, …), interval and unit with its datum.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.json_documents import number_of, parsed, written
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse

ATTRIBUTION = "this uses Environment Agency flood and river level data from the real-time data API (Beta)"
"""Which the licence (OGL 3.0) asks to be shown."""

_MEASURE = re.compile(
    r"(?P<station>.+?)-(?P<parameter>level|flow|rainfall|temperature|wind|other)"
    r"-(?P<qualifier>[^-]*)-(?P<kind>[^-]*)-(?P<interval>[^-]*)-(?P<unit>.+)"
)
_CHANNELS = {"level": "stage", "flow": "discharge", "rainfall": "rain", "wind": "wind"}
_USUAL = {
    "level": ("stage", "i", "15_min", "mASD"),
    "flow": ("", "i", "15_min", "m3_s"),
    "rainfall": ("tipping_bucket_raingauge", "t", "15_min", "mm"),
    "temperature": ("", "i", "15_min", "deg_C"),
}
"""Qualifier, kind, interval and unit that make no part of the channel's name."""
_WORDS = {"": "plain", "---": "unitless"}
_UNITS = {
    "mASD": "m", "mAOD": "m", "m": "m", "mBDAT": "m", "m3_s": "m3/s", "l_s": "L/s", "Ml_d": "ML/d", "mm": "mm",
    "deg_C": "Cel", "deg": "deg", "Knots": "[kn_i]", "m_s": "m/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """What one measure's address says."""

    station: str
    channel: str
    unit: str


@dataclass(slots=True)
class ReadingsPage:
    """What one answer holds."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    rows: int = 0
    broken: str = ""
    """Why nothing of it can be used; empty if it can."""


def measure_of(address: str) -> Measure | None:
    """Return what a measure's address says, absolute or only its last part; None when it is none.

    The names are one-to-one: whatever is not the usual is part of the channel, the datum above all.

    >>> measure_of("http://host/id/measures/1491TH-level-downstage-i-15_min-mASD")
    Measure(station='1491TH', channel='stage_downstage', unit='m')
    >>> measure_of("0240120-level-stage-i-15_min-mAOD").channel, measure_of("53107-flow--i-15_min-m3_s").channel
    ('stage_maod', 'discharge')
    """
    found = _MEASURE.fullmatch(address.rstrip("/").rpartition("/")[2][:256])
    if found is None:
        return None
    station, parameter, *rest = found.groups()
    usual = _USUAL.get(parameter, ("", "i", "15_min", ""))
    others = [_WORDS.get(one, one.lower()) for one, known in zip(rest, usual, strict=True) if one != known]
    unit = _UNITS.get(found["unit"], "" if set(found["unit"]) <= {"-"} else found["unit"])
    return Measure(station, "_".join([_CHANNELS.get(parameter, parameter), *others]), unit)


def readings_page(body: bytes) -> ReadingsPage:
    """Return what an answer of ``/data/readings`` or ``/id/stations/…/readings`` holds.

    The entity is the station's reference. The service tells no quality. The time of a total is the end of its interval.
    """
    page = ReadingsPage()
    for row in _items(body, page):
        page.rows += 1
        reading = _reading(row)
        if isinstance(reading, Refusal):
            page.rejected.append(Rejected(reading.reason, reading.detail, written(row)))
        else:
            page.readings.append(reading)
    return page


def sites_page(body: bytes) -> tuple[list[Site], str]:
    """Return the stations that an answer of ``/id/stations`` tells of, and why it cannot be used if it cannot.

    Names, positions and rivers come as one value or as a list of them; measures as an object where there is one only.
    """
    page = ReadingsPage()
    return [site for row in _items(body, page) if (site := _site(row)) is not None], page.broken


def _reading(row: object) -> Reading | Refusal:
    if not isinstance(row, dict):
        return Refusal(Reason.WRONG_TYPE, f"a reading is {shortened(row)}; allowed: an object")
    address = row.get("measure")
    if isinstance(address, dict):  # with _view=full
        address = address.get("@id")
    if not isinstance(address, str):
        return Refusal(Reason.MISSING_KEY, f"measure is {shortened(address)}; allowed: its address")
    measure = measure_of(address)
    if measure is None:
        return Refusal(Reason.UNSUPPORTED, f"measure {shortened(address, 120)} does not say what it measures")
    time = row.get("dateTime")
    time_us = parse(time) if isinstance(time, str) else Refusal(Reason.BAD_TIME, f"dateTime is {shortened(time)}")
    if isinstance(time_us, Refusal):
        return time_us.within(measure.station)
    number = number_of(row.get("value"))
    if isinstance(number, Refusal):
        return number.within(f"{measure.station}/{measure.channel}")
    quality = Quality.UNKNOWN if number is not None else Quality.MISSING
    return Reading(measure.station, measure.channel, time_us, number, measure.unit, quality)


def _site(row: object) -> Site | None:
    if not isinstance(row, dict):
        return None
    entity = _first_text(row.get("stationReference")) or _first_text(row.get("notation"))
    if not entity:
        return None
    about = {name: _first_text(row.get(name)) for name in ("riverName", "catchmentName", "town", "status")}
    return Site(
        entity,
        _first_text(row.get("label")),
        _degrees(row.get("lat")),
        _degrees(row.get("long")),
        {measure.channel: measure.unit for measure in _measures(row.get("measures"), entity)},
        attributes={name: value for name, value in about.items() if value} | {"attribution": ATTRIBUTION},
    )


def _measures(listed: object, station: str) -> Iterator[Measure]:
    for one in listed if isinstance(listed, list) else [listed]:
        address = one.get("@id") if isinstance(one, dict) else one
        measure = measure_of(address) if isinstance(address, str) else None
        if measure is not None and measure.station == station:
            yield measure


def _items(body: bytes, page: ReadingsPage) -> list[Any]:
    document = parsed(body)
    if isinstance(document, Refusal):
        page.broken = document.detail
        return []
    items: object = document.get("items") if isinstance(document, Mapping) else None
    if isinstance(items, dict):
        return [items]
    if not isinstance(items, list):
        page.broken = f"it has no items: {shortened(document)}"
        return []
    return items


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


def _first_text(value: object) -> str:
    first = _first(value)
    return first.strip()[:200] if isinstance(first, str) else ""


def _degrees(value: object) -> float | None:
    number = number_of(_first(value))
    return number if isinstance(number, float) and abs(number) <= 180 else None
