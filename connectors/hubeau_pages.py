"""What Hub'Eau's hydrometry sends, to readings and sites. Pure; never raises.

Source: hubeau.eaufrance.fr/api/v2/hydrometrie, ``observations_tr`` and ``referentiel/stations``. Heights are in mm
above the gauge's own zero, so they may be below it; flows are in l/s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from connectors.json_documents import number_of, parsed, written
from connectors.linked_pages import LinkedPage
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.timestamps import parse

CHANNELS = {"H": ("stage", "mm"), "Q": ("discharge", "L/s")}
"""``grandeur_hydro`` to channel and unit."""
_QUALITIES = {20: Quality.GOOD, 16: Quality.PROVISIONAL, 12: Quality.SUSPECT}
"""``code_qualification_obs``: good, not qualified, doubtful; others are unknown."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A reading, and how far its value is on the way from raw to validated."""

    reading: Reading
    rank: tuple[int, str]
    """``code_statut``, then the beginning of the series: where two values are for one time, the higher counts."""


@dataclass(slots=True)
class ObservationsPage(LinkedPage):
    """One page of observations."""

    ranked: list[Ranked] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    of_sites: int = 0
    """Rows without a station: a site's code brings each observation a second time like that."""


@dataclass(slots=True)
class StationsPage(LinkedPage):
    """One page of stations."""

    sites: list[Site] = field(default_factory=list)


def observations_page(body: bytes) -> ObservationsPage:
    """Return what a page of ``observations_tr`` holds; the entity is the station's code."""
    page = ObservationsPage()
    for row in _data(body, page):
        if isinstance(row, dict) and row.get("code_station") is None and row.get("code_site") is not None:
            page.of_sites += 1
            continue
        ranked = _ranked(row)
        if isinstance(ranked, Refusal):
            page.rejected.append(Rejected(ranked.reason, ranked.detail, written(row)))
        else:
            page.ranked.append(ranked)
    return page


def highest(ranked: Iterable[Ranked]) -> list[Reading]:
    """Return one reading for each station, channel and time: that of the highest rank."""
    best: dict[tuple[str, str, int], Ranked] = {}
    for one in ranked:
        key = (one.reading.entity, one.reading.channel, one.reading.time_us)
        before = best.get(key)
        if before is None or one.rank > before.rank:
            best[key] = one
    return [one.reading for one in best.values()]


def stations_page(body: bytes) -> StationsPage:
    """Return the stations that a page of ``referentiel/stations`` tells of."""
    page = StationsPage()
    for row in _data(body, page):
        entity = _text(row.get("code_station")) if isinstance(row, dict) else ""
        if not entity:
            continue
        about = {name: _text(row.get(name)) for name in ("libelle_cours_eau", "libelle_commune", "code_site")}
        page.sites.append(
            Site(
                entity,
                _text(row.get("libelle_station")),
                _degrees(row.get("latitude_station")),
                _degrees(row.get("longitude_station")),
                dict(CHANNELS.values()),
                attributes={name: text for name, text in about.items() if text},
            )
        )
    return page


def _ranked(row: object) -> Ranked | Refusal:
    if not isinstance(row, dict):
        return Refusal(Reason.WRONG_TYPE, f"an observation is {shortened(row)}; allowed: an object")
    station, quantity = _text(row.get("code_station")), _text(row.get("grandeur_hydro"))
    if not station:
        return Refusal(Reason.MISSING_KEY, f"code_station is {shortened(row.get('code_station'))}")
    if quantity not in CHANNELS:
        return Refusal(Reason.UNKNOWN_CHANNEL, f"{station}: grandeur_hydro is {shortened(quantity)}; known: H, Q")
    time = row.get("date_obs")
    time_us = parse(time) if isinstance(time, str) else Refusal(Reason.BAD_TIME, f"date_obs is {shortened(time)}")
    if isinstance(time_us, Refusal):
        return time_us.within(station)
    number = number_of(row.get("resultat_obs"))
    if isinstance(number, Refusal):
        return number.within(f"{station}/{quantity}")
    channel, unit = CHANNELS[quantity]
    quality = _QUALITIES.get(_code(row.get("code_qualification_obs")), Quality.UNKNOWN)
    reading = Reading(station, channel, time_us, number, unit, Quality.MISSING if number is None else quality)
    return Ranked(reading, (_code(row.get("code_statut")), _text(row.get("date_debut_serie"))))


def _data(body: bytes, page: LinkedPage) -> list[Any]:
    document = parsed(body)
    if isinstance(document, Refusal):
        page.broken = document.detail
        return []
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(data, list):
        page.broken = f"it has no data: {shortened(document)}"
        return []
    following = document.get("next")
    page.next_link = following if isinstance(following, str) and following else None
    return data


def _code(value: object) -> int:
    """Return a code that is a number, or a text of one; -1 where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return -1
    try:
        return int(value)
    except ValueError:
        return -1


def _text(value: object) -> str:
    return value.strip()[:200] if isinstance(value, str) else ""


def _degrees(value: object) -> float | None:
    number = number_of(value)
    return number if isinstance(number, float) and abs(number) <= 180 else None
