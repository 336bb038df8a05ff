"""What is known of a training job: a folder with one small JSON file, written whole, read by anyone.

    DIRECTORY/STREAM/JOB/job.json      the record below
    DIRECTORY/STREAM/JOB/log.txt       what the process said
    DIRECTORY/STREAM/JOB/checkpoint/   where an interrupted training goes on
    DIRECTORY/STREAM/JOB/events/       loss curves for TensorBoard

The job's process writes the record; the daemon that started it, and others, only read it, except before the process
has begun and after it has died.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

RECORD = "job.json"
LOG = "log.txt"
CHECKPOINT = "checkpoint"
EVENTS = "events"


class JobPhase(StrEnum):
    """Where a job is; the last three are ends."""

    WAITING = "waiting"
    READING = "reading"
    TRAINING = "training"
    JUDGING = "judging"
    DECIDING = "deciding"
    DONE = "done"
    REFUSED = "refused"
    """It could not start, for a reason that a person can read, such as too little history."""
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Return whether nothing more comes."""
        return self in (JobPhase.DONE, JobPhase.REFUSED, JobPhase.FAILED)


class JobReason(StrEnum):
    """Why a job was started."""

    SCHEDULE = "schedule"
    FIRST = "first"
    """There is no champion yet."""
    DRIFT = "drift"
    NOW = "now"
    """Somebody asked for it."""
    SHADOW = "shadow"
    """A challenger's time in shadow is over: it is judged again, nothing is trained."""


@dataclass(slots=True)
class JobRecord:
    """A training job as its folder tells it. Times are microseconds since 1970 UTC."""

    id: str
    stream: str
    reason: JobReason
    phase: JobPhase
    created_us: int
    updated_us: int
    """When its process last said that it is alive."""
    started_us: int | None = None
    ended_us: int | None = None
    pid: int | None = None
    pid_started: float | None = None
    """Start time of the process in clock ticks since boot, so that a reused pid is told apart."""
    host: str = ""
    attempt: int = 1
    since_us: int | None = None
    """Event time of the drift that it answers; None: of none."""
    judge: str | None = None
    """The version to judge; None: train one."""
    epoch: int = 0
    epochs: int = 0
    train_losses: tuple[float, ...] = ()
    validation_losses: tuple[float, ...] = ()
    device: str = ""
    version: str | None = None
    """What it trained."""
    decision: str = ""
    """What came of it: "promoted", "refused", "shadowed", "kept"; empty while open."""
    message: str = ""
    """One sentence for people: why it was refused or failed, or what was decided and why."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "reason": str(self.reason), "phase": str(self.phase)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobRecord:
        """Return the record that ``to_json`` described; raises ValueError, KeyError or TypeError if it is none."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values |= {"reason": JobReason(data["reason"]), "phase": JobPhase(data["phase"])}
        for name in ("train_losses", "validation_losses"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


class JobFolder:
    """One job's folder."""

    def __init__(self, path: Path) -> None:
        """Use the folder at ``path``; it is made when the record is first written."""
        self.path = path

    def read(self) -> JobRecord | None:
        """Return the record; None if there is none or it cannot be understood."""
        try:
            return JobRecord.from_json(json.loads((self.path / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: JobRecord) -> None:
        """Replace the record; whoever reads sees the old one or the new one, also after a kill."""
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.path / f".{RECORD}-{os.getpid()}"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(record.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / RECORD)


def job_folders(directory: Path, stream: str) -> list[JobFolder]:
    """Return the folders of a stream's jobs, oldest first (their names begin with their time)."""
    folder = directory / stream
    if not folder.is_dir():
        return []
    return [JobFolder(path) for path in sorted(folder.iterdir()) if (path / RECORD).is_file()]
