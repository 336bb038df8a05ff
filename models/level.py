"""The level witness: distance of the newest values from a slow baseline and calendar profile, at several time scales.

What is left after level and profile is filtered at half-lives of 0 to 16 steps, whitened at each scale by its own
covariance, and the largest T² counts (measured on GECCO, CalIt2 and SKAB). All that is learned is winsorised, and
learned slowly while the values are far out or an incident is open; where they stay far out for long, the level moves
there.

Legend: E entities, C channels, K scales, B blocks of M channels (B = 1 while C <= JOINT_CHANNELS), S slots of a day.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.scale import bounded, clipped, floored_scale
from models.state import RowState
from models.tails import PARETO, QUARTER_NAT, TAIL_SIZE, clustering, insert, surprise
from models.whitening import JOINT_CHANNELS, factorise, learn_covariance, whiten

HALF_LIVES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # steps
FILTER_GAINS = tuple(1.0 if h == 0.0 else 1.0 - 0.5 ** (1.0 / h) for h in HALF_LIVES)
LEVEL_GAIN = 1.0 - 0.5 ** (1.0 / 14_400.0)
REBASE_GAIN = 1.0 - 0.5 ** (1.0 / 64.0)
REBASE_AFTER = 2_048
WINSOR = 2.5
GATE = 4.0  # times the number of channels, of T²
UNGATED = 64  # first steps, learned as they are
GATED_FROM = 1_000  # steps; before, what looks far out is as likely a scale that is still too small
SCALELESS = 8  # first values of a channel, which have no scale worth dividing by
YOUNG_CLIP, CLIP = 4.0, 1e3  # of scaled distances
TAIL_MEMORY = 1e5
LEAST = 40.0  # statistics before the first opinion
SLOW_LEARNING = 0.05  # while an incident is open or the score is beyond the boundary
PROFILE_VISITS = 20.0
NEIGHBOUR_SHARE = 0.3  # of what a slot learns, for the slots beside it
LONGEST_DAY = 48  # slots of at least half an hour
WORTHWHILE = 0.25  # share of squared error that the profile must save to count fully
SKILL_GAIN = 1.0 - 0.5 ** (1.0 / 2_000.0)
DAY_US = 86_400_000_000


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_slot(profile: Any, visits: Any, slot: int, mean: float) -> None:
    """Move a slot of the day, and a little the slots beside it, towards the mean of one visit."""
    S = profile.shape[0]
    rate = max(1.0 / (visits[slot] + 1.0), 1.0 / PROFILE_VISITS)
    visits[slot] = min(visits[slot] + 1, 255)
    for side in (-1, 0, 1):
        if S > 2 or side == 0:
            near = (slot + side) % S
            share = rate if side == 0 else NEIGHBOUR_SHARE * rate
            profile[near] += share * (mean - profile[near])


@njit(cache=True, nogil=True, error_model="numpy")
def _seasonal(profile: Any, skill: Any, day: int, slot: int) -> float:
    """Return the calendar's share of the value: the centred profile times its measured worth."""
    if not skill[0] > 0.0:
        return 0.0
    worth = min(max((1.0 - skill[1] / skill[0]) / WORTHWHILE, 0.0), 1.0)
    return worth * profile[day, slot]


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_baseline(x: float, speed: float, level: Any, variance: Any, seen: Any, last: Any, change: Any, profile: Any,
                    visits: Any, visit: Any, visiting: Any, skill: Any, c: int, day: int, slot: int) -> None:
    """Learn level, scale, profile and the profile's worth from one value; ``speed`` <= 1."""
    seen[c] += 1
    if seen[c] == 1:
        level[c] = x
        last[c] = x
        return
    here = day * profile.shape[2] + slot
    gain = max(1.0 / seen[c], LEVEL_GAIN) * speed
    expected = _seasonal(profile[c], skill[c], day, slot)
    rest = x - level[c] - expected
    scale = floored_scale(variance[c], level[c])
    if x != last[c]:  # the scale of real changes: a quantised channel's step, which is never winsorised
        step = x - last[c]
        if seen[c] > UNGATED and change[c] > 0.0:
            step = clipped(step, WINSOR * math.sqrt(change[c]))
        change[c] += max(1.0 / seen[c], SKILL_GAIN) * (step * step - change[c])
        last[c] = x
    if seen[c] > UNGATED:
        rest = clipped(rest, max(WINSOR * scale, math.sqrt(change[c])))
    level[c] += gain * rest
    variance[c] += gain * (rest * rest - variance[c])
    plain = clipped(x - level[c], 3.0 * WINSOR * scale) if seen[c] > UNGATED else x - level[c]
    if visits[c, day, slot] > 0:
        better = plain - profile[c, day, slot]
        rate = SKILL_GAIN if skill[c, 0] > 0.0 else 1.0
        skill[c, 0] += rate * (plain * plain - skill[c, 0])
        skill[c, 1] += rate * (better * better - skill[c, 1])
    if visiting[c] != here:
        if visiting[c] >= 0 and visit[c, 1] > 0.0:
            S = profile.shape[2]
            mean = visit[c, 0] / visit[c, 1]
            _learn_slot(profile[c, visiting[c] // S], visits[c, visiting[c] // S], visiting[c] % S, mean)
        visiting[c] = here
        visit[c, 0] = 0.0
        visit[c, 1] = 0.0
    visit[c, 0] += speed * plain
    visit[c, 1] += speed


@njit(cache=True, nogil=True, error_model="numpy")
def _follow(x: float, gated: bool, level: Any, away: Any, shifted: Any, c: int) -> None:
    """Count how long the values stay far out; after long enough take their present level for the level."""
    away[c] += REBASE_GAIN * (x - level[c] - away[c])
    shifted[c] = min(shifted[c] + 1, REBASE_AFTER) if gated else max(shifted[c] - 1, 0)
    if shifted[c] >= REBASE_AFTER:
        level[c] += away[c]
        away[c] = 0.0
        shifted[c] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(filters: Any, factors: Any, z: Any, white: Any, M: int, by_channel: Any) -> float:
    """Return the largest T² over the scales, each capped by the one before; its terms per channel to ``by_channel``."""
    C = z.shape[0]
    best, before = 0.0, math.inf
    for k in range(filters.shape[0]):
        total = 0.0
        for b in range(C // M):
            for i in range(M):
                c = b * M + i
                filters[k, c] += FILTER_GAINS[k] * (z[c] - filters[k, c]) if not math.isnan(z[c]) else 0.0
                white[C + i] = filters[k, c] if not math.isnan(z[c]) else 0.0
            total += whiten(factors[k, b], white[C : C + M], white[b * M : (b + 1) * M])
        total = min(total, 2.0 * (before + 0.5 * C))
        before = total
        if total > best:
            best = total
            for c in range(C):
                by_channel[c] = abs(filters[k, c]) if not math.isnan(z[c]) else 0.0
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def _learn_scales(filters: Any, covariances: Any, factors: Any, z: Any, white: Any, M: int, gain: float,
                  renew: bool) -> None:
    C = z.shape[0]
    for k in range(filters.shape[0]):
        for b in range(C // M):
            for i in range(M):
                c = b * M + i
                white[i] = filters[k, c] if not math.isnan(z[c]) else math.nan
            learn_covariance(covariances[k, b], white[:M], gain, WINSOR)
            if renew:
                factorise(covariances[k, b], factors[k, b])


@njit(cache=True, nogil=True, error_model="numpy")
def _step(n: int, M: int, values: Any, learn: Any, day: int, slot: int, boundary: float, open_incident: Any,
          steps: Any, seen: Any, last: Any, change: Any, level: Any, variance: Any, away: Any, shifted: Any,
          profile: Any, visits: Any, visit: Any, visiting: Any, skill: Any, filters: Any, covariances: Any,
          factors: Any, tails: Any, out: Any, by_channel: Any) -> None:
    C = values.shape[1]
    z = np.empty(C)
    white = np.empty(2 * C)
    for e in range(n):
        out[e] = 0.0
        present, learned = 0, 0
        young = steps[e] < UNGATED
        for c in range(C):
            by_channel[e, c] = 0.0
            x = bounded(values[e, c])
            z[c] = math.nan
            if not math.isnan(x):
                present += 1
                learned += learn[e, c]
                if seen[e, c] == 0:
                    level[e, c] = x
                rest = x - level[e, c] - _seasonal(profile[e, c], skill[e, c], day, slot)
                z[c] = clipped(rest / floored_scale(variance[e, c], level[e, c]), YOUNG_CLIP if young else CLIP)
                if seen[e, c] < SCALELESS:
                    z[c] = 0.0
        if present == 0:
            continue
        steps[e] += 1
        largest = _largest(filters[e], factors[e], z, white, M, by_channel[e])
        log_statistic = math.log(largest + 0.01)
        out[e] = surprise(tails[e], log_statistic, PARETO, LEAST)
        if out[e] > 0.0:
            out[e] += clustering(tails[e], log_statistic)
        if learned == 0:
            continue
        speed = SLOW_LEARNING if (open_incident[e] or out[e] >= boundary) and not young else 1.0
        if not young or steps[e] > UNGATED // 2:
            insert(tails[e], log_statistic, speed, QUARTER_NAT, TAIL_MEMORY, PARETO)
        gated = largest > GATE * C and steps[e] > GATED_FROM
        gain = max(1.0 / (steps[e] + 1.0), LEVEL_GAIN) * (0.1 if gated else 1.0)
        renew = young or steps[e] % 16 == 0
        _learn_scales(filters[e], covariances[e], factors[e], z, white, M, gain, renew)
        for c in range(C):
            x = bounded(values[e, c])
            if learn[e, c] and not math.isnan(x):
                _learn_baseline(x, 0.03 if gated else 1.0, level[e], variance[e], seen[e], last[e], change[e],
                                profile[e], visits[e], visit[e], visiting[e], skill[e], c, day, slot)
                _follow(x, gated, level[e], away[e], shifted[e], c)


class LevelWitness:
    """Says how surprising an entity's distance from its slow baseline is, all channels and time scales together."""

    def __init__(self, capacity: int, channels: int, step_s: float, boundary: float) -> None:
        """Make room for ``capacity`` entities.

        Args:
            capacity: entity slots.
            channels: C.
            step_s: length of a step.
            boundary: surprise from which on little is learned.
        """
        self._boundary = boundary
        self._slots = max(1, min(LONGEST_DAY, int(86_400 / step_s)))
        self._block = channels if channels <= JOINT_CHANNELS else 1
        self.state = RowState(capacity)
        C, K, B, add = channels, len(HALF_LIVES), channels // self._block, self.state.add
        packed = self._block * (self._block + 1) // 2
        unit = np.zeros(packed)
        unit[np.cumsum(np.arange(1, self._block + 1)) - 1] = 1.0
        add("steps", (), np.int64)
        add("seen", (C,), np.int32)
        add("last", (C,), np.float64)
        add("change", (C,), np.float64)
        add("level", (C,), np.float64)
        add("variance", (C,), np.float64)
        add("away", (C,), np.float64)
        add("shifted", (C,), np.int16)
        add("profile", (C, 2, self._slots), np.float32)
        add("visits", (C, 2, self._slots), np.uint8)
        add("visit", (C, 2), np.float64)
        add("visiting", (C,), np.int16, -1)
        add("skill", (C, 2), np.float64)
        add("filters", (K, C), np.float32)
        add("covariances", (K, B, packed), np.float32, unit)
        add("factors", (K, B, packed), np.float32, unit)
        add("tails", (TAIL_SIZE,), np.float32)

    def step(
        self, values: NDArray[np.float64], learn: NDArray[np.bool_], time_us: int, open_incident: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Score one step, then learn it.

        Args:
            values: [n, C]; NaN where missing.
            learn: [n, C] False where the value is scored and not learned.
            time_us: end of the step; gives the place in the day and week (UTC).
            open_incident: [n] True where learning is to be slow.

        Returns:
            [n] surprise −ln p >= 0, finite; 0 where all is missing or too little is known. [n, C] the scaled distance
            of each channel at the scale that decided.
        """
        s = self.state.arrays
        n, C = values.shape
        out, by_channel = np.empty(n), np.empty((n, C), np.float32)
        start = time_us - 1  # the step is the interval that ends at time_us
        weekend = int((start // DAY_US + 3) % 7 >= 5)  # 1970-01-01 was a Thursday
        slot = int(start % DAY_US * self._slots // DAY_US)
        _step(n, self._block, values, learn, weekend, slot, self._boundary, open_incident, s["steps"], s["seen"],
              s["last"], s["change"], s["level"], s["variance"], s["away"], s["shifted"], s["profile"], s["visits"],
              s["visit"], s["visiting"], s["skill"], s["filters"], s["covariances"], s["factors"], s["tails"], out,
              by_channel)
        return out, by_channel
