"""Drift: whether a stream's scores or forecast errors are no longer what they were, by River's ADWIN and Page-Hinkley.

Both tests take their input for independent numbers of one mean; a sensor stream's are neither. So each signal is first
made into what they expect: averaged over blocks of about an hour, less what that hour of the day usually brings, less
what follows from the block before (its autocorrelation), in robust spreads, and winsorised.

Measured on 8 seeds of 20,000 steps of 10 minutes: independent, skewed and daily noise never fires; noise with a memory
of eight hours fires once in all, where it did 14 times a run before its memory was taken out. A shift by two standard
deviations is told within 6 hours (median; 10 beside a daily cycle). What remembers for hours has to shift by more: by 4
for a memory of 1.6 hours, while beyond that a shift cannot be told from wandering.

Legend: n entities, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from river import drift

BLOCK_S = 3600.0
SEASON_S = 86_400.0
LEARN_BLOCKS = 72
"""Blocks, after the first season, from which a signal's spread and memory are learned: three days of hours."""

_PROFILE_RATE = 1.0 / 7.0  # of a season's new value in its profile: about a week is remembered
_WINSOR = 4.0  # spreads beyond which a block counts no more, so that one incident is no drift
_MOST_MEMORY = 0.95  # autocorrelation taken out at most; at 1 no shift could ever be seen
_ADWIN_DELTA = 1e-3  # Bifet and Gavalda (2007): chance of a false cut; the bound is loose, real ones are far rarer
_LEAST_WINDOW = 24  # blocks before either test may speak
_PAGE_DELTA = 0.25  # half of the smallest shift worth a training, in spreads of a block
_PAGE_THRESHOLD = 20.0  # Page (1954): with 4 spreads a block at most, no fewer than 6 blocks make a drift

SCORE_QUANTILE = 0.75
_LARGEST_SCORE = 2.0  # the boundary is 1: what is beyond twice that is an incident, however far
_LARGEST_RESIDUAL = 6.0


def summarise_scores(score: NDArray[np.float32], warming: NDArray[np.bool_] | None = None) -> float:
    """Return the upper quartile of a step's scores [n]; NaN when no entity that is warm has one."""
    usable = np.isfinite(score) if warming is None else np.isfinite(score) & ~warming
    if not usable.any():
        return math.nan
    return float(np.quantile(np.minimum(score[usable], _LARGEST_SCORE), SCORE_QUANTILE))


def summarise_residuals(scaled: NDArray[np.float64]) -> float:
    """Return the mean size of a step's forecast errors [n, C], in scale units; NaN when there is none."""
    size = np.abs(scaled[np.isfinite(scaled)])
    return float(np.minimum(size, _LARGEST_RESIDUAL).mean()) if len(size) else math.nan


class DriftWatch:
    """Watches one stream's two signals; one number each per step, a microsecond but at the end of a block.

    Its state is small and may be lost: after a restart it learns anew for some days. So it does after each drift,
    since what came then is the new normal.

    >>> watch = DriftWatch(step_s=600.0)
    >>> watch.update(0.3, 1.0)
    frozenset()
    """

    def __init__(
        self,
        step_s: float,
        *,
        block_s: float = BLOCK_S,
        season_s: float | None = SEASON_S,
        learn_blocks: int = LEARN_BLOCKS,
    ) -> None:
        """Expect a step every ``step_s``; steps longer than ``block_s`` are a block each.

        Args:
            step_s: the stream's step.
            block_s: over so long the signals are averaged.
            season_s: a cycle whose profile is taken out; None, or not longer than two blocks: none is.
            learn_blocks: blocks from which each signal's spread and memory are learned before it is watched.

        Raises:
            ValueError: if a length is not positive, or there is too little to learn from.
        """
        if step_s <= 0 or block_s <= 0 or (season_s is not None and season_s <= 0):
            raise ValueError(f"step ({step_s} s), block ({block_s} s) and season ({season_s} s) must be longer than 0")
        if learn_blocks < _LEAST_WINDOW:
            raise ValueError(f"a spread cannot be learned from {learn_blocks} blocks; {_LEAST_WINDOW} are needed")
        steps = max(1, round(block_s / step_s))
        bins = 1 if season_s is None else round(season_s / (steps * step_s))
        profile = (season_s or 0.0) if bins > 2 else 0.0
        self._signals = {
            name: _Signal(steps, steps * step_s, profile, bins, learn_blocks) for name in ("score", "residual")
        }

    def update(self, score_summary: float, residual_summary: float) -> frozenset[str]:
        """Take a step's summaries, NaN where there is none; return what has drifted: of "score" and "residual"."""
        drifted = [
            name
            for (name, signal), value in zip(self._signals.items(), (score_summary, residual_summary), strict=True)
            if signal.update(value)
        ]
        return frozenset(drifted)

    def start_anew(self) -> None:
        """Learn anew what is normal: another forecaster is in charge, whose errors are not those of the one before."""
        for signal in self._signals.values():
            signal.begin()


@dataclass(slots=True)
class _Profile:
    """What each part of the season usually brings."""

    season_s: float
    mean: list[float]
    seen: list[int]

    def deviation(self, value: float, at_s: float) -> float | None:
        """Return the distance from what this part of the season brought before, and learn; None: it is the first."""
        bins = len(self.mean)
        i = min(bins - 1, int(at_s % self.season_s / self.season_s * bins))
        before = self.mean[i] if self.seen[i] else None
        self.seen[i] += 1
        self.mean[i] += (value - self.mean[i]) * max(1.0 / self.seen[i], _PROFILE_RATE)
        return None if before is None else value - before


@dataclass(slots=True)
class _Whitener:
    """Turns blocks into independent numbers of spread 1, by what the first ones taught; frozen then.

    It must not learn on: a spread and a memory that follow a shift would hide it.
    """

    learn_blocks: int
    first: list[float] = field(default_factory=list)
    middle: float = 0.0
    memory: float = 0.0
    spread: float = 1.0
    before: float = 0.0

    def whiten(self, value: float) -> float | None:
        """Return the innovation of ``value`` in spreads, winsorised; None while it still learns."""
        if len(self.first) < self.learn_blocks:
            self.first.append(value)
            if len(self.first) == self.learn_blocks:
                self._learn()
            return None
        value -= self.middle
        innovation = (value - self.memory * self.before) / self.spread
        self.before = value
        return min(max(innovation, -_WINSOR), _WINSOR)

    def _learn(self) -> None:
        blocks = np.array(self.first)
        self.middle = float(np.median(blocks))
        blocks = blocks - self.middle
        reach = _WINSOR * float(blocks.std())
        tame = np.clip(blocks, -reach, reach)
        power = float(tame @ tame)
        if power > 0:
            found = float(tame[1:] @ tame[:-1]) / power
            found += (1.0 + 3.0 * found) / len(tame)  # short samples show too little of it (Kendall 1954)
            self.memory = min(max(found, 0.0), _MOST_MEMORY)
        rest = blocks[1:] - self.memory * blocks[:-1]
        robust = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
        least = 1e-6 * max(1.0, abs(self.middle))  # a constant signal has no spread; its least change is no drift
        self.spread = max(robust, 0.5 * float(rest.std()), least)
        self.before = float(blocks[-1])


class _Signal:
    """One number per step, made fit for the tests, and the tests."""

    def __init__(self, steps: int, block_s: float, season_s: float, bins: int, learn_blocks: int) -> None:
        self._steps = steps
        self._block_s = block_s
        self._season_s = season_s
        self._bins = bins
        self._learn_blocks = learn_blocks
        self._sum, self._count, self._step = 0.0, 0, 0
        self._blocks = 0
        self.begin()

    def begin(self) -> None:
        """Forget everything but the part of the season."""
        self._profile = _Profile(self._season_s, [0.0] * self._bins, [0] * self._bins) if self._season_s else None
        self._whitener = _Whitener(self._learn_blocks)
        # Checked at every block: they are an hour apart.
        self._adwin = drift.ADWIN(delta=_ADWIN_DELTA, clock=1, grace_period=_LEAST_WINDOW)
        # alpha 1: sums that forget would forget a slow shift; delta alone holds them down.
        self._page = drift.PageHinkley(
            min_instances=_LEAST_WINDOW, delta=_PAGE_DELTA, threshold=_PAGE_THRESHOLD, alpha=1.0
        )

    def update(self, value: float) -> bool:
        """Take a step's number; return whether a drift was seen."""
        self._step += 1
        if math.isfinite(value):
            self._sum += value
            self._count += 1
        if self._step < self._steps:
            return False
        mean = self._sum / self._count if self._count else None
        self._sum, self._count, self._step = 0.0, 0, 0
        self._blocks += 1
        return mean is not None and self._block(mean)

    def _block(self, mean: float) -> bool:
        if self._profile is not None:
            deviation = self._profile.deviation(mean, (self._blocks - 1) * self._block_s)
            if deviation is None:
                return False
            mean = deviation
        white = self._whitener.whiten(mean)
        if white is None:
            return False
        self._adwin.update(white)
        self._page.update(white)
        drifted = bool(self._adwin.drift_detected or self._page.drift_detected)
        if drifted:
            self.begin()
        return drifted
