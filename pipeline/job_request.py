"""Asking for a training job: the command of its process, and the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Command = Callable[[str, Path, str | None], Sequence[str]]
"""Stream, the job's folder and the version to judge (None: train one) to the arguments of its process."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking for a job."""

    accepted: bool
    stream: str
    job: str | None = None
    reason: str = ""
    """Why not; empty if accepted."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"stream": self.stream, "accepted": self.accepted, "job": self.job, "reason": self.reason}


def train_command(config: str | Path) -> Command:
    """Return the command that runs ``vedette train`` with the config at ``config``, in our working directory."""

    def command(stream: str, folder: Path, judge: str | None) -> list[str]:
        words = [sys.executable, "-m", "pipeline.cli", "train", "--config", str(config), "--stream", stream]
        return [*words, "--job", str(folder), *(() if judge is None else ("--judge", judge))]

    return command
