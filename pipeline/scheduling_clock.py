"""The clock of the scheduler: APScheduler's threads, set so that a call comes late, once, and never twice at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

log = structlog.get_logger("vedette.scheduling")


class SchedulerClock:
    """Calls functions at their times, in threads of its own; those of one thread wait for each other."""

    def __init__(self, threads: Sequence[str]) -> None:
        """Prepare; ``start`` begins. ``threads`` are their names, ``default`` among them."""
        self._scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={name: ThreadPoolExecutor(1) for name in threads},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
            jobstore_retry_interval=10.0,
            daemon=True,
        )
        self._scheduler.add_listener(heard, EVENT_JOB_ERROR | EVENT_JOB_MISSED)

    def add(
        self, name: str, run: Callable[..., None], trigger: Any, thread: str, first: datetime, *arguments: object
    ) -> None:
        """Call ``run`` with ``arguments`` at ``first``, and from then on when ``trigger`` says; it must not raise."""
        self._scheduler.add_job(
            run, trigger, args=arguments, id=name, name=name, executor=thread, next_run_time=first,
            coalesce=True, max_instances=1, misfire_grace_time=None,
        )  # fmt: skip

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def stop(self) -> None:
        """Call nothing any more; waits for no call that is under way."""
        self._scheduler.shutdown(wait=False)

    def next_run_us(self, name: str) -> int | None:
        """Return when a call comes next, microseconds since 1970 UTC; None: never."""
        job = self._scheduler.get_job(name)
        if job is None or job.next_run_time is None:
            return None
        return round(job.next_run_time.timestamp() * 1e6)

    def calls(self) -> list[Any]:
        """Return APScheduler's jobs."""
        return list(self._scheduler.get_jobs())


def heard(event: Any) -> None:
    """Log what APScheduler says went wrong."""
    log.error("a scheduled call failed", call=event.job_id, error=str(getattr(event, "exception", "missed")))
