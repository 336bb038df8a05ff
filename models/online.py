"""River's online detectors for the cold start: scores from the first readings, until the calibrated detector is warm.

They know nothing of seasons, neighbours or budgets; they are what a trained model has to beat. River's traps are
guarded here: NaN would poison its statistics for good, a constant channel has no scale, and its scores saturate.

Legend: n entities in use, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from river import anomaly, proba

GRACE = 24  # values of a channel before it may say anything
WINDOW = 100  # values over which the half-space trees count; before that they say nothing
TREES, HEIGHT = 10, 6
WINSOR = 6.0  # standard deviations that learning ever sees, once past the grace
LARGEST_SCORE = 10.0
LARGEST_VALUE = 1e100  # beyond it squares overflow
LEAST_SCALE = 1e-9  # of the size of the mean; what varies less is constant
SQUASH = 3.0  # standard deviations that fill most of a tree's unit interval


class _Entity(Protocol):
    """A detector of one entity. ``surprise`` returns -ln p >= 0, finite, and changes nothing."""

    def surprise(self, values: list[float]) -> float: ...

    def learn(self, values: list[float]) -> None: ...


class _Scale:
    """The running normal distribution of one number, by river; winsorised, so that one absurd value does not last."""

    def __init__(self) -> None:
        self.normal = proba.Gaussian()

    def deviation(self, value: float) -> float:
        """Return the distance from the mean in standard deviations; 0 where not enough is known."""
        if self.normal.n_samples < GRACE:
            return 0.0
        floor = LEAST_SCALE * abs(self.normal.mu) + 1e-12
        return float((value - self.normal.mu) / max(self.normal.sigma, floor))

    def learn(self, value: float) -> None:
        if self.normal.n_samples >= GRACE:
            reach = WINSOR * max(self.normal.sigma, LEAST_SCALE * abs(self.normal.mu) + 1e-12)
            value = min(max(value, self.normal.mu - reach), self.normal.mu + reach)
        self.normal.update(value)


class _GaussianEntity:
    """Each channel against its own normal distribution; the least likely one speaks for the entity."""

    def __init__(self, channels: int, _seed: int) -> None:
        self.scales = [_Scale() for _ in range(channels)]

    def surprise(self, values: list[float]) -> float:
        largest = max((abs(s.deviation(v)) for s, v in zip(self.scales, values, strict=True) if v == v), default=0.0)
        return max(0.0, surprise_of_normal(largest) - math.log(len(values)))

    def learn(self, values: list[float]) -> None:
        for scale, value in zip(self.scales, values, strict=True):
            if value == value:  # not NaN
                scale.learn(value)


class _TreesEntity(_GaussianEntity):
    """Half-space trees over all channels together (Tan, Ting and Liu 2011); their score against its own past.

    They see odd combinations, but saturate at the border of what they saw: beyond it the single channels speak.
    """

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__(channels, seed)
        self.trees = anomaly.HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=seed)
        self.past = _Scale()
        self.learned = 0

    def _features(self, values: list[float]) -> dict[int, float]:
        """Return each channel in the unit interval; a missing one is in its middle, where ordinary values are."""
        pairs = zip(self.scales, values, strict=True)
        return {
            c: 0.5 + 0.5 * math.tanh(scale.deviation(value) / SQUASH) if value == value else 0.5
            for c, (scale, value) in enumerate(pairs)
        }

    def surprise(self, values: list[float]) -> float:
        alone = super().surprise(values)
        if self.learned < WINDOW:
            return alone
        together = self.past.deviation(float(self.trees.score_one(self._features(values))))
        return max(0.0, max(alone, surprise_of_normal(max(0.0, together))) - math.log(2.0))

    def learn(self, values: list[float]) -> None:
        features = self._features(values)
        if self.learned >= WINDOW:
            self.past.learn(float(self.trees.score_one(features)))
        if min(scale.normal.n_samples for scale in self.scales) >= GRACE:
            self.trees.learn_one(features)
            self.learned += 1
        super().learn(values)


KINDS: dict[str, Callable[[int, int], _Entity]] = {"gaussian": _GaussianEntity, "half_space_trees": _TreesEntity}


class OnlineDetector:
    """Scores entities from their first readings with one of river's detectors each.

    A Python object per entity: it is for entities that warm up, and bounded. Entities beyond the bound score 0.
    """

    def __init__(
        self, channels: int, alpha: float, kind: str = "gaussian", max_entities: int = 512, seed: int = 0
    ) -> None:
        """Know nothing yet.

        Args:
            channels: C.
            alpha: probability of a false alarm per step, 0 to 1; its surprise is score 1.0.
            kind: ``gaussian`` or ``half_space_trees``.
            max_entities: entities that may be followed at once.
            seed: of the trees.

        Raises:
            ValueError: if the kind is unknown or alpha is not a probability.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown online detector {kind!r}; known are {', '.join(sorted(KINDS))}")
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
        self._make, self._channels, self._seed = KINDS[kind], channels, seed
        self._boundary = -math.log(alpha)
        self._max_entities = max_entities
        self._entities: dict[int, _Entity] = {}

    def __len__(self) -> int:
        """Return how many entities are followed."""
        return len(self._entities)

    def score_many(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return [n] scores of the newest values; changes nothing.

        Args:
            values: [n, C], NaN where missing.

        Returns:
            Scores in 0 … LARGEST_SCORE, 1.0 at the boundary; 0 where too little is known or everything is missing.
        """
        scores = np.zeros(len(values), np.float32)
        for row, entity in self._entities.items():
            if row < len(values):
                surprise = entity.surprise(self._plain(values[row]))
                scores[row] = min(surprise / self._boundary, LARGEST_SCORE)
        return scores

    def learn_many(
        self, values: NDArray[np.float64], learn: NDArray[np.bool_], warming: NDArray[np.bool_] | None = None
    ) -> None:
        """Learn from one step.

        Args:
            values: [n, C], NaN where missing.
            learn: [n, C] where a value may be learned from.
            warming: [n] entities that still need this detector; the others are forgotten. None: all need it.
        """
        wanted = np.ones(len(values), np.bool_) if warming is None else warming
        for row in [r for r in self._entities if r < len(values) and not wanted[r]]:
            del self._entities[row]
        for row in np.flatnonzero(wanted).tolist():
            if row not in self._entities:
                if len(self._entities) >= self._max_entities:
                    continue
                self._entities[row] = self._make(self._channels, self._seed + row)
            self._entities[row].learn(self._plain(np.where(learn[row], values[row], np.nan)))

    def forget(self, rows: NDArray[np.intp]) -> None:
        """Make ``rows`` cold again: their slots belong to other entities now."""
        for row in rows.tolist():
            self._entities.pop(row, None)

    def _plain(self, values: NDArray[np.float64]) -> list[float]:
        return np.clip(values, -LARGEST_VALUE, LARGEST_VALUE).tolist()


def surprise_of_normal(deviation: float) -> float:
    """Return -ln of the two-sided tail of the normal distribution; by its asymptote where erfc would underflow.

    >>> round(surprise_of_normal(1.959964), 3), round(math.exp(-surprise_of_normal(0.0)), 3)
    (2.996, 1.0)
    """
    z = min(abs(deviation), 1e6)
    if z < 30.0:
        return -math.log(math.erfc(z / math.sqrt(2.0)))
    return 0.5 * z * z + math.log(z) + 0.5 * math.log(math.pi / 2.0)
