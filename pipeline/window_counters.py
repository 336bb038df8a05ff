"""Windows' compiled loops over counters: their readings by time, and the rates that they rise by.

A counter's rate needs the order of its readings, so those of a step are kept in a list by time, the oldest folded away
when it is full. Legend: E entity slots, R ring positions, C channels, Q channels of aggregator ``rate``, n readings,
k rows. See ``pipeline.window_state`` for a list's head.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from pipeline.window_state import NO_STEP

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def scatter_counters(
    heads: Any, times: Any, results: Any, values: Any, carry_time: Any, carry_value: Any, counters: Any,
    touched: Any, revised: Any, step_us: int, oldest: int, next_step: int, end: int, slot: Any, channel: Any,
    time: Any, value: Any, result: Any,
) -> None:  # fmt: skip
    """Put the readings of counter channels into their lists by time."""
    ring = heads.shape[1]
    for i in range(len(slot)):
        q = np.searchsorted(counters, channel[i])
        if q == len(counters) or counters[q] != channel[i]:
            continue
        s = -(-time[i] // step_us)
        if s < oldest or s >= end:
            continue
        e, p = slot[i], s % ring
        head = heads[e, p, q]
        if head.step > s:
            continue
        if head.step != s:
            _carry(head, times[e, p, q], values[e, p, q], carry_time[e], carry_value[e], q)
            head.step = s
            head.kept = 0
            head.folded = 0
        changed = _insert(head, times[e, p, q], results[e, p, q], values[e, p, q], time[i], result[i], value[i])
        if changed and s < next_step:
            touched[e, p] = True
            revised[p] = s


@_compiled
def _newest(head: Any, times: Any, values: Any) -> tuple[int, float]:
    """Return (time, value) of a list's newest reading; (NO_STEP, 0) when it has none."""
    if head.kept > 0:
        return times[head.kept - 1], values[head.kept - 1]
    if head.folded > 0:
        return head.last_time, head.last_value
    return NO_STEP, 0.0


@_compiled
def _carry(head: Any, times: Any, values: Any, carry_time: Any, carry_value: Any, q: int) -> None:
    """Keep the newest reading of a list that is about to be cleared: the next increase is counted from it."""
    time, value = _newest(head, times, values)
    if time > carry_time[q]:
        carry_time[q] = time
        carry_value[q] = value


@_compiled
def _insert(head: Any, times: Any, results: Any, values: Any, time: int, result: int, value: float) -> bool:
    """Put a reading at its place by time; return whether that changed the list."""
    n = head.kept
    at = n
    while at > 0 and times[at - 1] > time:
        at -= 1
    if at > 0 and times[at - 1] == time:
        return _replace(head, times, results, values, at - 1, result, value)
    if math.isnan(value) or (head.folded > 0 and time <= head.last_time):
        return False
    if n == len(times):
        if at == 0:
            _fold(head, time, value)
            return True
        _fold(head, times[0], values[0])
        _remove(head, times, results, values, 0)
        at -= 1
    for j in range(head.kept, at, -1):
        times[j], results[j], values[j] = times[j - 1], results[j - 1], values[j - 1]
    times[at], results[at], values[at] = time, result, value
    head.kept += 1
    return True


@_compiled
def _replace(head: Any, times: Any, results: Any, values: Any, at: int, result: int, value: float) -> bool:
    if result < results[at] or (result == results[at] and (math.isnan(value) or value == values[at])):
        return False
    if math.isnan(value):
        _remove(head, times, results, values, at)
    else:
        values[at], results[at] = value, result
    return True


@_compiled
def _remove(head: Any, times: Any, results: Any, values: Any, at: int) -> None:
    head.kept -= 1
    for j in range(at, head.kept):
        times[j], results[j], values[j] = times[j + 1], results[j + 1], values[j + 1]


@_compiled
def _increase(before: float, after: float) -> float:
    """Return how far a counter came; one that fell has restarted and counts from zero."""
    return after - before if after >= before else after


@_compiled
def _fold(head: Any, time: int, value: float) -> None:
    if head.folded == 0:
        head.first_time, head.first_value, head.increase = time, value, 0.0
    else:
        head.increase += _increase(head.last_value, value)
    head.last_time, head.last_value = time, value
    head.folded += 1


@_compiled
def collect_rates(
    heads: Any, times: Any, values: Any, carry_time: Any, carry_value: Any, counters: Any, rows: Any, step: int,
    out: Any, learn: Any,
) -> None:  # fmt: skip
    """Fill the counter columns of ``out`` [k, C] with rates per second, NaN where no increase is known."""
    ring = heads.shape[1]
    p = step % ring
    for i in range(len(rows)):
        e = rows[i]
        for q in range(len(counters)):
            rate = np.nan
            if heads[e, p, q].step == step:
                begin, before = carry_time[e, q], carry_value[e, q]
                for r in range(ring):
                    if heads[e, r, q].step < step:
                        time, value = _newest(heads[e, r, q], times[e, r, q], values[e, r, q])
                        if time > begin:
                            begin, before = time, value
                rate = _rate(heads[e, p, q], times[e, p, q], values[e, p, q], begin, before)
            out[i, counters[q]] = rate
            learn[i, counters[q]] = learn[i, counters[q]] and not math.isnan(rate)


@_compiled
def _rate(head: Any, times: Any, values: Any, begin: int, before: float) -> float:
    """Return the increase per second from the reading (begin, before) on, or from the first one without such."""
    total = 0.0
    if head.folded > 0:
        if begin == NO_STEP:
            begin, before = head.first_time, head.first_value
        total = _increase(before, head.first_value) + head.increase
        before = head.last_value
    for j in range(head.kept):
        if begin == NO_STEP:
            begin, before = times[j], values[j]
        total += _increase(before, values[j])
        before = values[j]
    newest, _ = _newest(head, times, values)
    rate = total / ((newest - begin) * 1e-6) if newest > begin else np.nan
    return rate if math.isfinite(rate) else np.nan
