"""What bounds a training job's process: one per stream, signals, time and memory."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from models.training_options import TrainingInterrupted

LOCK = ".lock"
_LOOK_S = 0.5


class AnotherRunsError(Exception):
    """Another process works on a job of this stream."""

    def __init__(self, stream: str, job: str) -> None:
        """Say which."""
        super().__init__(f"another job of stream {stream} runs: {job or 'its name is not known'}")
        self.job = job


@contextmanager
def only_one(directory: Path, stream: str, job: str) -> Iterator[None]:
    """Hold the stream's lock, which ends with the process however it ends.

    Raises:
        AnotherRunsError: if another process holds it.
    """
    folder = directory / stream
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherRunsError(stream, os.pread(handle, 300, 0).decode(errors="replace").strip()) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, job.encode(), 0)
        yield
    finally:
        os.close(handle)


class StopRequest:
    """Whether somebody asked the process to end (SIGTERM or Ctrl-C), at a point from which it can go on."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask."""
        self._asked.set()

    def asked(self) -> bool:
        """Return whether it was asked."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise TrainingInterrupted if it was asked."""
        if self.asked():
            raise TrainingInterrupted("it was told to stop")

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT for asking; a second one ends the process as usual. Main thread only."""
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {which: signal.getsignal(which) for which in wanted}

        def take(which: int, _: FrameType | None) -> None:
            self._asked.set()
            signal.signal(which, before[signal.Signals(which)])

        for which in wanted:
            signal.signal(which, take)
        try:
            yield
        finally:
            for which in wanted:
                signal.signal(which, before[which])


def resident_bytes() -> int:
    """Return the memory that the process holds."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def memory_watched(most_bytes: int, too_much: Callable[[int], None], look_s: float = _LOOK_S) -> Iterator[None]:
    """Call ``too_much`` with the bytes held, from another thread and once, when the process holds more than it may."""
    closing = threading.Event()

    def watch() -> None:
        while (held := resident_bytes()) <= most_bytes:
            if closing.wait(look_s):
                return
        too_much(held)

    thread = threading.Thread(target=watch, name="job-memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()
