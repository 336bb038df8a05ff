"""Processes that end without a word: forked, killed at a file operation of their own, and looked at by their parent.

For programs without threads of their own (``os.fork``). What a child does to files is told by an audit hook of the
interpreter, so the product knows nothing of being killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

AUDITED = {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}
"""And "open" for writing; reading changes nothing, so a kill there leaves what the kill before left."""
CALLED = {"flush"}
"""C functions without an audit event: before it a file is there and empty, after it it is full."""
_WRITING = os.O_WRONLY | os.O_RDWR
_LAST_WORDS = 2000


def die() -> NoReturn:
    """End this process as ``kill -9`` does, whatever its threads are at."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("killed")  # not reached: the signal is not to be survived


def on_file_operations(told: Callable[[], None], *, flushes: bool = False) -> None:
    """Have ``told`` called right before each operation of this process that changes files; for its whole life.

    Args:
        told: may end the process.
        flushes: also before a buffer is written out, in this thread; slows everything down.
    """

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in AUDITED or (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
            told()

    def fsync(descriptor: Any) -> None:
        """Count, and do not wait: a kill takes nothing from the kernel, and the disk would take most of the time."""
        told()

    def profile(frame: FrameType, event: str, what: Any) -> None:
        if event == "c_call" and getattr(what, "__name__", "") in CALLED:
            told()

    os.fsync = fsync  # type: ignore[assignment]  # ours is asked by position only
    sys.addaudithook(audit)
    if flushes:
        sys.setprofile(profile)


class Countdown:
    """Kills this process at the n-th file operation once it is lit; may be lit from any thread."""

    def __init__(self, *, flushes: bool = False) -> None:
        """Begin to watch; nothing happens until ``light``."""
        self._left: int | None = None
        self._lock = threading.Lock()
        self.seen = 0
        on_file_operations(self._count, flushes=flushes)

    def light(self, n: int) -> None:
        """Let the n-th operation from here on be the last, which is not done any more."""
        self._left = n

    def put_out(self) -> None:
        """Let it live."""
        self._left = None

    def _count(self) -> None:
        with self._lock:
            self.seen += 1
            if self._left is not None:
                self._left -= 1
                if self._left <= 0:
                    die()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    killed: bool
    said: Any
    """What its work returned; None if it was killed."""


class ChildFailedError(Exception):
    """A child ended otherwise than by being killed or done."""


def in_child(work: Callable[[], Any], log: Path) -> Ended:
    """Run ``work`` in a fork of this process, its stdout and stderr going to ``log``, and wait for its end.

    Raises:
        ChildFailedError: if it raised something; with its last words.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(work, log, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGKILL:
        return Ended(True, None)
    if code != 0:
        raise ChildFailedError(log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:])
    return Ended(False, json.loads(said))


def imported_from(work: Callable[[], Any], log: Path) -> Any:
    """Run ``work`` in a child, then import here whatever it imported on its way, so that later forks need not.

    Raises:
        ChildFailedError: if it raised something, or was killed.
    """
    known = set(sys.modules)
    ended = in_child(lambda: (work(), sorted(set(sys.modules) - known)), log)
    if ended.killed:
        raise ChildFailedError("killed, though nobody wanted that")
    said, names = ended.said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with suppress(ImportError):  # some are made while work is done
                importlib.import_module(name)
    return said


def gather_no_more() -> None:
    """Leave what is in memory alone: what a collector writes to, each child has to copy."""
    gc.collect()
    gc.freeze()


def _live(work: Callable[[], Any], log: Path, writing: int) -> NoReturn:
    """Be the child."""
    code = 1
    try:
        speak_to(log)
        os.write(writing, json.dumps(work()).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once: no exit handlers of a process that it is only a fork of


def speak_to(log: Path) -> None:
    """Send this process's stdout and stderr to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for each in (1, 2):
        os.dup2(descriptor, each)
    os.close(descriptor)


def tear() -> None:
    """Have this process replace files in two strokes, as careless code would: who looks at them has to notice."""

    def replace(source: str | Path, target: str | Path) -> None:
        data = Path(source).read_bytes()
        for mode, part in (("wb", data[: len(data) // 2]), ("ab", data[len(data) // 2 :])):
            with open(target, mode) as file:
                file.write(part)
        os.remove(source)

    os.replace = replace  # type: ignore[assignment]  # as above
