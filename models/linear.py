"""Online linear forecaster: recursive least squares per entity, all horizons at once, exact under delay.

Features per channel: the deviation from a slow level, the last difference, and the value minus its moving averages of
three half-lives, each over its own scale and clipped. What is forecast is the change from the last value. The gain of
recursive least squares depends on the features only, so one covariance serves every channel and horizon: the gain
of step τ waits in a short ring until the value of step τ + h arrives, and then corrects the weights of horizon h
exactly as if nothing had been delayed.

Legend: E entities, C channels, F features of a block, B blocks, N horizons, R ring length.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.scale import bounded, clipped, floored_scale
from models.state import RowState

FEATURES = 5  # deviation, last difference, value minus three moving averages
AVERAGE_GAINS = tuple(1.0 - 0.5 ** (1.0 / half_life) for half_life in (3.0, 12.0, 48.0))  # half-lives in steps
LEVEL_GAIN = 1.0 - 0.5 ** (1.0 / 14_400.0)
SCALE_GAIN = 1.0 - 0.5 ** (1.0 / 2_000.0)
ERROR_GAIN = 1.0 - 0.5 ** (1.0 / 700.0)
FORGETTING = 0.5 ** (1.0 / 4_000.0)
PRIOR_VARIANCE = 0.1  # of the weights, features and targets in scale units
MOST_VARIANCE = 1.0  # directions that are never excited may not grow past this by forgetting
FEATURE_CLIP = 8.0
DIFFERENCE_CLIP = 6.0
WINSOR = 2.5  # standard deviations that learning of levels and scales ever sees
ERROR_WINSOR = 4.0  # mean absolute errors that learning of weights ever sees
UNGATED = 16  # first values, which are learned as they are
REBASE_AFTER = 512  # winsorised steps in balance after which the level is learned anew
JOINT_CHANNELS = 12  # more channels than this are forecast each from itself
RING = 32  # pairs kept for the longer horizons; their distance grows with the longest horizon


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_level(x: float, level: Any, variance: Any, seen: Any, beyond: Any, c: int) -> None:
    """Move level and variance of channel ``c`` towards ``x``, winsorised; relearn them when ``x`` stays away."""
    seen[c] += 1
    gain = max(1.0 / seen[c], LEVEL_GAIN)
    deviation = x - level[c]
    if seen[c] == 1:
        level[c] = x
        return
    if seen[c] > UNGATED:
        limit = max(WINSOR * floored_scale(variance[c, 0], level[c]), math.sqrt(variance[c, 1]))
        beyond[c] = beyond[c] + 1 if abs(deviation) > limit else max(0, beyond[c] - 1)
        if beyond[c] >= REBASE_AFTER:
            beyond[c] = 0
            seen[c] = 1
            level[c] = x
            return
        deviation = clipped(deviation, limit)
    level[c] += gain * deviation
    variance[c, 0] += gain * (deviation * deviation - variance[c, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_scale(feature: float, variance: Any, seen: int, f: int) -> None:
    """Move the variance of one feature towards its square, winsorised once the feature is known.

    A typical change is never winsorised: on a channel that mostly stands still the scale would collapse to nothing.
    """
    gain = max(1.0 / max(seen - 1, 1), SCALE_GAIN)
    square = feature * feature
    if seen > UNGATED and variance[f] > 0.0:
        square = min(square, max(WINSOR * WINSOR * variance[f], variance[1]))
    variance[f] += gain * (square - variance[f])


@njit(cache=True, nogil=True, error_model="numpy")
def _build_features(x: float, learn: bool, last: Any, average: Any, level: Any, variance: Any, seen: Any, changes: Any,
                    out: Any, c: int) -> None:
    """Write the features of channel ``c`` for its new value ``x`` (finite) and learn their scales."""
    first = seen[c] <= 1 and math.isnan(last[c])
    for k in range(average.shape[1]):
        if first:
            average[c, k] = x
        average[c, k] += AVERAGE_GAINS[k] * (x - average[c, k])
    difference = 0.0 if first else x - last[c]
    if learn and not first:
        if difference != 0.0:  # the scale of changes is that of real ones: a quantised channel's step
            changes[c] += 1
            _learn_scale(difference, variance[c], changes[c] + 1, 1)
        for k in range(average.shape[1]):
            _learn_scale(x - average[c, k], variance[c], seen[c], 2 + k)
    out[FEATURES * c] = clipped((x - level[c]) / floored_scale(variance[c, 0], level[c]), FEATURE_CLIP)
    out[FEATURES * c + 1] = clipped(difference / floored_scale(variance[c, 1], level[c]), DIFFERENCE_CLIP)
    for k in range(average.shape[1]):
        scale = floored_scale(variance[c, 2 + k], level[c])
        out[FEATURES * c + 2 + k] = clipped((x - average[c, k]) / scale, FEATURE_CLIP)
    last[c] = x


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_covariance(covariance: Any, features: Any, gain: Any) -> None:
    """Fold one feature vector into a packed upper-triangular covariance and write its gain (forgetting included).

    Forgetting inflates row and column of a feature only while its variance is below a bound: a channel that never moves
    would otherwise inflate its weights' variance without end.
    """
    F = features.shape[0]
    for i in range(F):
        gain[i] = 0.0
    at = 0
    for i in range(F):
        own = covariance[at] * features[i]
        for j in range(i + 1, F):
            own += covariance[at + j - i] * features[j]
            gain[j] += covariance[at + j - i] * features[i]
        gain[i] += own
        at += F - i
    denominator = FORGETTING
    for i in range(F):
        denominator += gain[i] * features[i]
    at = 0
    for i in range(F):
        row = gain[i] / denominator
        for j in range(i, F):
            covariance[at + j - i] -= row * gain[j]
        covariance[at] = max(covariance[at], 1e-12)
        at += F - i
    for i in range(F):
        gain[i] /= denominator
    at = 0
    for i in range(F):
        if covariance[at] < MOST_VARIANCE:
            _inflate(covariance, i, F, math.sqrt(1.0 / FORGETTING))
        at += F - i


@njit(cache=True, nogil=True, error_model="numpy")
def _inflate(covariance: Any, index: int, F: int, factor: float) -> None:
    """Multiply row and column ``index`` of the packed covariance by ``factor`` (its variance by the square)."""
    at = index
    for i in range(index):
        covariance[at] *= factor
        at += F - i - 1
    covariance[at] *= factor * factor
    for j in range(1, F - index):
        covariance[at + j] *= factor


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_horizon(x: float, base: float, scale: float, features: Any, gain: Any, boost: float, weights: Any,
                   error: Any, errors: Any, c: int, h: int, own: int, bound: float) -> None:
    """Correct the weights of one channel and horizon by the pair (features, x − base); learn the size of its error."""
    F = features.shape[0]
    forecast = 0.0
    for i in range(F):
        forecast += weights[own, h, i] * features[i]
    miss = clipped((x - base) / scale - forecast, bound)
    errors[c, h] += 1
    size = abs(miss) * scale
    if errors[c, h] > UNGATED and error[c, h] > 0.0:
        limit = max(ERROR_WINSOR * error[c, h], scale)  # at least a typical change, or quantised channels collapse
        size = min(size, limit)
        miss = clipped(miss, limit / scale)
    error[c, h] += max(1.0 / errors[c, h], ERROR_GAIN) * (size - error[c, h])
    for i in range(F):
        weights[own, h, i] += boost * gain[i] * miss


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_pairs(x: Any, learn: Any, age: int, stride: int, horizons: Any, changes: Any, variance: Any, level: Any,
                 ring_age: Any, ring_features: Any, ring_gains: Any, ring_base: Any, weights: Any, error: Any,
                 errors: Any, joint: bool) -> None:
    """Learn every horizon whose earlier half (features and gain of step age − h) is in the ring."""
    C = x.shape[0]
    R = ring_age.shape[0] - 1  # the last place always holds the newest step, for horizon 1
    F = FEATURES * C if joint else FEATURES
    for h in range(horizons.shape[0]):
        then = age - horizons[h]
        place = R if horizons[h] == 1 else (then // stride) % R
        if then < 1 or ring_age[place] != then:
            continue
        for c in range(C):
            if not learn[c] or changes[c] == 0 or math.isnan(x[c]) or math.isnan(ring_base[place, c]):
                continue
            block, own = (0, c) if joint else (c, 0)
            features = ring_features[place, block * F : (block + 1) * F]
            gain = ring_gains[place, block * F : (block + 1) * F]
            boost = 1.0
            if horizons[h] > 1 and stride > 1:  # pairs are rarer than the gain assumes
                pull = 0.0
                for i in range(F):
                    pull += gain[i] * features[i]
                boost = min(float(stride), 1.0 / max(pull, 1e-6))
            scale = floored_scale(variance[c, 1], level[c])
            _learn_horizon(x[c], ring_base[place, c], scale, features, gain, boost, weights[block], error, errors, c,
                           h, own, FEATURE_CLIP * math.sqrt(horizons[h]))


@njit(cache=True, nogil=True, error_model="numpy")
def _update(n: int, values: Any, learn: Any, horizons: Any, stride: int, joint: bool, age: Any, seen: Any,
            changes: Any, level: Any, variance: Any, beyond: Any, last: Any, average: Any, features: Any, present: Any,
            covariance: Any, weights: Any, error: Any, errors: Any, ring_age: Any, ring_features: Any, ring_gains: Any,
            ring_base: Any) -> None:
    C = values.shape[1]
    R = ring_age.shape[1] - 1
    F = FEATURES * C if joint else FEATURES
    x = np.empty(C)
    gain = np.empty(F)
    wide = np.empty(FEATURES * C)
    for e in range(n):
        age[e] += 1
        any_value = False
        for c in range(C):
            x[c] = bounded(values[e, c])
            present[e, c] = not math.isnan(x[c])
            any_value = any_value or present[e, c]
        if not any_value:
            continue
        _learn_pairs(x, learn[e], age[e], stride, horizons, changes[e], variance[e], level[e], ring_age[e],
                     ring_features[e], ring_gains[e], ring_base[e], weights[e], error[e], errors[e], joint)
        for c in range(C):
            if present[e, c]:
                if learn[e, c]:
                    _learn_level(x[c], level[e], variance[e], seen[e], beyond[e], c)
                elif seen[e, c] == 0:
                    level[e, c] = x[c]
                _build_features(x[c], learn[e, c], last[e], average[e], level[e], variance[e], seen[e], changes[e],
                                features[e], c)
        for i in range(FEATURES * C):
            wide[i] = features[e, i]
        for block in range(1 if joint else C):
            _advance_covariance(covariance[e, block], wide[block * F : (block + 1) * F], gain)
            for i in range(F):
                ring_gains[e, R, block * F + i] = gain[i]
        ring_age[e, R] = age[e]
        for i in range(FEATURES * C):
            ring_features[e, R, i] = wide[i]
        for c in range(C):
            ring_base[e, R, c] = last[e, c]
        if R > 0 and age[e] % stride == 0:
            place = (age[e] // stride) % R
            ring_age[e, place] = age[e]
            ring_features[e, place] = ring_features[e, R]
            ring_gains[e, place] = ring_gains[e, R]
            ring_base[e, place] = ring_base[e, R]


@njit(cache=True, nogil=True, error_model="numpy")
def _forecast(n: int, joint: bool, last: Any, features: Any, weights: Any, variance: Any, level: Any, out: Any) -> None:
    C, N = out.shape[1], out.shape[2]
    F = FEATURES * C if joint else FEATURES
    for e in range(n):
        for c in range(C):
            block, own = (0, c) if joint else (c, 0)
            scale = floored_scale(variance[e, c, 1], level[e, c])
            for h in range(N):
                change = 0.0
                for i in range(F):
                    change += weights[e, block, own, h, i] * features[e, block * F + i]
                out[e, c, h] = last[e, c] + scale * change


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(n: int, error: Any, errors: Any, variance: Any, level: Any, horizons: Any, out: Any) -> None:
    for e in range(n):
        for c in range(out.shape[1]):
            wide = floored_scale(variance[e, c, 0], level[e, c])
            for h in range(out.shape[2]):
                spread = 1.2533 * error[e, c, h]  # mean absolute error to standard deviation, for a normal law
                if errors[e, c, h] < UNGATED:  # too few errors: the change's own scale, growing as a random walk does
                    spread = max(spread, math.sqrt(variance[e, c, 1] * horizons[h]))
                out[e, c, h] = min(max(spread, 1e-3 * wide, 1e-30), 1e30)


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled(n: int, features: Any, present: Any, which: int, out: Any) -> None:
    for e in range(n):
        for c in range(out.shape[1]):
            out[e, c] = features[e, FEATURES * c + which] if present[e, c] else 0.0


class LinearForecaster:
    """Forecast every channel of every entity some steps ahead, from the first readings on, with an honest spread.

    All channels of an entity explain one another while there are at most JOINT_CHANNELS of them; more are forecast each
    from itself, so that cost and memory grow linearly. Values are held in float64 beyond scaling; features and weights
    are float32, the covariance float64 (in float32 it loses definiteness within weeks of steps).
    """

    def __init__(self, capacity: int, channels: int, horizons: tuple[int, ...], step_s: float) -> None:
        """Make room for ``capacity`` entities.

        Args:
            capacity: entity slots.
            channels: C.
            horizons: steps ahead, each >= 1, in the order in which forecasts are wanted.
            step_s: length of a step; kept for the manifest, the recursion itself counts steps.

        Raises:
            ValueError: if there is no horizon, or one below 1.
        """
        if not horizons or min(horizons) < 1:
            raise ValueError(f"horizons must be steps >= 1, got {horizons}")
        self.channels = channels
        self.horizons = tuple(int(h) for h in horizons)
        self.step_s = step_s
        self._joint = channels <= JOINT_CHANNELS
        self._steps = np.array(self.horizons, np.int64)
        longest = max((h for h in self.horizons if h > 1), default=0)
        self._stride = max(1, -(-longest // RING))
        self.state = RowState(capacity)
        self._lay_out(channels, len(horizons), longest // self._stride + 1 if longest else 0)

    def _lay_out(self, C: int, N: int, R: int) -> None:
        F = FEATURES * C if self._joint else FEATURES
        blocks = 1 if self._joint else C
        rows, columns = np.triu_indices(F)
        add = self.state.add
        add("age", (), np.int64)
        add("seen", (C,), np.int32)
        add("changes", (C,), np.int32)
        add("level", (C,), np.float64)
        add("variance", (C, FEATURES), np.float64)
        add("beyond", (C,), np.int16)
        add("last", (C,), np.float64, np.nan)
        add("average", (C, len(AVERAGE_GAINS)), np.float64)
        add("features", (FEATURES * C,), np.float32)
        add("present", (C,), np.bool_)
        add("covariance", (blocks, len(rows)), np.float64, np.where(rows == columns, PRIOR_VARIANCE, 0.0))
        add("weights", (blocks, C if self._joint else 1, N, F), np.float32)
        add("error", (C, N), np.float64)
        add("errors", (C, N), np.int32)
        add("ring_age", (R + 1,), np.int64, -1)
        add("ring_features", (R + 1, FEATURES * C), np.float32)
        add("ring_gains", (R + 1, FEATURES * C), np.float32)
        add("ring_base", (R + 1, C), np.float64, np.nan)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` entities; what is known stays."""
        self.state.grow(capacity)

    def forecast(self, n: int) -> NDArray[np.float64]:
        """Return [n, C, N] the expected values at t + h, from the newest update; NaN before a channel's first value."""
        s = self.state.arrays
        out = np.empty((n, self.channels, len(self.horizons)))
        _forecast(n, self._joint, s["last"], s["features"], s["weights"], s["variance"], s["level"], out)
        return out

    def spread(self, n: int) -> NDArray[np.float32]:
        """Return [n, C, N] the standard deviation of the forecast errors per horizon; positive and finite always."""
        s = self.state.arrays
        out = np.empty((n, self.channels, len(self.horizons)), np.float32)
        _spread(n, s["error"], s["errors"], s["variance"], s["level"], self._steps, out)
        return out

    def level_z(self, n: int) -> NDArray[np.float32]:
        """Return [n, C] the newest values' scaled distance from the slow level, within ±8; 0 where missing."""
        return self._feature(n, 0)

    def diff_z(self, n: int) -> NDArray[np.float32]:
        """Return [n, C] the scaled last change, within ±6; 0 where missing."""
        return self._feature(n, 1)

    def _feature(self, n: int, which: int) -> NDArray[np.float32]:
        out = np.empty((n, self.channels), np.float32)
        _scaled(n, self.state["features"], self.state["present"], which, out)
        return out

    def update(self, values: NDArray[np.float64], learn: NDArray[np.bool_]) -> None:
        """Take the values of one step: learn all horizons from them, then stand ready to forecast from them.

        Args:
            values: [n, C] values of the step; NaN where missing: features are held, nothing is learned.
            learn: [n, C] False where a value may be looked at but not learned from.
        """
        s = self.state.arrays
        _update(len(values), values, learn, self._steps, self._stride, self._joint, s["age"], s["seen"], s["changes"],
                s["level"], s["variance"], s["beyond"], s["last"], s["average"], s["features"], s["present"],
                s["covariance"], s["weights"], s["error"], s["errors"], s["ring_age"], s["ring_features"],
                s["ring_gains"], s["ring_base"])
