"""The HTTP side of the simulated Frigate: objects and reviews from its database, stats and config."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from pipeline.frigate_simulation import SimulatedFrigate, Thing

Query = dict[str, str]
_DEFAULT_LIMIT = 100


class FrigateApi:
    """Answers on loopback from construction to ``close``; a context manager.

    Args:
        frigate: whose database it is.
        port: 0 takes any free one.
        padding_s: rows begin earlier and end later by this, as up to Frigate 0.13.
    """

    def __init__(self, frigate: SimulatedFrigate, port: int = 0, padding_s: float = 0.0) -> None:
        self._frigate = frigate
        self._padding_s = padding_s
        self.status: int | None = None
        """While set, everything is answered with it."""
        self.asked: list[str] = []
        """Paths and queries that came, in order."""
        self._server = _Server(("127.0.0.1", port), _answering(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="peer-api", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FrigateApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, target: str) -> tuple[int, object]:
        """Return status and document."""
        self.asked.append(target)
        split = urlsplit(target)
        query = dict(parse_qsl(split.query))
        if self.status is not None:
            return self.status, {"success": False}
        with self._frigate.turn:
            if split.path == "/api/events":
                return 200, self._events(query)
            if split.path == "/api/event_ids":
                things = (self._frigate.things.get(name) for name in query.get("ids", "").split(","))
                return 200, [self._row(thing, True) for thing in things if thing is not None and thing.stored]
            if split.path == "/api/review":
                return 200, self._reviews(query)
            if split.path == "/api/stats":
                return 200, self._stats()
            if split.path == "/api/config":
                return 200, self._config()
        return 404, {"success": False, "message": "not found"}

    def _events(self, query: Query) -> list[dict[str, object]]:
        after, before = float(query.get("after", 0)), float(query.get("before", "inf"))
        cameras, labels = _names(query, "cameras"), _names(query, "labels")
        found = [
            thing
            for thing in self._frigate.things.values()
            if thing.stored
            and after < thing.start - self._padding_s < before
            and (cameras is None or thing.camera in cameras)
            and (labels is None or thing.label in labels)
        ]
        found.sort(key=lambda thing: -thing.start)
        thumbnails = query.get("include_thumbnails", "1") != "0"
        return [self._row(thing, thumbnails) for thing in found[: int(query.get("limit", _DEFAULT_LIMIT))]]

    def _row(self, thing: Thing, thumbnails: bool) -> dict[str, object]:
        row: dict[str, object] = {
            "id": thing.id, "camera": thing.camera, "label": thing.label, "zones": list(thing.entered),
            "start_time": thing.start - self._padding_s,
            "end_time": None if thing.end is None else thing.end + self._padding_s,
            "has_clip": True, "has_snapshot": True, "plus_id": None, "retain_indefinitely": False, "top_score": None,
            "false_positive": None, "box": None, "sub_label": "Ada Lovelace" if thing.label == "person" else None,
            "data": {"type": "object", "score": 0.83, "top_score": 0.89, "description": "A woman with a red umbrella"},
        }  # fmt: skip
        return row | {"thumbnail": "/9j/4AAQSkZJRg=="} if thumbnails else row

    def _reviews(self, query: Query) -> list[dict[str, object]]:
        now = self._frigate.now()
        after, before = float(query.get("after", now - 86_400)), float(query.get("before", now))
        cameras = _names(query, "cameras")
        found = [
            one
            for one in self._frigate.activities.values()
            if one.start < before
            and (one.end is None or one.end > after)
            and (cameras is None or one.camera in cameras)
        ]
        found.sort(key=lambda one: -one.start)
        limit = int(query["limit"]) if "limit" in query else None
        return [
            {
                "id": one.id, "camera": one.camera, "start_time": one.start, "end_time": one.end,
                "severity": one.severity, "has_been_reviewed": False, "thumb_path": "", "data": {"objects": ["person"]},
            }
            for one in found[:limit]
        ]  # fmt: skip

    def _stats(self) -> dict[str, object]:
        frigate = self._frigate
        now = int(frigate.now())
        cameras = {
            camera: {"camera_fps": 0.0 if camera in frigate.dark else 5.1, "detection_enabled": True}
            for camera in frigate.cameras
        }
        service = {"uptime": now - int(frigate.started), "last_updated": now, "version": "0.17.0"}
        return {"cameras": cameras, "service": service}

    def _config(self) -> dict[str, object]:
        frigate = self._frigate
        track = list(frigate.labels)
        return {
            "cameras": {
                camera: {
                    "enabled": True,
                    "objects": {"track": track},
                    "zones": {zone: {"objects": []} for zone in zones},
                }
                for camera, zones in frigate.cameras.items()
            }
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of what goes wrong, but not of clients that vanish."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _names(query: Query, what: str) -> set[str] | None:
    said = query.get(what, "all")
    return None if said == "all" else set(said.split(","))


def _answering(api: FrigateApi) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, document = api.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Answering
