"""Does scoring keep its pace while a training runs? The daemon's loop alone and beside a training process, by turns.

Both have the same two cores. The training is as a job's: a process of its own, nice, one thread, without an end. It is
stopped and continued by signals, so that each turn alone has its turn beside right after it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from pipeline.bench_load import Load, make_daemon, warmed_stream
from pipeline.config import TrainingConfig
from pipeline.stream import Stream

CORES = 2
_READY_S = 120.0
"""How long the training process may take to its first update."""


def beside(
    entities: int, steps: int, rounds: int, train: Callable[[Callable[[], None]], None], say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the readings a second alone and beside a training, medians over ``rounds``, and their ratio.

    Args:
        entities: of the stream that is scored.
        steps: of a turn.
        rounds: turns of each kind.
        train: trains until it is ended; calls what it is given when it has begun. A function of a module: it runs in
            another process.
        say: told after every round.
    """
    with _on_cores(CORES) as cores:
        load = Load(entities=entities)
        say(f"beside: warming {entities} entities")
        stream = warmed_stream(load)
        turn = _Turns(load, stream, steps)
        turn.readings_per_s()  # compiles, allocates, fills caches
        alone: list[float] = []
        along: list[float] = []
        shares: list[float] = []
        with _trainee(train) as trainee:
            for round_ in range(rounds):
                os.kill(trainee, signal.SIGSTOP)
                alone.append(turn.readings_per_s())
                os.kill(trainee, signal.SIGCONT)
                before_s, began = _cpu_s(trainee), time.perf_counter()
                along.append(turn.readings_per_s())
                shares.append((_cpu_s(trainee) - before_s) / (time.perf_counter() - began))
                say(f"beside: round {round_ + 1} of {rounds}: {along[-1] / alone[-1]:.2f}")
    ratios = [b / a for a, b in zip(alone, along, strict=True)]
    return {
        "ratio": round(statistics.median(along) / statistics.median(alone), 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
        "readings_per_s_alone": round(statistics.median(alone)),
        "readings_per_s_beside": round(statistics.median(along)),
        "training_core_share": round(statistics.median(shares), 3),
        "cores": cores,
        "nice": TrainingConfig().nice,
        "entities": entities,
        "rounds": rounds,
    }


class _Turns:
    """The load, turn by turn: each goes on in time where the last one ended."""

    def __init__(self, load: Load, stream: Stream, steps: int) -> None:
        self._load, self._stream, self._steps = load, stream, steps
        self._first = 0

    def readings_per_s(self) -> float:
        """Run the loop over the next steps; return the readings a second, making them left out."""
        blocks = self._load.blocks(self._steps, first=self._first)
        self._first += self._steps
        daemon, _ = make_daemon(self._stream, blocks)
        readings = sum(len(block.values) for block in blocks)
        began = time.perf_counter()
        while not daemon.source.exhausted():
            daemon.turn()
        return readings / (time.perf_counter() - began)


@contextmanager
def _on_cores(wanted: int) -> Iterator[int]:
    """Keep this process and those that it starts on so many cores; yield how many there are."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:wanted]))
    try:
        yield len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _trainee(train: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """Run ``train`` in a process of its own; yield its pid once it trains, end it afterwards.

    Raises:
        RuntimeError: if it does not begin.
    """
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    process: BaseProcess = spawn.Process(target=_run, args=(train, begun), daemon=True)
    process.start()
    try:
        if not begun.wait(_READY_S) or process.pid is None:
            raise RuntimeError(f"the training did not begin within {_READY_S:.0f} s")
        yield process.pid
    finally:
        process.kill()  # a stopped process does not hear a SIGTERM
        process.join()


def _run(train: Callable[[Callable[[], None]], None], begun: Event) -> None:
    os.nice(TrainingConfig().nice)
    train(begun.set)


def _cpu_s(pid: int) -> float:
    """Return the seconds on processors that the process has had; NaN where /proc does not tell."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
