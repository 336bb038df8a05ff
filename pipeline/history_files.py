"""Where the parts of the history lie: a local directory, or a folder of an object store. Knows bytes, not Parquet.

    LOCATION/stream=NAME/day=YYYY-MM-DD/part_FIRST_LAST_ROWS_WRITTEN_CRC_RANDOM.parquet

FIRST and LAST are the ends of the oldest and the newest step in it, WRITTEN is when it was written, all in microseconds
since 1970 UTC. So a listing alone tells what there is. CRC is of all its bytes (CRC-32C): Parquet itself would not see
every flipped bit. The random end keeps the replicas of a daemon apart. Every trouble is an OSError; what is not there
(any more) is a FileNotFoundError.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

import numpy as np
from crc32c import crc32c

UNFINISHED = ".unfinished"
"""How names end that a kill left behind; they begin with a dot, so Parquet readers pass over them too."""

DAY_US = 86_400_000_000

_NAME = re.compile(r"part_(-?\d{1,19})_(-?\d{1,19})_(\d{1,19})_-?\d{1,19}_([0-9a-f]{8})_[0-9a-f]{8}\.parquet")
_DAY = re.compile(r"day=(-?\d{4,6}-\d\d-\d\d)")


class Entry(NamedTuple):
    """A file as a listing has it."""

    path: str
    """Below the location, with slashes."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part by its name. Times are the ends of steps."""

    path: str
    size_bytes: int
    day: str
    first_us: int
    last_us: int
    rows: int
    crc: int

    def is_whole(self, data: bytes) -> bool:
        """Return whether ``data`` is what was written under this name."""
        return crc32c(data) == self.crc


class Files(Protocol):
    """Keeps files by path below one location. Safe to use from several threads and processes at once."""

    def list_files(self, folder: str) -> list[Entry]:
        """Return all files below ``folder``, in the order of their paths; none if it is not there."""
        ...

    def folders(self) -> list[str]:
        """Return the names of the folders right below the location, in order."""
        ...

    def put(self, path: str, data: memoryview) -> None:
        """Make ``data`` durable under ``path``: it is there whole, or not at all, also after a kill."""
        ...

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        ...

    def remove_unfinished(self, folder: str, before_s: float) -> None:
        """Remove what kills left below ``folder`` before ``before_s`` (since 1970)."""
        ...


def open_files(location: str) -> Files:
    """Return the files at ``location``: a path, or a URL such as s3://bucket/folder or memory://folder.

    Raises:
        OSError: if the URL's kind of store is not known here, or needs a package that is not installed.
    """
    if "://" not in location:
        return LocalFiles(Path(location))
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    with _as_os_errors(location):
        filesystem, path = url_to_fs(location)
    return LocalFiles(Path(path)) if isinstance(filesystem, LocalFileSystem) else ObjectFiles(filesystem, path)


def stream_folder(stream: str) -> str:
    """Return the folder of a stream; its name cannot lead elsewhere."""
    return f"stream={quote(stream, safe='')}"


def stream_of(folder: str) -> str | None:
    """Return the stream whose folder that is; None if it is none."""
    return unquote(folder.removeprefix("stream=")) if folder.startswith("stream=") else None


def day_of(time_us: int) -> str:
    """Return the UTC day in which ``time_us`` lies.

    >>> day_of(0)
    '1970-01-01'
    """
    return str(np.datetime64(time_us, "us").astype("datetime64[D]"))


def day_begin_us(day: str) -> int:
    """Return when a day begins."""
    return int(np.datetime64(day, "us").astype(np.int64))


def new_path(stream: str, first_us: int, last_us: int, rows: int, written_us: int, data: memoryview) -> str:
    """Return a path that no other part has or will have, for ``data`` whose times lie in one day."""
    name = f"part_{first_us}_{last_us}_{rows}_{written_us}_{crc32c(data):08x}_{secrets.token_hex(4)}.parquet"
    return f"{stream_folder(stream)}/day={day_of(first_us)}/{name}"


def part_file(entry: Entry) -> PartFile | None:
    """Return what the name of a listed file says; None if it is no part of ours."""
    *_, folder, name = ("", *entry.path.split("/"))
    day, match = _DAY.fullmatch(folder), _NAME.fullmatch(name)
    if day is None or match is None:
        return None
    first_us, last_us, rows = map(int, match.groups()[:3])
    return PartFile(entry.path, entry.size_bytes, day[1], first_us, last_us, rows, int(match[4], 16))


class LocalFiles:
    """Files on a local disk: written under another name, synced, renamed, and the directory synced."""

    def __init__(self, root: Path) -> None:
        """Keep files below ``root``; it is made when the first one is written."""
        self._root = root

    def list_files(self, folder: str) -> list[Entry]:
        """Return all files below ``folder``; those that vanish meanwhile are left out, and so are unfinished ones."""
        found = [
            Entry(path.relative_to(self._root).as_posix(), size)
            for path, size, _ in _walk(self._root / folder)
            if not path.name.endswith(UNFINISHED)
        ]
        return sorted(found)

    def folders(self) -> list[str]:
        """Return the names of the folders right below the location."""
        try:
            return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())
        except FileNotFoundError:
            return []

    def put(self, path: str, data: memoryview) -> None:
        """Make ``data`` durable under ``path``."""
        whole = self._root / path
        beside = whole.with_name(f".{whole.name}{UNFINISHED}")
        fresh = not whole.parent.exists()
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(whole)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        _sync(whole.parent)
        if fresh:
            for folder in (whole.parent.parent, self._root):
                _sync(folder)

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self._root / path).read_bytes()

    def remove(self, path: str) -> None:
        """Remove a file, and its folder once that is empty."""
        whole = self._root / path
        whole.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty, or another process was faster
            whole.parent.rmdir()

    def remove_unfinished(self, folder: str, before_s: float) -> None:
        """Remove what kills left; what cannot be removed is no harm."""
        for path, _, modified_s in _walk(self._root / folder):
            if path.name.endswith(UNFINISHED) and modified_s < before_s:
                with suppress(OSError):
                    path.unlink()


class ObjectFiles:
    """Files in an object store: one put each, and a put is whole or not at all."""

    def __init__(self, filesystem: Any, root: str) -> None:
        """Keep files below ``root`` of an fsspec file system."""
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def list_files(self, folder: str) -> list[Entry]:
        """Return all files below ``folder`` as the store has them now: fsspec's own memory of listings is not used."""
        with _as_os_errors(folder):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.find(self._whole(folder), detail=True)
            except FileNotFoundError:
                return []
        cut = len(self._root) + 1
        return sorted(Entry(path[cut:], int(about.get("size") or 0)) for path, about in found.items())

    def folders(self) -> list[str]:
        """Return the names of the folders right below the location."""
        with _as_os_errors(self._root):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(a["name"].rstrip("/").rpartition("/")[2] for a in found if a["type"] == "directory")

    def put(self, path: str, data: memoryview) -> None:
        """Put ``data`` under ``path``."""
        whole, content = self._whole(path), bytes(data)
        with _as_os_errors(path):
            try:
                self._filesystem.pipe_file(whole, content)
            except FileNotFoundError:  # object stores need no folders, but fsspec reaches stores that do
                self._filesystem.makedirs(whole.rpartition("/")[0], exist_ok=True)
                self._filesystem.pipe_file(whole, content)

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        with _as_os_errors(path):
            return bytes(self._filesystem.cat_file(self._whole(path)))

    def remove(self, path: str) -> None:
        """Remove a file."""
        with _as_os_errors(path), suppress(FileNotFoundError):
            self._filesystem.rm_file(self._whole(path))

    def remove_unfinished(self, folder: str, before_s: float) -> None:
        """Do nothing: a put that did not end left nothing."""

    def _whole(self, path: str) -> str:
        return f"{self._root}/{path}"


@contextmanager
def _as_os_errors(what: str) -> Iterator[None]:
    """Turn whatever an object store's client raises into OSError; each has its own tree of exceptions."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{what}: {type(error).__name__}: {error}") from error


def _walk(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Yield (path, bytes, modification time) of the files below ``folder`` that stay while it looks."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
            continue
        with suppress(FileNotFoundError):
            about = entry.stat()
            yield Path(entry.path), about.st_size, about.st_mtime


def _sync(folder: Path) -> None:
    """Make names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
