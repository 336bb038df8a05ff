"""Trainings start when they are due, once, and whatever goes wrong with that is seen and stays there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.job_record import JobFolder, JobPhase, JobReason, JobRecord, job_folders
from pipeline.pending_drifts import PendingDrifts
from pipeline.scheduling import Chore, Scheduling
from pipeline.scheduling_clock import heard
from pipeline.scheduling_triggers import trigger_of
from pipeline.training_due import StreamSchedule, first_due_us
from pipeline.weekdays import weekday_names
from tests.pipeline.job_parts import NOW_US, Workshop, kill, phase_of

HOUR_US = 3_600_000_000
NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)


class Pointers:
    """A registry's pointers, set by hand; ``away``: it cannot be asked."""

    def __init__(self) -> None:
        self.champion: str | None = "v1"
        self.challenger: str | None = None
        self.since: datetime | None = None
        self.away = False

    def champion_version(self, stream: str) -> str | None:
        if self.away:
            raise OSError("the object store is away")
        return self.champion

    def challenger_version(self, stream: str) -> str | None:
        return self.challenger

    def challenger_since(self, stream: str) -> datetime | None:
        return self.since


class Office:
    """A scheduler over a workshop; its passes are called by hand unless it is started."""

    def __init__(self, workshop: Workshop, **schedule: Any) -> None:
        self.workshop = workshop
        self.pointers = Pointers()
        self.schedule = StreamSchedule("air", **schedule)
        self.scheduling = self.make()

    def make(self, **more: Any) -> Scheduling:
        """Return the scheduler of a daemon that was just started, over the same jobs."""
        return Scheduling(
            [self.schedule], self.workshop.daemon(), self.pointers, self.workshop.metrics.models,
            now_us=lambda: self.workshop.now_us, monotonic=lambda: self.workshop.now_s, seed=1, **more,
        )  # fmt: skip

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass and take both passes, after what runs has ended."""
        self.workshop.pass_time(seconds)
        self.scheduling.tend()
        self.scheduling.look()

    def settle(self) -> None:
        """Wait until the jobs that were started have ended."""
        self.scheduling.tend()
        self.workshop.until(lambda: all(r.phase.ended for r in self.workshop.records()))
        self.scheduling.tend()

    def reasons(self) -> list[str]:
        """Return why each job was started."""
        return [str(r.reason) for r in self.workshop.records()]

    def stream(self) -> dict[str, Any]:
        """Return what is told of the stream."""
        told: dict[str, Any] = self.scheduling.status()["streams"][0]
        return told


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path)
    workshop.modes = ["done"]
    yield workshop
    workshop.clear()


def past_job(workshop: Workshop, hours_ago: float, reason: JobReason = JobReason.SCHEDULE, **more: Any) -> None:
    """Leave the folder of a job that began, and ended, so many hours ago."""
    at_us = workshop.now_us - round(hours_ago * HOUR_US)
    name = f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y%m%dT%H%M%S}-{reason}"
    record = JobRecord(name, "air", reason, more.pop("phase", JobPhase.DONE), at_us, at_us, ended_us=at_us, **more)
    JobFolder(workshop.directory / "air" / name).write(record)


def first_run(office: Office) -> datetime:
    """Return when the schedule of a daemon that starts now first calls."""
    scheduling = office.make()
    scheduling._jobs.look()
    return scheduling._first_run("air", trigger_of(office.schedule), NOW)


# ---- what is due ----


def test_without_a_champion_it_is_tried_at_once_and_then_hourly(workshop: Workshop) -> None:
    """Protects a new installation: the first model comes as soon as there is history, whatever the schedule."""
    office = Office(workshop, every_s=86_400.0)
    office.pointers.champion = None
    office.turn()
    assert office.reasons() == ["first"]
    office.settle()
    office.turn(3599.0)
    assert office.reasons() == ["first"]
    assert workshop.count("training_next_timestamp_seconds", stream="air") == pytest.approx(NOW_US / 1e6 + 3600)
    office.turn(1.0)
    assert office.reasons() == ["first", "first"]


@pytest.mark.parametrize(
    ("every_s", "heard", "hours"),
    [(86_400.0, 1, 1), (86_400.0, 3, 4), (86_400.0, 20, 24), (7200.0, 9, 2), (None, 9, 24)],
)
def test_where_nothing_better_is_found_it_is_tried_ever_more_seldom(
    every_s: float | None, heard: int, hours: int
) -> None:
    """Protects a stream whose linear forecast is as good, and who promotes by hand, from training every hour."""
    jobs = [JobRecord(str(i), "air", JobReason.FIRST, JobPhase.DONE, i, i) for i in range(heard)]
    assert first_due_us(StreamSchedule("air", every_s=every_s), jobs) == heard - 1 + hours * HOUR_US


def test_a_first_training_that_failed_is_tried_again_within_the_hour(workshop: Workshop) -> None:
    """Protects a new installation where history was too little, however often something was judged before."""
    office = Office(workshop, every_s=86_400.0)
    office.pointers.champion = None
    for hours_ago in (9.0, 5.0):
        past_job(workshop, hours_ago, JobReason.FIRST)
    past_job(workshop, 1.0, JobReason.FIRST, phase=JobPhase.REFUSED)
    office.turn()
    assert office.reasons() == ["first"] * 4


def test_without_enough_history_nothing_is_tried(workshop: Workshop) -> None:
    """Protects a new installation's log and processor from a refusal every hour; the first try comes when it can."""
    office, enough = Office(workshop, every_s=86_400.0), False
    office.scheduling = office.make(enough=lambda stream: enough)
    office.pointers.champion = None
    office.turn()
    office.scheduling._retrain("air")
    assert (office.reasons(), office.stream()["next"]) == ([], None)
    enough = True
    office.turn()
    assert office.reasons() == ["first"]


def test_nobody_in_charge_on_purpose_is_no_first_time(workshop: Workshop) -> None:
    """Protects an operator's rollback to the linear forecaster from being trained over every hour."""
    office = Office(workshop)
    office.pointers.champion = "linear"
    office.turn()
    assert office.reasons() == []


def test_a_short_interval_is_kept_without_a_champion(workshop: Workshop) -> None:
    """Protects streams that retrain more often than hourly."""
    office = Office(workshop, every_s=60.0)
    office.pointers.champion = None
    office.turn()
    office.settle()
    office.turn(60.0)
    assert office.reasons() == ["first", "first"]


def test_the_interval_survives_restarts(workshop: Workshop) -> None:
    """Protects from a daemon that is restarted daily and therefore never trains."""
    office = Office(workshop, every_s=24 * 3600.0)
    past_job(workshop, hours_ago=20)
    assert first_run(office) == NOW + timedelta(hours=4)


@pytest.mark.parametrize("schedule", [{"every_s": 24 * 3600.0}, {"cron": "0 3 * * *"}])
def test_a_run_that_was_missed_happens_soon_after_the_start(workshop: Workshop, schedule: dict[str, Any]) -> None:
    """Protects from a night's training lost to a reboot at night; not all streams at the same instant."""
    office = Office(workshop, jitter_s=300.0, **schedule)
    past_job(workshop, hours_ago=25)
    assert NOW < first_run(office) <= NOW + timedelta(minutes=1)


def test_cron_waits_for_its_time_where_nothing_was_missed(workshop: Workshop) -> None:
    """Protects from a training at every restart."""
    office = Office(workshop, cron="0 3 * * *")
    assert first_run(office) == NOW + timedelta(hours=3)
    past_job(workshop, hours_ago=20)
    assert first_run(office) == NOW + timedelta(hours=3)
    past_job(workshop, hours_ago=1, reason=JobReason.SHADOW, judge="v2")
    past_job(workshop, hours_ago=21.1)
    assert first_run(office) == NOW + timedelta(hours=3)


def test_a_challenger_is_judged_when_its_shadow_time_is_over(workshop: Workshop) -> None:
    """Protects the second look before a take-over, and from judging the same one again and again."""
    office = Office(workshop, shadow_s=7200.0)
    office.pointers.challenger, office.pointers.since = "v2", NOW - timedelta(hours=1)
    office.turn(3599.0)
    assert office.reasons() == []
    office.turn(1.0)
    assert (office.reasons(), workshop.commands) == (["shadow"], ["v2"])
    office.settle()
    office.turn(7199.0)
    assert office.reasons() == ["shadow"]
    office.turn(1.0)
    assert office.reasons() == ["shadow", "shadow"]


def test_a_judgement_that_failed_is_repeated_within_the_hour(workshop: Workshop) -> None:
    """Protects a challenger from waiting days for a job that crashed."""
    office = Office(workshop, shadow_s=86_400.0)
    office.pointers.challenger, office.pointers.since = "v2", NOW - timedelta(days=2)
    past_job(workshop, 1.0, JobReason.SHADOW, judge="v2", phase=JobPhase.FAILED)
    office.turn()
    assert office.reasons() == ["shadow", "shadow"]


def test_a_challenger_that_waits_for_a_person_is_not_judged(workshop: Workshop) -> None:
    """Protects the processor where promotion is not automatic."""
    office = Office(workshop, shadow_s=None)
    office.pointers.challenger, office.pointers.since = "v2", NOW - timedelta(days=30)
    office.turn()
    assert office.reasons() == []


def test_drift_is_trained_on_once_within_its_pause(workshop: Workshop) -> None:
    """Protects from a training at every alarm of a detector, and keeps the alarms countable."""
    office = Office(workshop, drift_pause_s=7200.0)
    office.scheduling.drift("air", {"score", "residual"})
    assert office.reasons() == []  # the loop only leaves a note
    office.turn()
    assert office.reasons() == ["drift"]
    office.settle()
    office.workshop.pass_time(7199.0)
    office.scheduling.drift("air", {"score"})
    office.turn()
    assert office.reasons() == ["drift"]
    office.workshop.pass_time(1.0)
    office.scheduling.drift("air", {"score"})
    office.turn()
    assert office.reasons() == ["drift", "drift"]
    assert workshop.count("drifts_total", stream="air", signal="score") == 3
    assert office.stream()["drift"] == {"time": "2026-01-01T02:00:00Z", "signals": ["score"]}


def test_a_drift_waits_until_there_is_something_to_learn_from(workshop: Workshop) -> None:
    """Protects from a training that begins when nothing of the new regime is there yet."""
    office = Office(workshop, drift_wait_s=3600.0)
    office.scheduling.drift("air", {"residual"}, 1_000_000_000)
    office.scheduling.progressed("air", 1_000_000_000 + 3_599_000_000)
    office.turn()
    assert office.reasons() == []
    office.scheduling.progressed("air", 1_000_000_000 + 3_600_000_000)
    office.turn()
    assert office.reasons() == ["drift"]
    record = job_folders(workshop.jobs.directory, "air")[-1].read()
    assert record is not None
    assert record.since_us == 1_000_000_000


def test_a_drift_that_waits_outlasts_a_restart(workshop: Workshop) -> None:
    """Protects from days of waiting that a restart forgets; and once it is answered, from answering it again."""
    first = Office(workshop, drift_wait_s=3600.0)
    first.scheduling.drift("air", {"residual"}, 1_000_000_000)
    first.turn()
    second = Office(workshop, drift_wait_s=3600.0)
    second.scheduling._load_drifts()
    second.scheduling.progressed("air", 1_000_000_000 + 3_600_000_000)
    second.turn()
    assert second.reasons() == ["drift"]
    assert PendingDrifts(workshop.jobs.directory).load(["air"]) == {}


def test_replicas_do_not_each_train(workshop: Workshop) -> None:
    """Protects the processors: what another daemon has just trained is not trained again on the same schedule."""
    office = Office(workshop, every_s=86_400.0)
    office.pointers.champion = "v1"
    office.scheduling._start_scheduled("air")
    office.settle()
    office.workshop.pass_time(60.0)
    office.scheduling._start_scheduled("air")
    assert office.reasons() == ["schedule"]


def test_drift_during_a_training_is_answered_after_it(workshop: Workshop) -> None:
    """Protects from a drift that is forgotten because a job from before it was still running."""
    office = Office(workshop)
    folder = workshop.start("wait", "done")
    office.scheduling.drift("air", {"residual"})
    office.turn()
    assert office.reasons() == ["schedule"]
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    kill(folder)
    workshop.until_given_up(folder)
    office.turn()
    assert office.reasons() == ["schedule", "drift"]


def test_drift_is_only_noted_where_nobody_wants_it(workshop: Workshop) -> None:
    """Protects the switch ``on_drift``, and the scheduler from streams that it does not know."""
    office = Office(workshop, on_drift=False)
    office.scheduling.drift("air", {"score"})
    office.scheduling.drift("unknown", {"score"})
    office.scheduling.drift("air", ())
    office.turn()
    assert office.reasons() == []
    assert office.stream()["drift"]["signals"] == ["score"]


# ---- asked for ----


def test_now_is_accepted_or_refused_with_the_reason(workshop: Workshop) -> None:
    """Protects the answer of the command line, HTTP and pages: which job, or why none."""
    office = Office(workshop)
    workshop.modes = ["wait"]
    answer = office.scheduling.request_now("air")
    job = workshop.records()[0].id
    told = {"stream": "air", "accepted": True, "job": job, "reason": ""}
    assert answer == {"accepted": True, "job": job, "reason": "", "jobs": [told]}
    again = office.scheduling.request_now(None)
    assert (again["accepted"], again["job"]) == (False, job)
    assert job in again["reason"]
    unknown = office.scheduling.request_now("water")
    assert (unknown["accepted"], unknown["jobs"]) == (False, [])
    assert unknown["reason"] == "there is no stream 'water'; there are: air"
    assert office.reasons() == ["now"]


def test_a_signal_only_leaves_a_note(workshop: Workshop) -> None:
    """Protects the loop: what a signal handler calls touches neither disk nor lock."""
    office = Office(workshop)
    office.scheduling.request_soon()
    assert office.reasons() == []
    office.turn()
    assert office.reasons() == ["now"]


def test_the_status_tells_what_runs_and_what_came_of_the_last(workshop: Workshop) -> None:
    """Protects the page and the API: from memory, without the disk."""
    office = Office(workshop, every_s=86_400.0)
    assert office.stream() == {"stream": "air", "next": None, "running": None, "last": None, "drift": None}
    office.scheduling.request_now("air")
    office.settle()
    last = office.stream()["last"]
    assert (last["outcome"], last["reason"], last["message"]) == ("promoted", "now", "better by 3 %")
    workshop.modes = ["wait"]
    office.workshop.pass_time(1.0)
    office.scheduling.request_now("air")
    workshop.until(lambda: workshop.records()[-1].phase is JobPhase.TRAINING)
    office.turn()
    running = office.stream()["running"]
    assert (running["phase"], running["epoch"], running["progress"]) == ("training", 1, 0.25)
    workshop.directory.rename(workshop.directory.with_name("gone"))
    assert office.stream()["running"] == running
    workshop.directory.with_name("gone").rename(workshop.directory)


# ---- what goes wrong ----


def test_a_registry_that_is_away_stops_nothing(workshop: Workshop) -> None:
    """Protects jobs and ticks from an object store's outage; a scheduled training is tried without asking it."""
    office = Office(workshop)
    office.pointers.away = True
    with capture_logs() as logs:
        office.turn()
        office.scheduling._retrain("air")
    assert office.reasons() == ["schedule"]
    assert "scheduling failed; it is tried again" in {line["event"] for line in logs}
    office.pointers.away = False
    office.turn()


def test_a_hung_scheduler_is_told_once_and_noted(workshop: Workshop) -> None:
    """Protects from models that grow old unseen: readiness notes it, the log says it once, scoring does not mind."""
    office = Office(workshop)
    office.turn()
    workshop.now_s += 59.9
    assert (office.scheduling.alive(), office.scheduling.notes()) == (True, [])
    workshop.now_s += 0.1
    with capture_logs() as logs:
        for _ in range(3):
            office.scheduling.check()
        assert not office.scheduling.alive()
        assert office.scheduling.notes() == ["the scheduler has not turned for 60 s: nothing trains"]
        assert office.scheduling.status()["scheduler"] == {"alive": False, "tick_age_s": 60.0}
        office.turn()
        office.scheduling.check()
    events = [line["event"] for line in logs]
    assert [e for e in events if "scheduler" in e] == [
        "the scheduler hangs: nothing is trained until the daemon is restarted", "the scheduler turns again",
    ]  # fmt: skip


def test_a_scheduler_with_a_stuck_job_does_not_tick(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the tick's meaning: it comes from where the work is done, not from beside it; others go on."""
    schedules, release, stuck = [StreamSchedule("air")], threading.Event(), threading.Event()
    jobs = workshop.daemon()

    def hang(now_us: int) -> None:
        stuck.set()
        assert release.wait(30.0)

    monkeypatch.setattr(jobs, "tend", hang)
    scheduling = Scheduling(
        schedules, jobs, Pointers(), workshop.metrics.models,
        now_us=lambda: workshop.now_us, monotonic=lambda: workshop.now_s,
    )  # fmt: skip
    scheduling.start()
    try:
        assert stuck.wait(30.0)
        workshop.now_s += 60.0
        assert not scheduling.alive()
        assert workshop.count("scheduler_tick_timestamp_seconds") == 0
        scheduling.drift("air", {"score"})
        scheduling.request_soon("air")
    finally:
        release.set()
        scheduling.close()


# ---- APScheduler itself ----


class Signalling(Pointers):
    """Tells when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def champion_version(self, stream: str) -> str | None:
        self.asked.set()
        return None


def test_it_turns_in_threads_of_its_own_until_closed(workshop: Workshop) -> None:
    """Protects the wiring with the real scheduler: it ticks, starts the first job, and leaves it alone when closed."""
    workshop.modes = ["wait"]
    pointers = Signalling()
    scheduling = Scheduling(
        [StreamSchedule("air", every_s=86_400.0)], workshop.jobs, pointers, workshop.metrics.models,
        now_us=lambda: workshop.now_us, monotonic=lambda: workshop.now_s,
    )  # fmt: skip
    scheduling.start()
    try:
        assert pointers.asked.wait(30.0)
        workshop.until(lambda: any(r.phase is JobPhase.TRAINING for r in workshop.records()))
        workshop.until(lambda: workshop.count("scheduler_tick_timestamp_seconds") > 0)
        options = {job.id: (job.coalesce, job.max_instances, job.misfire_grace_time) for job in _calls(scheduling)}
        assert options == dict.fromkeys(("tend", "look", "retrain air"), (True, 1, None))
    finally:
        scheduling.close()
    assert workshop.daemon().start("air", JobReason.NOW, workshop.now_us).accepted is False
    assert [r.phase for r in workshop.records()] == [JobPhase.TRAINING]


def _calls(scheduling: Scheduling) -> list[Any]:
    assert scheduling._clock is not None
    return scheduling._clock.calls()


def test_chores_are_done_beside_it_and_may_fail(workshop: Workshop) -> None:
    """Protects the upkeep of the history: it is called with the time, and its failure ends nothing."""
    called: list[int] = []
    done = threading.Event()

    def tidy(now_us: int) -> None:
        called.append(now_us)
        done.set()
        raise OSError("the disk is full")

    scheduling = Scheduling(
        [], workshop.jobs, Pointers(), workshop.metrics.models, chores=[Chore("tidy", 1.0, tidy)],
        now_us=lambda: workshop.now_us, monotonic=lambda: workshop.now_s,
    )  # fmt: skip
    with capture_logs() as logs:
        scheduling.start()
        try:
            assert done.wait(30.0)
            done.clear()
            assert done.wait(30.0)
        finally:
            scheduling.close()
    assert set(called) == {NOW_US}
    assert {line["what"] for line in logs if line["log_level"] == "error"} == {"tidy"}
    with pytest.raises(ValueError, match="tidy is 0"):
        Scheduling([], workshop.jobs, Pointers(), workshop.metrics.models, chores=[Chore("tidy", 0.0, tidy)])


def test_what_apscheduler_reports_is_logged() -> None:
    """Protects from a call that fails unseen in a library's own logger."""

    class Event:
        job_id, exception = "tend", RuntimeError("no more threads")

    with capture_logs() as logs:
        heard(Event())
    assert logs == [
        {"event": "a scheduled call failed", "call": "tend", "error": "no more threads", "log_level": "error"}
    ]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"cron": "61 * * * *"}, "retrain.cron '61 \\* \\* \\* \\*': .*maximum"),
        ({"cron": "0 3 30 2 *"}, "there is no such day"),
        ({"cron": "0 3 * * 5-1"}, "runs backwards"),
        ({"cron": "0 3 * * 9"}, "is no weekday"),
        ({"cron": "0 3 * * */0"}, "has no step"),
        ({"every_s": 0.0}, "1 s is the least"),
    ],
)
def test_what_can_never_be_is_refused_before_the_start(schedule: dict[str, Any], message: str) -> None:
    """Protects from a schedule that silently is another one: 0 would become 1 s."""
    with pytest.raises(ValueError, match=message):
        trigger_of(StreamSchedule("air", **schedule))


def test_passes_need_a_second(workshop: Workshop) -> None:
    """Protects from intervals that APScheduler would change without a word."""
    with pytest.raises(ValueError, match="at most every second"):
        Scheduling([], workshop.jobs, Pointers(), workshop.metrics.models, tend_every_s=0.0)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * *", datetime(2026, 1, 1, 3, tzinfo=UTC)),
        ("0 3 * * 0", datetime(2026, 1, 4, 3, tzinfo=UTC)),
        ("0 3 * * 7", datetime(2026, 1, 4, 3, tzinfo=UTC)),
        ("0 3 * * 1", datetime(2026, 1, 5, 3, tzinfo=UTC)),
        ("0 3 * * sat", datetime(2026, 1, 3, 3, tzinfo=UTC)),
        ("30 2 1 feb *", datetime(2026, 2, 1, 2, 30, tzinfo=UTC)),
        ("*/20 * * * *", datetime(2026, 1, 1, 0, 20, tzinfo=UTC)),
    ],
)
def test_cron_means_what_crontab_means(cron: str, expected: datetime) -> None:
    """Protects from APScheduler's Monday: in crontab 0 is Sunday, and the clock is UTC's. 1 January 2026: Thursday."""
    trigger = trigger_of(StreamSchedule("air", cron=cron))
    assert trigger.get_next_fire_time(None, NOW + timedelta(seconds=1)) == expected


def test_jitter_only_delays() -> None:
    """Protects the earliest time that somebody chose, and spreads the starts."""
    trigger = trigger_of(StreamSchedule("air", cron="0 3 * * *", jitter_s=300.0))
    times = {trigger.get_next_fire_time(None, NOW) for _ in range(20)}
    assert len(times) > 1
    assert all(NOW + timedelta(hours=3) <= at <= NOW + timedelta(hours=3, minutes=5) for at in times)


def test_weekdays_by_name() -> None:
    """Protects ranges over the end of the week and steps."""
    assert weekday_names("5-7") == "fri,sat,sun"
    assert weekday_names("fri-sun") == "fri,sat,sun"
    assert weekday_names("1-5/2") == "mon,wed,fri"
    assert weekday_names("0,6,0") == "sun,sat"
    with pytest.raises(ValueError, match="'x' is no weekday"):
        weekday_names("x")


@pytest.mark.parametrize("schedule", [{"every_s": 1.0}, {"cron": "* * * * *", "jitter_s": 5.0}])
def test_a_clock_that_jumps_by_years_makes_one_run(schedule: dict[str, Any]) -> None:
    """Protects memory: APScheduler lists every missed run, 1.7 billion seconds where a clock begins in 1970."""
    trigger = trigger_of(StreamSchedule("air", **schedule))
    following = trigger.get_next_fire_time(datetime(1970, 1, 1, tzinfo=UTC), NOW)
    assert NOW < following <= NOW + timedelta(seconds=65)
