"""Many lives of `vedette ingest` one after the other, without the second that each import of everything takes.

``python -m tests.ingest.nursery`` imports what such a process does and then, for each pair of lines on its stdin (a
config and a log), forks a process that runs the command line on it; it says its pid, and its exit code when it ends.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType

from pipeline import cli
from tests.faults.killing import speak_to

ROOT = Path(__file__).parents[2]
BEFOREHAND = (
    "pipeline.ingest.process", "pipeline.logs", "connectors.http_push", "connectors.usgs", "connectors.mqtt",
    "uvicorn.loops.asyncio", "httpx",
)  # fmt: skip


class Nursery:
    """Starts forked processes; a context manager. One lives at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ingest.nursery"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._said: Queue[int] = Queue()
        self._listening = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listening.start()

    def start(self, config: Path, log: Path) -> int:
        """Fork a process; return its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{config}\n{log}\n")
        return self._said.get(timeout=60.0)

    def ended(self, timeout_s: float) -> int | None:
        """Return the exit code of the process that was started last, to be asked until it has one; None: it lives."""
        try:
            return self._said.get(timeout=timeout_s) if timeout_s else self._said.get_nowait()
        except Empty:
            return None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(int(line))

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30.0)
        self._listening.join(5.0)
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """Be the nursery, until its stdin ends."""
    for name in BEFOREHAND:
        importlib.import_module(name)
    while config := sys.stdin.readline().strip():
        log = Path(sys.stdin.readline().strip())
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            speak_to(log)
            os._exit(cli.main(["ingest", "--config", config]))
        say(pid)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def say(number: int) -> None:
    """Tell the test."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
