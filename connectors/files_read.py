"""How far which files were read: the cursor of a source of files, and what it says of a file that changed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import msgspec

from connectors.file_formats import GZIP
from connectors.file_places import FoundFile

_HEAD_BYTES = 1024


class FileState(msgspec.Struct, omit_defaults=True):
    """One file, as it was when it was last read."""

    at: int
    """Behind the last row that is durable; what it counts is the format's affair."""
    version: str
    """As ``FoundFile.version``."""
    inode: int = 0
    done: bool = False
    """Whether all was read that this version held."""
    head: str = ""
    """A hash of its first bytes, led by their number: whether what is there now is the same file, grown."""


_States = dict[str, FileState]
_decode = msgspec.json.Decoder(_States).decode


class FilesRead:
    """How far which files were read, by path.

    Args:
        cursor: as ``text`` gave it; None, or one that is not ours, is a first start.
    """

    def __init__(self, cursor: str | None) -> None:
        try:
            self.files: _States = {} if cursor is None else _decode(cursor)
        except msgspec.DecodeError:
            self.files = {}
        self._by_inode = {state.inode: state for state in self.files.values() if state.inode}

    def text(self) -> str:
        """Return the cursor."""
        return msgspec.json.encode(self.files).decode()

    def is_read(self, file: FoundFile) -> bool:
        """Return whether nothing of the file is left to be read, as far as its folder shows."""
        state = self.files.get(_named(file.path))
        return state is not None and state.done and state.version == file.version

    def start(self, file: FoundFile, content: BinaryIO, appendable: bool) -> int:
        """Return where to go on in a file; ``content`` is moved.

        A file that is the one of before, longer, goes on where it was left; so does one that was renamed. One that was
        cut, replaced or written anew is read from its beginning.
        """
        state = self.files.get(_named(file.path))
        if state is not None and state.inode and file.inode and state.inode != file.inode:
            state = None  # another file under the old name
        if state is None and appendable:
            state = self._by_inode.get(file.inode)  # renamed: as it was at the beginning of this look
        if state is None:
            return 0
        if state.version == file.version:
            return state.at
        if not file.path.endswith(GZIP) and file.size < state.at:
            return 0  # it was cut
        return state.at if appendable and state.head and state.head == head_of(content, state.head) else 0

    def note(self, file: FoundFile, at: int, done: bool, head: str) -> None:
        """Keep how far a file was read."""
        self.files[_named(file.path)] = FileState(at, file.version, file.inode, done, head)

    def forget_all_but(self, there: Iterable[str]) -> None:
        """Forget files that are gone; one that was renamed is known by its new name by now."""
        names = {_named(path) for path in there}
        self.files = {path: state for path, state in self.files.items() if path in names}


def _named(path: str) -> str:
    """Return a path as a cursor can hold it: bytes of a name that are no UTF-8 are spelled out."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()


def head_of(content: BinaryIO, like: str = "", at: int = _HEAD_BYTES) -> str:
    """Return the hash of a file's first bytes: as many as ``like`` was made of, else up to ``at``; it is moved.

    Empty for an empty file, or one that cannot be read.
    """
    size = int(like.partition(":")[0]) if like else min(at, _HEAD_BYTES)
    try:
        content.seek(0)
        first = content.read(size)
    except (OSError, EOFError, zlib.error):  # what is wrong with it shows when it is read
        return ""
    return f"{len(first)}:{hashlib.blake2b(first, digest_size=8).hexdigest()}" if first else ""
