"""Bodies of pushed requests, read within bounds: of size, compressed and not, of time, and of all at once."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping


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


class BodyReader:
    """Reads bodies. For one event loop.

    Args:
        most_bytes: of one body, as it comes and without compression.
        most_held: of all bodies that are being worked on.
        timeout_s: for one body to come.
    """

    def __init__(self, most_bytes: int, most_held: int, timeout_s: float = 30.0) -> None:
        self.most_bytes = most_bytes
        self._most_held = most_held
        self._timeout_s = timeout_s
        self._held = 0

    def held(self) -> Held:
        """Return the place for one request's bodies; use it as a context manager."""
        return Held(self)

    def take(self, size: int) -> None:
        """Reserve memory.

        Raises:
            Trouble: if others hold too much.
        """
        if self._held and self._held + size > self._most_held:
            raise Trouble(429, "too many bodies are being worked on; send this one again", 1.0)
        self._held += size

    def give_back(self, size: int) -> None:
        """Free memory."""
        self._held -= size

    async def collect(self, stream: AsyncIterator[bytes], held: Held, headers: Mapping[str, str]) -> bytes:
        """Return a body as it comes, still compressed.

        Raises:
            Trouble: 408, 413 or 429.
        """
        told = headers.get("content-length", "")
        if told.isascii() and told.isdigit() and int(told) > self.most_bytes:
            raise too_large(int(told), self.most_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in stream:
                    held.take(len(chunk))
                    body += chunk
                    if len(body) > self.most_bytes:
                        raise too_large(len(body), self.most_bytes)
        except TimeoutError:
            raise Trouble(408, f"the body did not come within {self._timeout_s:g} s") from None
        return bytes(body)


class Held:
    """What one request holds of the common memory."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._size = 0

    def take(self, size: int) -> None:
        """Reserve more."""
        self._reader.take(size)
        self._size += size

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.give_back(self._size)


def too_large(size: int, most: int) -> Trouble:
    """Return the trouble with a body of at least ``size`` bytes."""
    return Trouble(413, f"the body has {size} bytes or more; allowed: {most}; send fewer readings at once")


def unzipped(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return ``body`` without its ``Content-Encoding``: gzip, deflate or none.

    Raises:
        Trouble: 400 for what is not so encoded, 413 for what would be larger than ``most_bytes``, 415 for other names.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Trouble(415, f"Content-Encoding {encoding[:40]!r}; allowed: gzip, deflate, identity")
    out = bytearray()
    left = body
    try:
        while left:  # gzip files may follow one another
            one = zlib.decompressobj(zlib.MAX_WBITS | 32)
            out += one.decompress(left, most_bytes - len(out) + 1)
            if len(out) > most_bytes:
                raise too_large(len(out), most_bytes)
            if not one.eof:
                raise Trouble(400, f"the body breaks off: its {name} has no end")
            left = one.unused_data
    except zlib.error as error:
        raise Trouble(400, f"the body is no {name}: {error}") from None
    return bytes(out)
