"""Windows' compiled loops over cells: one reading after the other into its cell, and cells into a frame's values.

Legend: E entity slots, R ring positions, C channels, n readings, k rows. See ``pipeline.window_state`` for a cell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from pipeline.frames import Aggregator
from pipeline.window_state import NO_STEP

CODES = {name: code for code, name in enumerate(Aggregator)}
"""What an aggregator is called within the loops."""
_MEAN = CODES[Aggregator.MEAN]
_SUM = CODES[Aggregator.SUM]
_MAX = CODES[Aggregator.MAX]
_MIN = CODES[Aggregator.MIN]
_LAST = CODES[Aggregator.LAST]
_COUNT = CODES[Aggregator.COUNT]

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def scatter_cells(
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
def collect_cells(
    cells: Any, rows: Any, step: int, aggregators: Any, least: Any, values: Any, learn: Any, count: Any
) -> None:
    """Fill [k, C] values, learn and count for ``step``; of fewer than ``least`` [C] values a channel is missing."""
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
            value = _aggregate(cell, aggregators[c]) if cell.values >= least[c] else np.nan
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
