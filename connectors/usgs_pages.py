"""What the USGS's Water Data service (OGC API, GeoJSON) sends, to readings, series and sites. Pure; never raises.

Source: api.waterdata.usgs.gov/ogcapi/v0, collections ``continuous``, ``time-series-metadata`` and
``monitoring-locations``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.json_documents import parsed, written
from connectors.linked_pages import LinkedPage
from connectors.reading import Reading, Reason, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse
from connectors.usgs_codes import channel_of, unit_of, value_of

INSTANTANEOUS = "00011"
"""The statistic of continuous values."""
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Series:
    """One time series of a site: what is measured there, where, and since when."""

    id: str
    site: str
    code: str
    primary: bool = False
    sublocation: str = ""
    begin: str = ""
    unit: str = ""
    text: str = ""


@dataclass(slots=True)
class ValuesPage(LinkedPage):
    """One page of values."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    newest_modified_us: int | None = None
    unknown_series: set[str] = field(default_factory=set)
    """Series that no name was given for."""


@dataclass(slots=True)
class SeriesPage(LinkedPage):
    """One page of what is measured."""

    series: list[Series] = field(default_factory=list)


@dataclass(slots=True)
class SitesPage(LinkedPage):
    """One page of places."""

    sites: list[Site] = field(default_factory=list)


def values_page(body: bytes, names: Mapping[str, str]) -> ValuesPage:
    """Return what a page of ``continuous`` holds.

    The entity is the site (``USGS-06904500``), the result time ``last_modified``. The feature's own id is not used: the
    service gives a new one at every refresh.

    Args:
        body: as it came.
        names: time series id to channel; of a series without a name the channel is told by the parameter code and the
            first eight characters of its id.
    """
    page = ValuesPage()
    for fields in _features(body, page, page.rejected):
        reading = _reading(fields, names, page)
        if isinstance(reading, Refusal):
            page.rejected.append(Rejected(reading.reason, reading.detail, written(fields)))
            continue
        page.readings.append(reading)
        modified_us = reading.result_time_us
        if modified_us is not None and (page.newest_modified_us is None or modified_us > page.newest_modified_us):
            page.newest_modified_us = modified_us
    return page


def series_page(body: bytes) -> SeriesPage:
    """Return the continuous series that a page of ``time-series-metadata`` tells of."""
    page = SeriesPage()
    for fields in _features(body, page, []):
        series_id, site, code = (_text(fields.get(n)) for n in ("id", "monitoring_location_id", "parameter_code"))
        if not (series_id and site and code) or _text(fields.get("statistic_id")) not in ("", INSTANTANEOUS):
            continue
        page.series.append(
            Series(
                series_id,
                site,
                code,
                _text(fields.get("primary")).lower() == "primary",
                _text(fields.get("sublocation_identifier")),
                _text(fields.get("begin")),
                unit_of(code, fields.get("unit_of_measure")),
                _text(fields.get("web_description")) or _text(fields.get("parameter_description")),
            )
        )
    return page


def sites_page(body: bytes, series: Iterable[Series], names: Mapping[str, str]) -> SitesPage:
    """Return the sites that a page of ``monitoring-locations`` tells of, with the channels of their series."""
    page = SitesPage()
    channels: dict[str, dict[str, str]] = {}
    for one in series:
        channels.setdefault(one.site, {})[names.get(one.id, channel_of(one.code))] = one.unit
    for fields in _features(body, page, []):
        entity = _text(fields.get("id")) or _text(fields.get("monitoring_location_id"))
        if not entity:
            continue
        longitude, latitude = _position(fields.get("geometry"))
        kept = ("site_type", "state_name", "county_name", "hydrologic_unit_code", "altitude", "vertical_datum")
        about = {name: _text(fields.get(name)) for name in kept}
        page.sites.append(
            Site(
                entity,
                _text(fields.get("monitoring_location_name")),
                latitude,
                longitude,
                channels.get(entity, {}),
                attributes={name: value for name, value in about.items() if value},
            )
        )
    return page


def names_of(series: Iterable[Series]) -> dict[str, str]:
    """Return a channel for each series id.

    Of several series of one site and code, one has the plain name: the primary one, at no sublocation, the oldest. The
    others carry the first eight characters of their id, so that no two ever share a channel: ``stage.b36569a0``.

    >>> names_of([Series("aaaaaaaa11", "S", "00065", begin="2020"), Series("bbbbbbbb22", "S", "00065", True)])
    {'bbbbbbbb22': 'stage', 'aaaaaaaa11': 'stage.aaaaaaaa'}
    """
    plain: set[tuple[str, str]] = set()
    names = {}
    for one in sorted(series, key=lambda s: (not s.primary, bool(s.sublocation), s.begin or "9", s.id)):
        place = (one.site, channel_of(one.code))
        names[one.id] = channel_of(one.code) if place not in plain else instance(one.code, one.id)
        plain.add(place)
    return names


def instance(code: str, series_id: str) -> str:
    """Return the channel of a series that is not the first of its site and code."""
    return f"{channel_of(code)}.{series_id[:8]}"


def _reading(fields: Fields, names: Mapping[str, str], page: ValuesPage) -> Reading | Refusal:
    wanted = ("time_series_id", "monitoring_location_id", "parameter_code")
    series_id, site, code = (_text(fields.get(name)) for name in wanted)
    if not site or not code:
        return Refusal(Reason.MISSING_KEY, "has no monitoring_location_id or no parameter_code")
    time_us = _time(fields.get("time"), "time")
    if isinstance(time_us, Refusal):
        return time_us.within(site)
    modified_us = _time(fields.get("last_modified"), "last_modified") if fields.get("last_modified") else None
    if isinstance(modified_us, Refusal):
        return modified_us.within(site)
    value = value_of(fields.get("value"), _remarks(fields))
    if isinstance(value, Refusal):
        return value.within(f"{site}/{code}")
    channel = names.get(series_id)
    if channel is None:
        page.unknown_series.add(series_id)
        channel = instance(code, series_id) if series_id else channel_of(code)
    number, quality = value
    return Reading(site, channel, time_us, number, unit_of(code, fields.get("unit_of_measure")), quality, modified_us)


def _remarks(fields: Fields) -> list[str]:
    qualifier = fields.get("qualifier")
    listed = qualifier if isinstance(qualifier, list) else [qualifier]
    return [one for one in (fields.get("approval_status"), *listed) if isinstance(one, str)]


def _features(body: bytes, page: LinkedPage, rejected: list[Rejected]) -> Iterator[Fields]:
    """Yield the properties of each feature, its id and geometry among them; tell the rest in the other arguments."""
    document = parsed(body)
    if isinstance(document, Refusal):
        page.broken = document.detail
        return
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(features, list):
        page.broken = f"no FeatureCollection: {shortened(document)[:LONGEST_DETAIL]}"
        return
    page.next_link = _next_link(document.get("links"))
    for feature in features:
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            detail = f"a feature without properties: {shortened(feature)}"
            rejected.append(Rejected(Reason.WRONG_TYPE, detail, written(feature)))
            continue
        yield {"id": feature.get("id"), "geometry": feature.get("geometry"), **properties}


def _next_link(links: object) -> str | None:
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            return str(link["href"])
    return None


def _position(geometry: object) -> tuple[float | None, float | None]:
    """Return longitude and latitude."""
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if not isinstance(coordinates, list) or len(coordinates) < 2:
        return None, None
    longitude, latitude = coordinates[:2]
    return (longitude, latitude) if _is_degrees(longitude) and _is_degrees(latitude) else (None, None)


def _is_degrees(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) <= 180


def _time(written: object, name: str) -> int | Refusal:
    if not isinstance(written, str):
        return Refusal(Reason.BAD_TIME, f"{name} {shortened(written)} is no time")
    return parse(written)


def _text(value: object) -> str:
    """Return a short text; numbers are written out, what is none is empty."""
    if isinstance(value, str):
        return value.strip()[:200]
    return repr(value) if isinstance(value, float | int) and not isinstance(value, bool) else ""


