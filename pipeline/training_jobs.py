"""Training jobs: processes of their own, started, watched, taken up again when they die, and ended when they hang.

A job outlives the daemon that started it: it leads its own session, its folder says everything about it, and whichever
daemon looks at the folder next goes on with it. (Under systemd the unit needs ``KillMode=mixed`` or ``process``; else a
stop ends the job too, and the next start takes it up where it was.) Several daemons may share a directory: each acts on
a stream only while it holds that stream's ``.tending`` lock; the job's process itself holds ``.lock``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM

import structlog

from pipeline.job_outcome import DIED, HOPELESS, HUNG, cause, outcome
from pipeline.job_process import environment_of, is_alive, last_words, reap, send, spawn, start_time
from pipeline.job_record import LOG, JobFolder, JobPhase, JobReason, JobRecord, job_folders
from pipeline.job_request import Answer, Command
from pipeline.job_watching import JobWatch, Life, Memory
from pipeline.metrics_models import ModelMetrics

log = structlog.get_logger("vedette.training_jobs")

_STARTED_HERE = ".started-by-daemon"  # others, begun by hand, are watched, but neither taken up again nor ended
_COUNTED = ".counted"  # its end is in the metrics of some daemon; made once, by whoever comes first
_TENDING = ".tending"
_BUSY_WAIT_S = 5.0  # for our own threads, which may have to wait for a slow disk
_OTHERS_WAIT_S = 1.0  # for other daemons: a pass takes milliseconds
_POLL_S = 0.02


class TrainingJobs:
    """The jobs of all streams; one at a time per stream. All methods may be called from any thread.

    They touch the disk, so the loop must not call them.
    """

    def __init__(
        self,
        directory: Path,
        streams: Sequence[str],
        command: Command,
        metrics: ModelMetrics,
        *,
        threads: int = 1,
        attempts: int = 3,
        stale_after_s: float = 600.0,
        max_duration_s: float | None = None,
        kill_after_s: float = 30.0,
        retry_after_s: float = 10.0,
        keep: int = 20,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look after what is in ``directory``; nothing is started or read yet.

        Args:
            directory: of all jobs; made when one starts.
            streams: the streams' names.
            command: makes the arguments of a job's process.
            metrics: where to count.
            threads: processors that a job may take.
            attempts: how often a job is started in all, when it dies.
            stale_after_s: silence after which a job is taken for hung.
            max_duration_s: a job ends itself after so long; one that is still there ``stale_after_s`` later is hung.
            kill_after_s: from SIGTERM to SIGKILL.
            retry_after_s: pause before a job that died is started again, times its attempts.
            keep: newest folders of a stream that stay.
            monotonic: the clock for waiting.
        """
        self.directory = directory.absolute()
        self.streams = tuple(streams)
        self._command = command
        self._metrics = metrics
        self._environment = environment_of(threads)
        self._attempts = attempts
        self._kill_after_s = kill_after_s
        self._retry_after_s = retry_after_s
        self._keep = keep
        self._monotonic = monotonic
        self._watch = JobWatch(stale_after_s, max_duration_s, monotonic)
        self._lock = threading.Lock()
        self._memories: dict[Path, Memory] = {}
        self._children: dict[int, int | None] = {}  # pid to exit code, once it is known
        self._settled: dict[Path, JobRecord] = {}
        self._records: dict[str, tuple[JobRecord, ...]] = {}

    # ---- what there is ----

    def records(self, stream: str) -> tuple[JobRecord, ...]:
        """Return a stream's jobs, oldest first, as they were at the last look; reads nothing."""
        return self._records.get(stream, ())

    def running(self, stream: str) -> JobRecord | None:
        """Return the job that has not ended, as it was at the last look."""
        return next((r for r in reversed(self.records(stream)) if not r.phase.ended), None)

    def look(self) -> None:
        """Read all folders, without acting; raises OSError if they cannot be."""
        with self._lock:
            for stream in self.streams:
                self._read(stream)

    # ---- what is done ----

    def start(
        self, stream: str, reason: JobReason, now_us: int, judge: str | None = None, since_us: int | None = None
    ) -> Answer:
        """Start a job unless one is there that has not ended; never raises for what the disk or the system refuse.

        Args:
            stream: whose.
            reason: why.
            now_us: the wall clock.
            judge: the version to judge; None: train one.
            since_us: event time of the drift that it answers.
        """
        if not self._lock.acquire(timeout=_BUSY_WAIT_S):
            return Answer(False, stream, reason="the jobs' folders do not answer")
        try:
            with self._tending(stream, wait_s=_OTHERS_WAIT_S) as mine:
                if not mine:
                    return Answer(False, stream, reason="another daemon acts on its jobs just now")
                for _, record in self._read(stream):
                    if not record.phase.ended:
                        return Answer(False, stream, record.id, f"job {record.id} is {record.phase}")
                return self._create(stream, reason, now_us, judge, since_us)
        except OSError as error:
            log.error("cannot start a training job", stream=stream, error=str(error))
            return Answer(False, stream, reason=f"cannot start a job: {error}")
        finally:
            self._lock.release()

    def tend(self, now_us: int) -> None:
        """Look after every job once: report, end what hangs, take up what died, count what ended, remove what is old.

        Raises nothing that the disk brings: it is logged, and tried again at the next pass.
        """
        with self._lock:
            for pid in list(self._children):
                self._exit_code(pid)
            for stream in self.streams:
                try:
                    with self._tending(stream) as mine:
                        for folder, record in self._read(stream):
                            if mine and folder.path not in self._settled:
                                self._look_after(folder, record, now_us)
                        if mine:
                            self._prune(stream)
                            self._read(stream)
                    self._report(stream)
                except OSError as error:
                    log.error("cannot look after training jobs", stream=stream, error=str(error))

    # ---- inner: one look ----

    @contextmanager
    def _tending(self, stream: str, wait_s: float | None = None) -> Iterator[bool]:
        """Hold the stream's jobs against other daemons; yields False where another one acts on them just now.

        Without ``wait_s`` it neither waits nor makes the folder.
        """
        folder = self.directory / stream
        if wait_s is not None:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            yield False
            return
        handle = os.open(folder / _TENDING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            mine = _try_lock(handle)
            until_s = time.monotonic() + (wait_s or 0.0)
            while not mine and time.monotonic() < until_s:
                time.sleep(_POLL_S)
                mine = _try_lock(handle)
            yield mine
        finally:
            os.close(handle)

    def _read(self, stream: str) -> list[tuple[JobFolder, JobRecord]]:
        """Return a stream's jobs, oldest first; those whose end is known are not read again."""
        found: list[tuple[JobFolder, JobRecord]] = []
        for folder in job_folders(self.directory, stream):
            record = self._settled.get(folder.path) or folder.read()
            if record is not None:
                found.append((folder, record))
        self._records[stream] = tuple(record for _, record in found)
        return found

    def _report(self, stream: str) -> None:
        record = self.running(stream)
        if record is None:
            self._metrics.job_idle(stream)
        else:
            progress = min(1.0, record.epoch / record.epochs) if record.epochs else 0.0
            self._metrics.job_running(stream, progress, record.updated_us / 1e6)

    # ---- inner: what is done about it ----

    def _look_after(self, folder: JobFolder, record: JobRecord, now_us: int) -> None:
        if record.phase.ended:
            self._settle(folder, record, now_us)
            return
        memory = self._memories.setdefault(folder.path, self._watch.begin(record))
        life = self._watch.life(record, memory, now_us)
        if life is Life.HUNG and (folder.path / _STARTED_HERE).exists():
            self._end(folder, record, memory)
        elif life is Life.DEAD:
            self._take_up(folder, memory, now_us)

    def _create(self, stream: str, reason: JobReason, now_us: int, judge: str | None, since_us: int | None) -> Answer:
        name = f"{datetime.fromtimestamp(now_us / 1e6, UTC):%Y%m%dT%H%M%S}-{now_us % 1_000_000:06d}-{reason}"
        folder = JobFolder(self.directory / stream / name)
        folder.path.mkdir()
        (folder.path / _STARTED_HERE).touch()
        record = JobRecord(name, stream, reason, JobPhase.WAITING, now_us, now_us, judge=judge, since_us=since_us)
        launched = self._launch(folder, record, now_us)
        self._read(stream)
        if not launched:
            return Answer(False, stream, name, record.message)
        log.info("training job started", stream=stream, job=name, reason=str(reason), judge=judge)
        return Answer(True, stream, name)

    def _launch(self, folder: JobFolder, record: JobRecord, now_us: int) -> bool:
        """Start the process of a job; return whether there is one.

        The record comes before it. From then on it is the process's: it writes its pid, and so do not we, who could
        overwrite its first words. Until it has, we remember, and a daemon that comes after us waits a while for it.
        """
        record.phase, record.pid, record.pid_started, record.host = JobPhase.WAITING, None, None, self._watch.host
        record.started_us = record.updated_us = now_us
        folder.write(record)
        try:
            pid = spawn(self._command(record.stream, folder.path, record.judge), folder.path / LOG, self._environment)
        except OSError as error:
            self._fail(folder, record, "", f"its process cannot be started: {error}", now_us)
            return False
        self._children[pid] = None
        memory = self._memories[folder.path] = self._watch.begin(record)
        memory.pid, memory.pid_started = pid, start_time(pid)
        return True

    def _end(self, folder: JobFolder, record: JobRecord, memory: Memory) -> None:
        """Ask a hung job to end, and end it if it does not; its process alone, and no other that has its pid."""
        pid, started = (record.pid or memory.pid), (record.pid_started or memory.pid_started)
        if pid is None or started is None:
            return
        now_s = self._monotonic()
        if memory.asked_s is None:
            memory.asked_s = now_s
            log.error("training job hangs; ending it", stream=record.stream, job=record.id, pid=pid)
            send(pid, started, SIGTERM)
        elif now_s - memory.asked_s >= self._kill_after_s:
            send(pid, started, SIGKILL)

    def _take_up(self, folder: JobFolder, memory: Memory, now_us: int) -> None:
        """Start a job that is dead once more, after a pause; or give it up."""
        record = folder.read()  # anew: its end may have been written since
        if record is None or record.phase.ended:
            return
        code = self._exit_code(record.pid or memory.pid)
        why = cause(code) if self._watch.is_here(record) else f"nothing was heard of it from {record.host}"
        words = last_words(folder.path / LOG)
        tail = f'; its log ends: "{words}"' if words else ""
        if memory.asked_s is not None:
            self._fail(folder, record, HUNG, f"it hung and was ended{tail}", now_us)
        elif not (folder.path / _STARTED_HERE).exists():
            self._fail(folder, record, DIED, f"it died: {why}", now_us)
        elif record.attempt >= self._attempts or code in HOPELESS:
            times = "once" if record.attempt == 1 else f"{record.attempt} times"
            self._fail(folder, record, DIED, f"it died {times}, last: {why}{tail}", now_us)
        elif memory.dead_s is None:
            memory.dead_s = self._monotonic()
            log.warning("training job died", stream=record.stream, job=record.id, attempt=record.attempt, cause=why)
        elif self._monotonic() - memory.dead_s >= self._retry_after_s * record.attempt:
            record.attempt += 1
            if self._launch(folder, record, now_us):
                log.info("training job taken up again", stream=record.stream, job=record.id, attempt=record.attempt)

    def _fail(self, folder: JobFolder, record: JobRecord, decision: str, message: str, now_us: int) -> None:
        record.phase, record.decision, record.message = JobPhase.FAILED, decision, message
        record.ended_us = record.updated_us = now_us
        folder.write(record)
        self._settle(folder, record, now_us)

    def _settle(self, folder: JobFolder, record: JobRecord, now_us: int) -> None:
        """Count and log an end, once for all daemons and restarts; forget the job when its process is gone."""
        ended_us = record.ended_us if record.ended_us is not None else record.updated_us
        try:
            os.close(os.open(folder.path / _COUNTED, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            pass
        else:
            self._metrics.job_ended(record.stream, outcome(record), ended_us / 1e6)
            say = log.error if record.phase is JobPhase.FAILED else log.info
            say(
                "training job ended", stream=record.stream, job=record.id, reason=str(record.reason),
                outcome=outcome(record), version=record.version, message=record.message, attempt=record.attempt,
            )  # fmt: skip
        pid, started = record.pid, record.pid_started
        if self._watch.is_here(record) and is_alive(pid, started) and (folder.path / _STARTED_HERE).exists():
            # It has said its last word. One that cannot leave would keep the next one out by its lock.
            if now_us - ended_us > self._kill_after_s * 1e6 and pid is not None and started is not None:
                send(pid, started, SIGKILL)
            return
        memory = self._memories.pop(folder.path, None)
        for each in (pid, memory.pid if memory is not None else None):
            self._exit_code(each)
            self._children.pop(each or 0, None)
        self._settled[folder.path] = record

    def _exit_code(self, pid: int | None) -> int | None:
        """Return how a child of ours ended, which ends its being a zombie; None while it runs, and for others."""
        if pid is None:
            return None
        if pid in self._children and self._children[pid] is None:
            self._children[pid] = reap(pid)
        return self._children.get(pid)

    def _prune(self, stream: str) -> None:
        """Remove the oldest jobs that have ended."""
        for folder in job_folders(self.directory, stream)[: -self._keep]:
            if self._settled.pop(folder.path, None) is not None:
                shutil.rmtree(folder.path, ignore_errors=True)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
