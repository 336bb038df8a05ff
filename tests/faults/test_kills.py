"""`kill -9` at every stage of a job, of a promotion and of a swap: the champion stays whole, and scoring goes on.

Each test runs a program of its own that forks, for no thread of a test runner may be there to be forked with it. It
kills, looks at what is left after each kill, and goes on in the same folder; then it does the same with a defect put in
on purpose, which has to be found. There are more than fifty kills in all, and hundreds in the soak variants.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.job_process import is_alive, send
from pipeline.job_record import JobFolder, JobPhase, JobReason
from pipeline.job_request import train_command
from pipeline.metrics import Metrics
from pipeline.training_jobs import TrainingJobs
from tests.pipeline.training_parts import Site, frames

ROOT = Path(__file__).parents[2]
STAGES = ("reading", "training", "judging", "deciding")
AROUND_A_SWAP = ("loading", "rebuilding", "swapping", "swapped", "shadowing", "giving up", "beginning")


def run(program: str, *words: object, timeout_s: float = 280.0) -> dict[str, Any]:
    """Run one of the programs in this folder to its end, and return what it found; nothing of it is left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.{program}", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_job_is_killed_at_every_stage(tmp_path: Path) -> None:
    """Protects the champion, the history and the alert database from jobs that die; they end as if they had not."""
    found = run("killed_jobs", tmp_path, 1, 4)
    assert found["wrong"] == []
    assert found["killed"] == dict.fromkeys(STAGES, 4)
    assert found["champions"] == 3  # nobody, and two who were promoted on the way
    assert found["caught"] > 0


def test_a_promotion_is_killed_at_every_file_operation(tmp_path: Path) -> None:
    """Protects the pointer: old or new, never neither; what is asked again is done once; scoring follows."""
    found = run("killed_promotions", tmp_path)
    assert found["wrong"] == []
    assert found["killed"] >= 24
    assert found["caught"] > 0


def test_a_daemon_is_killed_around_swaps(tmp_path: Path) -> None:
    """Protects scores, messages, history and incidents: all there and the same, wherever a daemon dies."""
    found = run("killed_swaps", tmp_path, 1, 14)
    assert found["wrong"] == []
    assert found["killed"] == dict.fromkeys(AROUND_A_SWAP, 2)
    assert found["models"] >= 5
    assert found["caught"] != []


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
def test_many_jobs_are_killed_at_every_stage(tmp_path: Path, seed: int) -> None:
    """Protects as above, over as many places in each stage as there are file operations in most of them."""
    found = run("killed_jobs", tmp_path, seed, 24, timeout_s=1700.0)
    assert found["wrong"] == []
    assert found["killed"] == dict.fromkeys(STAGES, 24)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_daemon_is_killed_around_many_swaps(tmp_path: Path, seed: int) -> None:
    """Protects as above, over many more places."""
    found = run("killed_swaps", tmp_path, seed, 84, timeout_s=1700.0)
    assert found["wrong"] == []
    assert found["killed"] == dict.fromkeys(AROUND_A_SWAP, 12)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_daemon_takes_up_jobs_that_are_killed(tmp_path: Path) -> None:
    """Protects the way of a job in service, with real processes: killed in each stage, it ends with one decision."""
    site = Site(tmp_path, frames())
    jobs = TrainingJobs(
        site.config.training.directory, ["air"], train_command(site.file), Metrics().models, attempts=6,
        retry_after_s=0.0,
    )  # fmt: skip
    answer = jobs.start("air", JobReason.SCHEDULE, time.time_ns() // 1000)
    assert answer.job is not None, answer.reason
    killed = kill_in_each_stage(jobs, site.job(answer.job), random.Random(5))
    assert {JobPhase.TRAINING, JobPhase.JUDGING} <= killed  # the others are over in milliseconds
    [record] = site.records()
    assert record.phase is JobPhase.DONE
    assert record.attempt in (len(killed), 1 + len(killed))  # the last kill may have come after its last word
    assert site.registry.versions("air") == [record.version]
    assert [str(d.action) for d in site.registry.decisions("air")] == [record.decision]


def kill_in_each_stage(jobs: TrainingJobs, job: JobFolder, random_: random.Random) -> set[JobPhase]:
    """Tend a job to its end, and kill its process once in each stage that is seen; return those stages."""
    killed: set[JobPhase] = set()
    until_s = time.monotonic() + 600.0
    while time.monotonic() < until_s:
        record = job.read()
        assert record is not None
        if record.phase.ended and not is_alive(record.pid, record.pid_started):
            jobs.tend(time.time_ns() // 1000)
            return killed
        if record.phase in STAGES and record.phase not in killed and record.pid is not None:
            time.sleep(random_.random() * 0.2)
            if send(record.pid, record.pid_started or 0.0, signal.SIGKILL):
                killed.add(record.phase)
        jobs.tend(time.time_ns() // 1000)
        time.sleep(0.002)
    raise AssertionError("the job has not come to its end")
