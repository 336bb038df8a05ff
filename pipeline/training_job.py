"""`vedette train`: one training job as a process of its own, from the history to the decision who is in charge.

Exit codes: 0 the job is done, whatever was decided; 64 the command line or the table is wrong; 65 too little history;
69 history, registry or daemon cannot be reached; 70 a defect of ours; 71 it took more memory than it may; 75 it was
interrupted and goes on with ``--job``, or another job of the stream runs; 78 the config is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import structlog

from connectors.errors import ConnectorError, Misconfigured
from models.registry import RegistryError
from models.training_options import TooLittleHistoryError, TrainingDivergedError, TrainingInterrupted
from pipeline.config import Config, load
from pipeline.config_errors import ConfigError
from pipeline.config_streams import StreamConfig
from pipeline.exit_codes import CONFIG, DATA, MEMORY, OK, SOFTWARE, TEMPORARY, UNAVAILABLE, USAGE
from pipeline.history import HistoryError, NoHistoryError
from pipeline.job_books import JobBooks
from pipeline.job_bounds import AnotherRunsError, StopRequest, memory_watched, only_one
from pipeline.job_record import JobFolder, JobPhase
from pipeline.logs import configure
from pipeline.training_now import ask_daemon
from pipeline.training_work import Done, Work

log = structlog.get_logger("vedette.training_job")


def main(args: argparse.Namespace) -> int:
    """Run ``vedette train``; return the exit code."""
    try:
        config = load(args.config)
    except ConfigError as error:
        return _say(str(error), CONFIG)
    stream = _stream_of(config, args.stream)
    if stream is None:
        known = ", ".join(s.name for s in config.streams)
        missing = "which stream? give one by --stream" if args.stream is None else f"no stream '{args.stream}'"
        return _say(f"vedette train: {missing}; {args.config} has {known}", USAGE)
    if args.now:
        return ask_daemon(config.http, stream.name, args.json)
    configure(config.log.level, config.log.format)
    os.nice(max(0, config.training.nice - os.getpriority(os.PRIO_PROCESS, 0)))
    folder = Path(args.job) if args.job else config.training.directory / stream.name / _new_name()
    try:
        with only_one(config.training.directory, stream.name, folder.name):
            return _run(args, config, stream, folder)
    except AnotherRunsError as error:
        if args.job and error.job != folder.name:  # else it is this very job that runs, and its record is its own
            _books(folder, stream, args.judge).end(JobPhase.REFUSED, str(error))
        return _say(f"vedette train: {error}", TEMPORARY)


def _stream_of(config: Config, name: str | None) -> StreamConfig | None:
    if name is None:
        return config.streams[0] if len(config.streams) == 1 else None
    return next((stream for stream in config.streams if stream.name == name), None)


def _new_name() -> str:
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}-{now.microsecond:06d}-now"


def _books(folder: Path, stream: StreamConfig, judge: str | None) -> JobBooks:
    return JobBooks(JobFolder(folder), stream.name, judge, lambda: time.time_ns() // 1000)


def _run(args: argparse.Namespace, config: Config, stream: StreamConfig, folder: Path) -> int:
    books, stop = _books(folder, stream, args.judge), StopRequest()
    if books.ended_before:
        return _finish(args, books, None, OK)
    seed = config.seed if args.seed is None else args.seed
    work = Work(config, stream, books, stop, seed, not args.no_promote, Path(args.data) if args.data else None)
    most_mib = config.training.max_memory_mib

    def too_much(held_bytes: int) -> NoReturn:
        """End the process from the watching thread: the working one may be deep in a library, asking for more."""
        message = f"it holds {held_bytes / 2**20:.0f} MiB, more than training.max_memory_mib allows ({most_mib})"
        log.error("training job ended", stream=stream.name, error=message)
        books.end(JobPhase.FAILED, message)
        os._exit(MEMORY)

    books.begin()
    try:
        with stop.by_signal(), memory_watched(most_mib * 2**20, too_much):
            done, code = _guarded(work.run)
    finally:
        books.close()
    if done is None:
        books.change(message="interrupted; the next attempt goes on where it was")
        return _say(f"vedette train: interrupted; it goes on with --job {folder}", code)
    books.end(done.phase, done.message, done.decision)
    return _finish(args, books, done, code)


def _guarded(work: Callable[[], Done]) -> tuple[Done | None, int]:
    """Return what came of the work, whatever was raised, and the exit code; None if it was interrupted."""
    try:
        return work(), OK
    except TrainingInterrupted:
        return None, TEMPORARY
    except (TooLittleHistoryError, NoHistoryError) as error:
        return Done(JobPhase.REFUSED, "", str(error)), DATA
    except Misconfigured as error:
        return Done(JobPhase.REFUSED, "", str(error)), USAGE
    except (ConnectorError, HistoryError, RegistryError) as error:
        return Done(JobPhase.FAILED, "", str(error)), UNAVAILABLE
    except TrainingDivergedError as error:
        return Done(JobPhase.FAILED, "", f"the training diverged: {error}"), DATA
    except MemoryError as error:
        return Done(JobPhase.FAILED, "", f"there is not enough memory: {error}"), MEMORY
    except Exception as error:
        log.exception("training job failed by a defect of ours; please report it")
        return Done(JobPhase.FAILED, "", f"{type(error).__name__}: {error}"), SOFTWARE


def _finish(args: argparse.Namespace, books: JobBooks, done: Done | None, code: int) -> int:
    """Say what came of the job: a line for people, or JSON."""
    record = books.record
    if args.json:
        told = {"job": record.to_json()} | (done.to_json() if done is not None else {})
        sys.stdout.write(json.dumps(told) + "\n")
    verb = {JobPhase.DONE: "", JobPhase.REFUSED: "refused: ", JobPhase.FAILED: "failed: "}.get(record.phase, "")
    return _say(f"vedette train: {record.stream}: {verb}{record.message}", code)


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
