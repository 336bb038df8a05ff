"""A job's process: started as a session of its own, found again after a restart, and ended, it and no other.

A process is known by its pid and its start time (Linux: /proc), so that a pid that was given to another since is never
taken for it, and never sent a signal.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_DEAD_STATES = ("Z", "X")  # a zombie has ended, whoever has yet to be told
_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat, counted behind the name (proc_pid_stat(5): 3 and 22)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def start_time(pid: int) -> float | None:
    """Return when a process was started, in clock ticks since boot; None when it runs no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold blanks and brackets
    if len(fields) <= _START_TIME or fields[_STATE] in _DEAD_STATES:
        return None
    return float(fields[_START_TIME])


def is_alive(pid: int | None, started: float | None) -> bool:
    """Return whether the process that had ``pid`` and began at ``started`` still runs."""
    return pid is not None and started is not None and start_time(pid) == started


def send(pid: int, started: float, signum: signal.Signals) -> bool:
    """Send a signal to that process, and to no other that has its pid by now; return whether it was there."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:  # Linux before 5.3: there is an instant between the look and the signal
        return _send_by_pid(pid, started, signum)
    try:
        # Held by the handle, the pid cannot change owners between the look and the signal.
        if start_time(pid) != started:
            return False
        signal.pidfd_send_signal(handle, signum)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _send_by_pid(pid: int, started: float, signum: signal.Signals) -> bool:
    if start_time(pid) != started:
        return False
    try:
        os.kill(pid, signum)
    except OSError:
        return False
    return True


def spawn(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start a process that outlives this one, with nothing to read and ``log`` to write to; return its pid.

    It leads a session of its own, so that a signal to our group, or our end, leaves it alone.

    Raises:
        OSError: if it cannot be started.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(
        arguments[0],
        list(arguments),
        dict(environment),
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these, and ignoring is inherited
    )


def reap(pid: int) -> int | None:
    """Return the exit code of a child of ours that has ended, negative for a signal; None while it runs, or not ours.

    Whoever starts processes has to ask, or they stay as zombies.
    """
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)
    return None


def environment_of(threads: int) -> dict[str, str]:
    """Return our environment, with ``threads`` for every library that would take all processors."""
    return dict(os.environ) | dict.fromkeys(_THREADS, str(threads))


def last_words(log: Path, most_bytes: int = 4096) -> str:
    """Return the last line of a log, at most 200 characters; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - most_bytes))
            lines = file.read(most_bytes).decode("utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][:200] if spoken else ""
