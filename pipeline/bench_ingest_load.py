"""What the ingest benchmark sends: bodies that are new each time, over connections that never pause."""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

import snappy

FIELDS = ("pm25", "pm10", "no2")
_START_US = 1_700_000_000_000_000
_STAMP = b"1111111111111111"
_STAMP_MS = 1_111_111_111_111

MakeBody = Callable[[int], bytes]
"""The number of a body, from 0, to the body; each one's readings have a time of their own."""


def line_bodies(entities: int) -> tuple[MakeBody, int]:
    """Return what makes bodies of line protocol, a line of three fields each entity, and the readings in one."""
    whole = b"".join(
        b"air,station=station-%05d,kind=lowcost pm25=%.2f,pm10=%.2f,no2=%.3f %s\n"
        % (e, 10 + e % 97 / 7, 20 + e % 89 / 3, e % 83 / 9, _STAMP)
        for e in range(entities)
    )
    return lambda number: whole.replace(_STAMP, b"%d" % (_START_US + number * 1_000_000)), entities * len(FIELDS)


def write_requests(entities: int) -> tuple[MakeBody, int]:
    """Return what makes remote-write bodies as Prometheus does, a sample of each series, and the readings in one."""
    whole = b"".join(
        _field(1, _labels(e, name) + _field(2, b"\x09" + struct.pack("<d", 10 + (e + i) % 97 / 7) + _stamp(_STAMP_MS)))
        for e in range(entities)
        for i, name in enumerate(FIELDS)
    )
    placeholder = _stamp(_STAMP_MS)

    def body(number: int) -> bytes:
        return bytes(snappy.compress(whole.replace(placeholder, _stamp(_START_US // 1000 + number * 1_000))))

    return body, entities * len(FIELDS)


def _labels(entity: int, name: str) -> bytes:
    labels = {"__name__": name, "instance": f"station-{entity:05d}", "job": "air", "kind": "lowcost"}
    return b"".join(_field(1, _field(1, k.encode()) + _field(2, v.encode())) for k, v in labels.items())


def _stamp(time_ms: int) -> bytes:
    return b"\x10" + _varint(time_ms)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def single_bodies(entities: int) -> tuple[MakeBody, int]:
    """Return what makes bodies of one reading each, as a station sends them, of one entity after the other."""
    return lambda number: b"air,station=station-%05d pm25=%.2f %d" % (
        number % entities, 10 + number % 97 / 7, _START_US + number * 1_000
    ), 1  # fmt: skip


class HttpLoad:
    """Connections to one address, each with one request under way at a time.

    Args:
        port: on loopback.
        connections: how many.
        path: with its query.
        headers: beside the length.
        body: makes each body.
        again: send the first body over and over: for a server that does not look into it.
    """

    def __init__(
        self, port: int, path: str, headers: str, body: MakeBody, *, again: bool, connections: int = 4
    ) -> None:
        self._port = port
        self._connections = connections
        self._head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: ".encode()
        self._body = body
        self._again = body(0) if again else None
        self._numbers = itertools.count()

    def send_for(self, seconds: float) -> tuple[int, float]:
        """Send for so long; return the bodies that were answered with 2xx, and the seconds it took in the end.

        Raises:
            RuntimeError: if anything else was answered.
        """
        done, started = 0, time.perf_counter()
        with ExitStack() as stack, selectors.DefaultSelector() as answered:
            for _ in range(self._connections):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=60.0))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answered.register(connection, selectors.EVENT_READ)
                self._send(connection)
            under_way = self._connections
            while under_way:
                for key, _ in answered.select(60.0) or _nobody_answers():
                    connection = cast(socket.socket, key.fileobj)
                    answer = connection.recv(65_536)
                    if not answer.startswith(b"HTTP/1.1 20"):
                        raise RuntimeError(f"answered {answer[:500]!r}")
                    done += 1
                    if time.perf_counter() - started < seconds:
                        self._send(connection)
                    else:
                        under_way -= 1
        return done, time.perf_counter() - started

    def _send(self, connection: socket.socket) -> None:
        body = self._again or self._body(next(self._numbers))
        connection.sendall(self._head + b"%d\r\n\r\n" % len(body) + body)


def _nobody_answers() -> list[tuple[selectors.SelectorKey, int]]:
    raise RuntimeError("nobody answered within 60 s")
