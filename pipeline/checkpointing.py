"""Checkpoints on a local disk: the newest whole one is found again, or none, but never a wrong one.

CheckpointError   retriable: the disk is full or away; nothing was lost, the older checkpoints stay
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from numpy.typing import NDArray

from pipeline.checkpoint_format import Header, Unusable, UnusableCheckpointError, read_arrays, read_header, write

log = structlog.get_logger("vedette.checkpointing")

_SUFFIX = ".checkpoint"
_UNFINISHED = ".unfinished"


class CheckpointError(Exception):
    """A checkpoint could not be written."""

    retriable = True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state, whole and checked."""

    path: Path
    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class CheckpointStore:
    """Keeps the newest few checkpoints of each key below one directory. One process writes a key at a time.

    A checkpoint appears under its name only when it is whole and on the disk (written aside, synced, renamed, the
    directory synced), so a kill at any moment leaves the older ones as they were.
    """

    def __init__(
        self,
        directory: str | Path,
        keep: int = 2,
        on_unusable: Callable[[Unusable], None] = lambda reason: None,
    ) -> None:
        """Keep ``keep`` (1 or more) checkpoints a key; ``on_unusable`` hears of each one that could not be used."""
        if keep < 1:
            raise ValueError(f"keep must be 1 or more, not {keep}")
        self.directory = Path(directory)
        self._keep = keep
        self._on_unusable = on_unusable

    def write(self, key: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> int:
        """Write a checkpoint of ``key`` and drop those that are too old; return its length in bytes.

        Args:
            key: what it is of, such as ``air/sensors.air/3``.
            meta: anything JSON can hold; ``config_hash``, ``model_version`` and ``offset`` are what ``read`` compares.
            arrays: of numbers or booleans.

        Raises:
            CheckpointError: if it could not be made durable; the older ones stay.
            ValueError: if ``meta`` or ``arrays`` hold what a checkpoint cannot.
        """
        folder = self._folder(key)
        unfinished: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = max((_number(path) for path in self._files(key)), default=0) + 1
            unfinished = folder / f"{number:012d}{_UNFINISHED}"
            with unfinished.open("wb", buffering=0) as file:
                size = write(_Whole(file), key, meta, arrays)
                os.fsync(file.fileno())
            unfinished.rename(folder / f"{number:012d}{_SUFFIX}")
            _sync(folder)
        except OSError as error:
            if unfinished is not None:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
            raise CheckpointError(f"checkpoint of {key} not written to {folder}: {error.strerror or error}") from error
        self._tidy(key)
        return size

    def read(
        self,
        key: str,
        *,
        config_hash: str | None = None,
        model_version: str | None = None,
        max_offset: int | None = None,
        accept: Callable[[Mapping[str, Any]], bool] = lambda meta: True,
    ) -> Checkpoint | None:
        """Return the newest usable checkpoint of ``key``, or None; each newer one that is passed over is logged.

        Args:
            key: as it was written.
            config_hash: refuse those of another one; None takes any.
            model_version: refuse those of another one; None takes any.
            max_offset: refuse those whose ``offset`` lies beyond; None takes any.
            accept: told what a checkpoint says of itself; those that it refuses are passed over without a word.
        """
        wanted = {"config_hash": config_hash, "model_version": model_version}
        for path in reversed(self._files(key)):
            try:
                checkpoint = _load(path, key, wanted, max_offset, accept)
                if checkpoint is not None:
                    return checkpoint
            except UnusableCheckpointError as error:
                log.warning("checkpoint not usable", path=str(path), reason=error.reason, detail=error.detail)
                self._on_unusable(error.reason)
        return None

    def newest_meta(self, key: str) -> dict[str, Any] | None:
        """Return what the newest readable checkpoint of ``key`` says of itself; None where there is none."""
        for path in reversed(self._files(key)):
            try:
                with path.open("rb") as file:
                    return read_header(file)[0].meta
            except (OSError, UnusableCheckpointError):
                continue  # ``read`` tells of it when it is its turn
        return None

    def probe(self) -> None:
        """Raise CheckpointError unless a checkpoint could be written here now; leaves nothing behind."""
        probe = self.directory / f"probe-{os.getpid()}{_UNFINISHED}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"\0")
            probe.unlink()
        except OSError as error:
            raise CheckpointError(f"{self.directory} cannot be written to: {error.strerror or error}") from error

    def _folder(self, key: str) -> Path:
        return self.directory.joinpath(*(_safe(part) for part in key.split("/")))

    def _files(self, key: str) -> list[Path]:
        """Return the finished checkpoints of ``key``, oldest first."""
        return sorted((path for path in self._folder(key).glob(f"*{_SUFFIX}") if path.stem.isdigit()), key=_number)

    def _tidy(self, key: str) -> None:
        """Drop what is too old, and what a kill left unfinished; what cannot be dropped is no harm."""
        leftovers = self._folder(key).glob(f"*{_UNFINISHED}")
        for path in (*self._files(key)[: -self._keep], *leftovers):
            with suppress(OSError):
                path.unlink()


class _Whole:
    """A raw file that writes all of what it is given; an unbuffered one may write less (Linux stops at 2 GiB)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes | memoryview, /) -> int:
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._file.write(rest) :]
        return len(data)


def _load(
    path: Path,
    key: str,
    wanted: Mapping[str, str | None],
    max_offset: int | None,
    accept: Callable[[Mapping[str, Any]], bool],
) -> Checkpoint | None:
    try:
        with path.open("rb") as file:
            header, begin = read_header(file)
            _compare(header, key, wanted, max_offset)
        if not accept(header.meta):
            return None
        return Checkpoint(path, header.meta, read_arrays(path, header, begin))
    except OSError as error:
        raise UnusableCheckpointError(Unusable.UNREADABLE, error.strerror or str(error)) from error


def _compare(header: Header, key: str, wanted: Mapping[str, str | None], max_offset: int | None) -> None:
    if header.key != key:
        raise UnusableCheckpointError(Unusable.OTHER_KEY, f"it is of {header.key}, not of {key}")
    for name, reason in (("config_hash", Unusable.OTHER_CONFIG), ("model_version", Unusable.OTHER_MODEL)):
        want, got = wanted[name], header.meta.get(name)
        if want is not None and got != want:
            raise UnusableCheckpointError(reason, f"its {name} is {got}, not {want}")
    offset = header.meta.get("offset")
    if max_offset is not None and (not isinstance(offset, int) or offset > max_offset):
        raise UnusableCheckpointError(Unusable.TOO_NEW, f"its offset is {offset}, beyond {max_offset}")


def _safe(part: str) -> str:
    """Return ``part`` as a file name that leads nowhere else."""
    name = quote(part, safe="")
    return name.replace(".", "%2E") if not name.strip(".") else name


def _number(path: Path) -> int:
    return int(path.stem)


def _sync(folder: Path) -> None:
    """Make a rename within ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
