"""The books of a training job."""

from __future__ import annotations

import threading
import time
from itertools import count
from pathlib import Path

from pipeline.job_books import JobBooks
from pipeline.job_record import EVENTS, JobFolder, JobPhase, JobReason, JobRecord


def books(path: Path, start: int = 100) -> JobBooks:
    """Return the books of a job, with a clock that counts."""
    ticks = count(start)
    return JobBooks(JobFolder(path / "job"), "air", None, lambda: next(ticks), beat_s=3600.0)


def from_beside(it: JobBooks) -> bool:
    """Have another thread give a sign of life for this one; return whether it did."""
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(it.beat()))
    thread.start()
    thread.join()
    return told[0]


def work() -> None:
    """Use the processor for a while."""
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass


def test_signs_of_life_come_only_while_it_works(tmp_path: Path) -> None:
    """Protects from hung jobs that look alive: who waits for ever gives no sign, whoever writes the record."""
    it = books(tmp_path)
    it.begin()
    work()
    before = it.record.updated_us
    assert from_beside(it)
    assert it.record.updated_us > before
    read = it.folder.read()
    assert read is not None
    assert read.updated_us == it.record.updated_us
    before = read.updated_us
    signs = 0
    while from_beside(it):  # a collection of garbage is work too, and may come in between
        before = it.record.updated_us
        signs += 1
        assert signs < 100
    assert it.record.updated_us == before
    it.close()


def test_an_end_is_the_end(tmp_path: Path) -> None:
    """Protects the record of a job that was ended for its memory: nothing that still runs writes over it."""
    it = books(tmp_path)
    it.end(JobPhase.FAILED, "it took too much")
    it.phase(JobPhase.DONE)
    it.end(JobPhase.DONE, "fine", "promoted")
    work()
    from_beside(it)
    read = it.folder.read()
    assert read is not None
    assert (read.phase, read.message, read.decision) == (JobPhase.FAILED, "it took too much", "")
    assert books(tmp_path).ended_before


def test_a_later_attempt_goes_on_with_the_record(tmp_path: Path) -> None:
    """Protects what is known of a job: reason and attempts stay, losses are those up to where it goes on."""
    known = JobRecord("job", "air", JobReason.DRIFT, JobPhase.TRAINING, 1, 2, attempt=3, train_losses=(3.0, 2.0, 1.5))
    JobFolder(tmp_path / "job").write(known)
    it = books(tmp_path)
    it.begin()
    assert (it.record.reason, it.record.attempt, it.record.created_us) == (JobReason.DRIFT, 3, 1)
    assert it.record.pid is not None
    it.epoch(2, 4, 1.9, 2.5, 3.0)
    it.close()
    assert it.record.train_losses == (3.0, 1.9)
    assert list((tmp_path / "job" / EVENTS).glob("events.out.tfevents.*"))


def test_curves_that_cannot_be_written_end_no_job(tmp_path: Path) -> None:
    """Protects the training from its pictures: where there is no room for them, it goes on."""
    it = books(tmp_path)
    it.begin()
    (tmp_path / "job" / EVENTS).write_text("in the way")
    it.epoch(1, 4, 1.0, 1.0, 1.0)
    it.close()
    assert it.record.epoch == 1
