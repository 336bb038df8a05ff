"""Merging: parts of a day become one, in which each entity and step is said once.

Legend: n rows of all parts, k rows that remain, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.history import NO_LEVEL, HistoryPart
from pipeline.history_parts import StoredPart


def merge(parts: Sequence[StoredPart]) -> HistoryPart:
    """Return the rows that count of ``parts`` (one or more, with steps of one length), by entity and step.

    Rows that take a value back stay: what they take back may still come, from a part that is not among these.
    """
    names = pa.concat_arrays([part.names for part in parts]).unique()
    names = names.take(pc.sort_indices(names))
    channels = tuple(dict.fromkeys(channel for part in parts for channel in part.channels))
    codes = np.concatenate([pc.index_in(p.names, value_set=names).to_numpy()[p.codes] for p in parts])  # [n]
    step = np.concatenate([part.step for part in parts])
    revision = np.concatenate([part.revision for part in parts])
    order = np.lexsort((revision, step, codes))
    key_changes = (np.diff(codes[order]) != 0) | (np.diff(step[order]) != 0)  # [n - 1]
    first = np.concatenate((np.zeros(min(1, len(order)), np.intp), np.flatnonzero(key_changes) + 1))  # [k]
    last = order[np.append(first[1:], len(order)) - 1] if len(first) else order  # [k] the row that counts
    level = np.concatenate([part.level for part in parts])
    judged = np.where(level[order] != NO_LEVEL, np.arange(len(order)), -1)
    judged = np.maximum.reduceat(judged, first) if len(first) else judged  # [k] place in order, -1: none
    verdict = order[judged]
    values, learn = np.full((len(last), len(channels)), np.nan), np.zeros((len(last), len(channels)), np.bool_)
    _gather(parts, channels, last, values, learn)
    expected, spread = _forecasts(parts, channels, np.where(judged >= 0, verdict, -1))
    return HistoryPart(
        channels,
        parts[0].step_us,
        names.to_pylist(),
        codes[last],
        step[last],
        values,
        learn,
        np.where(judged >= 0, np.concatenate([part.score for part in parts])[verdict], np.float32(0)),
        np.where(judged >= 0, level[verdict], np.int8(NO_LEVEL)),
        revision[last],
        expected,
        spread,
    )


def _forecasts(
    parts: Sequence[StoredPart], channels: tuple[str, ...], rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return [k, C] expected and spread from ``rows``, which count through all parts; -1: nobody knows."""
    if all(part.expected is None for part in parts):
        return None, None
    expected, spread = (np.full((len(rows), len(channels)), np.nan, np.float32) for _ in range(2))
    begin = 0
    for part in parts:
        mine = np.flatnonzero((rows >= begin) & (rows < begin + len(part)))
        for numbers, own in ((expected, part.expected), (spread, part.spread)):
            for c, channel in enumerate(part.channels if own is not None else ()):
                assert own is not None
                numbers[mine, channels.index(channel)] = own[rows[mine] - begin, c]
        begin += len(part)
    return expected, spread


def _gather(
    parts: Sequence[StoredPart],
    channels: tuple[str, ...],
    rows: NDArray[np.intp],
    values: NDArray[np.float64],
    learn: NDArray[np.bool_],
) -> None:
    """Fill [k, C] values and learn from ``rows``, which count through all parts; part by part, so as to copy once."""
    begin = 0
    for part in parts:
        mine = np.flatnonzero((rows >= begin) & (rows < begin + len(part)))
        for c, channel in enumerate(part.channels):
            at = channels.index(channel)
            values[mine, at] = part.values[rows[mine] - begin, c]
            learn[mine, at] = part.learn[rows[mine] - begin, c]
        begin += len(part)
