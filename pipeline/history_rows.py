"""Rows of frames on their way into the history: copied columns, a frame at a time, that become one part together.

Legend: n entities of a frame, k rows of it that are kept, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.history import HistoryPart

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class KeptStream:
    """What the writer has to know of a stream."""

    channels: tuple[str, ...]
    step_us: int


@dataclass(frozen=True, slots=True)
class FrameRows:
    """k rows of one frame, on their way."""

    stream: str
    entities: Sequence[str]
    """The loop's own list of names by slot: it only ever grows, so the slots below keep their meaning."""
    slots: NDArray[np.intp]
    step: int
    values: NDArray[np.float64]
    learn: NDArray[np.bool_]
    score: NDArray[np.float32]
    level: NDArray[np.int8]
    revision: int
    number: int
    """In the order of handing over, from 1."""
    size_bytes: int
    expected: NDArray[np.float32] | None = None
    """[k, C]; None where nobody told."""
    spread: NDArray[np.float32] | None = None


def part_of(kept: KeptStream, rows: Sequence[FrameRows]) -> HistoryPart:
    """Return the rows as one part; a name has one code, whatever slots it had."""
    sizes = [len(each.slots) for each in rows]
    known: dict[str, int] = {}
    codes = np.empty(sum(sizes), np.int32)
    lists = {id(each.entities): each.entities for each in rows}
    owner = np.repeat([id(each.entities) for each in rows], sizes)
    slots = np.concatenate([each.slots for each in rows])
    for identity, entities in lists.items():
        mine = owner == identity
        used = np.unique(slots[mine])
        of_used = [known.setdefault(entities[slot], len(known)) for slot in used.tolist()]
        codes[mine] = np.array(of_used, np.int32)[np.searchsorted(used, slots[mine])]
    return HistoryPart(
        kept.channels,
        kept.step_us,
        list(known),
        codes,
        np.repeat(np.array([each.step for each in rows], np.int64), sizes),
        np.concatenate([each.values for each in rows]),
        np.concatenate([each.learn for each in rows]),
        np.concatenate([each.score for each in rows]),
        np.concatenate([each.level for each in rows]),
        np.repeat(np.array([each.revision for each in rows], np.int64), sizes),
        _forecasts(rows, [each.expected for each in rows]),
        _forecasts(rows, [each.spread for each in rows]),
    )


def _forecasts(rows: Sequence[FrameRows], told: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """Return [sum of k, C], NaN for rows of which nothing was told; None where nothing was told of any."""
    if all(each is None for each in told):
        return None
    blank = [np.full(each.values.shape, np.nan, np.float32) for each in rows]
    return np.concatenate([b if t is None else t for b, t in zip(blank, told, strict=True)])


def copied(column: NDArray[_T], rows: NDArray[np.intp], whole: bool) -> NDArray[_T]:
    """Return those rows; where they are all of them a plain copy is several times as fast."""
    return column.copy() if whole else column[rows]


def any_value(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [n] whether a row has a value; by column, as numpy is slow along short rows."""
    present = np.zeros(len(values), np.bool_)
    for c in range(values.shape[1]):
        column = values[:, c]
        present |= column == column
    return present
