"""The HTTP endpoint for probes and Prometheus: /livez, /readyz, /healthz and /metrics.

A broker outage makes the daemon not ready, and leaves it live: a restart would not bring the broker back.
"""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pipeline.status import Status

_JSON = "application/json"
_REQUEST_TIMEOUT_S = 10.0
"""A client that says nothing for so long is hung up on: each holds a thread."""


class HealthServer:
    """Answers from threads of its own until closed; changes nothing in the daemon.

    >>> with HealthServer(Status(), CollectorRegistry(), port=0) as server:
    ...     server.port > 0
    True
    """

    def __init__(
        self, status: Status, registry: CollectorRegistry, version: str = "", host: str = "127.0.0.1", port: int = 9464
    ) -> None:
        """Listen at once; raises OSError if ``host`` and ``port`` cannot be listened on. Port 0 takes a free one."""

        class Handler(_Handler):
            """Knows what to answer from."""

        Handler.status, Handler.registry, Handler.version = status, registry, version
        self._server = _Server((host, port), Handler)
        self.host = str(self._server.server_address[0])
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="vedette-http", daemon=True)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up half-way is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    status: ClassVar[Status]
    registry: ClassVar[CollectorRegistry]
    version: ClassVar[str]
    server_version = "vedette"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer a GET."""
        answers = {
            "/livez": self._live,
            "/readyz": self._readiness,
            "/healthz": self._health,
            "/metrics": self._metrics,
        }
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, _JSON, _dump({"error": "not found", "paths": sorted(answers)}))
        else:
            self._send(*answer())

    def do_HEAD(self) -> None:
        """Answer a HEAD: the same without the body."""
        self.do_GET()

    def _live(self) -> tuple[HTTPStatus, str, bytes]:
        age_s = round(self.status.tick_age_s(), 3)
        alive = self.status.alive()
        body = {"alive": alive, "loop_tick_age_s": age_s, "stall_timeout_s": self.status.stall_timeout_s}
        return _verdict(alive), _JSON, _dump(body)

    def _readiness(self) -> tuple[HTTPStatus, str, bytes]:
        reasons = self.status.reasons()
        body = {"ready": not reasons, "reasons": [{"code": r.name.lower(), "text": str(r)} for r in reasons]}
        return _verdict(not reasons), _JSON, _dump(body)

    def _health(self) -> tuple[HTTPStatus, str, bytes]:
        live, _, live_body = self._live()
        ready, _, ready_body = self._readiness()
        body = {"version": self.version, **json.loads(live_body), **json.loads(ready_body)}
        return max(live, ready), _JSON, _dump(body)

    def _metrics(self) -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.registry)

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
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
