"""A service that answers as the Environment Agency's flood monitoring does, from rows that a test gives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.replay_server import Asked, ReplayServer, Reply, json_reply

AT = "/flood-monitoring"
HOST = "http://environment.data.gov.uk/flood-monitoring"
STATION = "1491TH"
STAGE = f"{STATION}-level-stage-i-15_min-mASD"
RAIN = f"{STATION}-rainfall-tipping_bucket_raingauge-t-15_min-mm"
Fields = dict[str, object]


def reading(time: str, value: object, measure: str = STAGE) -> Fields:
    """Return one row; ``time`` as ``2026-11-20T14:00:00Z``."""
    return {
        "@id": f"{HOST}/data/readings/{measure}/{time.replace(':', '-')}",
        "dateTime": time,
        "measure": f"{HOST}/id/measures/{measure}",
        "value": value,
    }


def items(listed: object) -> Fields:
    """Return the document around items."""
    return {"@context": f"{HOST}/meta/context.jsonld", "meta": {"publisher": "Environment Agency"}, "items": listed}


@dataclass
class UkFloodService:
    """Answers at a replay server; ``rows`` may change between polls."""

    server: ReplayServer
    rows: list[Fields] = field(default_factory=list)
    station: Fields = field(default_factory=dict)
    """What differs from an everyday station."""
    instead: list[Reply | None] = field(default_factory=list)
    """Answered to the next questions for readings, one each; None: as usual."""
    most: int = 10_000

    def __post_init__(self) -> None:
        self.server.on(f"{AT}/id/stations", lambda asked: json_reply(items([self._site(STATION)])))
        self.server.on(f"{AT}/id/stations/*", self._station)
        self.server.on(f"{AT}/data/readings", self._latest)

    @property
    def url(self) -> str:
        """Return its base address."""
        return f"{self.server.url}{AT}"

    def asked(self, station: str = STATION) -> list[Asked]:
        """Return the questions for the readings of a station so far."""
        return self.server.asked_at(f"{AT}/id/stations/{station}/readings")

    def _station(self, asked: Asked) -> Reply:
        name, _, what = asked.path.removeprefix(f"{AT}/id/stations/").partition("/")
        if what == "readings":
            return self._readings(name, asked)
        return Reply(404) if name.startswith("X") else json_reply(items(self._site(name)))

    def _readings(self, station: str, asked: Asked) -> Reply:
        instead = self.instead.pop(0) if self.instead else None
        if instead is not None:
            return instead
        found = sorted(
            (
                row
                for row in self.rows
                if f"/{station}-" in str(row["measure"]) and str(row["dateTime"]) > asked.query["since"]
            ),
            key=lambda row: str(row["dateTime"]),
        )
        return json_reply(items(found[: min(self.most, int(asked.query["_limit"]))]))

    def _latest(self, asked: Asked) -> Reply:
        assert asked.target.partition("?")[2].startswith("latest")
        etag = f'"{len(self.rows)}"'
        if asked.headers.get("if-none-match") == etag:
            return Reply(304)
        newest: dict[str, Fields] = {}
        for row in sorted(self.rows, key=lambda row: str(row["dateTime"])):
            newest[str(row["measure"])] = row
        return json_reply(items(list(newest.values())), etag=etag)

    def _site(self, name: str) -> Fields:
        known: Fields = {
            "@id": f"{HOST}/id/stations/{name}",
            "stationReference": name,
            "label": "Kings Mill",
            "riverName": "River Cherwell",
            "lat": 51.7,
            "long": -1.2,
            "measures": [{"@id": f"{HOST}/id/measures/{STAGE}"}, {"@id": f"{HOST}/id/measures/{RAIN}"}],
        }
        return {**known, **self.station}
