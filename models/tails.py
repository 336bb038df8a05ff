"""Far tails from bounded memory: a forgetting histogram of a statistic's logarithm, and two forms of tail above it.

A histogram of 64 bins holds what a sorted ring of thousands would. Above a high quantile the tail is *Pareto*
(exponential in the logarithm, its shape pooled with a prior, its clusters counted) or *exponential* in the statistic
itself; below, the surprise is linear in the logarithm through p = 1/2 at the median. Zeros, repeats and steps of
quantised sensors are safe.

Legend: a tail is one float array of TAIL_SIZE: 64 bins, then the numbers named below. Surprise means −ln p.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

BINS = 64
TAIL_SIZE = BINS + 12
FLOOR_LOG = -1e30  # the logarithm of a zero statistic

# Places after the bins.
_ANCHOR = BINS  # lower edge of bin 0
_MASS = BINS + 1
_STALE = BINS + 2  # insertions since the last refresh
_AGE = BINS + 3  # insertions since the last forgetting
_UPPER = BINS + 4  # threshold u
_SHARE = BINS + 5  # −ln of the probability above u
_SCALE = BINS + 6  # mean excess over u: in logarithms (Pareto) or in units of exp(anchor) (exponential)
_MEDIAN = BINS + 7
_CLUSTERS = BINS + 8
_EXCEEDANCES = BINS + 9
_QUIET = BINS + 10  # rows since the last exceedance
_PLACED = BINS + 11  # 1 once the anchor stands

PARETO, EXPONENTIAL = 0, 1
QUARTER_NAT = 0.25
_FORGET_EVERY = 64
_CLUSTER_GAP = 20.0  # rows; measured on GECCO, CalIt2 and SKAB
_PRIOR_EXCESS, _PRIOR_CLUSTERS = 12.0, 30.0  # pooled prior on the shape; measured on GECCO, CalIt2 and SKAB
_EXPONENTIAL_SHARE = 0.2  # measured on NAB
_PARETO_SHARE = 0.02  # measured on GECCO, CalIt2 and SKAB


@njit(cache=True, nogil=True, error_model="numpy")
def insert(tail: Any, log_value: float, weight: float, width: float, memory: float, form: int) -> None:
    """Add one statistic to the histogram with a weight in (0, 1]; older ones fade over ``memory`` insertions."""
    _place(tail, log_value, width)
    if tail[_PLACED] == 0.0:
        place = 0
    else:
        place = int(min(max(math.floor((log_value - tail[_ANCHOR]) / width), 0.0), BINS - 1.0))
    tail[place] += weight
    tail[_MASS] += weight
    if form == PARETO:
        _count_clusters(tail, log_value, weight)
    tail[_AGE] += weight
    if tail[_AGE] >= _FORGET_EVERY:
        _forget(tail, math.exp(-tail[_AGE] / memory))
        tail[_AGE] = 0.0
    tail[_STALE] += 1.0
    if tail[_STALE] >= 16.0 or tail[_STALE] >= 0.1 * tail[_MASS]:
        tail[_STALE] = 0.0
        if form == PARETO:
            _refresh_pareto(tail, width)
        else:
            _refresh_exponential(tail, width)


@njit(cache=True, nogil=True, error_model="numpy")
def _place(tail: Any, log_value: float, width: float) -> None:
    """Move the bins so that ``log_value`` has one, as far as the median allows; a zero statistic moves nothing."""
    if log_value <= FLOOR_LOG:
        return
    if tail[_PLACED] == 0.0:
        tail[_PLACED] = 1.0
        tail[_ANCHOR] = log_value - 40.0 * width
        return
    place = math.floor((log_value - tail[_ANCHOR]) / width)
    if place >= BINS:
        room = 8.0  # one outlier may not push the body of the law out of the bins
        if tail[_MASS] > 16.0 and tail[_MEDIAN] > FLOOR_LOG:
            room = max(0.0, math.floor((tail[_MEDIAN] - tail[_ANCHOR]) / width) - 8.0)
        _shift(tail, int(min(place - BINS + 1.0, room)), width)
    elif place < 0.0:
        top = BINS - 1
        while top > 0 and tail[top] == 0.0:
            top -= 1
        _shift(tail, -int(min(-place, max(0.0, BINS - 9.0 - top))), width)


@njit(cache=True, nogil=True, error_model="numpy")
def _shift(tail: Any, bins: int, width: float) -> None:
    """Move the window of bins up (> 0; the lowest pile up in bin 0) or down (< 0)."""
    if bins > 0:
        for i in range(1, min(bins, BINS - 1) + 1):
            tail[0] += tail[i]
        for i in range(1, BINS):
            tail[i] = tail[i + bins] if i + bins < BINS else 0.0
    elif bins < 0:
        for i in range(BINS - 1, 0, -1):
            tail[i] = tail[i + bins] if i + bins >= 0 else 0.0
        if bins != 0:
            tail[0] = 0.0
    tail[_ANCHOR] += bins * width


@njit(cache=True, nogil=True, error_model="numpy")
def _forget(tail: Any, keep: float) -> None:
    for i in range(BINS):
        tail[i] *= keep
    tail[_MASS] *= keep
    tail[_CLUSTERS] *= keep
    tail[_EXCEEDANCES] *= keep


@njit(cache=True, nogil=True, error_model="numpy")
def _count_clusters(tail: Any, log_value: float, weight: float) -> None:
    tail[_QUIET] = min(tail[_QUIET] + 1.0, 1e6)
    if tail[_SHARE] > 0.0 and log_value > tail[_UPPER]:
        tail[_EXCEEDANCES] += weight
        if tail[_QUIET] > _CLUSTER_GAP:
            tail[_CLUSTERS] += weight
        tail[_QUIET] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _quantile(tail: Any, above: float, width: float) -> float:
    """Return the logarithm with mass ``above`` over it, linear within its bin; FLOOR_LOG when that lies in bin 0."""
    left = above
    for i in range(BINS - 1, 0, -1):
        if tail[i] > 0.0 and left <= tail[i]:
            return tail[_ANCHOR] + width * (i + 1.0 - left / tail[i])
        left -= tail[i]
    return FLOOR_LOG


@njit(cache=True, nogil=True, error_model="numpy")
def _refresh_pareto(tail: Any, width: float) -> None:
    mass = tail[_MASS]
    share = min(max(_PARETO_SHARE, 20.0 / mass), 0.5)
    upper = _quantile(tail, share * mass, width)
    median = _quantile(tail, 0.5 * mass, width)
    lowest = tail[_ANCHOR]
    tail[_UPPER] = max(upper, lowest + width)
    tail[_MEDIAN] = max(median, lowest)
    tail[_SHARE] = -math.log(share)
    excess, over = 0.0, 0.0
    for i in range(BINS):
        middle = lowest + width * (i + 0.5)
        if tail[i] > 0.0 and middle > tail[_UPPER]:
            excess += tail[i] * min(middle - tail[_UPPER], 2.0)
            over += tail[i]
    clusters = tail[_CLUSTERS]
    mean = excess / over if over > 0.0 else 0.4
    tail[_SCALE] = (clusters * mean + _PRIOR_EXCESS) / (clusters + _PRIOR_CLUSTERS)


@njit(cache=True, nogil=True, error_model="numpy")
def _refresh_exponential(tail: Any, width: float) -> None:
    mass = tail[_MASS]
    count = min(max(10.0, _EXPONENTIAL_SHARE * mass), 0.5 * mass)
    lowest = tail[_ANCHOR]
    tail[_UPPER] = _quantile(tail, count, width)
    tail[_MEDIAN] = max(_quantile(tail, 0.5 * mass, width), lowest - 1.0)
    tail[_SHARE] = -math.log(count / (mass + 1.0))
    upper = math.exp(tail[_UPPER] - lowest) if tail[_UPPER] > FLOOR_LOG else 0.0
    left, excess = count, 0.0
    for i in range(BINS - 1, 0, -1):
        taken = min(left, tail[i])
        if taken > 0.0:
            middle = width * (i + 1.0 - 0.5 * taken / tail[i])
            excess += taken * (math.exp(middle) - upper)
        left -= taken
        if left <= 0.0:
            break
    tail[_SCALE] = max(excess / count, 1e-6 * upper, 1e-12)


@njit(cache=True, nogil=True, error_model="numpy")
def surprise(tail: Any, log_value: float, form: int, least: float) -> float:
    """Return −ln p >= 0 of a statistic by its logarithm; 0 while fewer than ``least`` are known. Changes nothing."""
    if tail[_MASS] < least or tail[_SHARE] <= 0.0 or log_value <= FLOOR_LOG:
        return 0.0
    if log_value > tail[_UPPER]:
        if form == PARETO:
            return tail[_SHARE] + (log_value - tail[_UPPER]) / tail[_SCALE]
        lowest = tail[_ANCHOR]
        upper = math.exp(tail[_UPPER] - lowest) if tail[_UPPER] > FLOOR_LOG else 0.0
        return tail[_SHARE] + min((math.exp(min(log_value - lowest, 60.0)) - upper) / tail[_SCALE], 1e4)
    span = max(tail[_UPPER] - tail[_MEDIAN], 1e-6)
    half = math.log(2.0)
    return max(0.0, half + (tail[_SHARE] - half) * (log_value - tail[_MEDIAN]) / span)


@njit(cache=True, nogil=True, error_model="numpy")
def clustering(tail: Any, log_value: float) -> float:
    """Return what clustering of exceedances adds to the surprise (>= 0): whole above u, fading to the median."""
    if tail[_SHARE] <= 0.0:
        return 0.0
    index = (tail[_CLUSTERS] + 1.0) / (tail[_EXCEEDANCES] + 1.0)
    weight = (log_value - tail[_MEDIAN]) / max(tail[_UPPER] - tail[_MEDIAN], 1e-6)
    return -math.log(min(index, 1.0)) * min(max(weight, 0.0), 1.0)
