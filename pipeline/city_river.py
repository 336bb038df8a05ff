"""The city's river: a service that pages as the USGS's Water Data API does, and gives what has been measured by now."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from connectors.timestamps import parse, to_text
from pipeline.city_scene import GAUGE, CityScene

Fields = dict[str, object]
Query = dict[str, str]
_PAGE_ROWS = 40
_ROOT = "/ogcapi/v0/collections"
_SERIES = {"00065": ("b36569a0067443ac9425e850a3ac7baa", "ft"), "00060": ("627c17455f9e4a4286e1d75dde4d8470", "ft^3/s")}
"""Parameter code (stage, discharge) to the series' id and its unit."""


class CityRiver:
    """Answers on loopback from construction to ``close``; a context manager.

    Args:
        scene: what the gauge measures.
        now_us: the service's clock: its Date header says so, and nothing later is known.
    """

    def __init__(self, scene: CityScene, now_us: Callable[[], int]) -> None:
        self._scene = scene
        self._now_us = now_us
        self.pages = 0
        """Pages of values that were given."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _answering(self, now_us))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="river", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return its base address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/ogcapi/v0"

    @property
    def measured(self) -> int:
        """Return how many values there are by now."""
        return len(_SERIES) * self._steps()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> CityRiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, target: str) -> tuple[int, object]:
        """Return status and document."""
        split = urlsplit(target)
        query = dict(parse_qsl(split.query))
        match split.path.removeprefix(_ROOT):
            case "/continuous/items":
                return 200, self._values(split.path, query)
            case "/time-series-metadata/items":
                return 200, _collection([_series(code) for code in _SERIES])
            case "/monitoring-locations/items":
                place: Fields = {"id": GAUGE, "monitoring_location_name": "River at the old bridge"}
                return 200, _collection([place])
        return 404, {"code": "NotFound", "description": "no such collection"}

    def _steps(self) -> int:
        return int(self._scene.times_us.searchsorted(self._now_us(), side="right"))

    def _values(self, path: str, query: Query) -> Fields:
        """Return one page of what was modified in the span that is asked for; a value is so when it is measured."""
        first, _, last = query.get("last_modified", "../..").partition("/")
        scene, offset = self._scene, int(query.get("offset", 0))
        begin = 0 if first == ".." else int(scene.times_us.searchsorted(_us(first), side="left"))
        end = self._steps() if last == ".." else int(scene.times_us.searchsorted(_us(last), side="right"))
        codes = [code for code in query.get("parameter_code", "").split(",") if code in _SERIES]
        asked = [(step, code) for step in range(begin, min(end, self._steps())) for code in codes]
        if GAUGE not in query.get("monitoring_location_id", ""):
            asked = []
        self.pages += 1
        page = asked[offset : offset + _PAGE_ROWS]
        more = offset + _PAGE_ROWS < len(asked)
        after = urlencode({**query, "offset": offset + _PAGE_ROWS})
        link = f"{self.url.removesuffix('/ogcapi/v0')}{path}?{after}" if more else None
        return _collection([self._row(*one) for one in page], link)

    def _row(self, step: int, code: str) -> Fields:
        scene = self._scene
        value = (scene.stage_ft if code == "00065" else scene.discharge_ft3_s)[step]
        time = to_text(int(scene.times_us[step])).replace("Z", "+00:00")
        return {
            "time_series_id": _SERIES[code][0], "monitoring_location_id": GAUGE, "parameter_code": code,
            "statistic_id": "00011", "time": time, "value": f"{value:g}", "unit_of_measure": _SERIES[code][1],
            "approval_status": "Provisional", "qualifier": None, "last_modified": time,
        }  # fmt: skip


def _series(code: str) -> Fields:
    return {
        "id": _SERIES[code][0], "monitoring_location_id": GAUGE, "parameter_code": code, "statistic_id": "00011",
        "primary": "Primary", "sublocation_identifier": None, "begin": "2007-10-01T05:00:00+00:00",
        "unit_of_measure": _SERIES[code][1],
    }  # fmt: skip


def _collection(rows: Sequence[Fields], next_link: str | None = None) -> Fields:
    """Return a FeatureCollection; every feature has an id of its own, another one each time."""
    links = [] if next_link is None else [{"rel": "next", "type": "application/geo+json", "href": next_link}]
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


def _us(text: str) -> int:
    found = parse(text)
    return found if isinstance(found, int) else 0


def _answering(river: CityRiver, now_us: Callable[[], int]) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, document = river.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(now_us() / 1e6 if timestamp is None else timestamp, usegmt=True)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Answering
