"""The HTTP endpoint for probes, Prometheus and training: /livez, /readyz, /healthz, /metrics and two paths of /api.

A broker outage makes the daemon not ready, and leaves it live: a restart would not bring the broker back. Trouble with
training is a note beside both: scoring goes on. Only ``POST /api/train`` changes anything. It needs the header
``X-Vedette-Request: 1``, which a page of another site cannot send without being asked first whether it may.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry

from pipeline.metrics_entities import EntityMetrics, exposition
from pipeline.status import Status

_JSON = "application/json"
_REQUEST_TIMEOUT_S = 10.0
"""A client that says nothing for so long is hung up on: each holds a thread."""
_CLOSE_POLL_S = 0.05  # how soon it notices that it is closed
_MOST_BODY_BYTES = 65_536
GUARD = "X-Vedette-Request"
"""The header that whoever posts has to send, with the value 1."""

Answer = tuple[HTTPStatus, str, bytes]


class HealthServer:
    """Answers from threads of its own until closed; changes nothing in the daemon but by ``train``.

    >>> with HealthServer(Status(), CollectorRegistry(), port=0) as server:
    ...     server.port > 0
    True
    """

    def __init__(
        self,
        status: Status,
        registry: CollectorRegistry,
        version: str = "",
        host: str = "127.0.0.1",
        port: int = 9464,
        *,
        notes: Callable[[], Sequence[str]] = tuple,
        train: Callable[[str | None], Mapping[str, Any]] | None = None,
        training: Callable[[], Mapping[str, Any]] | None = None,
        entities: EntityMetrics | None = None,
    ) -> None:
        """Listen at once; raises OSError if ``host`` and ``port`` cannot be listened on.

        Args:
            status: what the probes answer from.
            registry: what /metrics shows.
            version: shown by /healthz.
            host: where to listen; loopback unless the config says otherwise.
            port: 0 takes a free one.
            notes: what a person should know though the daemon is ready.
            train: starts a job for a stream, or for all (None), as ``Scheduling.request_now`` does; None: none can be.
            training: the state of all trainings, as ``Scheduling.status`` tells it; None: there are none.
            entities: what /metrics shows of single entities; None: nothing.
        """

        class Handler(_Handler):
            """Knows what to answer from."""

        # Functions on a class would become its methods.
        Handler.sources = _Sources(Probes(status, registry, version, notes, entities), train, training)
        self._server = _Server((host, port), Handler)
        self.host = str(self._server.server_address[0])
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_CLOSE_POLL_S,), name="vedette-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Probes:
    """The answers of the four paths that are always open; cheap, but for ``metrics``. May be asked from any thread."""

    def __init__(
        self,
        status: Status,
        registry: CollectorRegistry,
        version: str = "",
        notes: Callable[[], Sequence[str]] = tuple,
        entities: EntityMetrics | None = None,
    ) -> None:
        """Answer from these, see ``HealthServer``."""
        self._status = status
        self._registry = registry
        self._version = version
        self._notes = notes
        self._entities = entities

    def live(self) -> Answer:
        """/livez: whether the loop turns."""
        age_s = round(self._status.tick_age_s(), 3)
        alive = self._status.alive()
        body = {"alive": alive, "loop_tick_age_s": age_s, "stall_timeout_s": self._status.stall_timeout_s}
        return _verdict(alive), _JSON, _dump(body)

    def readiness(self) -> Answer:
        """/readyz: whether anything holds it back."""
        reasons = self._status.reasons()
        body = {
            "ready": not reasons,
            "reasons": [{"code": r.name.lower(), "text": str(r)} for r in reasons],
            "notes": list(self._notes()),
        }
        return _verdict(not reasons), _JSON, _dump(body)

    def health(self) -> Answer:
        """/healthz: both, and the version."""
        live, _, live_body = self.live()
        ready, _, ready_body = self.readiness()
        body = {"version": self._version, **json.loads(live_body), **json.loads(ready_body)}
        return max(live, ready), _JSON, _dump(body)

    def metrics(self) -> Answer:
        """/metrics: everything that is registered; takes its time where that is much."""
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, exposition(self._registry, self._entities)


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the handlers ask beside the status."""

    probes: Probes
    train: Callable[[str | None], Mapping[str, Any]] | None
    training: Callable[[], Mapping[str, Any]] | None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up half-way is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    sources: ClassVar[_Sources]
    server_version = "vedette"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _REQUEST_TIMEOUT_S
    error_content_type = "text/plain; charset=utf-8"  # of requests that are none, which nothing below is asked about
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer("GET")

    def do_HEAD(self) -> None:
        """Answer a HEAD: the same without the body."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._discard_body()
        self._answer("POST")

    def do_PUT(self) -> None:
        """Refuse what changes things in ways that are not ours."""
        self._discard_body()
        self._answer(self.command)

    do_DELETE = do_PATCH = do_OPTIONS = do_PUT  # noqa: N815  # the base class looks for these names

    def _answer(self, method: str) -> None:
        probes = self.sources.probes
        gets: dict[str, Callable[[], Answer]] = {
            "/livez": probes.live,
            "/readyz": probes.readiness,
            "/healthz": probes.health,
            "/metrics": probes.metrics,
            "/api/training": self._training,
        }
        posts: dict[str, Callable[[], Answer]] = {"/api/train": self._train}
        path = self.path.partition("?")[0]
        answer = (gets if method == "GET" else posts if method == "POST" else {}).get(path)
        if answer is not None:
            self._send(*answer())
        elif path in gets or path in posts:
            allowed = "GET, HEAD" if path in gets else "POST"
            body = _dump({"error": f"{path} takes no {method}; it takes {allowed}"})
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, _JSON, body, {"Allow": allowed})
        else:
            body = _dump({"error": "not found", "paths": sorted([*gets, *posts])})
            self._send(HTTPStatus.NOT_FOUND, _JSON, body)

    def _discard_body(self) -> None:
        """Read what nobody asked for: unread, it would be taken for the next request, or cut our answer off."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if length.isdigit():
            self.rfile.read(min(int(length), _MOST_BODY_BYTES))

    def _train(self) -> Answer:
        if self.headers.get(GUARD) != "1":
            return HTTPStatus.FORBIDDEN, _JSON, _dump({"error": f"send the header {GUARD}: 1"})
        if self.sources.train is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, _JSON, _dump({"error": "this daemon trains nothing"})
        query = parse_qs(self.path.partition("?")[2], keep_blank_values=True)
        streams = query.pop("stream", [])
        if query or len(streams) > 1 or streams == [""]:
            return HTTPStatus.BAD_REQUEST, _JSON, _dump({"error": "the query is stream=NAME, or empty for all streams"})
        answer = dict(self.sources.train(streams[0] if streams else None))
        if answer.get("accepted"):
            return HTTPStatus.ACCEPTED, _JSON, _dump(answer)
        unknown = not answer.get("jobs")
        return HTTPStatus.NOT_FOUND if unknown else HTTPStatus.CONFLICT, _JSON, _dump(answer)

    def _training(self) -> Answer:
        told = {"scheduler": None, "streams": []} if self.sources.training is None else dict(self.sources.training())
        return HTTPStatus.OK, _JSON, _dump(told)

    def _send(self, status: HTTPStatus, content_type: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Say nothing: probes come every few seconds."""


def _verdict(good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\n"
