"""A stream that is scored in a process of its own while others are killed: it follows the registry, and must go on."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.registry import Registry
from pipeline.build import build_stream
from pipeline.config_streams import StreamConfig
from pipeline.frames import Frames
from pipeline.metrics import Metrics
from pipeline.preparing import Terms
from pipeline.swapping import ModelWatch
from tests.faults.killing import speak_to

_PATIENCE_S = 60.0
_STEP_EVERY_S, _LOOK_EVERY_S, _ASK_EVERY_S = 0.02, 0.02, 0.004
_WARMUP_STEPS = 50


class Scoring:
    """The process that scores; its parent has no threads."""

    def __init__(self, config: StreamConfig, registry: Path, values: NDArray[np.float64], folder: Path) -> None:
        """Start it: [T, E, C] ``values``, again and again, a line in a file of ``folder`` for each step.

        Networks are not put on probation: what becomes of those that fail is looked at elsewhere.
        """
        lines = folder / "scored.txt"
        lines.touch()
        self._lines = lines.open("rb")
        self._torn = b""
        self._ended = False
        self._said: list[list[str]] = []
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                speak_to(folder / "scoring.log")
                _score(config, registry, values, lines, lambda: os.getppid() == parent)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(1)

    def follow(self, version: str) -> list[str]:
        """Wait until it has scored on, with ``version`` in charge; return what is wrong, nothing if it has."""
        steps = len(self._read())
        until_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until_s:
            said = self._read()
            if len(said) > steps and said[-1][1] == version:
                return []
            if self._has_ended():
                return ["scoring has ended"]
            time.sleep(_ASK_EVERY_S)
        last = " ".join(self._said[-1]) if self._said else "nothing"
        return [f"{version} is in charge, and scoring does not get there; its last line: {last}"]

    def stop(self, known: set[str]) -> list[str]:
        """End it; return what is wrong with what it has scored, by whichever of the ``known`` versions."""
        ended = self._has_ended()
        if not ended:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        said = self._read()
        self._lines.close()
        steps = [int(step) for step, _, _ in said]
        wrong = ["scoring has ended"] if ended else []
        if steps != list(range(1, len(said) + 1)):
            wrong.append("steps were left out")
        if odd := {score for _, _, score in said if not np.isfinite(float(score))}:
            wrong.append(f"scores are no numbers: {odd}")
        if strangers := {version for _, version, _ in said} - known:
            wrong.append(f"strangers were in charge: {strangers}")
        return wrong

    def _has_ended(self) -> bool:
        self._ended = self._ended or os.waitpid(self._pid, os.WNOHANG) != (0, 0)
        return self._ended

    def _read(self) -> list[list[str]]:
        """Return step, version and score of all steps so far."""
        *whole, self._torn = (self._torn + self._lines.read()).split(b"\n")
        self._said += [line.decode("ascii").split() for line in whole]
        return self._said


def _score(
    config: StreamConfig, registry: Path, values: NDArray[np.float64], lines: Path, wanted: Callable[[], bool]
) -> None:
    """Score step after step for as long as somebody wants it."""
    stream = build_stream(config, warmup_steps=_WARMUP_STEPS)
    stream.add_entities(list("abcdefgh")[: values.shape[1]])
    watch = ModelWatch(Registry(registry), Metrics().models, every_s=_LOOK_EVERY_S)
    watch.add(stream, Terms(config.step_us, config.horizons, config.model.ring, timedelta(0)))
    watch.start()
    pace, step = threading.Event(), 0
    handle = os.open(lines, os.O_WRONLY | os.O_APPEND)
    while wanted():
        frame = values[step % len(values)]
        step += 1
        count = np.isfinite(frame).astype(np.int32)
        time_us = step * config.step_us
        detection = stream.process(Frames(step, time_us, frame, count > 0, count), time_us)[1]
        watch.turn(stream)
        os.write(handle, f"{step} {stream.predictor.model_version} {detection.score.max():.6g}\n".encode())
        pace.wait(_STEP_EVERY_S)
