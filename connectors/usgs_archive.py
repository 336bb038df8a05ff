"""Archives of the USGS's former instantaneous-values service (WaterML as JSON), to readings and sites. Pure.

The service itself (waterservices.usgs.gov/nwis/iv) ends early in 2027; what was kept of it can be read on. Entities and
channels are those of ``connectors.usgs``, so that an archive and what is polled today make one series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.json_documents import number_of, parsed, written
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse
from connectors.usgs_codes import channel_of, unit_of, value_of

_STATISTICS = {"00001": "_max", "00002": "_min", "00003": "_mean"}
_INSTANTANEOUS = ("", "00000", "00011")
_MOST_SAID = 40
"""Remarks about one value that are looked at."""
Fields = Mapping[str, Any]


@dataclass(slots=True)
class Archive:
    """What one file, or one answer, holds."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    sites: dict[str, Site] = field(default_factory=dict)
    broken: str = ""
    """Why nothing of it can be used; empty if it can."""


def read_archive(body: bytes) -> Archive:
    """Return what a document holds; whatever the bytes are, nothing is raised.

    The entity is agency and number (``USGS-06904500``). Values of one site and code come once for each method: the
    method without a description has the plain channel, others carry their number (``stage.m69928``). Other statistics
    than instantaneous values have theirs: ``discharge_mean``. The service tells no time of modification.
    """
    archive = Archive()
    document = parsed(body)
    if isinstance(document, Refusal):
        archive.broken = document.detail
        return archive
    series = _at(document, "value", "timeSeries")
    if not isinstance(series, list):
        archive.broken = f"no WaterML as JSON: it has no value.timeSeries: {shortened(document)}"
        return archive
    for one in series:
        _read_series(one, archive)
    return archive


def _read_series(series: object, archive: Archive) -> None:
    site, code = _entity(series), _text(_at(series, "variable", "variableCode", 0, "value"))
    groups = _at(series, "values")
    if not site or not code or not isinstance(groups, list):
        detail = "a time series without siteCode, variableCode or values"
        archive.rejected.append(Rejected(Reason.MISSING_KEY, detail, written(series)))
        return
    unit = unit_of(code, _at(series, "variable", "unit", "unitCode"))
    nothing = number_of(_at(series, "variable", "noDataValue"))
    for channel, rows in _channels(code, _statistic(series), groups):
        _describe(series, site, channel, unit, archive)
        for row in rows:
            reading = _reading(row, site, channel, unit, nothing)
            if isinstance(reading, Refusal):
                archive.rejected.append(Rejected(reading.reason, reading.detail, written(row)))
            else:
                archive.readings.append(reading)


def _reading(row: object, site: str, channel: str, unit: str, nothing: object) -> Reading | Refusal:
    if not isinstance(row, dict):
        return Refusal(Reason.WRONG_TYPE, f"{site}/{channel}: a value is {shortened(row)}; allowed: an object")
    time = row.get("dateTime")
    time_us = parse(time) if isinstance(time, str) else Refusal(Reason.BAD_TIME, f"dateTime is {shortened(time)}")
    if isinstance(time_us, Refusal):
        return time_us.within(f"{site}/{channel}")
    qualifiers = row.get("qualifiers")
    said = [one for one in qualifiers[:_MOST_SAID] if isinstance(one, str)] if isinstance(qualifiers, list) else []
    value = value_of(row.get("value"), said)
    if isinstance(value, Refusal):
        return value.within(f"{site}/{channel}")
    number, quality = value
    if number is not None and number == nothing:
        number, quality = None, Quality.MISSING
    return Reading(site, channel, time_us, number, unit, quality)


def _channels(code: str, statistic: str, groups: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield a channel and its rows for each method."""
    base = f"{channel_of(code)}{statistic}"
    methods = [_method(group) for group in groups]
    plain = min((number for number, described in methods if not described), default=None)
    for group, (number, described) in zip(groups, methods, strict=True):
        rows = group.get("value") if isinstance(group, dict) else None
        if isinstance(rows, list):
            yield (base if number == plain and not described else f"{base}.m{number}"), rows


def _method(group: object) -> tuple[int, bool]:
    """Return the method's number, and whether it is described."""
    number = _at(group, "method", 0, "methodID")
    described = bool(_text(_at(group, "method", 0, "methodDescription")))
    return (number if isinstance(number, int) and not isinstance(number, bool) else 0), described


def _statistic(series: object) -> str:
    """Return what the statistic adds to the channel's name; nothing for instantaneous values."""
    options = _at(series, "variable", "options", "option")
    for option in options if isinstance(options, list) else ():
        if _text(_at(option, "name")).lower() == "statistic":
            code = _text(_at(option, "optionCode"))
            return "" if code in _INSTANTANEOUS else _STATISTICS.get(code, f"_s{code}")
    return ""


def _entity(series: object) -> str:
    number = _text(_at(series, "sourceInfo", "siteCode", 0, "value"))
    agency = _text(_at(series, "sourceInfo", "siteCode", 0, "agencyCode")) or "USGS"
    return f"{agency}-{number}" if number else ""


def _describe(series: object, site: str, channel: str, unit: str, archive: Archive) -> None:
    known = archive.sites.get(site)
    place = ("sourceInfo", "geoLocation", "geogLocation")
    archive.sites[site] = Site(
        site,
        _text(_at(series, "sourceInfo", "siteName")),
        _degrees(_at(series, *place, "latitude")),
        _degrees(_at(series, *place, "longitude")),
        {**(known.channels if known is not None else {}), channel: unit},
    )


def _at(value: object, *path: str | int) -> object:
    """Return what lies at ``path``; None where there is nothing of the kind."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str:
    return value.strip()[:100] if isinstance(value, str) else ""


def _degrees(value: object) -> float | None:
    number = number_of(value)
    return number if isinstance(number, float) and abs(number) <= 180 else None
