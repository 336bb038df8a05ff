"""River's forecasting baseline: what anyone can have for nothing, and what a network must beat to be worth its keep.

For each series and horizon a scaled linear regression by stochastic gradient descent on the last changes, the distance
from moving averages, and the time of day. Slow (a Python object per series), so it is for bounded samples.

Legend: S series, T steps, N horizons.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing, stats

HALF_LIVES = (3.0, 12.0, 48.0)
CHANGES = 3
LEARNING_RATE = 0.01
CLIP = 8.0
"""Scale units that features and targets are held within: one absurd value may not move the weights far."""
ERROR_GAIN = 1.0 / 700.0
ERROR_WINSOR = 4.0
MEAN_TO_DEVIATION = math.sqrt(math.pi / 2.0)
"""From a mean absolute error to the spread that forecasts are said with."""
_LARGEST = 1e100
_LEAST = 1e-12


class RiverForecaster:
    """Forecasts one series some steps ahead, learning from each value after it was forecast. NaN is survived."""

    def __init__(self, horizons: Sequence[int], steps_per_day: float) -> None:
        """Know nothing yet.

        Args:
            horizons: N steps ahead, each >= 1.
            steps_per_day: for the time of day.
        """
        self._horizons = tuple(horizons)
        self._per_day = steps_per_day
        self._scaler = preprocessing.StandardScaler()
        self._models = [
            linear_model.LinearRegression(
                optimizer=optim.SGD(LEARNING_RATE), intercept_lr=LEARNING_RATE, clip_gradient=CLIP
            )
            for _ in self._horizons
        ]
        self._averages = [stats.EWMean(fading_factor=1.0 - 0.5 ** (1.0 / h)) for h in HALF_LIVES]
        self._change_size = stats.EWMean(fading_factor=0.002)
        self._changes = deque([0.0] * CHANGES, maxlen=CHANGES)
        self._past: deque[tuple[dict[str, float], float, float]] = deque(maxlen=max(self._horizons))
        self._last = math.nan
        self._errors = [0.0] * len(self._horizons)
        self._counts = [0] * len(self._horizons)

    def observe(self, value: float, learn: bool, step: int) -> None:
        """Take the value of ``step`` (NaN: it is missing), learn from it if allowed, and be ready to forecast."""
        known = math.isfinite(value) and abs(value) < _LARGEST
        if known and learn:
            self._learn(value)
        if known:
            self._take(value)
        scale = self._scale()
        features = self._features(step, scale)
        if learn:
            self._scaler.learn_one(features)
        self._past.append((self._scaler.transform_one(features), self._last, scale))

    def forecast(self) -> tuple[list[float], list[float]]:
        """Return N middles and N spreads > 0; the middles are NaN before the first value."""
        features, last, scale = self._past[-1]
        middles = [last + scale * model.predict_one(features) for model in self._models]
        # Before the first errors: the size of the changes, growing as a random walk does.
        spreads = [
            MEAN_TO_DEVIATION * (error if count else scale * math.sqrt(h))
            for error, count, h in zip(self._errors, self._counts, self._horizons, strict=True)
        ]
        return middles, [max(spread, 1e-3 * scale, _LEAST) for spread in spreads]

    def _learn(self, value: float) -> None:
        for i, (model, h) in enumerate(zip(self._models, self._horizons, strict=True)):
            if len(self._past) < h:
                continue
            features, base, scale = self._past[-h]
            if math.isnan(base) or scale <= _LEAST:
                continue
            target = _held((value - base) / scale, CLIP * math.sqrt(h))
            error = abs(value - base - scale * model.predict_one(features))
            self._counts[i] += 1
            if self._errors[i] > 0.0 and self._counts[i] > 16:
                error = min(error, max(ERROR_WINSOR * self._errors[i], scale))
            self._errors[i] += max(1.0 / self._counts[i], ERROR_GAIN) * (error - self._errors[i])
            model.learn_one(features, target)

    def _take(self, value: float) -> None:
        change = 0.0 if math.isnan(self._last) else value - self._last
        if change != 0.0:
            usual = self._scale()
            self._change_size.update(min(abs(change), CLIP * usual) if usual > _LEAST else abs(change))
        self._changes.appendleft(change)
        for average in self._averages:
            average.update(value)
        self._last = value

    def _scale(self) -> float:
        """Return the mean size of a change; tiny while there was none."""
        return max(float(self._change_size.get() or 0.0), _LEAST)

    def _features(self, step: int, scale: float) -> dict[str, float]:
        angle = 2.0 * math.pi * (step % self._per_day) / self._per_day
        features = {"sin": math.sin(angle), "cos": math.cos(angle)}
        features |= {f"change{i}": _held(change / scale, CLIP) for i, change in enumerate(self._changes)}
        for half_life, average in zip(HALF_LIVES, self._averages, strict=True):
            away = 0.0 if math.isnan(self._last) else (self._last - average.get()) / scale
            features[f"away{half_life:g}"] = _held(away, CLIP * half_life)
        return features


def replay(
    values: NDArray[np.float64],
    learn: NDArray[np.bool_],
    step0: int,
    step_us: int,
    horizons: Sequence[int],
    first: int,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return what River would have forecast at each step from ``first`` on, strictly causally.

    Args:
        values: [S, T], NaN where missing.
        learn: [S, T] where a value may be learned from.
        step0: absolute index of the first step.
        step_us: microseconds of a step.
        horizons: N steps ahead.
        first: index of the first step whose forecasts are wanted; the steps before it are learned from.
        progress: told the share that is done.

    Returns:
        [S, T − first, N] middles (NaN before a series' first value), and spreads > 0.
    """
    S, T = values.shape
    middle = np.full((S, T - first, len(horizons)), np.nan)
    spread = np.ones((S, T - first, len(horizons)), np.float32)
    for s in range(S):
        forecaster = RiverForecaster(horizons, 86_400e6 / step_us)
        for t, (value, may) in enumerate(zip(values[s].tolist(), learn[s].tolist(), strict=True)):
            forecaster.observe(value, may, step0 + t)
            if t >= first:
                middle[s, t - first], spread[s, t - first] = forecaster.forecast()
        progress((s + 1) / S)
    return middle, spread


def _held(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)
