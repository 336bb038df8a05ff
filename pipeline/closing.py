"""Closing: which steps take readings in, which are due, and what late readings change; what is in them is left open.

Legend: C channels, n readings, k rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from pipeline.frames import Frames
from pipeline.held import HeldReadings, ReadingColumns
from pipeline.revising import Published
from pipeline.window_state import NO_STEP, cells

# Of a longer gap that closes at once only so many steps become frames: a year of empty 1 s steps serves nobody.
_MAX_GAP_STEPS = 10_000
# One call of `close` returns at most this many frames, and about this many values: 64 MB.
_MAX_FRAMES = 256
_MAX_FRAME_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class Added:
    """What became of those readings of one ``add`` that did not go into an open step."""

    late: int
    """Readings that were dropped: their step was closed too long ago to be revised."""
    revised_steps: tuple[int, ...] = ()
    """Closed steps that changed; ``take_revisions`` has their frames."""


class Bounds(NamedTuple):
    """Which steps take readings in now."""

    oldest: int
    """The first step that may still change."""
    next_step: int
    """The first step not closed yet."""
    end: int
    """The first step for which there is no room yet."""


class Taken(NamedTuple):
    """What became of readings that were put into their steps."""

    late: int
    ahead: NDArray[np.int64]
    """Indexes of the readings for which there is no room yet."""
    first_step: int
    newest_step: int
    """Below every step when no reading went into a step."""
    revised_steps: tuple[int, ...]


class Closing(ABC):
    """Opens and closes the steps of accumulators that a subclass fills and reads."""

    def __init__(self, state: RowState, channels: int, step_us: int, grace_us: int, revisable: int, ring: int) -> None:
        """Close steps of ``state``, which has ``ring`` positions, ``revisable`` of them for closed steps."""
        self.state = state
        self.step_us = step_us
        self.grace_us = grace_us
        self.next_step: int | None = None
        """First step not closed yet; None before the first watermark."""
        self.skipped_steps = 0
        """Steps without a reading that got no frame, because more than 10,000 of them closed at once."""
        self._channel_count = channels
        self._revisable = revisable
        self._ring = ring
        self._published = Published(state, ring, step_us)
        self._held = HeldReadings(step_us)
        self._first_step: int | None = None
        self._newest_step: int | None = None
        self._started = False
        self._gap_seen_to = NO_STEP
        self._revised: set[int] = set()
        self._ready: list[Frames] = []

    @abstractmethod
    def _put(self, readings: ReadingColumns, bounds: Bounds) -> Taken:
        """Put readings into their steps, in order; note rows and ring positions of closed steps in ``touched``."""

    @abstractmethod
    def _collect(self, step: int, rows: NDArray[np.intp]) -> Frames:
        """Return the frames [k, C] of ``step`` for ``rows``."""

    @abstractmethod
    def _reaches_on(self) -> bool:
        """Return whether a change of one step may change those after it."""

    # ---- out ----

    def close(self, watermark_us: int) -> list[Frames]:
        """Return the next frames whose end and grace the watermark has passed, in order; call until none is left.

        Steps in which nothing came are frames of missing values, from the first reading on; of a gap of more than
        10,000 such steps that closes at once only the last 10,000 are, and ``skipped_steps`` counts the others. One
        call returns at most 256 frames, fewer for many entities, so that a long catch-up stays small in memory.
        """
        due = (watermark_us - self.grace_us) // self.step_us
        self._ready += self._revisions()  # now, for closing may need their place in the ring
        self._begin(due)
        n = self._used()
        limit = min(_MAX_FRAMES, 1 + _MAX_FRAME_VALUES // max(1, n * self._channel_count))
        closed: list[Frames] = []
        while self._started and self.next_step is not None and self.next_step <= due and len(closed) < limit:
            self._skip_gap(self.next_step, due)
            self._let_in()
            closed.append(self._close_step(self.next_step))
        self._let_in()
        return closed

    def take_revisions(self) -> list[Frames]:
        """Return, for each closed step that late readings changed, what was said (OUTDATED) and then what is so (NEW).

        A late counter reading also changes the increase after it, so later steps may be among them.
        """
        ready, self._ready = self._ready + self._revisions(), []
        return ready

    def last_time_us(self) -> int:
        """Return the watermark that closes every step in which there is a reading; very low when there is none."""
        return NO_STEP if self._newest_step is None else self._newest_step * self.step_us + self.grace_us

    # ---- state ----

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` entity slots; never shrinks."""
        self.state.grow(capacity)

    def held(self, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the readings of ``rows`` that still wait for their step outside the ring, as columns.

        They belong into a checkpoint of these rows; {} when there are none, as is the rule but in a catch-up.
        """
        return self._held.of(rows)

    def restore_held(self, rows: NDArray[np.intp], columns: Mapping[str, NDArray[Any]]) -> None:
        """Take up what ``held`` gave, for entities whose slots are ``rows`` now."""
        readings = HeldReadings.at(rows, columns)
        if readings is not None:
            self._take(readings)

    def clear_held(self) -> None:
        """Forget the readings held aside: slots are about to get new meanings."""
        self._held = HeldReadings(self.step_us)

    def shared(self) -> dict[str, int | float | str]:
        """Return what a checkpoint keeps beside the rows: how far closing has come."""
        numbers = {
            "next_step": self.next_step,
            "first_step": self._first_step,
            "newest_step": self._newest_step,
            "started": int(self._started),
            "skipped_steps": self.skipped_steps,
        }
        return {name: number for name, number in numbers.items() if number is not None}

    def restore_shared(self, shared: Mapping[str, int | float | str]) -> None:
        """Take up what ``shared`` gave; where closing has come further here, it stays there."""
        self.next_step = _further(self.next_step, shared.get("next_step"))
        self._newest_step = _further(self._newest_step, shared.get("newest_step"))
        if self._first_step is None and "first_step" in shared:
            self._first_step = int(shared["first_step"])
        self._started = self._started or bool(shared.get("started", 0))
        self.skipped_steps = max(self.skipped_steps, int(shared.get("skipped_steps", 0)))

    # ---- inner ----

    def _used(self) -> int:
        """Return how many rows are in use; the state itself knows it, so that reset and restored rows count rightly."""
        used = np.flatnonzero(self.state["used"])
        return int(used[-1]) + 1 if len(used) else 0

    def _oldest_step(self, next_step: int) -> int:
        """Return the first step that readings may still change."""
        if not self._started or self._first_step is None:
            return next_step
        return min(next_step, max(self._first_step, next_step - self._revisable))

    def _take(self, readings: ReadingColumns) -> Added:
        if self.next_step is None:
            # There is no watermark yet, so nobody knows which steps will be open.
            self.state["used"][readings.slot] = True
            self._hold(readings)
            return Added(0)
        oldest = self._oldest_step(self.next_step)
        taken = self._put(readings, Bounds(oldest, self.next_step, oldest + self._ring))
        if taken.newest_step >= oldest:
            self._note(taken.first_step, taken.newest_step)
        if len(taken.ahead):
            self._hold(readings.take(taken.ahead))
        self._revised.update(taken.revised_steps)
        return Added(taken.late, taken.revised_steps)

    def _revisions(self) -> list[Frames]:
        if not self._revised or self.next_step is None:
            return []
        follow = self._reaches_on()
        steps = range(min(self._revised), self.next_step) if follow else sorted(self._revised)
        self._revised = set()
        rows = np.empty(0, np.intp)
        frames: list[Frames] = []
        for step in steps:
            touched = self.state["touched"][:, step % self._ring]
            changed = np.flatnonzero(touched)
            touched[changed] = False
            rows = np.union1d(rows, changed) if follow else changed
            frames += self._published.revise(self._collect(step, rows), rows)
        return frames

    def _hold(self, readings: ReadingColumns) -> None:
        self._note(*self._held.hold(readings))

    def _note(self, first: int, newest: int) -> None:
        self._first_step = first if self._first_step is None else min(first, self._first_step)
        self._newest_step = newest if self._newest_step is None else max(newest, self._newest_step)

    def _begin(self, due: int) -> None:
        """Settle where closing begins: at the first step that has a reading, if that is due."""
        if self._started or self._first_step is None:
            return
        self.next_step = _further(self.next_step, min(self._first_step, due + 1))
        self._started = self._first_step <= due

    def _skip_gap(self, begin: int, due: int) -> None:
        """Move on from ``begin`` when more than 10,000 steps without readings would close at once."""
        if due - begin < _MAX_GAP_STEPS or begin < self._gap_seen_to:
            return
        held = self._held.first_step()
        end = due + 1 if held is None else min(held, due + 1)
        if end - begin > _MAX_GAP_STEPS:
            steps = cells(self.state)["step"]
            end = int(steps[steps >= begin].min(initial=end))
        self._gap_seen_to = end
        if end - begin > _MAX_GAP_STEPS:
            self.next_step = end - _MAX_GAP_STEPS
            self.skipped_steps += self.next_step - begin

    def _let_in(self) -> None:
        """Let in the readings held aside whose steps the ring has reached."""
        if self.next_step is None or not len(self._held):
            return
        readings = self._held.release(self._oldest_step(self.next_step) + self._ring)
        if readings is not None:
            self._take(readings)

    def _close_step(self, step: int) -> Frames:
        rows = np.arange(self._used())
        frames = self._collect(step, rows)
        if self._revisable:
            self._published.say(frames, rows)
        self.next_step = step + 1
        return frames


def _further(mine: int | None, other: int | float | str | None) -> int | None:
    if other is None:
        return mine
    return int(other) if mine is None else max(mine, int(other))
