"""At what times the scheduler calls: APScheduler's triggers of cron expressions and intervals, every option set."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from pipeline.training_due import StreamSchedule
from pipeline.weekdays import weekday_names

CATCH_UP_JITTER_S = 60.0
"""What was missed while no daemon ran happens within so long of the start."""
LEAST_INTERVAL_S = 1.0
"""APScheduler makes 1 s of 0 without a word."""


class Onward(BaseTrigger):
    """Another trigger's times, without those that have passed.

    APScheduler lists every missed time before it coalesces them: a machine whose clock jumps from 1970 to now would
    list each second of it, and run out of memory.
    """

    def __init__(self, trigger: Any) -> None:
        """Take the times of ``trigger``."""
        self._trigger = trigger

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the next time after ``previous``, and after ``now`` if there was one before; None: never."""
        after = None if previous is None else max(previous, now)
        at: datetime | None = self._trigger.get_next_fire_time(after, now)
        return at


def trigger_of(schedule: StreamSchedule) -> Any:
    """Return APScheduler's trigger of a schedule; None if nothing is scheduled.

    Raises:
        ValueError: if the cron expression is none or can never be, or the interval is shorter than a second.
    """
    jitter = schedule.jitter_s or None
    if schedule.cron is None:
        if schedule.every_s is None:
            return None
        if schedule.every_s < LEAST_INTERVAL_S:
            raise ValueError(f"stream {schedule.name!r}: retraining every {schedule.every_s} s; 1 s is the least")
        return Onward(IntervalTrigger(seconds=schedule.every_s, timezone=UTC, jitter=jitter))
    try:
        minute, hour, day, month, weekday = schedule.cron.split()
        trigger = CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=weekday_names(weekday), second=0,
            timezone=UTC, jitter=jitter,
        )  # fmt: skip
        if trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise ValueError("there is no such day")
    except ValueError as error:
        raise ValueError(f"stream {schedule.name!r}: retrain.cron {schedule.cron!r}: {error}") from None
    return Onward(trigger)


def every(seconds: float, start: datetime) -> Any:
    """Return the trigger of an interval that begins at ``start``."""
    return Onward(IntervalTrigger(seconds=seconds, start_date=start, timezone=UTC, jitter=None))


def first_run(
    schedule: StreamSchedule, trigger: Any, last_us: int | None, now: datetime, chance: random.Random
) -> datetime:
    """Return when a schedule first runs: when its last start says so, soon if that was missed.

    Args:
        schedule: of a stream, not asleep.
        trigger: its own.
        last_us: when its last training began; None: never.
        now: aware.
        chance: spreads what was missed, so that replicas and streams do not all begin at once.
    """
    last = None if last_us is None else datetime.fromtimestamp(last_us / 1e6, UTC)
    if schedule.cron is not None:
        due: datetime = trigger.get_next_fire_time(None, now if last is None else min(last, now))
    else:
        due = now if last is None else last + timedelta(seconds=schedule.every_s or 0.0)
    if due > now:
        return due
    return now + timedelta(seconds=chance.uniform(0.0, min(schedule.jitter_s, CATCH_UP_JITTER_S)))


def period_s(schedule: StreamSchedule, trigger: Any, now: datetime) -> float | None:
    """Return the seconds between two runs, of cron until the next; None: there is no other."""
    if schedule.cron is None:
        return schedule.every_s
    next_run = trigger.get_next_fire_time(now, now)
    return None if next_run is None else float((next_run - now).total_seconds())
