"""The alert spool: messages on the disk, in their order, from when they were said until the database has them.

    DIRECTORY/00000001772409600000-000001.OWNER.jsonl   segments, one message a line, removed when delivered
    DIRECTORY/OWNER.lock                                held by the process that writes them, as long as it lives

Several processes may share the folder. What a process leaves behind that ends or is killed, the next one to start
takes over.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger("vedette.alert_spool")

_SEGMENT_BYTES = 1 << 20
_FEWEST_SEGMENTS = 8
"""So that the oldest eighth is lost at a time, not everything."""


@dataclass(slots=True)
class Segment:
    """One file of the spool that nothing is added to any more."""

    path: Path
    size_bytes: int
    lines: int

    def read(self) -> list[bytes]:
        """Return its lines; the last one may be cut short by a crash, before anybody relied on it.

        What lies behind ``size_bytes`` was never acknowledged: the disk neither took it whole nor gave it up again.
        """
        try:
            return self.path.read_bytes()[: self.size_bytes].splitlines()
        except FileNotFoundError:
            return []  # dropped for want of room meanwhile


class AlertSpool:
    """A bounded queue of lines on the disk. All methods may be called from any thread.

    Args:
        directory: made where it is missing.
        max_bytes: beyond it the oldest segment is dropped, and its lines are counted.
        now_ns: the wall clock, which orders the segments of different processes.

    Raises:
        OSError: if the folder cannot be made or used.
    """

    def __init__(self, directory: Path, max_bytes: int = 64 << 20, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, max_bytes // _FEWEST_SEGMENTS)
        self._now_ns = now_ns
        self._count = 0
        self._lock = threading.Lock()
        self._open: IO[bytes] | None = None
        self._segments: list[Segment] = []
        self.dropped = 0
        """Lines given up for want of room, since the start."""
        directory.mkdir(parents=True, exist_ok=True)
        self._owner = f"{now_ns():020d}-{os.getpid()}-{os.urandom(3).hex()}"
        self._held = _hold(self._lock_path(self._owner))
        assert self._held is not None  # nobody else knows the name
        self._adopt()

    @property
    def waiting(self) -> int:
        """Return how many lines are there."""
        with self._lock:
            return sum(segment.lines for segment in self._segments)

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines, none of which holds a line break; they outlast a crash of the machine when this returns.

        Raises:
            OSError: if the disk does not take them; then none is added.
        """
        if not lines:
            return
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            file, segment = self._current()
            try:
                _write(file, data)
            except OSError:
                self._take_back(file, segment)
                raise
            segment.size_bytes += len(data)
            segment.lines += len(lines)
            if segment.size_bytes >= self._segment_bytes:
                self._seal()
            self._make_room()

    def oldest(self) -> Segment | None:
        """Return the oldest segment, to which nothing is added from now on; None where nothing waits."""
        with self._lock:
            if len(self._segments) == 1:
                self._seal()
            return self._segments[0] if self._segments else None

    def remove(self, segment: Segment) -> None:
        """Forget a segment: what it held is elsewhere now."""
        with self._lock:
            if segment in self._segments:
                self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave what waits to the next process."""
        with self._lock:
            self._seal()
            if not self._segments:
                self._lock_path(self._owner).unlink(missing_ok=True)
            if self._held is not None:
                self._held.close()
                self._held = None

    # ---- inner; the lock is held ----

    def _current(self) -> tuple[IO[bytes], Segment]:
        """Return the file that is written to; a new one outlasts a crash by its folder's entry too."""
        if self._open is None:
            self._count += 1
            path = self._directory / f"{self._now_ns() // 1_000_000:020d}-{self._count:06d}.{self._owner}.jsonl"
            file = path.open("ab", buffering=0)
            try:
                _sync_folder(self._directory)
            except OSError:
                file.close()  # empty; the next one has another name
                raise
            self._open = file
            self._segments.append(Segment(path, 0, 0))
        return self._open, self._segments[-1]

    def _take_back(self, file: IO[bytes], segment: Segment) -> None:
        """Cut off what was written in part; where the disk refuses even that, go on in another file.

        In the same one the next line would continue the torn one, and both would be lost.
        """
        try:
            os.ftruncate(file.fileno(), segment.size_bytes)
        except OSError as error:
            log.warning("a line cut short stays in the alert spool", path=str(segment.path), error=str(error))
            with suppress(OSError):
                self._seal()

    def _seal(self) -> None:
        if self._open is not None:
            file, self._open = self._open, None
            file.close()
            if not self._segments[-1].lines:
                self._segments.pop().path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        while len(self._segments) > 1 and sum(segment.size_bytes for segment in self._segments) > self._max_bytes:
            lost = self._segments.pop(0)
            lost.path.unlink(missing_ok=True)
            self.dropped += lost.lines
            log.error("no room for more messages; dropped the oldest", messages=lost.lines, max_bytes=self._max_bytes)

    def _lock_path(self, owner: str) -> Path:
        return self._directory / f"{owner}.lock"

    def _adopt(self) -> None:
        """Take over what processes left that are no more: rename it, so that it is ours."""
        left = {path.name.split(".")[1] for path in self._directory.glob("*.*.jsonl")}
        owners = left | {path.stem for path in self._directory.glob("*.lock")}
        for owner in sorted(owners - {self._owner}):
            held = _hold(self._lock_path(owner))
            if held is None:
                continue
            with held:
                for path in sorted(self._directory.glob(f"*.{owner}.jsonl")):
                    self._take_over(path)
                self._lock_path(owner).unlink(missing_ok=True)
        self._segments.sort(key=lambda segment: segment.path.name)
        if self._segments:
            log.info("messages of an earlier run wait for the database", messages=sum(s.lines for s in self._segments))

    def _take_over(self, path: Path) -> None:
        ours = path.with_name(f"{path.name.split('.')[0]}.{self._owner}.jsonl")
        while ours.exists():  # two processes began a segment in the same millisecond
            ours = ours.with_name(f"{ours.name.split('.')[0]}x.{self._owner}.jsonl")
        with suppress(FileNotFoundError):
            data = path.read_bytes()
            path.rename(ours)
            self._segments.append(Segment(ours, len(data), data.count(b"\n")))


def _hold(path: Path) -> IO[bytes] | None:
    """Return the open lock file, ours until it is closed or the process ends; None while somebody else holds it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _write(file: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
