"""A bar on the terminal for what takes minutes; nothing where nobody looks."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

_terminal = threading.Lock()
"""One bar at a time: rich draws no two of different owners."""


class ProgressBar:
    """Shows how many bytes of all are read; a context manager. Draws nothing unless ``shown`` and it has the terminal.

    Args:
        title: before the bar.
        shown: whether somebody may look; None: whether stderr is a terminal.
        console: where to draw; None: stderr.
    """

    def __init__(self, title: str, *, shown: bool | None = None, console: Console | None = None) -> None:
        wanted = sys.stderr.isatty() if shown is None else shown
        self._progress: Progress | None = None
        self._title = title
        if wanted and _terminal.acquire(blocking=False):
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=console or Console(stderr=True), transient=True)

    def __enter__(self) -> ProgressBar:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            _terminal.release()

    def show(self, done_bytes: int, total_bytes: int, doing: str) -> None:
        """Draw how far it is; ``doing`` stands behind the title."""
        if self._progress is not None:
            words = f"{self._title} {doing}"[-60:]
            self._progress.update(self._task, completed=done_bytes, total=total_bytes, description=words)
