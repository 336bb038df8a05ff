"""Novelty of single values: how far a value, or its 24-hour residual mean, lies from every one ever seen.

A value becomes familiar once it was seen, so novelty damps itself where a residual does not (measured on NAB).
Each channel keeps two sorted sets of representatives, for the value itself ("fast") and for the trailing day's mean
of its residual from a weekly profile ("slow"). A value nearer than δ to a representative is absorbed by it; when the
set is full δ grows and neighbours merge, so memory stays bounded and the outskirts, which decide, stay exact.

Legend: E entities, C channels, R representatives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.scale import bounded
from models.state import RowState
from models.tails import EXPONENTIAL, FLOOR_LOG, QUARTER_NAT, TAIL_SIZE, insert, surprise

REPRESENTATIVES = 128  # NAB, standard profile at the fixed boundary: 64: 67, 128: 71.8, 256: 73.7, more gain nothing
TAIL_MEMORY = 8_000.0  # statistics; a quarter of it costs 7 NAB points (measured)
LEAST = 100.0  # statistics before the first opinion
GROWTH = 1.3  # of δ when the set is full
HOURS = 168  # of the weekly profile
PROFILE_GAIN = 0.2  # at least, per row: the profile follows quickly (by whole hours it costs 2 NAB points)
DAY_BLOCKS = 24  # block means in the trailing day
HOUR_US = 3_600_000_000
FAST, SLOW = 0, 1


@njit(cache=True, nogil=True, error_model="numpy")
def _position(known: Any, used: int, value: float) -> int:
    """Return how many of the sorted representatives are below ``value``."""
    low, high = 0, used
    while low < high:
        middle = (low + high) // 2
        if known[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest(known: Any, used: int, value: float) -> int:
    """Return the place of the representative nearest to ``value``; ``used`` must be > 0."""
    at = _position(known, used, value)
    if at == used or (at > 0 and value - known[at - 1] <= known[at] - value):
        return at - 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def log_novelty(known: Any, gap: Any, used: int, value: float) -> float:
    """Return ln(d² / (d + s)): d to the nearest value seen, s from that one to its own nearest other value."""
    if used == 0:
        return FLOOR_LOG
    at = _nearest(known, used, value)
    distance = abs(value - known[at])
    if not distance > 0.0:
        return FLOOR_LOG
    spacing = gap[at] if gap[at] >= 0.0 else 0.0
    return math.log(distance) - math.log1p(spacing / distance)


@njit(cache=True, nogil=True, error_model="numpy")
def remember(known: Any, gap: Any, used: int, delta: float, value: float) -> tuple[int, float]:
    """Take ``value`` into the sorted set; return the new count and δ. A gap of −1 means "no other value yet"."""
    if used > 0:
        at = _nearest(known, used, value)
        distance = np.float32(abs(value - known[at]))
        if distance <= delta:
            if gap[at] < 0.0 or distance < gap[at]:
                gap[at] = distance
            return used, delta
    if used == known.shape[0]:
        used, delta = _prune(known, gap, used, delta)
    at = _position(known, used, value)
    for i in range(used, at, -1):
        known[i] = known[i - 1]
        gap[i] = gap[i - 1]
    known[at] = value
    gap[at] = -1.0
    for side in (at - 1, at + 1):
        if 0 <= side <= used:
            distance = np.float32(abs(known[side] - known[at]))
            gap[side] = distance if gap[side] < 0.0 else min(gap[side], distance)
            gap[at] = distance if gap[at] < 0.0 else min(gap[at], distance)
    return used + 1, delta


@njit(cache=True, nogil=True, error_model="numpy")
def _prune(known: Any, gap: Any, used: int, delta: float) -> tuple[int, float]:
    """Let δ grow until a sixteenth of the set has merged into its neighbours; return the new count and δ."""
    if delta <= 0.0:
        delta = math.inf
        for i in range(1, used):
            delta = min(delta, known[i] - known[i - 1])
    while used > known.shape[0] - max(1, known.shape[0] // 16):
        delta = max(GROWTH * delta, 1e-37)
        kept = 1
        for i in range(1, used):
            if known[i] - known[kept - 1] > delta:
                known[kept] = known[i]
                gap[kept] = gap[i]
                kept += 1
            else:
                gap[kept - 1] = min(gap[kept - 1], gap[i])
        used = kept
    return used, delta


@njit(cache=True, nogil=True, error_model="numpy")
def _roll(blocks: Any, sums: Any, block: int, last: int) -> None:
    """Close the block being filled (``last``) at the start of ``block``; blocks in between stay empty.

    ``sums`` holds sum and count of the block being filled, then of all whole blocks kept.
    """
    n = blocks.shape[0]
    if last < 0:
        return
    for b in range(last, min(block, last + n + 1)):
        blocks[b % n, 0] = sums[0]
        blocks[b % n, 1] = sums[1]
        sums[0] = 0.0
        sums[1] = 0.0
    sums[2] = 0.0
    sums[3] = 0.0
    for i in range(n):
        sums[2] += blocks[i, 0]
        sums[3] += blocks[i, 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _judge(kind: int, value: float, learn: bool, known: Any, gap: Any, used: Any, delta: Any, tails: Any,
           out: Any) -> None:
    """Write the surprise of ``value`` to ``out[kind]``, then remember it."""
    log_value = log_novelty(known[kind], gap[kind], used[kind], value)
    out[kind] = surprise(tails[kind], log_value, EXPONENTIAL, LEAST)
    if learn:
        if used[kind] > 1:
            insert(tails[kind], log_value, 1.0, QUARTER_NAT, TAIL_MEMORY, EXPONENTIAL)
        used[kind], delta[kind] = remember(known[kind], gap[kind], used[kind], delta[kind], value)


@njit(cache=True, nogil=True, error_model="numpy")
def _step(n: int, values: Any, learn: Any, hour: int, block: int, offset: Any, known: Any, gap: Any, used: Any,
          delta: Any, tails: Any, profile: Any, visits: Any, blocks: Any, sums: Any, last_block: Any,
          out: Any) -> None:
    slot = hour % HOURS
    for e in range(n):
        for c in range(values.shape[1]):
            out[e, c, FAST] = 0.0
            out[e, c, SLOW] = 0.0
            x = bounded(values[e, c])
            if math.isnan(x):
                continue
            if math.isnan(offset[e, c]):
                offset[e, c] = x
            x = np.float32(min(max(x - offset[e, c], -1e30), 1e30))
            _judge(FAST, x, learn[e, c], known[e, c], gap[e, c], used[e, c], delta[e, c], tails[e, c], out[e, c])
            if last_block[e, c] != block:
                _roll(blocks[e, c], sums[e, c], block, last_block[e, c])
                last_block[e, c] = block
            residual = x - profile[e, c, slot] if visits[e, c, slot] > 0 else np.float32(0.0)
            count = sums[e, c, 1] + sums[e, c, 3] + 1.0
            mean = np.float32((sums[e, c, 0] + sums[e, c, 2] + residual) / count)
            if learn[e, c]:
                sums[e, c, 0] += residual
                sums[e, c, 1] += 1.0
                rate = max(PROFILE_GAIN, 1.0 / (visits[e, c, slot] + 1.0))
                profile[e, c, slot] += rate * (x - profile[e, c, slot])
                visits[e, c, slot] = min(visits[e, c, slot] + 1, 200)
            _judge(SLOW, mean, learn[e, c], known[e, c], gap[e, c], used[e, c], delta[e, c], tails[e, c], out[e, c])


class ValueNovelty:
    """Says how surprising each value and each trailing day is, by distance to the nearest one ever seen."""

    def __init__(self, capacity: int, channels: int, step_s: float, representatives: int = REPRESENTATIVES) -> None:
        """Make room for ``capacity`` entities of ``channels`` channels; ``step_s`` is the step's length in seconds."""
        self._block_us = int(max(HOUR_US, step_s * 1e6))
        self.state = RowState(capacity)
        C, R, add = channels, representatives, self.state.add
        add("offset", (C,), np.float64, np.nan)
        add("known", (C, 2, R), np.float32)
        add("gap", (C, 2, R), np.float32, -1.0)
        add("used", (C, 2), np.int16)
        add("delta", (C, 2), np.float32)
        add("tails", (C, 2, TAIL_SIZE), np.float32)
        add("profile", (C, HOURS), np.float32)
        add("visits", (C, HOURS), np.uint8)
        add("blocks", (C, DAY_BLOCKS, 2), np.float32)
        add("sums", (C, 4), np.float32)
        add("last_block", (C,), np.int64, -1)

    def step(self, values: NDArray[np.float64], learn: NDArray[np.bool_], time_us: int) -> NDArray[np.float32]:
        """Score one step, then learn it.

        Args:
            values: [n, C]; NaN where missing.
            learn: [n, C] False where the value is scored and forgotten.
            time_us: end of the step.

        Returns:
            [n, C, 2] surprise −ln p >= 0 of the value and of its trailing day; 0 where missing or too little is known.
        """
        s = self.state.arrays
        out = np.empty((*values.shape, 2), np.float32)
        hour, block = (time_us - 1) // HOUR_US, (time_us - 1) // self._block_us
        _step(len(values), values, learn, hour, block, s["offset"], s["known"], s["gap"], s["used"], s["delta"],
              s["tails"], s["profile"], s["visits"], s["blocks"], s["sums"], s["last_block"], out)
        return out
