"""Where the registry's files lie: a local directory, or an object store by its fsspec URL.

On a local disk a file or folder appears whole or not at all, also after a power cut: it is written beside, flushed and
renamed; who changes anything holds a lock file. An object store has neither renames nor locks: one put is whole, a
folder counts once its last file is there, and two writers at the same moment can overtake each other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

LOCK = ".lock-registry"
_WRITING, _REMOVING = ".writing-", ".removing-"
_LOCK_PATIENCE_S = 30.0
"""Locks are held for one small write each; who holds one so long is stopped or stuck."""
T = TypeVar("T")


class ModelFiles(Protocol):
    """Files by path, parts parted by "/". All raise OSError, and FileNotFoundError where there is nothing."""

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder, but for hidden ones; none if there is no folder."""

    def folders_with(self, folder: str, name: str) -> list[str]:
        """Return the sorted names of the folders in ``folder`` that hold a file ``name``."""

    def read(self, path: str) -> bytes:
        """Return a file."""

    def size(self, path: str) -> int:
        """Return a file's bytes."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all; its folder is made. Only under the lock."""

    def add_folder(self, path: str, files: Mapping[str, bytes]) -> None:
        """Write a folder that is not there yet; it is whole once the last file is there. Only under the lock."""

    def remove(self, path: str) -> None:
        """Remove a file, or do nothing if there is none. Only under the lock."""

    def remove_folder(self, path: str, first: str) -> None:
        """Remove a folder; from the first moment on the file ``first`` is not in it any more. Only under the lock."""

    def locked(self, folder: str) -> AbstractContextManager[None]:
        """Keep others from changing anything in a folder, which is made."""


def open_files(location: str | Path) -> ModelFiles:
    """Return the files at a path or URL; nothing is touched."""
    text = str(location)
    if text.startswith("file://"):
        return LocalFiles(Path(text.removeprefix("file://")))
    return ObjectFiles(text) if "://" in text else LocalFiles(Path(location))


class LocalFiles:
    """A directory."""

    def __init__(self, root: Path) -> None:
        """Use ``root``; it is made when something is written."""
        self.root = root

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder, but for hidden ones; none if there is no folder."""
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folders_with(self, folder: str, name: str) -> list[str]:
        """Return the sorted names of the folders in ``folder`` that hold a file ``name``."""
        try:
            with os.scandir(self.root / folder) as entries:
                found = [e.name for e in entries if not e.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(each for each in found if (self.root / folder / each / name).is_file())

    def read(self, path: str) -> bytes:
        """Return a file."""
        return (self.root / path).read_bytes()

    def size(self, path: str) -> int:
        """Return a file's bytes."""
        return (self.root / path).stat().st_size

    def put(self, path: str, data: bytes) -> None:
        """Write a file beside, flush it to the disk, and rename it."""
        target = self.root / path
        _make(target.parent)
        beside = target.with_name(_WRITING + target.name)
        _write(beside, data)
        beside.replace(target)
        _sync(target.parent)

    def add_folder(self, path: str, files: Mapping[str, bytes]) -> None:
        """Write a folder beside, flush it to the disk, and rename it."""
        target = self.root / path
        _make(target.parent)
        beside = target.with_name(_WRITING + target.name)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name, data in files.items():
            _write(beside / name, data)
        _sync(beside)
        beside.rename(target)
        _sync(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file, or do nothing if there is none."""
        (self.root / path).unlink(missing_ok=True)

    def remove_folder(self, path: str, first: str) -> None:
        """Hide a folder by a rename, then remove it."""
        target = self.root / path
        hidden = target.with_name(_REMOVING + target.name)
        target.rename(hidden)
        shutil.rmtree(hidden)

    @contextmanager
    def locked(self, folder: str) -> Iterator[None]:
        """Hold the folder's lock file, and clear away what a killed writer left: nobody else writes now.

        Raises:
            TimeoutError: if someone else holds it for half a minute.
        """
        place = self.root / folder
        _make(place)
        with (place / LOCK).open("ab") as file:
            _lock(file.fileno(), place)
            _clear(place)
            yield


class ObjectFiles:
    """A folder in an object store."""

    def __init__(self, url: str) -> None:
        """Use the folder at ``url``; it is reached for when something is asked of it."""
        self.url = url.rstrip("/")
        self._opened: tuple[Any, str] | None = None

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder; none if there is none."""
        return sorted(name for name, kind in self._list(folder) if kind == "file")

    def folders_with(self, folder: str, name: str) -> list[str]:
        """Return the sorted names of the folders in ``folder`` that hold a file ``name``, by one listing."""

        def found(store: Any, root: str) -> list[str]:
            paths = store.glob(f"{root}/{folder}/*/{name}")
            return sorted(path.rsplit("/", 2)[-2] for path in paths)

        return self._ask(found)

    def read(self, path: str) -> bytes:
        """Return a file."""
        return self._ask(lambda store, root: bytes(store.cat_file(f"{root}/{path}")))

    def size(self, path: str) -> int:
        """Return an object's bytes."""
        return self._ask(lambda store, root: int(store.size(f"{root}/{path}")))

    def put(self, path: str, data: bytes) -> None:
        """Put one object."""
        self._ask(lambda store, root: store.pipe_file(f"{root}/{path}", data))

    def add_folder(self, path: str, files: Mapping[str, bytes]) -> None:
        """Put the objects in their order."""
        for name, data in files.items():
            self.put(f"{path}/{name}", data)

    def remove(self, path: str) -> None:
        """Remove an object, or do nothing if there is none."""

        def removed(store: Any, root: str) -> None:
            if store.exists(f"{root}/{path}"):
                store.rm_file(f"{root}/{path}")

        self._ask(removed)

    def remove_folder(self, path: str, first: str) -> None:
        """Remove the object ``first``, then the others."""
        self.remove(f"{path}/{first}")
        for name in self.names(path):
            self.remove(f"{path}/{name}")

    def locked(self, folder: str) -> AbstractContextManager[None]:
        """Do nothing: there is no lock, so of two writers at the same moment the later one wins."""
        return nullcontext()

    def _list(self, folder: str) -> list[tuple[str, str]]:
        def listed(store: Any, root: str) -> list[tuple[str, str]]:
            try:
                return [(e["name"].rsplit("/", 1)[-1], e["type"]) for e in store.ls(f"{root}/{folder}", detail=True)]
            except FileNotFoundError:
                return []

        return self._ask(listed)

    def _ask(self, what: Callable[[Any, str], T]) -> T:
        """Return what the store answers; whatever its library raises becomes an OSError."""
        try:
            if self._opened is None:
                from fsspec.core import url_to_fs  # late: a registry on a disk does without it

                self._opened = url_to_fs(self.url, use_listings_cache=False)
            store, root = self._opened
            return what(store, root.rstrip("/"))
        except OSError:
            raise
        except Exception as error:  # every store has a library and exceptions of its own
            raise OSError(f"{self.url}: {type(error).__name__}: {error}") from error


def _make(folder: Path) -> None:
    """Make a directory and those above it, each flushed to the disk."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _write(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Flush a directory's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int, place: Path) -> None:
    """Take the lock of an open file, which its closing gives back, also when the process is killed."""
    until = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"{place / LOCK} has been held by another process for {_LOCK_PATIENCE_S:.0f} s; is it stopped?"
                ) from None
            time.sleep(0.01)


def _clear(place: Path) -> None:
    """Remove what writers that were killed left behind in a folder and those in it."""
    for path in (*place.glob(f"{_WRITING}*"), *place.glob(f"*/{_WRITING}*"), *place.glob(f"{_REMOVING}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
