"""A service that answers as Sensor.Community does, from rows that a test gives it and changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.replay_server import Asked, ReplayServer, Reply, json_reply, with_etag

SENSOR = 67890
Fields = dict[str, Any]
_ids = count(24_817_733_012)


def row(time: str, *values: tuple[str, object], sensor: int = SENSOR, kind: str = "SDS011", **where: object) -> Fields:
    """Return what a sensor sent; ``time`` as ``2026-11-20 14:03:11``."""
    place: Fields = {
        "id": 51233, "latitude": "48.782", "longitude": "9.180", "altitude": "247.3", "country": "DE",
        "exact_location": 0, "indoor": 0,
    }  # fmt: skip
    return {
        "id": next(_ids),
        "sampling_rate": None,
        "timestamp": time,
        "location": {**place, **where},
        "sensor": {
            "id": sensor,
            "pin": "1",
            "sensor_type": {"id": 14, "name": kind, "manufacturer": "Nova Fitness"},
        },
        "sensordatavalues": [{"id": next(_ids), "value_type": name, "value": value} for name, value in values],
    }


@dataclass
class SensorCommunity:
    """Answers at a replay server."""

    server: ReplayServer
    rows: list[Fields] = field(default_factory=list)
    instead: list[Reply | None] = field(default_factory=list)
    """Answered to the next questions, one each; None: as usual."""

    def __post_init__(self) -> None:
        self.server.on("/static/v1/data.json", lambda asked: self._answer(asked, self.rows))
        self.server.on("/static/v2/data.json", lambda asked: self._answer(asked, self.rows[:1]))
        self.server.on("/airrohr/v1/filter/*", lambda asked: self._answer(asked, self.rows))
        self.server.on("/airrohr/v1/sensor/*", self._sensor)

    def _sensor(self, asked: Asked) -> Reply:
        number = int(asked.path.strip("/").rsplit("/", 1)[1])
        return self._answer(asked, [one for one in self.rows if one["sensor"]["id"] == number])

    def _answer(self, asked: Asked, rows: list[Fields]) -> Reply:
        instead = self.instead.pop(0) if self.instead else None
        if instead is not None:
            return instead
        etag = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        return with_etag(json_reply(rows), f'"{etag}"')(asked)
