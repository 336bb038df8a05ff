"""A service that answers as the USGS's Water Data API does, from rows that a test gives it and changes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.timestamps import parse, to_text
from tests.replay_server import Asked, ReplayServer, Reply, json_reply, paged

SITE = "USGS-06904500"
STAGE = "b36569a0067443ac9425e850a3ac7baa"
FLOW = "627c17455f9e4a4286e1d75dde4d8470"
Fields = dict[str, object]


def value(
    time: str,
    number: object,
    modified: str,
    *,
    series: str = STAGE,
    code: str = "00065",
    site: str = SITE,
    approval: str = "Provisional",
    qualifier: object = None,
    unit: str | None = "ft",
) -> Fields:
    """Return the properties of one continuous value; times without their offset, as ``2026-11-20T14:15:00``."""
    return {
        "time_series_id": series,
        "monitoring_location_id": site,
        "parameter_code": code,
        "statistic_id": "00011",
        "time": f"{time}+00:00",
        "value": number,
        "unit_of_measure": unit,
        "approval_status": approval,
        "qualifier": qualifier,
        "last_modified": f"{modified}+00:00",
    }


def series(series_id: str = STAGE, code: str = "00065", site: str = SITE, **more: object) -> Fields:
    """Return the properties of one series."""
    known: Fields = {
        "id": series_id,
        "monitoring_location_id": site,
        "parameter_code": code,
        "statistic_id": "00011",
        "primary": "Primary",
        "sublocation_identifier": None,
        "begin": "2007-10-01T05:00:00+00:00",
        "unit_of_measure": {"00065": "ft", "00060": "ft^3/s"}.get(code),
    }
    return {**known, **more}


def collection(rows: Sequence[Fields], next_link: str | None = None) -> Fields:
    """Return a FeatureCollection; every feature has an id of its own, another one each time."""
    links = [{"rel": "self", "href": "https://elsewhere.example/"}]
    if next_link is not None:
        links.append({"rel": "next", "type": "application/geo+json", "href": next_link})
    features = [
        {
            "type": "Feature",
            "id": row.get("id", str(uuid.uuid4())),
            "geometry": {"type": "Point", "coordinates": [-92.686, 40.234]},
            "properties": row,
        }
        for row in rows
    ]
    return {"type": "FeatureCollection", "features": features, "numberReturned": len(features), "links": links}


@dataclass
class UsgsService:
    """Answers at a replay server; ``rows`` may change between polls."""

    server: ReplayServer
    rows: list[Fields] = field(default_factory=list)
    series: list[Fields] = field(default_factory=lambda: [series(), series(FLOW, "00060")])
    page_size: int = 10_000
    instead: list[Reply | None] = field(default_factory=list)
    """Answered to the next questions for values, one each; None: as usual."""

    def __post_init__(self) -> None:
        at = "/ogcapi/v0/collections"
        self.server.on(f"{at}/continuous/items", self._values)
        self.server.on(f"{at}/time-series-metadata/items", lambda asked: json_reply(collection(self.series)))
        self.server.on(f"{at}/monitoring-locations/items", self._sites)

    @property
    def url(self) -> str:
        """Return its base address."""
        return f"{self.server.url}/ogcapi/v0"

    def asked(self) -> list[Asked]:
        """Return the questions for values so far."""
        return self.server.asked_at("/ogcapi/v0/collections/continuous/items")

    def _values(self, asked: Asked) -> Reply:
        instead = self.instead.pop(0) if self.instead else None
        if instead is not None:
            return instead
        start, end = asked.query["last_modified"].split("/")
        sites, codes = asked.query["monitoring_location_id"].split(","), asked.query["parameter_code"].split(",")
        found = [
            row
            for row in self.rows
            if row["monitoring_location_id"] in sites
            and row["parameter_code"] in codes
            and _text(start) <= _text(row["last_modified"])
            and (end == ".." or _text(row["last_modified"]) <= _text(end))
        ]
        return paged(found, self.page_size, lambda rows, link: json_reply(collection(rows, link)))(asked)  # type: ignore[arg-type]

    def _sites(self, asked: Asked) -> Reply:
        rows: list[Fields] = [
            {"id": one, "monitoring_location_name": f"River at {one}", "site_type": "Stream", "altitude": 871.0}
            for one in asked.query["id"].split(",")
        ]
        return json_reply(collection(rows))


def _text(time: object) -> str:
    """Return a time in the one form that sorts as text."""
    found = parse(str(time))
    assert isinstance(found, int)
    return f"{to_text(found)[:19]}.{found % 1_000_000:06d}"
