"""Messages as JSON lines, to a file or to stdout: for alerts and scores that people, scripts and log shippers read."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from connectors.errors import Misconfigured, SinkUnavailable
from connectors.json_documents import NOT_JSON

STDOUT = "-"
REMEMBERED = 100_000
"""Lines; what a restart sends again is the newest."""
REREAD_BYTES = 16 * 1_048_576
"""Of a file's end, read once at the start to know what was said before."""


class JsonLinesSink:
    """Appends each message's value as one line; ``flush`` makes them durable. Keys and headers are not written.

    A value whose bytes are among the newest 100,000 lines, those that an earlier process left at the file's end
    included, is not written again: a replay after a crash says nothing twice. A line that a crash cut short is removed
    at the start. Not for two processes at once.

    Args:
        path: a file, whose folder exists; ``-`` is stdout. What is no regular file is neither reread nor synced.

    Raises:
        Misconfigured: if the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._name = str(path)
        self._stdout = self._name == STDOUT
        self._pending: list[bytes] = []
        self._written: OrderedDict[bytes, None] = OrderedDict()
        self._file: BinaryIO = sys.stdout.buffer if self._stdout else _opened(Path(path))
        self._regular = not self._stdout and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        if self._regular:
            self._reread()

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Take one message; it is held until the next ``flush``."""
        line = b" ".join(value.splitlines())  # a raw line break in JSON can only be space between tokens
        digest = _digest(line)
        if digest in self._written:
            self._written.move_to_end(digest)
            return
        self._remember(digest)
        self._pending.append(line + b"\n")

    def flush(self, timeout_s: float) -> None:
        """Write all that was sent, and sync it when it is a file.

        Raises:
            SinkUnavailable: if no more can be written (a full disk, a closed pipe). What was sent stays pending.
        """
        start: int | None = None
        try:
            if self._regular:
                start = self._file.seek(0, os.SEEK_END)
            self._write(b"".join(self._pending))
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            if start is not None:  # else the next flush would write half of it twice
                os.ftruncate(self._file.fileno(), start)
            raise SinkUnavailable(f"{self._name}: {len(self._pending)} lines could not be written: {error}") from error
        self._pending.clear()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]  # an unbuffered file may take a part only
        self._file.flush()
        if self._regular:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is pending and close the file; stdout stays open."""
        try:
            self.flush(timeout_s=0.0)
        finally:
            if not self._stdout:
                self._file.close()

    def _remember(self, digest: bytes) -> None:
        self._written[digest] = None
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _reread(self) -> None:
        """Remember the lines at the file's end."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - REREAD_BYTES))
        lines = self._file.read().split(b"\n")
        self._mend(size, lines.pop())
        for line in lines[1 if size > REREAD_BYTES else 0 :][-REMEMBERED:]:
            self._remember(_digest(line))

    def _mend(self, size: int, last: bytes) -> None:
        """End the file with a whole line: remove one that was cut short, complete one that lacks only its end."""
        if not last:
            return
        try:
            msgspec.json.decode(last)
        except NOT_JSON:
            self._file.truncate(size - len(last))
        else:
            self._file.write(b"\n")
            self._remember(_digest(last))


def _opened(path: Path) -> BinaryIO:
    """Open without a buffer: bytes that a failed write left in one could not be taken back."""
    try:
        return path.open("ab+" if path.is_file() or not path.exists() else "ab", buffering=0)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be opened for appending: {error.strerror}") from error


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
