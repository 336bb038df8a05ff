"""Windows: readings go into tumbling steps of event time; steps come out as frames once the watermark is past them.

Legend: E entity slots, R ring positions, C channels, Q channels of aggregator ``rate``, K counter readings kept,
n readings, k rows.

A step's cells lie at ring position ``step % R`` and carry their step number: so no position needs clearing when time
moves on, rows mean the same in another process, and a cell of another step counts as empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.closing import Added, Bounds, Closing, Taken
from pipeline.frames import Aggregator, Frames
from pipeline.held import ReadingColumns
from pipeline.window_state import NO_STEP, cells, empty_state, heads

# Steps a partition may be ahead of the slowest one, beyond the grace, before its readings are held aside.
_AHEAD_STEPS = 3

_CODES = {name: code for code, name in enumerate(Aggregator)}
_MEAN = _CODES[Aggregator.MEAN]
_SUM = _CODES[Aggregator.SUM]
_MAX = _CODES[Aggregator.MAX]
_MIN = _CODES[Aggregator.MIN]
_LAST = _CODES[Aggregator.LAST]
_COUNT = _CODES[Aggregator.COUNT]

_compiled = njit(cache=True, nogil=True, error_model="numpy")



class Windows(Closing):
    """Accumulates readings per entity, channel and step, and closes steps in order.

    Guarantees: for readings that come within the grace, frames depend neither on their order nor on batches (sums but
    for rounding). A repetition of the newest reading of a cell changes nothing; a reading of the same time replaces it
    unless its result time is earlier, and takes it away if it says "missing" with a later result time.

    Limits: a repetition or correction of an *older* reading of the step counts as another reading. The newest 16
    readings of a counter in a step are known by time and free of that; before those the order of arrival matters.
    """

    def __init__(
        self,
        aggregators: Sequence[Aggregator],
        step_us: int,
        grace_us: int,
        revise_us: int,
        capacity: int = 64,
        max_open: int | None = None,
    ) -> None:
        """Start empty.

        Args:
            aggregators: one per channel.
            step_us: length of a step, > 0.
            grace_us: how long after its end, by the watermark, a step stays open.
            revise_us: how long after its closing a step may still change, in whole steps, rounded up.
            capacity: entity slots to make room for at first.
            max_open: steps that can be open at once; readings further ahead are held aside until their step comes.
                None: as many as the grace needs, and 3.
        """
        if step_us <= 0 or grace_us < 0 or revise_us < 0:
            raise ValueError(f"step_us must be > 0, the others >= 0; got {step_us=}, {grace_us=}, {revise_us=}")
        C, revisable = len(aggregators), -(-revise_us // step_us)
        self._aggregators = np.array([_CODES[Aggregator(name)] for name in aggregators], np.int8)
        self._counters = np.flatnonzero(self._aggregators == _CODES[Aggregator.RATE])
        open_steps = -(-grace_us // step_us) + 1 + _AHEAD_STEPS if max_open is None else max(1, max_open)
        ring = revisable + open_steps
        state = empty_state(capacity, ring, C, len(self._counters), revisable > 0)
        super().__init__(state, C, step_us, grace_us, revisable, ring)

    def add(
        self,
        slot: NDArray[np.int32],
        channel: NDArray[np.int32],
        time_us: NDArray[np.int64],
        value: NDArray[np.float64],
        learnable: NDArray[np.bool_],
        result_time_us: NDArray[np.int64],
    ) -> Added:
        """Take n readings in, in order of arrival; the state grows to hold their slots.

        Args:
            slot: [n] entity slots.
            channel: [n] channel indexes.
            time_us: [n] end of each reading's interval.
            value: [n] finite, or NaN for a value that is known to be missing.
            learnable: [n] False for suspect readings.
            result_time_us: [n] when the value was made, NO_TIME where unknown.

        Raises:
            IndexError: if a slot is negative or a channel is not one of the C; nothing was taken in then.
        """
        if len(slot) == 0:
            return Added(0)
        # The compiled loop checks no bounds, so a wrong index would write anywhere.
        if slot.min() < 0 or channel.min() < 0 or channel.max() >= len(self._aggregators):
            raise IndexError(f"slots must be >= 0 and channels in 0..{len(self._aggregators) - 1}")
        needed = int(slot.max()) + 1
        if needed > self.state.capacity:
            self.grow(max(needed, 2 * self.state.capacity))
        return self._take(ReadingColumns(slot, channel, time_us, value, learnable, result_time_us))

    # ---- for Closing ----

    def _put(self, readings: ReadingColumns, bounds: Bounds) -> Taken:
        s, r = self.state, readings
        revised = np.full(self._ring, NO_STEP, np.int64)
        ahead = np.empty(len(r.slot), np.int64)
        if len(self._counters):
            lists = (s["counter_time"], s["counter_result"], s["counter_value"], s["carry_time"], s["carry_value"])
            counted = (r.slot, r.channel, r.time_us, r.value, r.result_time_us)
            _scatter_counters(heads(s), *lists, self._counters, s["touched"], revised, self.step_us, *bounds, *counted)
        columns = (r.slot, r.channel, r.time_us, r.value, r.learnable, r.result_time_us)
        late, n_ahead, first, newest = _scatter_cells(
            cells(s), s["used"], s["touched"], revised, ahead, self.step_us, *bounds, *columns
        )
        steps = sorted(revised[revised != NO_STEP].tolist())
        return Taken(late, ahead[:n_ahead], first, newest, tuple(steps))

    def _collect(self, step: int, rows: NDArray[np.intp]) -> Frames:
        shape, s = (len(rows), len(self._aggregators)), self.state
        values, learn, count = np.empty(shape), np.empty(shape, np.bool_), np.empty(shape, np.int32)
        _collect_cells(cells(s), rows, step, self._aggregators, values, learn, count)
        if len(self._counters):
            lists = (s["counter_time"], s["counter_value"], s["carry_time"], s["carry_value"])
            _collect_rates(heads(s), *lists, self._counters, rows, step, values, learn)
        return Frames(step, step * self.step_us, values, learn, count)

    def _reaches_on(self) -> bool:
        return len(self._counters) > 0


# ---- compiled: cells ----


@_compiled
def _scatter_cells(
    cells: Any, used: Any, touched: Any, revised: Any, ahead: Any, step_us: int, oldest: int, next_step: int,
    end: int, slot: Any, channel: Any, time: Any, value: Any, learnable: Any, result: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Put n readings into their cells; return (late, how many are in ``ahead``, first step, newest step)."""
    ring = cells.shape[1]
    late = n_ahead = 0
    first, newest = np.iinfo(np.int64).max, NO_STEP
    s = p = begin_us = end_us = 0
    for i in range(len(slot)):
        t = time[i]
        if t <= begin_us or t > end_us:  # another step than the reading before; a division is dear
            s = -(-t // step_us)
            p = s % ring
            end_us = s * step_us
            begin_us = end_us - step_us
        if s < oldest:
            late += 1
            used[slot[i]] = True
            continue
        if s >= end:
            ahead[n_ahead] = i
            n_ahead += 1
            used[slot[i]] = True
            continue
        cell = cells[slot[i], p, channel[i]]
        if cell.step != s:
            if cell.step > s:  # a row that was restored from further on has had this step
                late += 1
                continue
            _clear(cell, s)
            used[slot[i]] = True
        first, newest = min(first, s), max(newest, s)
        if _put(cell, t, value[i], not learnable[i], result[i]) and s < next_step:
            touched[slot[i], p] = True
            revised[p] = s
    return late, n_ahead, first, newest


@_compiled
def _clear(cell: Any, step: int) -> None:
    cell.step = step
    cell.last_time = NO_STEP
    cell.last_result = NO_STEP
    cell.last = np.nan
    cell.rest = 0.0
    cell.rest_min = np.inf
    cell.rest_max = -np.inf
    cell.values = 0
    cell.missing = 0
    cell.suspects = 0
    cell.last_suspect = 0


@_compiled
def _put(cell: Any, time: int, value: float, suspect: bool, result: int) -> bool:
    """Take one reading into its cell; return whether that changed it."""
    if time == cell.last_time:
        return _replace_last(cell, value, suspect, result)
    if math.isnan(value):
        cell.missing = min(cell.missing + 1, 65535)
        return True
    if suspect:
        cell.suspects = min(cell.suspects + 1, 255)
    cell.values += 1
    if time < cell.last_time:
        _add_to_rest(cell, value)
        return True
    if not math.isnan(cell.last):
        _add_to_rest(cell, cell.last)
    cell.last = value
    cell.last_time = time
    cell.last_result = result
    cell.last_suspect = suspect
    return True


@_compiled
def _add_to_rest(cell: Any, value: float) -> None:
    cell.rest += value
    cell.rest_min = min(cell.rest_min, value)
    cell.rest_max = max(cell.rest_max, value)


@_compiled
def _replace_last(cell: Any, value: float, suspect: bool, result: int) -> bool:
    """Take a reading of the newest reading's time: a repetition, an outdated one, a correction, or a withdrawal."""
    withdrawn = math.isnan(cell.last)
    if result < cell.last_result or (result == cell.last_result and (math.isnan(value) or value == cell.last)):
        return False
    cell.last_result = result
    if cell.last_suspect and cell.suspects < 255:
        cell.suspects -= 1
    cell.last_suspect = suspect and not math.isnan(value)
    if cell.last_suspect:
        cell.suspects = min(cell.suspects + 1, 255)
    if math.isnan(value) and not withdrawn:
        cell.values -= 1
        cell.missing = min(cell.missing + 1, 65535)
    if withdrawn and not math.isnan(value):
        cell.values += 1
        cell.missing -= cell.missing > 0
    cell.last = value
    return True


@_compiled
def _collect_cells(cells: Any, rows: Any, step: int, aggregators: Any, values: Any, learn: Any, count: Any) -> None:
    """Fill [k, C] values, learn and count for ``step``."""
    p = step % cells.shape[1]
    for i in range(len(rows)):
        for c in range(len(aggregators)):
            cell = cells[rows[i], p, c]
            values[i, c] = np.nan
            learn[i, c] = False
            count[i, c] = 0
            if cell.step != step:
                continue
            count[i, c] = cell.values + cell.missing
            value = _aggregate(cell, aggregators[c]) if cell.values > 0 else np.nan
            if math.isfinite(value):  # a sum of huge values may not be
                values[i, c] = value
                learn[i, c] = cell.suspects == 0


@_compiled
def _aggregate(cell: Any, aggregator: int) -> float:
    last = cell.last
    withdrawn = math.isnan(last)
    if aggregator == _COUNT:
        return float(cell.values)
    if aggregator == _LAST:
        return last
    if aggregator == _MIN:
        return cell.rest_min if withdrawn else min(cell.rest_min, last)
    if aggregator == _MAX:
        return cell.rest_max if withdrawn else max(cell.rest_max, last)
    total = cell.rest if withdrawn else cell.rest + last
    return total / cell.values if aggregator == _MEAN else total  # _SUM; a rate is made elsewhere


# ---- compiled: counters ----


@_compiled
def _scatter_counters(
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
def _collect_rates(
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
