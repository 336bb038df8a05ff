"""Those who look at a daemon and are told by it, in ``vedette bench faces``: in a process of their own.

Prometheus asks for /metrics, browsers listen to events and open pages; an Alertmanager and a webhook take what comes.
"""

from __future__ import annotations

import http.client
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

_SCRAPE_EVERY_S = 5.0
"""Three times as often as is usual."""
_PAGE_EVERY_S = 2.0
"""Somebody who reads quickly."""
_LISTENERS = 3
_TIMEOUT_S = 30.0
_NICE = 5
"""They would be on other machines."""
_PAGES = (
    "/", "/incidents", "/entities?search=station-001", "/entities?stream=load&entity=station-00001", "/models",
    "/system", "/api/overview", "/api/entity?stream=load&entity=station-00002",
)  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What clients saw since they were told to begin. Clocks are those of ``time.perf_counter``."""

    scrapes: list[tuple[float, float, int, int]] = field(default_factory=list)
    """(from, to, series of single entities, bytes)."""
    pages: list[tuple[str, int, float]] = field(default_factory=list)
    """(path, status, seconds)."""
    events: int = 0
    posts: int = 0
    """Requests that receivers took."""

    def take(self) -> Seen:
        """Return what was seen, and begin anew."""
        taken = replace(self)
        self.scrapes, self.pages, self.events, self.posts = [], [], 0, 0
        return taken

    def add(self, other: Seen) -> None:
        """Count in what was seen another time."""
        self.scrapes += other.scrapes
        self.pages += other.pages
        self.events += other.events
        self.posts += other.posts


def serve(orders: Connection) -> None:
    """Receive from the start; look at the daemon at a port from the order with it until the next order.

    The first answer are the receivers' addresses, and each later one is ``Seen`` after the end of looking.
    """
    os.nice(_NICE)
    seen = Seen()
    receivers = [_Receiver(seen) for _ in range(2)]
    orders.send([f"http://127.0.0.1:{receiver.server_port}" for receiver in receivers])
    try:
        while True:
            port: int = orders.recv()
            looking = _Looking(port, seen)
            orders.recv()
            looking.end()
            orders.send(seen.take())
    except EOFError:
        return


class _Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, seen: Seen) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # an answer in two packets would wait for the acknowledgement of the first

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen.posts += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Looking:
    """Threads that look until ``end``."""

    def __init__(self, port: int, seen: Seen) -> None:
        self._port = port
        self._seen = seen
        self._over = threading.Event()
        self._open_streams: list[socket.socket] = []
        pages = itertools.cycle(_PAGES)
        jobs: list[Callable[[], None]] = [
            lambda: self._again(_SCRAPE_EVERY_S, self._scrape),
            lambda: self._again(_PAGE_EVERY_S, lambda: self._open(next(pages))),
            *([self._listen] * _LISTENERS),
        ]
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when nobody looks any more."""
        self._over.set()
        for stream in self._open_streams:
            with suppress(OSError):  # the daemon has ended it meanwhile
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def _again(self, every_s: float, ask: Callable[[], None]) -> None:
        while not self._over.is_set():
            due = time.monotonic() + every_s
            ask()
            self._over.wait(max(due - time.monotonic(), 0.0))

    def _scrape(self) -> None:
        began = time.perf_counter()
        _, body = self._get("/metrics")
        ended = time.perf_counter()
        series = sum(line.startswith(b"vedette_") and b',entity="' in line for line in body.splitlines())
        self._seen.scrapes.append((began, ended, series, len(body)))

    def _open(self, path: str) -> None:
        began = time.perf_counter()
        status, _ = self._get(path)
        self._seen.pages.append((path, status, time.perf_counter() - began))

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Accept": "text/html" if path[1:4] != "api" else "*/*"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        connection.connect()
        self._open_streams.append(connection.sock)
        connection.request("GET", "/api/events")
        answer = connection.getresponse()
        while not self._over.is_set() and (line := answer.readline()):
            self._seen.events += line.startswith(b"event:")
        connection.close()
