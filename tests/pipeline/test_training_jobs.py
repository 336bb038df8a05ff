"""Training jobs outlive the daemon, are taken up when they die, ended when they hang, and counted once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.exit_codes import CONFIG
from pipeline.job_outcome import cause, outcome
from pipeline.job_process import is_alive, last_words, send, start_time
from pipeline.job_record import LOG, JobFolder, JobPhase, JobReason, JobRecord
from pipeline.job_request import train_command
from pipeline.metrics import Metrics
from pipeline.training_jobs import TrainingJobs
from tests.pipeline.job_parts import NOW_US, Workshop, kill, phase_of, pid_of


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path)
    yield workshop
    workshop.clear()


def test_a_job_is_started_watched_and_counted_once(workshop: Workshop) -> None:
    """Protects the whole life of a good job, as metrics, records and its own folder tell it."""
    folder = workshop.start("done", reason=JobReason.FIRST)
    first = workshop.records()[0]
    assert (first.reason, first.attempt, first.created_us) == (JobReason.FIRST, 1, NOW_US)
    workshop.until(lambda: workshop.count("training_jobs_total", stream="air", outcome="promoted") == 1)
    for _ in range(3):
        workshop.tend()
    assert workshop.count("training_jobs_total", stream="air", outcome="promoted") == 1
    assert workshop.count("training_running", stream="air") == 0
    assert workshop.jobs.running("air") is None
    assert workshop.jobs.records("air")[-1].message == "better by 3 %"
    assert phase_of(folder) is JobPhase.DONE


def test_a_running_job_shows_its_progress_and_keeps_others_out(workshop: Workshop) -> None:
    """Protects the rule of one job per stream at a time, from any daemon, and what is seen of it from outside."""
    folder = workshop.start("wait")
    answer = workshop.daemon().start("air", JobReason.NOW, workshop.now_us)
    assert not answer.accepted
    assert folder.path.name in answer.reason
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    workshop.tend()
    assert workshop.count("training_running", stream="air") == 1
    assert workshop.count("training_progress_ratio", stream="air") == 0.25
    assert workshop.count("training_heartbeat_timestamp_seconds", stream="air") == NOW_US / 1e6
    assert len(workshop.records()) == 1


def test_it_is_a_session_of_its_own_with_few_threads_and_a_log(workshop: Workshop) -> None:
    """Protects the job from the daemon's end, and the daemon's processors from the job."""
    folder = workshop.start("wait")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    pid, _ = pid_of(folder)
    assert os.getsid(pid) == pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    assert {"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"} <= set(environment)
    assert os.readlink(f"/proc/{pid}/fd/1") == str(folder.path / LOG)
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull


def test_a_killed_job_is_taken_up_where_it_was(workshop: Workshop) -> None:
    """Protects long trainings from the out-of-memory killer: the same folder, another attempt, after a pause."""
    folder = workshop.start("wait", "done")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    kill(folder)
    pid, started = pid_of(folder)
    workshop.until(lambda: not is_alive(pid, started))
    workshop.tend()
    workshop.pass_time(9.0)
    workshop.tend()
    assert len(workshop.commands) == 1
    workshop.pass_time(1.0)
    workshop.until(lambda: phase_of(folder) is JobPhase.DONE)
    assert [r.attempt for r in workshop.records()] == [2]
    workshop.until(lambda: workshop.count("training_jobs_total", stream="air", outcome="promoted") == 1)


def test_a_job_that_keeps_dying_is_given_up_with_its_last_words(workshop: Workshop) -> None:
    """Protects from starting for ever what cannot work, and tells a person where to look."""
    folder = workshop.start("crash")
    workshop.until_given_up(folder)
    record = workshop.records()[0]
    assert len(workshop.commands) == record.attempt == 3
    assert record.message == 'it died 3 times, last: its process exited with code 1; its log ends: "no space left"'
    assert workshop.count("training_jobs_total", stream="air", outcome="died") == 1
    assert workshop.count("training_success_timestamp_seconds", stream="air") == 0


def test_what_another_attempt_cannot_better_gets_none(workshop: Workshop) -> None:
    """Protects from three starts of a job whose config is wrong."""
    folder = workshop.start("misconfigured")
    workshop.until(lambda: phase_of(folder) is JobPhase.FAILED)
    assert len(workshop.commands) == 1
    assert f"code {CONFIG}" in workshop.records()[0].message


def test_a_process_that_cannot_start_is_told(workshop: Workshop) -> None:
    """Protects the caller from an exception, and the schedule from a job that never ends."""
    jobs = TrainingJobs(
        workshop.directory, ["air"], lambda *_: ["/nowhere/python"], workshop.metrics.models, monotonic=lambda: 0.0
    )
    answer = jobs.start("air", JobReason.NOW, NOW_US)
    assert not answer.accepted
    assert "cannot be started" in answer.reason
    assert workshop.count("training_jobs_total", stream="air", outcome="failed") == 1
    assert jobs.running("air") is None


@pytest.mark.parametrize(("mode", "ended_by"), [("wait", 0), ("deaf", 5)])
def test_a_silent_job_is_ended(workshop: Workshop, mode: str, ended_by: float) -> None:
    """Protects the stream's next training from a job that hangs: asked first, killed if it does not hear."""
    folder = workshop.start(mode)
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    pid, started = pid_of(folder)
    workshop.tend()
    workshop.pass_time(100.0)
    workshop.tend()
    assert is_alive(pid, started)  # silent for just as long as is allowed
    workshop.pass_time(1.0)
    workshop.tend()
    if ended_by:
        workshop.pass_time(ended_by - 1.0)
        workshop.tend()
        assert is_alive(pid, started)
        workshop.pass_time(1.0)
    workshop.until(lambda: phase_of(folder) is JobPhase.FAILED)
    assert not is_alive(pid, started)
    assert workshop.count("training_jobs_total", stream="air", outcome="hung") == 1
    assert len(workshop.commands) == 1


def test_a_machine_that_slept_does_not_end_its_job(workshop: Workshop) -> None:
    """Protects a job from a wall clock that jumped: silence has to be watched, not only computed."""
    folder = workshop.start("wait")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    workshop.now_us += 8 * 3_600_000_000
    workshop.tend()
    assert is_alive(*pid_of(folder))
    workshop.now_s += 30.0
    workshop.tend()
    assert is_alive(*pid_of(folder))


def test_a_job_over_its_time_is_ended_though_it_reports(workshop: Workshop) -> None:
    """Protects from a job whose heart beats on while nothing comes of it."""
    jobs = TrainingJobs(
        workshop.directory, ["air"], workshop.command, workshop.metrics.models, stale_after_s=100.0,
        max_duration_s=1000.0, monotonic=lambda: workshop.now_s,
    )  # fmt: skip
    folder = JobFolder(workshop.directory / "air" / (jobs.start("air", JobReason.NOW, NOW_US).job or ""))
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING, jobs)
    pid, started = pid_of(folder)
    for _ in range(12):
        assert phase_of(folder) is JobPhase.TRAINING
        assert is_alive(pid, started)
        workshop.pass_time(95.0)
        record = folder.read()
        assert record is not None
        record.updated_us = workshop.now_us
        folder.write(record)
        workshop.tend(jobs)
    workshop.until(lambda: phase_of(folder) is JobPhase.FAILED, jobs)


def test_a_restarted_daemon_goes_on_with_a_running_job(workshop: Workshop) -> None:
    """Protects hours of training from a daemon's restart: it is found by pid and start time, and ended if it hangs."""
    folder = workshop.start("wait")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    after = workshop.daemon()
    workshop.tend(after)
    assert after.running("air") is not None
    assert not after.start("air", JobReason.SCHEDULE, workshop.now_us).accepted
    workshop.pass_time(101.0)
    workshop.tend(after)
    workshop.until(lambda: phase_of(folder) is JobPhase.FAILED, after)
    assert workshop.count("training_jobs_total", stream="air", outcome="hung") == 1
    assert len(workshop.commands) == 1


def test_a_job_that_died_while_no_daemon_ran_is_taken_up(workshop: Workshop) -> None:
    """Protects from jobs that stay "running" for ever after the whole machine went down."""
    folder = workshop.start("wait", "done")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    kill(folder)
    pid, started = pid_of(folder)
    while is_alive(pid, started):
        time.sleep(0.005)
    after = workshop.daemon()
    workshop.tend(after)
    workshop.pass_time(10.0)
    workshop.until(lambda: phase_of(folder) is JobPhase.DONE, after)


def test_an_end_is_counted_once_by_all_daemons_and_restarts(workshop: Workshop) -> None:
    """Protects the counters of outcomes: an end that nobody saw counts, an old one does not count again."""
    folder = workshop.start("done")
    while phase_of(folder) is not JobPhase.DONE:
        time.sleep(0.005)
    after, other = Metrics(), Metrics()
    workshop.tend(workshop.daemon(after))
    workshop.tend(workshop.daemon(other))
    workshop.tend()
    counts = [
        workshop.count("training_jobs_total", metrics, stream="air", outcome="promoted")
        for metrics in (after, other, workshop.metrics)
    ]
    assert counts == [1, 0, 0]


def test_a_pid_that_was_given_to_another_is_left_alone(workshop: Workshop) -> None:
    """Protects strangers: a reused pid is neither taken for the job nor sent a signal."""
    folder = workshop.start("wait", "done")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    pid, started = pid_of(folder)
    assert not send(pid, started - 1.0, signal.SIGKILL)
    assert is_alive(pid, started)
    assert not is_alive(pid, started - 1.0)
    assert start_time(pid) == started


def test_jobs_of_other_machines_are_dead_only_when_long_silent(workshop: Workshop) -> None:
    """Protects a job on a shared disk from a daemon that cannot see its process; and from being orphaned."""
    record = JobRecord(
        "20260101T000000-000000-now", "air", JobReason.NOW, JobPhase.TRAINING, NOW_US, NOW_US, pid=1, pid_started=1.0,
        host="elsewhere",
    )  # fmt: skip
    folder = JobFolder(workshop.directory / "air" / record.id)
    folder.write(record)
    (folder.path / ".started-by-daemon").touch()
    workshop.modes = ["done"]
    workshop.tend()
    workshop.pass_time(100.0)
    workshop.tend()
    assert not workshop.jobs.start("air", JobReason.NOW, workshop.now_us).accepted
    assert workshop.commands == []
    workshop.pass_time(1.0)
    workshop.tend()
    workshop.pass_time(10.0)
    workshop.until(lambda: phase_of(folder) is JobPhase.DONE)


def test_a_job_begun_by_hand_is_shown_and_left_alone(workshop: Workshop) -> None:
    """Protects an operator's own training from being ended or started again; its death is told."""
    record = JobRecord("20260101T000000-hand", "air", JobReason.NOW, JobPhase.TRAINING, NOW_US, NOW_US, pid=os.getpid())
    record.pid_started = start_time(os.getpid())
    folder = JobFolder(workshop.directory / "air" / record.id)
    folder.write(record)
    workshop.tend()
    workshop.pass_time(500.0)
    workshop.tend()
    assert workshop.jobs.running("air") is not None
    record.pid_started = 1.0
    folder.write(record)
    workshop.tend()
    assert phase_of(folder) is JobPhase.FAILED
    assert workshop.commands == []


def test_a_daemon_killed_before_it_knew_the_pid_starts_the_job_again(workshop: Workshop) -> None:
    """Protects from a job that waits for ever for a process that never was."""
    record = JobRecord("20260101T000000-000000-now", "air", JobReason.NOW, JobPhase.WAITING, NOW_US, NOW_US)
    folder = JobFolder(workshop.directory / "air" / record.id)
    folder.write(record)
    (folder.path / ".started-by-daemon").touch()
    workshop.modes = ["done"]
    workshop.pass_time(60.0)
    workshop.tend()
    assert workshop.commands == []
    workshop.pass_time(1.0)
    workshop.tend()
    workshop.pass_time(10.0)
    workshop.until(lambda: phase_of(folder) is JobPhase.DONE)


def test_only_the_newest_folders_stay(workshop: Workshop) -> None:
    """Protects the disk from years of jobs, and never removes one that runs or one that is none of ours."""
    stranger = workshop.directory / "air" / "0-notes"
    stranger.mkdir(parents=True)
    for i in range(5):
        record = JobRecord(f"2025010{i}T000000-schedule", "air", JobReason.SCHEDULE, JobPhase.DONE, NOW_US, NOW_US)
        JobFolder(workshop.directory / "air" / record.id).write(record)
    folder = workshop.start("wait")
    workshop.until(lambda: phase_of(folder) is JobPhase.TRAINING)
    workshop.tend()
    left = ["20250103T000000-schedule", "20250104T000000-schedule", folder.path.name]
    assert [r.id for r in workshop.records()] == left
    assert stranger.is_dir()


def test_damaged_records_stop_nothing(workshop: Workshop) -> None:
    """Protects the schedule from a file that somebody edited."""
    folder = workshop.directory / "air" / "20250101T000000-schedule"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{")
    workshop.start("done")
    workshop.until(lambda: workshop.count("training_jobs_total", stream="air", outcome="promoted") == 1)


def test_another_daemon_at_work_is_waited_for_briefly(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from two daemons that start a job in the same instant."""
    monkeypatch.setattr("pipeline.training_jobs._OTHERS_WAIT_S", 0.05)
    (workshop.directory / "air").mkdir(parents=True)
    with (workshop.directory / "air" / ".tending").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = workshop.daemon().start("air", JobReason.NOW, NOW_US)
        assert answer.reason == "another daemon acts on its jobs just now"
        workshop.tend(workshop.daemon())
    assert workshop.daemon().start("air", JobReason.NOW, NOW_US).accepted


def test_the_command_is_the_command_line(tmp_path: Path) -> None:
    """Protects the way into the job: this Python, its folder, and the version to judge if there is one."""
    command = train_command("vedette.yaml")
    words = [sys.executable, "-m", "pipeline.cli", "train", "--config", "vedette.yaml", "--stream", "air", "--job"]
    assert command("air", tmp_path, None) == [*words, str(tmp_path)]
    assert command("air", tmp_path, "v1") == [*words, str(tmp_path), "--judge", "v1"]


@pytest.mark.parametrize(
    ("phase", "decision", "expected"),
    [
        (JobPhase.DONE, "promoted", "promoted"), (JobPhase.DONE, "", "kept"), (JobPhase.DONE, "new word", "kept"),
        (JobPhase.REFUSED, "", "refused"), (JobPhase.FAILED, "", "failed"), (JobPhase.FAILED, "hung", "hung"),
    ],
)  # fmt: skip
def test_outcomes_are_from_a_bounded_set(phase: JobPhase, decision: str, expected: str) -> None:
    """Protects the metric's label from whatever a record says."""
    record = JobRecord("x", "air", JobReason.NOW, phase, 0, 0, decision=decision)
    assert outcome(record) == expected
    assert outcome(JobRecord.from_json(json.loads(json.dumps(record.to_json())))) == expected


def test_causes_and_last_words_are_for_people(tmp_path: Path) -> None:
    """Protects the message of a job that died."""
    assert cause(None) == "its process is gone"
    assert cause(70) == "its process exited with code 70"
    assert cause(-9) == "its process was ended by SIGKILL"
    assert cause(-250) == "its process was ended by signal 250"
    log = tmp_path / LOG
    assert last_words(log) == ""
    log.write_bytes(b"x" * 9000 + b"\n\xff says\n\n")
    assert last_words(log) == "\ufffd says"
