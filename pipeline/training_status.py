"""What `/api/training` tells of a stream's training: the next run, the job that runs, the last end, the last drift."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.incident import rfc3339
from pipeline.job_outcome import outcome
from pipeline.job_record import JobRecord


@dataclass(frozen=True, slots=True)
class Drift:
    """A drift that was seen."""

    time_us: int
    """The wall clock."""
    signals: Collection[str]
    event_us: int | None = None
    """Event time; None: not told."""


def stream_status(
    stream: str, records: Sequence[JobRecord], next_us: int | None, drift: Drift | None
) -> dict[str, Any]:
    """Return what JSON can hold; ``records`` are the stream's jobs, oldest first."""
    running = next((r for r in reversed(records) if not r.phase.ended), None)
    last = next((r for r in reversed(records) if r.phase.ended), None)
    return {
        "stream": stream,
        "next": None if next_us is None else rfc3339(next_us),
        "running": None if running is None else _running(running),
        "last": None if last is None else _ended(last),
        "drift": None if drift is None else {"time": rfc3339(drift.time_us), "signals": sorted(drift.signals)},
    }


def _running(record: JobRecord) -> dict[str, Any]:
    return {
        "job": record.id,
        "reason": str(record.reason),
        "phase": str(record.phase),
        "attempt": record.attempt,
        "epoch": record.epoch,
        "epochs": record.epochs,
        "progress": min(1.0, record.epoch / record.epochs) if record.epochs else 0.0,
        "device": record.device,
        "created": rfc3339(record.created_us),
        "updated": rfc3339(record.updated_us),
    }


def _ended(record: JobRecord) -> dict[str, Any]:
    return {
        "job": record.id,
        "reason": str(record.reason),
        "outcome": outcome(record),
        "version": record.version,
        "message": record.message,
        "ended": None if record.ended_us is None else rfc3339(record.ended_us),
    }
