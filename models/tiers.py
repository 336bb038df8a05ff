"""The two tiers: a *watch* that deserves a look, and an *alert* that may wake someone and stays inside the budget.

Watch: only a new maximum of twelve hours speaks, each one raises the bar for two weeks, and three hours are silent
after one that counts (measured on NAB). Alert: every witness passes a controller of bounded authority that raises its
own bar at each crossing and lowers it while it is silent (measured on synthetic normal series).

Legend: E entities, V witnesses of the alert tier.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.state import RowState
from models.tails import BINS

HOUR_S = 3_600.0
DAY_S = 86_400.0
BLOCKS = 12  # block maxima in the twelve hours
FATIGUE, FATIGUE_DAYS = 0.04, 14.0  # per watch, and its half-life
MUTE, MUTE_DAYS, MUTE_ABOVE = 0.1, 60.0, 0.3  # per alarm of the voice, its half-life, what counts as one
REFRACTORY_HOURS = 3.0


@njit(cache=True, nogil=True, error_model="numpy")
def _is_new_maximum(value: float, maxima: Any, current: Any, block: int) -> bool:
    """Return whether ``value`` exceeds the last twelve blocks and the present one; then take it in."""
    n = maxima.shape[0] - 1  # the last place holds the maximum of the block being filled
    if current[0] != block:
        if current[0] >= 0:
            for b in range(current[0], min(block, current[0] + n)):
                maxima[b % n] = maxima[n]
                maxima[n] = 0.0
            if block - current[0] > n:
                maxima[:] = 0.0
        current[0] = block
    highest = 0.0
    for i in range(n + 1):
        highest = max(highest, maxima[i])
    maxima[n] = max(maxima[n], value)
    return value > highest


@njit(cache=True, nogil=True, error_model="numpy")
def _watch(n: int, plain: Any, muted: Any, block: int, step: int, keep_fatigue: float, keep_mute: float, silence: int,
           maxima: Any, current: Any, fatigue: Any, mute: Any, silent_until: Any, out: Any) -> None:
    V = muted.shape[1]
    for e in range(n):
        fatigue[e] *= keep_fatigue
        strongest = plain[e]
        spoken = 0.0
        for v in range(V):
            mute[e, v] *= keep_mute
            own = muted[e, v] * math.exp(-MUTE * mute[e, v])
            new = _is_new_maximum(muted[e, v], maxima[e, 1 + v], current[e, 1 + v], block)
            if new and muted[e, v] > MUTE_ABOVE:
                mute[e, v] += min(1.0, muted[e, v] * muted[e, v])
            if v == 0:
                strongest = max(strongest, own)
            elif new:
                spoken = max(spoken, own)
        if spoken * math.exp(-FATIGUE * fatigue[e]) < 1.0:
            spoken = 0.0  # an added voice that opens nothing may not tire the others
        if _is_new_maximum(strongest, maxima[e, 0], current[e, 0], block):
            spoken = max(spoken, strongest)
        out[e] = 0.0
        if spoken > 0.0:
            heard = spoken * math.exp(-FATIGUE * fatigue[e])
            fatigue[e] += min(1.0, spoken * spoken)
            if step >= silent_until[e]:
                out[e] = heard
                if heard >= 1.0:
                    silent_until[e] = step + silence


class WatchTier:
    """Lets a step speak only where it is a new maximum, and speak less where it has spoken often."""

    def __init__(self, capacity: int, step_s: float, muted: int) -> None:
        """Make room for ``capacity`` entities with one plain voice and ``muted`` muted ones; ``step_s`` in seconds."""
        self._block_us = int(max(HOUR_S, step_s) * 1e6)
        self._keep_fatigue = 0.5 ** (step_s / (FATIGUE_DAYS * DAY_S))
        self._keep_mute = 0.5 ** (step_s / (MUTE_DAYS * DAY_S))
        self._silence = int(REFRACTORY_HOURS * HOUR_S / step_s)
        self.state = RowState(capacity)
        self.state.add("maxima", (1 + muted, BLOCKS + 1), np.float32)
        self.state.add("current", (1 + muted, 1), np.int64, -1)
        self.state.add("fatigue", (), np.float32)
        self.state.add("mute", (muted,), np.float32)
        self.state.add("silent_until", (), np.int64, np.iinfo(np.int64).min)

    def step(
        self, plain: NDArray[np.float64], muted: NDArray[np.float64], time_us: int, step: int
    ) -> NDArray[np.float32]:
        """Return [n] what the tier lets through (>= 1 exactly where a watch opens, 0 where it is silent).

        Args:
            plain: [n] score of the voice that mutes itself by its nature (value novelty).
            muted: [n, muted] scores of the voices that are muted by their own recent alarms. The first shares the
                plain voice's twelve hours; each other one must only exceed its own.
            time_us: end of the step.
            step: its index.
        """
        s = self.state.arrays
        out = np.empty(len(plain), np.float32)
        _watch(len(plain), plain, muted, (time_us - 1) // self._block_us, step, self._keep_fatigue, self._keep_mute,
               self._silence, s["maxima"], s["current"], s["fatigue"], s["mute"], s["silent_until"], out)
        return out


AUTHORITY = (-0.5, 1.5)  # of a controller
PUSH = 0.15  # of a controller at each crossing
BLOCKS_PER_PERIOD = 60.0
LEAST_BLOCK = 10.0  # rows
BLOCK_MEMORY = 2_000.0  # block maxima
BIN = 0.12  # of ln(1 + surprise) in the block maxima's histogram
PRIORS = 20
PRIOR_EXCESS, PRIOR_COUNT = 2.4, 6.0
WINSOR = 3.0  # mean excesses above the threshold that learning of block maxima ever sees


@njit(cache=True, nogil=True, error_model="numpy")
def _block_tail(histogram: Any, law: Any) -> None:
    """Renew threshold u, −ln of the share above it, and mean excess from the histogram of block maxima."""
    count = 0.0
    for i in range(histogram.shape[0]):
        count += histogram[i]
    k = max(6.0, 0.2 * count)
    left, excess = k, 0.0
    law[0] = 0.0
    for i in range(histogram.shape[0] - 1, -1, -1):
        if left <= histogram[i] and histogram[i] > 0.0:
            law[0] = BIN * (i + 1.0 - left / histogram[i])
            break
        left -= histogram[i]
    for i in range(histogram.shape[0]):
        excess += histogram[i] * max(0.0, BIN * (i + 0.5) - law[0])
    law[1] = -math.log(k / (count + 1.0))
    law[2] = (excess + PRIOR_EXCESS) / (k + PRIOR_COUNT)


@njit(cache=True, nogil=True, error_model="numpy")
def _alert(n: int, surprises: Any, by_block: Any, rows: float, rest: float, block_rows: int, histograms: Any,
           laws: Any, highest: Any, filled: Any, bars: Any, quiet: Any, out: Any) -> None:
    V = surprises.shape[1]
    looks = math.log(V)
    for e in range(n):
        for v in range(V):
            if by_block[v]:
                y = math.log1p(surprises[e, v])
                law = laws[e, v]
                nominal = (law[1] + (y - law[0]) / law[2] - looks) / math.log(rows / block_rows)
                highest[e, v] = max(highest[e, v], min(y, law[0] + WINSOR * law[2]))
            else:
                nominal = (surprises[e, v] - looks) / math.log(rows)
            score = max(0.0, nominal) * math.exp(-bars[e, v])
            out[e, v] = score
            quiet[e, v] = min(quiet[e, v] + 1, 1 << 30)
            bars[e, v] -= PUSH / (4.0 * rows)
            if score >= 1.0 and quiet[e, v] >= rest:
                bars[e, v] += PUSH
                quiet[e, v] = 0
            bars[e, v] = min(max(bars[e, v], AUTHORITY[0]), AUTHORITY[1])
        filled[e] += 1
        if filled[e] >= block_rows:
            filled[e] = 0
            for v in range(V):
                if by_block[v]:
                    _take_block(histograms[e, v], laws[e, v], highest[e, v])
                highest[e, v] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _take_block(histogram: Any, law: Any, highest: float) -> None:
    for i in range(histogram.shape[0]):
        histogram[i] *= 1.0 - 1.0 / BLOCK_MEMORY
    histogram[min(int(highest / BIN), histogram.shape[0] - 1)] += 1.0
    _block_tail(histogram, law)


class AlertTier:
    """Keeps each witness inside its part of the false-alarm budget, by a controller of bounded authority."""

    def __init__(self, capacity: int, rows: float, by_block: tuple[bool, ...]) -> None:
        """Make room for ``capacity`` entities.

        Args:
            capacity: entity slots.
            rows: rows per false alarm.
            by_block: for each witness, whether its surprise is judged by the maxima of whole blocks of rows.
        """
        self._rows = rows
        self._block_rows = int(max(LEAST_BLOCK, rows / BLOCKS_PER_PERIOD))
        self._by_block = np.array(by_block)
        histogram, law = self._prior()
        V = len(by_block)
        self.state = RowState(capacity)
        self.state.add("histograms", (V, BINS), np.float32, histogram)
        self.state.add("laws", (V, 3), np.float32, law)
        self.state.add("highest", (V,), np.float32)
        self.state.add("filled", (), np.int32)
        self.state.add("bars", (V,), np.float64, 0.5 * PUSH)  # float64: a day's fall is far below float32's resolution
        self.state.add("quiet", (V,), np.int32, 1 << 30)

    def _prior(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the histogram and the law that twenty typical blocks would give."""
        histogram, law = np.zeros(BINS), np.zeros(3)
        middle = math.log1p(math.log(0.3 * self._block_rows))
        for i in range(PRIORS):
            y = middle - 0.4 * math.log(-math.log((i + 0.5) / PRIORS))
            histogram[int(min(max(y, 0.0) / BIN, BINS - 1))] += 1.0
        _block_tail(histogram, law)
        return histogram, law

    def step(self, surprises: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return [n, V] the controlled scores of the witnesses with ``surprises`` [n, V]; >= 1: alert."""
        s = self.state.arrays
        out = np.empty(surprises.shape, np.float32)
        _alert(len(surprises), surprises, self._by_block, self._rows, self._rows / BLOCKS_PER_PERIOD, self._block_rows,
               s["histograms"], s["laws"], s["highest"], s["filled"], s["bars"], s["quiet"], out)
        return out
