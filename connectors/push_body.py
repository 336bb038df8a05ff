"""Bodies of pushed requests, read within bounds: of size, compressed and not, of time, and of all at once."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping

_BODIES, _DECODED = 4, 16
"""Times the largest body."""
_VALUE_BYTES = 150
"""Of a decoded JSON value; measured 75 to 195."""
_MESSAGE_GROWTH = 8
"""Of a decoded protobuf message; measured 4 for points with a value and a time, 32 for nothing but empty ones."""


class Trouble(Exception):
    """Why a request gets no good answer.

    Args:
        status: of HTTP.
        text: for a person.
        retry_after_s: when to come again; None: not because of time.
    """

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class TooLarge(Trouble):
    """A body has, or would have without compression, at least ``size`` bytes, and ``most`` are allowed."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(413, f"the body has {size} bytes or more; allowed: {most}; send fewer readings at once")


class Room:
    """Memory that requests share, counted in bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0

    def take(self, size: int, own: int) -> None:
        """Reserve memory for a request that has ``own`` bytes already.

        Raises:
            Trouble: if others have too much; what is alone is let in.
        """
        if self._taken > own and self._taken + size > self.most:
            raise Trouble(429, "too many bodies are being worked on; send this one again", 1.0)
        self._taken += size

    def give_back(self, size: int) -> None:
        """Free memory."""
        self._taken -= size


class BodyReader:
    """Reads bodies. For one event loop. All that are worked on have four times the room of one, and sixteen times for
    what those are decoded to that are decoded as a whole: JSON and protobuf become three to fifteen times as large.

    Args:
        most_bytes: of one body, as it comes and without compression.
        timeout_s: for one body to come.
    """

    def __init__(self, most_bytes: int, timeout_s: float = 30.0) -> None:
        self.most_bytes = most_bytes
        self._timeout_s = timeout_s
        self._bodies = Room(_BODIES * most_bytes)
        self._decoded = Room(_DECODED * most_bytes)

    def held(self) -> Held:
        """Return the place for one request's bodies; use it as a context manager."""
        return Held(self._bodies, self._decoded)

    async def collect(self, stream: AsyncIterator[bytes], held: Held, headers: Mapping[str, str]) -> bytes:
        """Return a body as it comes, still compressed.

        Raises:
            Trouble: 408, 413 or 429.
        """
        told = headers.get("content-length", "")
        if told.isascii() and told.isdigit() and int(told) > self.most_bytes:
            raise TooLarge(int(told), self.most_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in stream:
                    held.take(len(chunk))
                    body += chunk
                    if len(body) > self.most_bytes:
                        raise TooLarge(len(body), self.most_bytes)
        except TimeoutError:
            raise Trouble(408, f"the body did not come within {self._timeout_s:g} s") from None
        return bytes(body)


class Held:
    """What one request holds of the common memory."""

    def __init__(self, bodies: Room, decoded: Room) -> None:
        self._bodies = bodies
        self._decoded = decoded
        self._size = self._decoded_size = 0

    def take(self, size: int) -> None:
        """Reserve more for the body.

        Raises:
            Trouble: 429.
        """
        self._bodies.take(size, self._size)
        self._size += size

    def take_decoded(self, size: int) -> None:
        """Reserve more for what the body is decoded to.

        Raises:
            Trouble: 413 for what would be too much even alone, 429.
        """
        if size > self._decoded.most:
            detail = f"the body would take about {size} bytes once it is decoded; allowed: {self._decoded.most}"
            raise Trouble(413, f"{detail}; send fewer readings at once")
        self._decoded.take(size, self._decoded_size)
        self._decoded_size += size

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.give_back(self._size)
        self._decoded.give_back(self._decoded_size)


def decoded_json_bytes(body: bytes) -> int:
    """Return about how much memory a JSON document takes, by its commas."""
    return _VALUE_BYTES * body.count(b",")


def decoded_protobuf_bytes(body: bytes) -> int:
    """Return about how much memory a protobuf message takes."""
    return _MESSAGE_GROWTH * len(body)


def is_plain(encoding: str) -> bool:
    """Return whether a ``Content-Encoding`` means that there is none."""
    return encoding.strip().lower() in ("", "identity")


def unzipped(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return ``body`` without its ``Content-Encoding``: gzip, deflate or none.

    Raises:
        TooLarge: for what would be larger than ``most_bytes``.
        Trouble: 400 for what is not so encoded, 415 for other names.
    """
    if is_plain(encoding):
        return body
    name = encoding.strip().lower()
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Trouble(415, f"Content-Encoding {encoding[:40]!r}; allowed: gzip, deflate, identity")
    out = bytearray()
    left = body
    try:
        while left:  # gzip files may follow one another
            one = zlib.decompressobj(zlib.MAX_WBITS | 32)
            out += one.decompress(left, most_bytes - len(out) + 1)
            if len(out) > most_bytes:
                raise TooLarge(len(out), most_bytes)
            if not one.eof:
                raise Trouble(400, f"the body breaks off: its {name} has no end")
            left = one.unused_data
    except zlib.error as error:
        raise Trouble(400, f"the body is no {name}: {error}") from None
    return bytes(out)
