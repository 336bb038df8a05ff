"""Stuck sensors: a value that stays exactly the same for longer than its channel's own past makes likely.

Each channel of each entity has a past of runs of equal values. A long run is suspicious only where repeats are rare
(a geometric law of run lengths) and where no run of the past came near: quantised channels, counts that are zero at
night and channels that never move are left in peace. The value that rests longest (that zero) has a past of its own,
so that a frozen count at noon is not excused by the nights.

Legend: n entities in use, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from models.wording import channel_text, clean, duration_text, moment_text, number_text, unit_text
from pipeline.casebook import Casebook, Finding, Moment, StreamFacts
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, Incident, Json, Kind, Phase, Severity, rfc3339
from pipeline.lifecycle import LifePolicy

_NEVER = np.iinfo(np.int64).max // 4
"""A first step in the far future: no age is ever enough."""
# A run must be this many times as long as the longest of the past. Nights grow longer by less than that in a season.
_LONGER_THAN_PAST = 2.0
# A run that was called stuck may lengthen the past by this factor only: one fault must not hide the next one.
_GROWTH = 1.25
# Values of the active past, and time, that a channel must have before anything is said of it: a first night, and for
# rests a first weekend, must have been seen.
_LEAST_PAST = 50
_DAY_US = 86_400_000_000
_LEAST_AGE_US = 2 * _DAY_US
_LEAST_AGE_AT_REST_US = 8 * _DAY_US
# Counts of repeats fade with about this many values, so that a sensor's new resolution is learned within days.
_MEMORY = 5_000.0


class Stuck:
    """Tells which channels have stopped moving, and since when."""

    def __init__(
        self,
        facts: StreamFacts,
        channels: Sequence[str],
        units: Sequence[str],
        min_steps: int = 6,
        log_p: float = math.log(1e-6),
        enabled: Sequence[bool] | None = None,
        life: LifePolicy | None = None,
        severity: Severity = Severity.WARNING,
        capacity: int = 64,
    ) -> None:
        """Tell of channels that are stuck.

        Args:
            facts: about the stream.
            channels: names of the C channels.
            units: their UCUM units.
            min_steps: no shorter run is ever called stuck.
            log_p: how improbable a run must be.
            enabled: [C] which channels to watch; all if None.
            life: ends as soon as the value moves by default.
            severity: of all its incidents.
            capacity: entity slots to begin with.
        """
        self.facts = facts
        self.channels = tuple(channels)
        self.units = tuple(units)
        self.min_steps = min_steps
        self.log_p = log_p
        self.severity = severity
        self._enabled = np.ones(len(channels), np.bool_) if enabled is None else np.asarray(enabled, np.bool_)
        C = (len(channels),)
        self.state = RowState(capacity)
        self.state.add("value", C, np.float64, np.nan)
        self.state.add("first_step", C, np.int64, _NEVER)
        self.state.add("run", C, np.int32)
        self.state.add("run_step", C, np.int64)
        self.state.add("run_learns", C, np.bool_)
        self.state.add("values", C, np.float32)
        self.state.add("repeats", C, np.float32)
        # The longest past run at the value that rests longest (zero at night), and at all others.
        self.state.add("rest_value", C, np.float64, np.nan)
        self.state.add("rest_run", C, np.float32)
        self.state.add("other_run", C, np.float32)
        self._book = Casebook(Kind.STUCK, channels, facts, life or LifePolicy(), self.state)

    @property
    def books(self) -> tuple[Casebook]:
        """The book of its incidents."""
        return (self._book,)

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)

    def open_incidents(self) -> list[Incident]:
        """Return all open incidents."""
        return self._book.open_incidents()

    def step(self, frames: Frames, now_us: int) -> list[AlertMessage]:
        """Take one step; return what has stuck and what moves again. A missing value neither moves nor repeats."""
        n = len(frames.values)
        moment = Moment(frames.step, frames.time_us, now_us)
        a = {name: array[:n] for name, array in self.state.arrays.items()}
        present = ~np.isnan(frames.values)
        same = present & (frames.values == a["value"])
        moved = present & ~same
        self._learn(a, moved & a["run_learns"])
        a["first_step"][moved & (a["first_step"] == _NEVER)] = frames.step
        a["run"][moved] = 0
        a["run_step"][moved] = frames.step
        a["run_learns"][moved] = True
        a["value"][moved] = frames.values[moved]
        a["run"][present] += 1
        a["run_learns"] &= frames.learn | ~present
        evidence = self._improbable(a, same & self._enabled & (a["run"] >= self.min_steps), frames.step)

        def describe(row: int, lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            return self._describe(moment, row, lane, phase, incident)

        return self._book.advance(moment, evidence, ~moved, present, describe)

    def revise(self, new: Frames, now_us: int) -> list[AlertMessage]:
        """Return the corrections that late data brings: a channel that moved within its run was not stuck.

        Args:
            new: a revised frame; its ``rows`` say whose.
            now_us: the wall clock.
        """
        assert new.rows is not None
        moment = Moment(new.step, new.time_us, now_us)
        messages: list[AlertMessage] = []
        for row, lane in self._book.places():
            at = np.flatnonzero(new.rows == row)
            if len(at) == 0 or not self.state["run_step"][row, lane] < new.step:
                continue
            incident, value = self._book.get(row, lane), new.values[at[0], lane]
            if incident is None or math.isnan(value) or new.time_us > incident.opened_us:
                continue
            if value != self.state["value"][row, lane]:
                # What came after the revised step is what is left of the run.
                self.state["run"][row, lane] = 1
                self.state["run_step"][row, lane] = new.step
                reason = f"{channel_text(self.channels[lane])} was not stuck: late data shows that it moved."
                messages += self._book.withdraw(moment, row, lane, reason)
        return messages

    def rows_shared(self, slots: NDArray[np.intp]) -> Json:
        """Return the open incidents of ``slots`` for a checkpoint."""
        return self._book.rows_shared(slots)

    def restore_rows_shared(self, slots: NDArray[np.intp], saved: Any) -> None:
        """Take up what ``rows_shared`` gave, in the same order."""
        self._book.restore_rows_shared(np.asarray(slots), saved)

    def clear(self) -> None:
        """Forget all open incidents and say nothing: they live on elsewhere."""
        self._book.clear()

    # ---- inner ----

    def _improbable(self, a: dict[str, NDArray[Any]], long: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
        """Return [n, C] which of the long runs are too long for chance and for the channel's past."""
        evidence = np.zeros_like(long)
        at = np.nonzero(long)
        if len(at[0]) == 0:
            return evidence
        run, values, resting = a["run"][at], a["values"][at], a["value"][at] == a["rest_value"][at]
        repeating = (a["repeats"][at] + 1) / (values + 2)  # Laplace's rule: never 0, never 1
        by_chance = (run - 1) * np.log(repeating) <= self.log_p
        by_past = run > _LONGER_THAN_PAST * np.where(resting, a["rest_run"][at], a["other_run"][at])
        age_us = (step - a["first_step"][at]) * self.facts.step_us
        known = (age_us >= np.where(resting, _LEAST_AGE_AT_REST_US, _LEAST_AGE_US)) & (values >= _LEAST_PAST)
        evidence[at] = by_chance & by_past & known
        return evidence

    def _learn(self, a: dict[str, NDArray[Any]], ended: NDArray[np.bool_]) -> None:
        """Take the runs that ended into the past; of one that was called stuck only a little."""
        at = np.nonzero(ended)
        if len(at[0]) == 0:
            return
        stuck = self._book.life.open(len(ended))[at]
        value, rest_value = a["value"][at], a["rest_value"][at]
        rest, other = a["rest_run"][at], a["other_run"][at]
        resting = value == rest_value
        run = a["run"][at].astype(np.float32)
        run = np.where(stuck, np.minimum(run, _GROWTH * np.where(resting, rest, other) + 1), run)
        fade = np.where(a["values"][at] > _MEMORY, _MEMORY / (a["values"][at] + run), np.float32(1))
        takes_over = ~resting & (run > rest)
        # Rests say nothing about how often the channel repeats while it is active.
        active = np.where(resting | takes_over, 0, run)
        a["values"][at] = (a["values"][at] + active) * fade
        a["repeats"][at] = (a["repeats"][at] + np.maximum(active - 1, 0)) * fade
        a["other_run"][at] = np.where(
            takes_over, np.maximum(other, rest), np.where(resting, other, np.maximum(other, run))
        )
        a["rest_run"][at] = np.where(resting | takes_over, np.maximum(rest, run), rest)
        a["rest_value"][at] = np.where(takes_over, value, rest_value)

    def _describe(self, moment: Moment, row: int, lane: int, phase: Phase, incident: Incident | None) -> Finding:
        name = channel_text(self.channels[lane])
        entity = clean(self.facts.entity(row))
        if phase is Phase.RESOLVED:
            assert incident is not None
            since = incident.explanation.get("since_us")
            begun_us = since if isinstance(since, int) else incident.started_us
            lasted = duration_text((moment.time_us - begun_us) / 1e6)
            return Finding(f"{name} of {entity} moves again after {lasted}.", incident.explanation)
        value, run = float(self.state["value"][row, lane]), int(self.state["run"][row, lane])
        at_rest = value == self.state["rest_value"][row, lane]
        longest = int(self.state["rest_run" if at_rest else "other_run"][row, lane])
        since_us = int(self.state["run_step"][row, lane]) * self.facts.step_us
        reason = (
            f"{name} of {entity} has been exactly {number_text(value)}{unit_text(self.units[lane])} for {run} steps, "
            f"since {moment_text(since_us)}; before it never stayed so for more than {longest}."
        )
        explanation: dict[str, Json] = {
            "channel": self.channels[lane], "unit": self.units[lane], "observed": value, "run_steps": run,
            "longest_run_before": longest, "since": rfc3339(since_us), "since_us": since_us,
        }  # fmt: skip
        return Finding(reason, explanation, severity=self.severity)
