"""The detector: three witnesses, one scale, two tiers. Scores a step by what was known before it, then learns from it.

Witnesses: *level* (distance from a slow baseline), *innovation* (the forecast's error per channel and sign), *state*
(the whitened error unlike any remembered), *value* and *day* (a value, or a trailing day, unlike any ever seen).
Nothing here sees a label.

Legend: E entities, n of them in use, C channels, V witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration import boundary, rows_per_alarm
from models.innovation import InnovationWitness
from models.level import LevelWitness
from models.novelty import ValueNovelty
from models.state import RowState
from models.state_novelty import StateNovelty
from models.tiers import AlertTier, WatchTier

WITNESSES = ("level", "innovation", "state", "value", "day")
NOVELTY_EDGE = -math.log(0.01)  # fixed boundary of the watch tier for novelty; measured on NAB
WATCH_EDGE = 12.0  # and for level and innovation, whose nominal tails are too light: at 9 they cost NAB 2 points
_MUTED_EDGES = np.array((NOVELTY_EDGE, WATCH_EDGE, WATCH_EDGE))  # day, level, innovation
MOST_WARMUP_STEPS, LEAST_WARMUP_STEPS = 288, 64


@dataclass(slots=True)
class Detection:
    """What was found at one step, for n entities."""

    score: NDArray[np.float32]
    """[n] raw score >= 0, finite; 1.0 is the boundary. For ranking steps."""
    log_p: NDArray[np.float64]
    """[n] ln of the combined p-value, <= 0."""
    emitted: NDArray[np.float32]
    """[n] what the watch tier lets through; >= 1 exactly where a watch opens."""
    alert: NDArray[np.float32]
    """[n] the alert tier's score, inside the budget; >= 1 where an alert opens."""
    witness: NDArray[np.float32]
    """[n, V] each witness's score on the common scale, in the order of WITNESSES."""
    share: NDArray[np.float32]
    """[n, C] each channel's share of the evidence; sums to 1 where there is any."""
    sign: NDArray[np.int8]
    """[n, C] +1 above expectation, −1 below, 0 unknown."""
    warming: NDArray[np.bool_]
    """[n] True while too little is known for the scores to be acted on."""
    admit: NDArray[np.int32]
    """[n] the place among the representatives that this step's state goes to; −1 for none."""


class Detector:
    """Scores all entities of a stream, one step at a time; the same call serves history and the present."""

    def __init__(
        self,
        capacity: int,
        channels: int,
        step_s: float,
        budget_per_period: float,
        period_s: float,
        warmup_steps: int | None = None,
    ) -> None:
        """Make room for ``capacity`` entities.

        Args:
            capacity: entity slots.
            channels: C.
            step_s: length of a step.
            budget_per_period: false alarms of the alert tier that are allowed per entity and period.
            period_s: length of the period.
            warmup_steps: steps with a value until an entity is no longer ``warming``; None: a day, within 64 to 288.

        Raises:
            ValueError: if step or budget are not positive.
        """
        self._rows = rows_per_alarm(step_s, budget_per_period, period_s)
        edge = boundary(self._rows)
        self._warmup = warmup_steps
        if warmup_steps is None:
            self._warmup = int(min(max(86_400 / step_s, LEAST_WARMUP_STEPS), MOST_WARMUP_STEPS))
        self._level = LevelWitness(capacity, channels, step_s, edge)
        self._innovation = InnovationWitness(capacity, channels, edge)
        self._states = StateNovelty(capacity, channels, edge)
        self._values = ValueNovelty(capacity, channels, step_s)
        self._watch = WatchTier(capacity, step_s, muted=3)
        self._alert = AlertTier(capacity, self._rows, by_block=(False, False, True, True))
        self._seen = RowState(capacity)
        self._seen.add("score", (), np.float32)
        self.done: Callable[[str], None] = lambda part: None
        """Told the name of each part of ``detect`` when it is done; for benchmarks."""

    def states(self) -> dict[str, RowState]:
        """Return all per-entity state by component."""
        return {
            "level": self._level.state,
            "innovation": self._innovation.state,
            "states": self._states.state,
            "values": self._values.state,
            "watch": self._watch.state,
            "alert": self._alert.state,
            "seen": self._seen,
        }

    def shared(self) -> dict[str, int | float | str]:
        """Return what is held for the stream as a whole: nothing."""
        return {}

    def restore_shared(self, shared: dict[str, int | float | str]) -> None:
        """Take up what ``shared`` gave."""

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` entities; what is known stays."""
        for state in self.states().values():
            state.grow(capacity)

    def detect(
        self,
        values: NDArray[np.float64],
        learn: NDArray[np.bool_],
        expected: NDArray[np.float64],
        spread: NDArray[np.float32],
        time_us: int,
        step: int,
        open_incident: NDArray[np.bool_],
    ) -> Detection:
        """Score one step by what was known before it, then learn from it.

        Args:
            values: [n, C]; NaN where missing. Not kept, not changed.
            learn: [n, C] False where a value is scored and not learned.
            expected: [n, C] forecast made the step before; NaN where there was none.
            spread: [n, C] standard deviation of the forecast's error, > 0.
            time_us: end of the step.
            step: its index on the stream's time grid.
            open_incident: [n] True where learning is to be slow.

        Returns:
            The detection; every number in it is finite. A missing value is no evidence; a whole missing row scores 0.
        """
        n, C = values.shape
        slow = open_incident | (self._seen["score"][:n] >= 1.0)
        self.done("start")
        level, distance = self._level.step(values, learn, time_us, slow)
        self.done("level")
        innovation, errors = self._innovation.step(values, learn, expected, spread, slow)
        self.done("innovation")
        edge = boundary(self._rows)
        calm = level < 0.5 * edge
        state, admit = self._states.step(errors, learn, calm, slow, step)
        self.done("state")
        novelty = self._values.step(values, learn, time_us)
        self.done("value and day")

        own = np.empty((n, len(WITNESSES)))  # [n, V] surprise of each witness, corrected for its own looks
        own[:, 0] = level
        own[:, 1] = np.maximum(innovation.max(axis=1, initial=0.0) - math.log(2 * C), 0.0)
        own[:, 2] = state
        newest = novelty.max(axis=1, initial=0.0)  # [n, 2] of value and day
        own[:, 3:] = np.maximum(newest - math.log(C), 0.0)
        combined = np.maximum(np.maximum(level, state) - math.log(2.0), 0.0)
        score = (combined / edge).astype(np.float32)
        self._seen["score"][:n] = score

        emitted = self._watch.step(own[:, 3] / NOVELTY_EDGE, own[:, [4, 0, 1]] / _MUTED_EDGES, time_us, step)
        # The block maxima of the novelties are calibrated on themselves, however many channels there are.
        alert = self._alert.step(np.concatenate((own[:, [0, 2]], newest), axis=1))
        self.done("tiers")
        warming = self._level.state["steps"][:n] <= self._warmup
        share, sign = _explain(own, innovation, distance, novelty, errors)
        return Detection(
            score=score,
            log_p=-combined,
            emitted=np.where(warming, np.float32(0.0), emitted),
            alert=np.where(warming, np.float32(0.0), alert.max(axis=1, initial=0.0)),
            witness=(own / edge).astype(np.float32),
            share=share,
            sign=sign,
            warming=warming,
            admit=admit,
        )

    def nearest(
        self, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]:
        """Return, for the newest step of ``rows``, what the nearest remembered state is.

        Returns:
            [k] its step index (−1: none), [k] its distance, [k] the channel that differs most.
        """
        return self._states.nearest(rows)


def _explain(
    own: NDArray[np.float64],
    innovation: NDArray[np.float64],
    distance: NDArray[np.float32],
    novelty: NDArray[np.float32],
    errors: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return each channel's share of the strongest witness's evidence [n, C] and the side it lies on [n, C]."""
    known = np.nan_to_num(errors, nan=0.0)
    by_witness = np.stack(
        (distance.astype(np.float64) ** 2, innovation, known * known, novelty[:, :, 0], novelty[:, :, 1]), axis=1
    )  # [n, V, C]
    strongest = own.argmax(axis=1)
    evidence = by_witness[np.arange(len(own)), strongest]  # [n, C]
    total = evidence.sum(axis=1, keepdims=True)
    share = np.where((total > 0.0) & (own.max(axis=1, keepdims=True) > 0.0), evidence / np.maximum(total, 1e-300), 0.0)
    return share.astype(np.float32), np.sign(known).astype(np.int8)
