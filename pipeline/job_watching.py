"""Whether a training job lives, hangs or is dead, from its record, its process and what was seen of it before."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from pipeline.job_process import is_alive
from pipeline.job_record import JobRecord

_START_GRACE_S = 60.0  # a process says who it is within so long
_LOOK_TWICE_S = 60.0  # silence is judged after watching for so long: the machine may have slept, or its clock jumped


class Life(Enum):
    """How a job that has not ended is."""

    RUNNING = auto()
    HUNG = auto()
    """Its process is there and has been silent, or at it, for too long."""
    DEAD = auto()


@dataclass(slots=True)
class Memory:
    """What this daemon remembers of a job that has not ended; after a restart it does without."""

    updated_us: int
    seen_s: float
    """When its newest sign of life was first seen, on the clock for waiting."""
    pid: int | None = None
    """Of the process that this daemon started for it."""
    pid_started: float | None = None
    asked_s: float | None = None
    """When it was asked to end, for hanging."""
    dead_s: float | None = None
    """When it was found dead."""


class JobWatch:
    """Tells how jobs are. Purely a judge: it reads /proc, and ends and starts nothing."""

    def __init__(
        self, stale_after_s: float, max_duration_s: float | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a job for hung after ``stale_after_s`` of silence, or so long after it should have ended itself.

        Args:
            stale_after_s: silence that no job needs.
            max_duration_s: how long an attempt may last; None: for ever.
            monotonic: the clock for waiting.
        """
        self.host = socket.gethostname()
        self._stale_s = stale_after_s
        self._longest_us = None if max_duration_s is None else (max_duration_s + stale_after_s) * 1e6
        self._monotonic = monotonic

    def begin(self, record: JobRecord) -> Memory:
        """Return the memory of a job that is seen for the first time."""
        return Memory(record.updated_us, self._monotonic())

    def life(self, record: JobRecord, memory: Memory, now_us: int) -> Life:
        """Return how the job of ``record`` is, and remember what is new in it."""
        if memory.updated_us != record.updated_us:
            memory.updated_us, memory.seen_s = record.updated_us, self._monotonic()
        silent_s = (now_us - record.updated_us) / 1e6
        if not self.is_here(record):
            # Other machines' processes cannot be seen: they are dead when they have been silent for long.
            return Life.DEAD if self._is_silent(memory, silent_s) else Life.RUNNING
        pid, started = record.pid, record.pid_started
        if pid is None:
            pid, started = memory.pid, memory.pid_started
        if is_alive(pid, started):
            hung = memory.asked_s is not None or self._is_overdue(record, now_us) or self._is_silent(memory, silent_s)
            return Life.HUNG if hung else Life.RUNNING
        return Life.DEAD if pid is not None or silent_s > _START_GRACE_S else Life.RUNNING

    def is_here(self, record: JobRecord) -> bool:
        """Return whether the job's process is, or was, one of this machine."""
        return record.host in ("", self.host)

    def _is_silent(self, memory: Memory, silent_s: float) -> bool:
        seen_s = self._monotonic() - memory.seen_s
        return silent_s > self._stale_s and seen_s >= min(_LOOK_TWICE_S, self._stale_s)

    def _is_overdue(self, record: JobRecord, now_us: int) -> bool:
        if self._longest_us is None or record.started_us is None:
            return False
        return now_us - record.started_us > self._longest_us
