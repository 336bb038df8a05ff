"""When a stream's next training job is due, from its schedule, its jobs so far and who is in charge. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.job_record import JobPhase, JobReason, JobRecord

_FIRST_EVERY_S = 3600.0  # without a champion one that failed is tried again so soon: history may be enough by now
_FIRST_SELDOM_S = 86_400.0  # one that found nothing better is tried again ever more seldom, at least so often
_JUDGE_AGAIN_S = 3600.0  # one that was judged and still is the challenger waits so long, or its shadow time again


@dataclass(frozen=True, slots=True)
class StreamSchedule:
    """When one stream is trained. Seconds."""

    name: str
    every_s: float | None = 86_400.0
    """None: only by ``cron``, on drift, or when asked."""
    cron: str | None = None
    """Five fields, in UTC, as crontab has them, but day and weekday must both fit; used instead of ``every_s``."""
    jitter_s: float = 0.0
    on_drift: bool = True
    drift_pause_s: float = 86_400.0
    drift_wait_s: float = 0.0
    """How much of what came after a drift, in event time, is waited for before it is trained on."""
    shadow_s: float | None = None
    """How long a challenger runs in shadow before it is judged again; None: until a person decides."""


def last_training_us(records: Sequence[JobRecord]) -> int | None:
    """Return when the last training began, of whatever reason; judging alone is none."""
    return max((r.created_us for r in records if r.judge is None), default=None)


def first_due_us(schedule: StreamSchedule, records: Sequence[JobRecord]) -> int:
    """Return when a stream without a champion is tried next: at once if never, else hourly, or as often as always.

    Each training that came to a verdict doubles the hour, up to the usual interval (a day where there is none): where
    the linear forecast is as good, or a person is to decide, another hour changes nothing.
    """
    last_us = last_training_us(records)
    if last_us is None:
        return 0
    pause_s, usual_s = _FIRST_EVERY_S, _FIRST_SELDOM_S if schedule.every_s is None else schedule.every_s
    if max((r for r in records if r.judge is None), key=lambda r: r.created_us).phase is JobPhase.DONE:
        heard = sum(r.judge is None and r.phase is JobPhase.DONE for r in records)
        pause_s *= 2.0 ** (heard - 1)
    return last_us + round(min(pause_s, usual_s) * 1e6)


def judge_due_us(
    schedule: StreamSchedule, records: Sequence[JobRecord], challenger: str | None, since: datetime | None
) -> int | None:
    """Return when the challenger is judged again; None if there is none, or it waits for a person."""
    if challenger is None or since is None or schedule.shadow_s is None:
        return None
    due_us = round((since.timestamp() + schedule.shadow_s) * 1e6)
    judged = [r for r in records if r.reason is JobReason.SHADOW and r.judge == challenger]
    if not judged:
        return due_us
    failed = judged[-1].phase is JobPhase.FAILED
    pause_s = _JUDGE_AGAIN_S if failed else max(_JUDGE_AGAIN_S, schedule.shadow_s)
    return max(due_us, judged[-1].created_us + round(pause_s * 1e6))


def may_answer_drift(schedule: StreamSchedule, records: Sequence[JobRecord], seen_us: int) -> bool:
    """Return whether a drift that was seen at ``seen_us`` is trained on: not if one was lately."""
    ran = [r.created_us for r in records if r.reason is JobReason.DRIFT]
    return not ran or seen_us - max(ran) >= schedule.drift_pause_s * 1e6
