"""When training jobs start: by cron or interval, at first, on drift, after a challenger's time in shadow, and "now".

A scheduler of APScheduler turns beside the loop and never in it. Whatever goes wrong here is logged and leaves scoring
alone; that the scheduler itself hangs is seen from outside, by its tick (``alive``, a metric, one line in the log).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import structlog

from pipeline.job_record import JobReason
from pipeline.job_request import Answer
from pipeline.metrics_models import ModelMetrics
from pipeline.pending_drifts import PendingDrifts
from pipeline.scheduling_clock import SchedulerClock
from pipeline.scheduling_triggers import (
    CATCH_UP_JITTER_S,
    LEAST_INTERVAL_S,
    every,
    first_run,
    period_s,
    trigger_of,
)
from pipeline.training_due import (
    StreamSchedule,
    first_due_us,
    judge_due_us,
    last_training_us,
    may_answer_drift,
)
from pipeline.training_jobs import TrainingJobs
from pipeline.training_status import Drift, stream_status

log = structlog.get_logger("vedette.scheduling")

_WATCHDOG_EVERY_S = 5.0
_TRY_AGAIN_S = 60.0
"""After a job that answers a drift could not be started."""


class Pointers(Protocol):
    """Who is in charge, as the registry knows it; may be slow, and may raise."""

    def champion_version(self, stream: str) -> str | None:
        """Return the version in charge; None if none ever was."""

    def challenger_version(self, stream: str) -> str | None:
        """Return the version in shadow."""

    def challenger_since(self, stream: str) -> datetime | None:
        """Return since when it is; aware."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something else that is done again and again beside the loop, such as tidying the history."""

    name: str
    every_s: float
    run: Callable[[int], object]
    """Called with the wall clock in microseconds; may be slow, and may raise: it is logged."""


class Scheduling:
    """Starts training jobs when they are due. Methods may be called from any thread; ``drift`` and ``request_soon``
    return at once, so the loop and signal handlers may call them."""

    def __init__(
        self,
        schedules: Sequence[StreamSchedule],
        jobs: TrainingJobs,
        registry: Pointers,
        metrics: ModelMetrics,
        *,
        chores: Sequence[Chore] = (),
        enough: Callable[[str], bool] = lambda stream: True,
        tend_every_s: float = 1.0,
        look_every_s: float = 30.0,
        stalled_after_s: float = 60.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        """Take the parts ready made; nothing runs before ``start``.

        Args:
            schedules: one per stream.
            jobs: starts and looks after the processes.
            registry: who is in charge.
            metrics: where to count.
            chores: what else is done in the background; one at a time.
            enough: whether there is history enough for a stream's first model; asked while it has none.
            tend_every_s: how often jobs are looked after, and the scheduler ticks.
            look_every_s: how often the registry is asked.
            stalled_after_s: without a tick for so long the scheduler counts as hung.
            now_us: the wall clock, microseconds since 1970 UTC.
            monotonic: the clock for waiting.
            seed: of the jitter of what was missed; None: another one in each process, which is what replicas need.

        Raises:
            ValueError: if a cron expression can never be, or an interval is shorter than a second.
        """
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._triggers = {schedule.name: trigger_of(schedule) for schedule in schedules}
        self._chores = tuple(chores)
        intervals = {"tend_every_s": tend_every_s, "look_every_s": look_every_s} | {c.name: c.every_s for c in chores}
        for name, seconds in intervals.items():
            if seconds < LEAST_INTERVAL_S:
                raise ValueError(f"{name} is {seconds}; the scheduler turns at most every second")
        self._jobs = jobs
        self._registry = registry
        self._metrics = metrics
        self._enough = enough
        self._tend_every_s = tend_every_s
        self._look_every_s = look_every_s
        self._stalled_after_s = stalled_after_s
        self._now_us = now_us
        self._monotonic = monotonic
        self._random = random.Random(seed)
        self._asked: SimpleQueue[tuple[str | None, JobReason]] = SimpleQueue()
        self._drifts: dict[str, Drift] = {}
        self._pending: dict[str, Drift] = {}
        self._kept = PendingDrifts(jobs.directory)
        self._event_us: dict[str, int] = {}
        self._next_try_s: dict[str, float] = {}
        self._next_us: dict[str, int | None] = {}
        self._ticked_s = monotonic()
        self._said_stalled = False
        self._closing = threading.Event()
        self._clock: SchedulerClock | None = None
        self._watchdog: threading.Thread | None = None

    # ---- life ----

    def start(self) -> None:
        """Begin to turn, in threads of its own."""
        self._guarded("read the jobs", self._jobs.look)
        self._guarded("read the drifts that wait", self._load_drifts)
        # One thread each: a registry that hangs does not keep jobs from being looked after, nor the other way.
        clock = SchedulerClock(("default", "looking", "chores"))
        now = self._now()
        clock.add("tend", self.tend, every(self._tend_every_s, now), "default", now)
        clock.add("look", self.look, every(self._look_every_s, now), "looking", now)
        for name, trigger in self._triggers.items():
            if trigger is not None:
                first = self._first_run(name, trigger, now)
                clock.add(f"retrain {name}", self._retrain, trigger, "looking", first, name)
        for chore in self._chores:
            soon = now + timedelta(seconds=min(chore.every_s, CATCH_UP_JITTER_S))
            clock.add(chore.name, self._do, every(chore.every_s, soon), "chores", soon, chore)
        self._ticked_s = self._monotonic()
        self._clock = clock
        clock.start()
        self._watchdog = threading.Thread(target=self._watch, name="vedette-watchdog", daemon=True)
        self._watchdog.start()

    def close(self) -> None:
        """Stop turning. Running jobs go on: the next daemon finds them. Waits for nothing that may hang."""
        self._closing.set()
        if self._clock is not None:
            self._clock.stop()
        if self._watchdog is not None:
            self._watchdog.join(1.0)

    # ---- asked from outside ----

    def request_now(self, stream: str | None = None, reason: JobReason = JobReason.NOW) -> dict[str, Any]:
        """Start a job for a stream, or for each, and return what came of it, as JSON; touches the disk.

        Returns:
            ``accepted``: whether a job was started; ``job``: which one, or which one is in the way, where one stream
            was asked for; ``reason``: why not, empty if accepted; ``jobs``: an answer for each stream, none where there
            is no such stream.
        """
        if stream is not None and stream not in self._schedules:
            why = f"there is no stream {stream!r}; there are: {', '.join(self._schedules)}"
            return {"accepted": False, "job": None, "reason": why, "jobs": []}
        answers = [self._start(name, reason) for name in (self._schedules if stream is None else [stream])]
        accepted = any(answer.accepted for answer in answers)
        return {
            "accepted": accepted,
            "job": answers[0].job if len(answers) == 1 else None,
            "reason": "" if accepted else "; ".join(f"{answer.stream}: {answer.reason}" for answer in answers),
            "jobs": [answer.to_json() for answer in answers],
        }

    def request_soon(self, stream: str | None = None, reason: JobReason = JobReason.NOW) -> None:
        """Ask for a job at the next tick; the log tells what came of it. Safe within a signal handler."""
        self._asked.put((stream, reason))

    def drift(self, stream: str, signals: Collection[str], event_us: int | None = None) -> None:
        """Take note of a drift; a job follows unless one ran on that account within the stream's pause.

        It follows when event time has gone on for the stream's ``drift_wait_s`` (see ``progressed``), for at first
        there is nothing of the new kind to learn from; at once where ``event_us``, the drift's own, is not told.
        """
        if not signals:
            return
        for signal in signals:
            self._metrics.drifted(stream, signal)
        seen = self._drifts[stream] = Drift(self._now_us(), frozenset(signals), event_us)
        schedule = self._schedules.get(stream)
        if schedule is not None and schedule.on_drift:
            self._pending[stream] = seen
        log.warning("drift seen", stream=stream, signals=sorted(signals))

    def progressed(self, stream: str, event_us: int) -> None:
        """Event time of ``stream`` has come so far."""
        self._event_us[stream] = event_us

    def tick_age_s(self) -> float:
        """Return the seconds since the scheduler last turned; before its first turn, since the start."""
        return max(0.0, self._monotonic() - self._ticked_s)

    def alive(self) -> bool:
        """Return False when the scheduler hangs, or what it does."""
        return self.tick_age_s() < self._stalled_after_s

    def notes(self) -> list[str]:
        """Return what a person should know though scoring goes on; empty when all is well."""
        return [] if self.alive() else [f"the scheduler has not turned for {self.tick_age_s():.0f} s: nothing trains"]

    def status(self) -> dict[str, Any]:
        """Return the state of all trainings as JSON, from memory: it answers even when the disk does not."""
        streams = [
            stream_status(name, self._jobs.records(name), self._next_us.get(name), self._drifts.get(name))
            for name in self._schedules
        ]
        return {"scheduler": {"alive": self.alive(), "tick_age_s": round(self.tick_age_s(), 3)}, "streams": streams}

    # ---- the passes ----

    def tend(self) -> None:
        """Look after the jobs, start what was asked for, and tick."""
        self._guarded("look after the jobs", self._jobs.tend, self._now_us())
        self._guarded("start what was asked for", self._start_asked)
        for stream in list(self._pending):
            self._guarded("answer a drift", self._answer_drift, stream)
        self._guarded("keep the drifts that wait", self._kept.keep, dict(self._pending))
        self._ticked_s = self._monotonic()
        self._metrics.scheduler_ticked()

    def look(self) -> None:
        """Start what the registry calls for: a first model, a judgement at the end of a shadow; note what is next."""
        for stream in self._schedules:
            self._guarded("ask the registry", self._look_at, stream)

    def check(self) -> None:
        """Say once that the scheduler hangs, and once that it is back."""
        alive = self.alive()
        if not alive and not self._said_stalled:
            log.error("the scheduler hangs: nothing is trained until the daemon is restarted", age_s=self.tick_age_s())
        elif alive and self._said_stalled:
            log.info("the scheduler turns again")
        self._said_stalled = not alive

    # ---- inner: what is due ----

    def _look_at(self, stream: str) -> None:
        schedule, now_us = self._schedules[stream], self._now_us()
        due = [self._next_run_us(stream)]
        if self._registry.champion_version(stream) is None and self._enough(stream):
            if first_due_us(schedule, self._jobs.records(stream)) <= now_us:
                self._start_if_idle(stream, JobReason.FIRST)
            due.append(first_due_us(schedule, self._jobs.records(stream)))
        challenger, since = self._registry.challenger_version(stream), self._registry.challenger_since(stream)
        judge_us = judge_due_us(schedule, self._jobs.records(stream), challenger, since)
        if judge_us is not None and judge_us <= now_us:
            self._start_if_idle(stream, JobReason.SHADOW, challenger)
            judge_us = judge_due_us(schedule, self._jobs.records(stream), challenger, since)
        next_us = min((at_us for at_us in (*due, judge_us) if at_us is not None), default=None)
        self._next_us[stream] = None if next_us is None else max(next_us, now_us)
        self._metrics.next_job(stream, None if next_us is None else max(next_us, now_us) / 1e6)

    def _retrain(self, stream: str) -> None:
        """Start what the schedule calls for; called by APScheduler."""
        self._guarded("start a scheduled job", self._start_scheduled, stream)

    def _do(self, chore: Chore) -> None:
        """Do a chore; called by APScheduler."""
        self._guarded(chore.name, chore.run, self._now_us())

    def _start_scheduled(self, stream: str) -> None:
        try:
            first = self._registry.champion_version(stream) is None
        except Exception as error:  # the registry may be any store; the job itself will need it, and says so
            log.warning("cannot ask the registry", stream=stream, error=str(error))
            first = False
        if not first:
            if self._was_done(stream):
                log.info("not trained again: another daemon has just done it", stream=stream)
            else:
                self._start(stream, JobReason.SCHEDULE)
        elif not self._enough(stream):
            log.info("no first training yet: too little history", stream=stream)
        elif first_due_us(self._schedules[stream], self._jobs.records(stream)) <= self._now_us():
            self._start(stream, JobReason.FIRST)  # else ``look`` has tried it just now

    def _was_done(self, stream: str) -> bool:
        """Return whether a training began within half the schedule's period: replicas share one schedule."""
        last_us, schedule = last_training_us(self._jobs.records(stream)), self._schedules[stream]
        if last_us is None:
            return False
        usual_s = period_s(schedule, self._triggers[stream], self._now())
        return usual_s is not None and (self._now_us() - last_us) / 1e6 < 0.5 * usual_s

    def _load_drifts(self) -> None:
        for stream, drift in self._kept.load(self._schedules).items():
            if self._schedules[stream].on_drift:
                self._pending.setdefault(stream, drift)
                self._drifts.setdefault(stream, drift)

    def _start_asked(self) -> None:
        while True:
            try:
                stream, reason = self._asked.get_nowait()
            except Empty:
                return
            answer = self.request_now(stream, reason)
            log.info("training was asked for", stream=stream, accepted=answer["accepted"], reason=answer["reason"])

    def _answer_drift(self, stream: str) -> None:
        seen, schedule = self._pending[stream], self._schedules[stream]
        if seen.event_us is not None:
            enough_us = seen.event_us + round(schedule.drift_wait_s * 1e6)
            if self._event_us.get(stream, seen.event_us) < enough_us:
                return
        if not may_answer_drift(schedule, self._jobs.records(stream), seen.time_us):
            log.info("drift is not trained on: that was done lately", stream=stream)
        elif self._jobs.running(stream) is not None:
            return  # what runs began before the drift; this one's turn comes when it has ended
        elif self._monotonic() < self._next_try_s.get(stream, 0.0):
            return
        elif not self._start(stream, JobReason.DRIFT, since_us=seen.event_us).accepted:
            self._next_try_s[stream] = self._monotonic() + _TRY_AGAIN_S
            return
        if self._pending.get(stream) is seen:
            del self._pending[stream]

    def _start_if_idle(self, stream: str, reason: JobReason, judge: str | None = None) -> None:
        if self._jobs.running(stream) is None:
            self._start(stream, reason, judge)

    def _start(self, stream: str, reason: JobReason, judge: str | None = None, since_us: int | None = None) -> Answer:
        answer = self._jobs.start(stream, reason, self._now_us(), judge, since_us)
        if not answer.accepted:
            log.warning("training job not started", stream=stream, reason=str(reason), because=answer.reason)
        return answer

    # ---- inner ----

    def _first_run(self, stream: str, trigger: Any, now: datetime) -> datetime:
        last_us = last_training_us(self._jobs.records(stream))
        return first_run(self._schedules[stream], trigger, last_us, now, self._random)

    def _next_run_us(self, stream: str) -> int | None:
        return None if self._clock is None else self._clock.next_run_us(f"retrain {stream}")

    def _guarded(self, what: str, run: Callable[..., object], *arguments: Any) -> None:
        """Call ``run``; whatever it raises is logged and ends here, so that one stream's trouble is not another's."""
        try:
            run(*arguments)
        except Exception:
            log.exception("scheduling failed; it is tried again", what=what, about=[str(a) for a in arguments])

    def _watch(self) -> None:
        while not self._closing.wait(_WATCHDOG_EVERY_S):
            self.check()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_us() / 1e6, UTC)
