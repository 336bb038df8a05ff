"""Seeded faults in copies of held-out data: does a contender's forecast still let the detector find them?

The faults are the demo's (``pipeline.injection``), but in steps instead of hours and in the series' own spread, so that
they fit any stream. Sizes straddle what can just be found: faults that everybody finds tell nobody apart.

Legend: D copies, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import injection
from pipeline.planted import FaultKind

APART = 60
"""Steps between two faults on one copy, for what was learned from the first to fade."""
TOLERANCE = 3
"""Steps after its end in which a fault may still be found."""
ECHO = 24
"""Steps after a fault in which an opening is its echo, not false: the return to normal looks like a new event."""
MOST_PER_COPY = 6
_TRIES = 8
_LONGEST = 48
"""Steps; no fault is longer."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    kind: FaultKind
    inject: injection.Injection
    steps: tuple[int, int]
    """Shortest and longest duration."""
    sizes: tuple[float, float]
    """Smallest and largest factor on the size that the demo plants."""


_RECIPES = (
    _Recipe(FaultKind.SPIKE, injection.spike, (1, 2), (0.7, 3.0)),
    _Recipe(FaultKind.LEVEL_SHIFT, injection.level_shift, (12, 36), (0.7, 4.0)),
    _Recipe(FaultKind.NOISE, injection.noise, (8, 24), (0.7, 3.0)),
    _Recipe(FaultKind.DRIFT, injection.drift, (24, _LONGEST), (0.7, 2.5)),
    _Recipe(FaultKind.STUCK, injection.stuck, (24, _LONGEST), (1.0, 1.0)),
)


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault in a copy, in steps of the held-out part."""

    copy: int
    kind: FaultKind
    channel: int
    start: int
    """First faulty step."""
    end: int
    """One past the last faulty step."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one contender's detector said about the copies."""

    by_alert: NDArray[np.bool_]
    """By fault, whether the alert tier spoke in time."""
    by_watch: NDArray[np.bool_]
    """The same of the watch tier."""
    false_alerts: int
    """Openings of the alert tier that no fault explains."""
    false_watches: int

    @property
    def found(self) -> NDArray[np.bool_]:
        """By fault, whether any tier spoke in time."""
        return self.by_alert | self.by_watch


def spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [D, C] the standard deviation of one-step changes, robust and > 0, of ``values`` [D, T, C] of the past.

    A channel that never moves gets a thousandth of its level.
    """
    changes = np.abs(np.diff(values, axis=1))
    level = np.abs(_mean(values)) + 1e-9
    usual = _mean(changes)
    winsorised = np.minimum(changes, np.maximum(8.0 * usual, 1e-12)[:, None])
    return np.maximum(1.2533 * _mean(winsorised), 1e-3 * level)


def plant(
    values: NDArray[np.float64], first: int, scales: NDArray[np.float64], step_s: float, seed: int
) -> tuple[NDArray[np.float64], list[InjectedFault]]:
    """Return a copy of ``values`` [D, T, C] with faults behind ``first``, and what they are; the input stays.

    Only values change, never the marks of what may be learned: nobody tells the detector.

    Args:
        values: one row per copy; NaN stays NaN.
        first: first step that may be touched; those before it stay as they are.
        scales: [D, C] the series' own spreads.
        step_s: seconds of a step.
        seed: of the places, sizes and kinds; the same seed plants the same faults.
    """
    rng = np.random.default_rng([seed, 5])
    faulty = values.copy()
    faults: list[InjectedFault] = []
    kinds = list(_RECIPES)
    for copy in range(len(values)):
        free = values.shape[1] - first - APART // 2
        count = min(MOST_PER_COPY, max(free // (APART + _LONGEST), int(free > APART + ECHO)))
        for i in range(count):
            if not kinds:
                kinds = list(_RECIPES)
            recipe = kinds.pop(int(rng.integers(len(kinds))))  # dealt like cards: all kinds are about as frequent
            slot = free // count
            room = (first + APART // 2 + i * slot, first + APART // 2 + (i + 1) * slot - APART)
            fault = _plant_one(rng, recipe, values[copy], faulty[copy], scales[copy], room, step_s)
            if fault is not None:
                channel, start, end = fault
                faults.append(InjectedFault(copy, recipe.kind, channel, start - first, end - first))
    return faulty, faults


def _plant_one(
    rng: np.random.Generator,
    recipe: _Recipe,
    clean: NDArray[np.float64],
    faulty: NDArray[np.float64],
    scales: NDArray[np.float64],
    room: tuple[int, int],
    step_s: float,
) -> tuple[int, int, int] | None:
    """Change ``faulty`` [T, C] within ``room``; return channel, start and end, None where nothing there has values."""
    for _ in range(_TRIES):
        length = int(rng.integers(recipe.steps[0], recipe.steps[1] + 1))
        start = int(rng.integers(room[0], max(room[0] + 1, room[1] - length + 1)))
        channel = int(rng.integers(clean.shape[1]))
        there = np.isfinite(clean[start - 1 : start + length, channel])
        if not there[0] or there.mean() < 0.8:
            continue
        size = float(rng.uniform(*recipe.sizes))
        site = injection.Site(faulty, clean, size * scales, [channel], step_s, start, start + length, rng)
        recipe.inject(site)
        if np.array_equal(faulty[start : site.end], clean[start : site.end], equal_nan=True):
            continue  # a value that stood still anyway is not stuck
        return channel, start, start + length
    return None


def reckon(
    alert: NDArray[np.float32],
    emitted: NDArray[np.float32],
    faults: Sequence[InjectedFault],
    counted: NDArray[np.bool_],
    quiet: int,
) -> Findings:
    """Return which faults were found and how often there were openings about nothing.

    Args:
        alert: [D, T] the alert tier's scores over the held-out steps.
        emitted: [D, T] the watch tier's.
        faults: what was planted.
        counted: [D] copies whose false openings count: one per entity, or one real event would count many times.
        quiet: steps without an alarm after which another one is a new opening.
    """
    explained = np.zeros(alert.shape, np.bool_)
    by_alert, by_watch = np.zeros(len(faults), np.bool_), np.zeros(len(faults), np.bool_)
    for i, fault in enumerate(faults):
        span = slice(fault.start, fault.end + TOLERANCE)
        by_alert[i] = (alert[fault.copy, span] >= 1.0).any()
        by_watch[i] = (emitted[fault.copy, span] >= 1.0).any()
        explained[fault.copy, fault.start : fault.end + ECHO] = True
    outside = counted[:, None] & ~explained
    return Findings(
        by_alert,
        by_watch,
        int((openings(alert >= 1.0, quiet) & outside).sum()),
        int((openings(emitted >= 1.0, quiet) & outside).sum()),
    )


def openings(alarms: NDArray[np.bool_], quiet: int) -> NDArray[np.bool_]:
    """Return [D, T] the alarms that come after at least ``quiet`` steps without one."""
    T = alarms.shape[1]
    at = np.where(alarms, np.arange(T), -quiet - 1)
    before = np.maximum.accumulate(at, axis=1)
    last = np.concatenate((np.full((len(alarms), 1), -quiet - 1), before[:, :-1]), axis=1)
    return alarms & (np.arange(T) - last > quiet)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [D, C] the mean over the steps that are there; 0 where none is."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
