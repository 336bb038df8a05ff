"""A service that answers as OpenAQ's API v3 does, from rows that a test gives it and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.timestamps import parse, to_text
from tests.replay_server import Asked, ReplayServer, Reply, json_reply

LOCATION = 2178
PM25, NO2 = 3916, 3917
Fields = dict[str, Any]


def row(time: str, value: object, *, name: str = "pm25", units: str = "µg/m³", flags: object = False) -> Fields:
    """Return one value as it is reported; ``time`` is the end of its hour."""
    end_us = parse(time)
    assert isinstance(end_us, int), time
    begin = to_text(end_us - 3_600_000_000)
    return {
        "value": value,
        "flagInfo": {"hasFlags": flags},
        "parameter": {"id": 2, "name": name, "units": units, "displayName": None},
        "period": {
            "label": "raw",
            "interval": "01:00:00",
            "datetimeFrom": {"utc": begin, "local": begin},
            "datetimeTo": {"utc": time, "local": time},
        },
        "coordinates": None,
        "summary": None,
        "coverage": {"expectedCount": 1, "observedCount": 1, "percentComplete": 100.0, "percentCoverage": 100.0},
    }


def sensor(number: int = PM25, name: str = "pm25", units: str = "µg/m³") -> Fields:
    """Return a sensor as locations list it."""
    parameter = {"id": 2, "name": name, "units": units, "displayName": name.upper()}
    return {"id": number, "name": f"{name} {units}", "parameter": parameter}


def location(number: int = LOCATION, *sensors: Fields, **more: object) -> Fields:
    """Return a location; with one PM2.5 sensor if none is given."""
    known: Fields = {
        "id": number,
        "name": f"Station {number}",
        "locality": "Stuttgart",
        "timezone": "Europe/Berlin",
        "country": {"id": 50, "code": "DE", "name": "Germany"},
        "owner": {"id": 4, "name": "Unknown Governmental Organization"},
        "provider": {"id": 70, "name": "EEA"},
        "isMobile": False,
        "isMonitor": True,
        "instruments": [{"id": 2, "name": "Government Monitor"}],
        "sensors": list(sensors) or [sensor()],
        "coordinates": {"latitude": 48.788, "longitude": 9.188},
        "licenses": [{"id": 30, "name": "CC BY 4.0", "attribution": {"name": "EEA", "url": None}}],
        "bounds": [9.188, 48.788, 9.188, 48.788],
        "distance": None,
        "datetimeFirst": None,
        "datetimeLast": None,
    }
    return {**known, **more}


def results(rows: Sequence[object], found: object = None, page: int = 1, limit: int = 1000) -> Fields:
    """Return a page's document."""
    meta = {"name": "openaq-api", "website": "/", "page": page, "limit": limit}
    return {"meta": {**meta, "found": len(rows) if found is None else found}, "results": list(rows)}


@dataclass
class OpenAQService:
    """Answers at a replay server; what it has may change between questions."""

    server: ReplayServer
    locations: list[Fields] = field(default_factory=lambda: [location()])
    rows: dict[int, list[Fields]] = field(default_factory=lambda: {PM25: []})
    """Of each sensor."""
    most_rows: int = 1000
    """On a page, whatever is asked for."""
    longest_s: float | None = None
    """A question for more time than this is answered 408."""
    instead: list[Reply | None] = field(default_factory=list)
    """Answered to the next questions for values, one each; None: as usual."""

    def __post_init__(self) -> None:
        self.server.on("/v3/locations", self._area)
        self.server.on("/v3/locations/*", self._location)
        self.server.on("/v3/sensors/*", self._values)

    @property
    def url(self) -> str:
        """Return its base address."""
        return f"{self.server.url}/v3"

    def asked(self, number: int | None = None) -> list[Asked]:
        """Return the questions for values so far, of one sensor or all."""
        begins = "/v3/sensors/" if number is None else f"/v3/sensors/{number}/"
        with self.server.changed:
            return [one for one in self.server.asked if one.path.startswith(begins)]

    def _area(self, asked: Asked) -> Reply:
        if "bbox" in asked.query and "coordinates" in asked.query:
            return json_reply({"detail": "use either"}, 422)
        rows, limit, page = self._page(asked, self.locations)
        return json_reply(results(rows, len(self.locations), page, limit))

    def _location(self, asked: Asked) -> Reply:
        number = int(asked.path.rsplit("/", 1)[1])
        found = [one for one in self.locations if one["id"] == number]
        return json_reply(results(found)) if found else json_reply({"detail": "Location not found"}, 404)

    def _values(self, asked: Asked) -> Reply:
        instead = self.instead.pop(0) if self.instead else None
        if instead is not None:
            return instead
        number = int(asked.path.split("/")[3])
        if number not in self.rows:
            return json_reply({"detail": "Sensor not found"}, 404)
        since_us, until_us = (
            _us(asked.query["datetime_from"]),
            _us(asked.query.get("datetime_to", "2199-01-01T00:00:00Z")),
        )
        newest_us = max((_end_us(one) for one in self.rows[number]), default=since_us)
        if self.longest_s is not None and min(until_us, newest_us) - since_us > self.longest_s * 1e6:
            return json_reply({"detail": "Connection timed out: Try to provide a smaller time frame."}, 408)
        wanted = [one for one in self.rows[number] if since_us < _end_us(one) <= until_us]
        rows, limit, page = self._page(asked, sorted(wanted, key=_end_us))
        return json_reply(results(rows, f">{limit}" if len(rows) == limit else len(rows), page, limit))

    def _page(self, asked: Asked, rows: Sequence[Fields]) -> tuple[Sequence[Fields], int, int]:
        limit, page = min(int(asked.query["limit"]), self.most_rows), int(asked.query["page"])
        return rows[(page - 1) * limit : page * limit], limit, page


def _end_us(one: Fields) -> int:
    ends = one["period"]
    return _us(ends["datetimeTo"]["utc"]) if isinstance(ends, dict) else 0


def _us(text: str) -> int:
    found = parse(text)
    assert isinstance(found, int), text
    return found
