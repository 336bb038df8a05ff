"""A directory with training jobs whose processes are small scripts, and clocks that are turned by hand."""

from __future__ import annotations

import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.job_process import is_alive, reap, send
from pipeline.job_record import JobFolder, JobPhase, JobReason, JobRecord, job_folders
from pipeline.metrics import Metrics
from pipeline.training_jobs import TrainingJobs

JOB = textwrap.dedent(
    """
    import json, os, pathlib, signal, sys
    folder, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
    record = json.loads((folder / "job.json").read_text())
    stat = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    record |= {"pid": os.getpid(), "pid_started": float(stat[19])}

    def say(**more):
        record.update(more)
        (folder / "new").write_text(json.dumps(record))
        os.replace(folder / "new", folder / "job.json")

    say()
    if mode == "crash":
        print("no space left", flush=True)
        sys.exit(1)
    if mode == "misconfigured":
        sys.exit(78)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "done":
        say(phase="done", decision="promoted", message="better by 3 %", version="v1", ended_us=record["updated_us"])
    else:
        say(phase="training", epoch=1, epochs=4)
        signal.pause()
    """
)
NOW_US = 1_767_225_600_000_000  # 2026-01-01


class Workshop:
    """A directory with jobs, clocks that are turned by hand, and what the jobs are to do, attempt by attempt."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "training"
        self.script = directory / "job.py"
        self.script.write_text(JOB)
        self.modes = ["wait"]
        self.now_us = NOW_US
        self.now_s = 0.0
        self.metrics = Metrics()
        self.commands: list[str | None] = []
        self.jobs = self.daemon()

    def daemon(self, metrics: Metrics | None = None) -> TrainingJobs:
        """Return the jobs as a daemon that was just started sees them."""
        return TrainingJobs(
            self.directory, ["air"], self.command, (metrics or self.metrics).models, stale_after_s=100.0,
            kill_after_s=5.0, retry_after_s=10.0, keep=3, monotonic=lambda: self.now_s,
        )  # fmt: skip

    def command(self, stream: str, folder: Path, judge: str | None) -> list[str]:
        """Return the command of the next attempt."""
        self.commands.append(judge)
        mode = self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]
        return [sys.executable, "-S", str(self.script), str(folder), mode]

    def start(self, *modes: str, reason: JobReason = JobReason.SCHEDULE) -> JobFolder:
        """Start a job."""
        self.modes = list(modes)
        answer = self.jobs.start("air", reason, self.now_us)
        assert answer.accepted, answer.reason
        assert answer.job is not None
        return JobFolder(self.directory / "air" / answer.job)

    def pass_time(self, seconds: float) -> None:
        """Turn both clocks."""
        self.now_s += seconds
        self.now_us += round(seconds * 1e6)

    def tend(self, jobs: TrainingJobs | None = None) -> None:
        """Take one pass."""
        (jobs or self.jobs).tend(self.now_us)

    def until(self, condition: Callable[[], bool], jobs: TrainingJobs | None = None) -> None:
        """Tend until ``condition`` holds."""
        deadline = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < deadline, self.records()
            self.tend(jobs)
            time.sleep(0.01)

    def until_given_up(self, folder: JobFolder) -> None:
        """Tend until a job that dies again and again has ended; time passes only while it is dead."""

        def ended() -> bool:
            record = folder.read()
            assert record is not None
            if record.phase.ended:
                return True
            if record.pid is not None and not is_alive(record.pid, record.pid_started):
                self.pass_time(5.0)
            return False

        self.until(ended)

    def clear(self) -> None:
        """End what still runs, and wait until it is gone."""
        deadline = time.monotonic() + 30.0
        while any(r.pid is None and not r.phase.ended for r in self.records()) and time.monotonic() < deadline:
            time.sleep(0.005)
        for record in self.records():
            if record.pid is not None and record.pid_started is not None:
                send(record.pid, record.pid_started, signal.SIGKILL)
                while is_alive(record.pid, record.pid_started):
                    time.sleep(0.005)
                reap(record.pid)

    def records(self) -> list[JobRecord]:
        """Return what the folders say."""
        return [r for f in job_folders(self.directory, "air") if (r := f.read()) is not None]

    def count(self, name: str, metrics: Metrics | None = None, **labels: str) -> float:
        """Return the value of a metric."""
        return (metrics or self.metrics).registry.get_sample_value(f"vedette_{name}", labels) or 0.0


def pid_of(folder: JobFolder) -> tuple[int, float]:
    """Return the pid and start time of a job's process."""
    record = folder.read()
    assert record is not None
    assert record.pid is not None
    assert record.pid_started is not None
    return record.pid, record.pid_started


def phase_of(folder: JobFolder) -> JobPhase:
    """Return where a job is."""
    record = folder.read()
    assert record is not None
    return record.phase


def kill(folder: JobFolder) -> None:
    """Kill the process of a job, and none else."""
    assert send(*pid_of(folder), signal.SIGKILL)
