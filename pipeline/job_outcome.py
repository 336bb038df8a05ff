"""What came of a training job, in the words of the metrics and of people."""

from __future__ import annotations

from signal import Signals

from pipeline.exit_codes import CONFIG, USAGE
from pipeline.job_record import JobPhase, JobRecord

HUNG, DIED = "hung", "died"
"""Decisions of jobs that could not say anything themselves."""

HOPELESS = (USAGE, CONFIG)
"""Exit codes that another attempt cannot better."""


def outcome(record: JobRecord) -> str:
    """Return what came of an ended job, from the bounded set that ``ModelMetrics.job_ended`` names."""
    if record.phase is JobPhase.FAILED:
        return record.decision if record.decision in (HUNG, DIED) else "failed"
    if record.phase is JobPhase.REFUSED:
        return "refused"
    return record.decision if record.decision in ("promoted", "refused", "shadowed") else "kept"


def cause(exit_code: int | None) -> str:
    """Return how a process ended, for people; ``exit_code`` is negative for a signal, None when nobody knows.

    >>> cause(-9)
    'its process was ended by SIGKILL'
    """
    if exit_code is None:
        return "its process is gone"
    if exit_code >= 0:
        return f"its process exited with code {exit_code}"
    try:
        return f"its process was ended by {Signals(-exit_code).name}"
    except ValueError:
        return f"its process was ended by signal {-exit_code}"
