"""A local HTTP server that behaves badly on purpose: scripted for each path, it notes what was asked and how.

``server.on("/items", json_reply({...}))`` answers always so; several replies come one after the other, the last one
again and again; a function decides for itself. What a reply can do beyond status, headers and body is in ``Reply``.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from connectors.free_ports import free_port

WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By lower-case name."""
    target: str
    """Path and query as they came."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, and how badly."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    """No answer at all, the connection open, until the server closes or the client leaves."""
    drip: bool = False
    """The body comes a byte at a time and never ends; the head promises a megabyte."""
    stop_after: int | None = None
    """The connection ends after so many bytes of the body, though the head promises all of it."""
    reset: bool = False
    """The connection is reset instead of an answer."""
    chunked: bool = False
    """The body comes in chunks, without a length; with ``stop_after`` the last chunk never comes."""


Script = Callable[[Asked], Reply]


def json_reply(document: object, status: int = 200, **headers: str) -> Reply:
    """Return a JSON answer; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(document).encode(), {"Content-Type": "application/json", **named})


def page_reply(text: str = "<html><h1>Down for maintenance</h1></html>", status: int = 200) -> Reply:
    """Return a page for people where data is expected."""
    return Reply(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


def busy_reply(status: int = 429, **headers: str) -> Reply:
    """Return an answer that asks for patience; ``retry_after="1"`` becomes the header."""
    return json_reply({"error": "slow down"}, status, **headers)


def gzipped(reply: Reply) -> Reply:
    """Return the same answer, packed."""
    return replace(reply, body=gzip.compress(reply.body), headers={**reply.headers, "Content-Encoding": "gzip"})


def with_etag(reply: Reply, etag: str) -> Script:
    """Return a script that answers 304 to who has it already."""

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == etag:
            return Reply(304, headers={"ETag": etag})
        return replace(reply, headers={**reply.headers, "ETag": etag})

    return answer


class ReplayServer:
    """Runs from ``start`` until ``close``; ``stop`` and ``start`` take it away and bring it back at the same port.

    With ``tls`` it speaks that, and only that.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.asked: list[Asked] = []
        self.changed = threading.Condition()
        self._scripts: dict[str, list[Reply | Script]] = {}
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.port = free_port()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def on(self, path: str, *replies: Reply | Script) -> None:
        """Answer so at this path from now on; a path that ends in ``*`` holds for all that begin so."""
        with self.changed:
            self._scripts[path] = list(replies)

    def asked_at(self, path: str) -> list[Asked]:
        """Return the requests for one path so far."""
        with self.changed:
            return [one for one in self.asked if one.path == path]

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Return when ``done``, which looks at ``asked``, is True; fail after a while."""
        with self.changed:
            assert self.changed.wait_for(done, WAIT_S), f"asked so far: {[one.target for one in self.asked]}"

    def start(self) -> None:
        """Begin to answer."""
        self._closing.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        if self._tls is not None:
            # Shaking hands in the thread that serves, not in the one that accepts.
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go away: connections are refused, those that are open end."""
        if self._server is not None and self._thread is not None:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    close = stop

    def answer(self, asked: Asked) -> Reply:
        """Note a request and return what is answered."""
        with self.changed:
            self.asked.append(asked)
            script = self._script(asked.path)
            step = Reply(404, b"nothing here") if not script else script[0] if len(script) == 1 else script.pop(0)
            reply = step if isinstance(step, Reply) else step(asked)
            self.changed.notify_all()
        return reply

    def closing(self, seconds: float) -> bool:
        """Wait so long, or until the server goes away; return whether it does."""
        return self._closing.wait(seconds)

    def _script(self, path: str) -> list[Reply | Script]:
        exact = self._scripts.get(path)
        if exact is not None:
            return exact
        begins = [one for one in self._scripts if one.endswith("*") and path.startswith(one[:-1])]
        return self._scripts[max(begins, key=len)] if begins else []


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Keep quiet: whoever asked has gone, as some tests want."""


def _handler(server: ReplayServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65_536  # an answer in two packets would wait for a delayed acknowledgement of the first

        def do_GET(self) -> None:
            if server.closing(0.0):  # connections that were kept open end too
                self._break_off()
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            split = urlsplit(self.path)
            asked = Asked(
                self.command,
                split.path,
                dict(parse_qsl(split.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                self.path,
                body,
            )
            self._behave(server.answer(asked))

        do_POST = do_GET  # noqa: N815 - http.server names it so

        def _behave(self, reply: Reply) -> None:
            if reply.reset:
                self._break_off()
            elif reply.hang:
                while not server.closing(0.05):
                    pass
                self.close_connection = True
            else:
                self._head(reply)
                self._body(reply)

        def _head(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif reply.status != 304:
                self.send_header("Content-Length", str(10**6 if reply.drip else len(reply.body)))
            self.end_headers()

        def _body(self, reply: Reply) -> None:
            while reply.drip:
                self.wfile.write(b" ")
                self.wfile.flush()
                if server.closing(0.02):
                    self.close_connection = True
                    return
            sent = reply.body[: reply.stop_after]
            if reply.chunked:
                for start in range(0, len(sent), 1000):
                    piece = sent[start : start + 1000]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if reply.stop_after is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)
            if reply.stop_after is not None:
                self.close_connection = True

        def _break_off(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    return Handler


def paged(rows: Sequence[object], size: int, page: Callable[[Sequence[object], str | None], Reply]) -> Script:
    """Return a script that gives ``rows`` in pages by the query's ``offset``.

    ``page(rows, following)`` makes the reply; ``following`` is the target of the next page, None on the last.
    """

    def answer(asked: Asked) -> Reply:
        offset = int(asked.query.get("offset", 0))
        end = offset + size
        kept = "&".join(f"{name}={value}" for name, value in asked.query.items() if name != "offset")
        following = f"{asked.path}?{kept}&offset={end}" if end < len(rows) else None
        return page(rows[offset:end], following)

    return answer


@pytest.fixture
def replay() -> Iterator[ReplayServer]:
    """A server that knows nothing yet."""
    made = ReplayServer()
    made.start()
    yield made
    made.close()
