"""What OpenAQ's API v3 sends, to places, sensors and readings. Pure; never raises.

Source: openaq-api-v2 (the server of v3): ``/locations`` and ``/sensors/{id}/measurements`` or ``/hours``. What pages
say in ``meta.found`` is not used: it is a number, or a text such as ``">1000"``, or what was found on that page alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.json_documents import number_of, parsed, written
from connectors.openaq_parameters import SENTINELS, Quantity, quantity_of
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor: one parameter in one unit, at one location."""

    id: int
    entity: str
    quantity: Quantity
    channel: str
    """That of the quantity, told apart from other sensors of the same location."""


@dataclass(slots=True)
class ResultsPage:
    """What every page tells."""

    rows: int = 0
    limit: int | None = None
    """What the service says that a page holds at most; it may be less than was asked for."""
    broken: str = ""
    """Why nothing of the page can be used; empty if it can."""

    def full(self, asked: int) -> bool:
        """Return whether another page may follow, where ``asked`` rows were asked for."""
        return self.rows >= (asked if self.limit is None else min(self.limit, asked))


@dataclass(slots=True)
class LocationsPage(ResultsPage):
    """One page of locations."""

    sites: list[Site] = field(default_factory=list)
    sensors: list[Sensor] = field(default_factory=list)


@dataclass(slots=True)
class MeasurementsPage(ResultsPage):
    """One page of values of one sensor."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    newest_us: int | None = None


def locations_page(body: bytes, wanted: Collection[str] = ()) -> LocationsPage:
    """Return the locations of a page and their sensors.

    The entity is ``openaq-`` and the location's id. Of several sensors of one channel the one with the lowest id, which
    is the oldest, has the plain name; others carry their id: ``pm25.9184``.

    Args:
        body: as it came.
        wanted: channels (``no2_ppb``) or parameters (``no2``); empty: all.
    """
    page = LocationsPage()
    for row in _results(body, page):
        number = _id(row.get("id")) if isinstance(row, dict) else None
        if number is None:
            continue
        sensors = _sensors(row.get("sensors"), f"openaq-{number}", wanted)
        page.sites.append(_site(row, f"openaq-{number}", sensors))
        page.sensors += sensors
    return page


def measurements_page(body: bytes, sensor: Sensor) -> MeasurementsPage:
    """Return the values of a page.

    The time is the end of the period. Flagged values are suspect; null, and what stands for no value, is missing.
    """
    page = MeasurementsPage()
    for row in _results(body, page):
        reading = _reading(row, sensor)
        if isinstance(reading, Refusal):
            said = reading.within(f"{sensor.entity}, sensor {sensor.id}")
            page.rejected.append(Rejected(said.reason, said.detail, written(row)))
            continue
        page.readings.append(reading)
        if page.newest_us is None or reading.time_us > page.newest_us:
            page.newest_us = reading.time_us
    return page


def _results(body: bytes, page: ResultsPage) -> Iterator[Any]:
    document = parsed(body)
    if isinstance(document, Refusal):
        page.broken = document.detail
        return
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(results, list):
        page.broken = f"no list `results`: {shortened(document)}"
        return
    meta = document.get("meta")
    limit = meta.get("limit") if isinstance(meta, dict) else None
    page.limit = limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
    page.rows = len(results)
    yield from results


def _reading(row: object, sensor: Sensor) -> Reading | Refusal:
    if not isinstance(row, dict):
        return Refusal(Reason.WRONG_TYPE, f"{shortened(row)} is no object")
    refused = _other_parameter(row.get("parameter"), sensor)
    if refused is not None:
        return refused
    time_us = _end_us(row.get("period"))
    if isinstance(time_us, Refusal):
        return time_us
    number = number_of(row.get("value"))
    if isinstance(number, Refusal):
        return number
    if number is None or number in SENTINELS:
        return Reading(sensor.entity, sensor.channel, time_us, None, sensor.quantity.unit, Quality.MISSING)
    value = sensor.quantity.value(number)
    if abs(value) == float("inf"):
        return Refusal(Reason.NOT_FINITE, f"value {shortened(number)} is too large")
    quality = Quality.SUSPECT if _has_flags(row.get("flagInfo")) else Quality.UNKNOWN
    return Reading(sensor.entity, sensor.channel, time_us, value, sensor.quantity.unit, quality)


def _other_parameter(parameter: object, sensor: Sensor) -> Refusal | None:
    """Return why a row is not of its sensor: a unit that was changed since would be a jump by a thousand."""
    if not isinstance(parameter, dict) or not parameter.get("units"):
        return None
    found = quantity_of(_text(parameter.get("name")), _text(parameter.get("units")))
    if found == sensor.quantity:
        return None
    detail = f"the row is {shortened(found.channel)} in {shortened(found.unit)}, the sensor {sensor.quantity.channel}"
    return Refusal(Reason.UNIT_MISMATCH, f"{detail} in {sensor.quantity.unit}")


def _end_us(period: object) -> int | Refusal:
    ends = period.get("datetimeTo") if isinstance(period, dict) else None
    text = ends.get("utc") if isinstance(ends, dict) else ends
    if not isinstance(text, str):
        return Refusal(Reason.BAD_TIME, f"period.datetimeTo.utc {shortened(text)} is no time")
    return parse(text)


def _has_flags(info: object) -> bool:
    """Return whether a value is flagged; older servers say so by a bare bool."""
    return (info.get("hasFlags") if isinstance(info, dict) else info) is True


def _sensors(listed: object, entity: str, wanted: Collection[str]) -> list[Sensor]:
    found: dict[int, Quantity] = {}
    for row in listed if isinstance(listed, list) else ():
        number = _id(row.get("id")) if isinstance(row, dict) else None
        parameter = row.get("parameter") if isinstance(row, dict) else None
        name = _text(parameter.get("name")) if isinstance(parameter, dict) else ""
        if number is None or not isinstance(parameter, dict) or not name:
            continue
        quantity = quantity_of(name, _text(parameter.get("units")))
        if not wanted or quantity.channel in wanted or name in wanted:
            found[number] = quantity
    plain: set[str] = set()
    sensors = []
    for number, quantity in sorted(found.items()):
        channel = quantity.channel
        sensors.append(Sensor(number, entity, quantity, f"{channel}.{number}" if channel in plain else channel))
        plain.add(channel)
    return sensors


def _site(row: Fields, entity: str, sensors: Collection[Sensor]) -> Site:
    place = row.get("coordinates")
    latitude, longitude = (
        _degrees(place.get(name) if isinstance(place, dict) else None, most)
        for name, most in (("latitude", 90.0), ("longitude", 180.0))
    )
    limits = {one.channel: one.quantity.limits for one in sensors}
    country, owner, provider = (
        _text(inner.get(name)) if isinstance(inner := row.get(at), dict) else ""
        for at, name in (("country", "code"), ("owner", "name"), ("provider", "name"))
    )
    about = {
        "locality": _text(row.get("locality")),
        "timezone": _text(row.get("timezone")),
        "country": country,
        "owner": owner,
        "provider": provider,
        "reference_monitor": _yes(row.get("isMonitor")),
        "mobile": _yes(row.get("isMobile")),
        "licenses": ", ".join(_licenses(row.get("licenses"))),
    }
    return Site(
        entity,
        _text(row.get("name")),
        latitude,
        longitude,
        {one.channel: one.quantity.unit for one in sensors},
        {channel: both for channel, both in limits.items() if both is not None},
        {name: value for name, value in about.items() if value},
    )


def _licenses(listed: object) -> list[str]:
    rows = listed if isinstance(listed, list) else []
    return [name for row in rows[:5] if isinstance(row, dict) and (name := _text(row.get("name")))]


def _degrees(value: object, most: float) -> float | None:
    number = value if isinstance(value, float | int) and not isinstance(value, bool) else None
    return float(number) if number is not None and abs(number) <= most else None


def _id(value: object) -> int | None:
    """Return a number of theirs; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None


def _yes(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else ""


def _text(value: object) -> str:
    return value.strip()[:200] if isinstance(value, str) else ""
