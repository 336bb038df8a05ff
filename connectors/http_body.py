"""The body of an answer, unpacked a piece at a time: neither a long one nor one that swells fills the memory."""

from __future__ import annotations

import zlib

_PIECE_BYTES = 262_144


class BodyTooLarge(Exception):
    """The body is larger than it may be."""


class BodyBroken(Exception):
    """The body ends too soon, or is not packed as the answer says."""


class Body:
    """Takes the pieces of a body as they come over the wire.

    Args:
        encoding: of the Content-Encoding header: none, ``identity``, ``gzip`` or ``deflate``.
        most_bytes: of the unpacked body.

    Raises:
        BodyBroken: if the encoding is another.
    """

    def __init__(self, encoding: str, most_bytes: int) -> None:
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BodyBroken(f"is packed as {encoding[:40]!r}, which was not asked for")
        self._unpack = _unpacker() if encoding not in ("", "identity") else None
        self._began = False
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._bytes = 0

    def add(self, piece: bytes) -> None:
        """Take what came.

        Raises:
            BodyTooLarge: if it is more than may come.
            BodyBroken: if it cannot be unpacked.
        """
        if self._unpack is None:
            self._keep(piece)
            return
        try:
            while piece:
                self._began = True
                self._keep(self._unpack.decompress(piece, _PIECE_BYTES))
                piece = self._unpack.unconsumed_tail
                if self._unpack.eof and (piece := self._unpack.unused_data.lstrip(b"\0")):
                    self._unpack = _unpacker()  # gzip may come in several members (RFC 1952, 2.2)
        except zlib.error as error:
            raise BodyBroken(f"cannot be unpacked: {error}") from None

    def whole(self) -> bytes:
        """Return the body, when all of it has come.

        Raises:
            BodyBroken: if it ends too soon.
        """
        if self._unpack is not None and self._began and not self._unpack.eof:
            raise BodyBroken("ends too soon")
        return b"".join(self._pieces)

    def _keep(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > self._most_bytes:
            raise BodyTooLarge(f"is larger than {self._most_bytes} bytes")
        self._pieces.append(piece)


def _unpacker() -> zlib._Decompress:
    return zlib.decompressobj(wbits=47)  # gzip or zlib, as its beginning tells
