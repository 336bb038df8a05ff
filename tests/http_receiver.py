"""A local HTTP server that stands for a receiver of alerts: it notes what comes, and answers as it is told to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from connectors.free_ports import free_port


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


@dataclass(slots=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    drip: bool = False
    """Whether the answer never ends: a byte now and then."""


class HttpReceiver:
    """Runs from ``start`` until ``close``; ``stop`` and ``start`` take it away and bring it back at the same port.

    ``answer`` decides each reply; while ``open`` is cleared, requests hang. With ``tls`` it speaks that, and only that.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Reply] = lambda request: Reply()
        self.open = threading.Event()
        self.open.set()
        self.changed = threading.Condition()
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to answer."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # an answer in two packets would wait for a delayed acknowledgement of the first

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with receiver.changed:
                    reply = receiver.answer(request)
                    receiver.requests.append(request)
                    receiver.changed.notify_all()
                receiver.open.wait()
                self._reply(reply)

            def _reply(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(10**6 if reply.drip else len(reply.body)))
                self.end_headers()
                while reply.drip:
                    self.wfile.write(b".")
                    self.wfile.flush()
                    if receiver.closing.wait(0.02):
                        return
                self.wfile.write(reply.body)

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """Keep quiet: whoever asked has gone, as some tests want."""

        self.closing = threading.Event()
        self._server = Server(("127.0.0.1", self.port), Handler)
        if self._tls is not None:
            # Shaking hands in the thread that serves, not in the one that accepts.
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go away: connections are refused."""
        if self._server is not None and self._thread is not None:
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def close(self) -> None:
        """Go away for good."""
        self.open.set()
        self.stop()

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Return when ``done``, which looks at ``requests``, is True; fail after a while."""
        with self.changed:
            assert self.changed.wait_for(done, 60.0), f"{len(self.requests)} requests came"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """A receiver that takes everything."""
    made = HttpReceiver()
    made.start()
    yield made
    made.close()
