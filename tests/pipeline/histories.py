"""Histories for tests: small tables as parts, and what a dictionary would make of the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.history import NO_LEVEL, FrameArrays, HistoryPart

HOUR_US = 3_600_000_000


class Row(NamedTuple):
    """What is said of one entity and step."""

    entity: str
    step: int
    values: tuple[float, ...]
    learn: tuple[bool, ...]
    level: int
    """NO_LEVEL: a revision."""
    revision: int


def part_of_rows(rows: Sequence[Row], channels: Sequence[str], step_us: int = HOUR_US) -> HistoryPart:
    """Return the rows as a part."""
    names = sorted({row.entity for row in rows})
    shape = (len(rows), len(channels))
    return HistoryPart(
        tuple(channels),
        step_us,
        names,
        np.array([names.index(row.entity) for row in rows], np.int32),
        np.array([row.step for row in rows], np.int64),
        np.array([row.values for row in rows], np.float64).reshape(shape),
        np.array([row.learn for row in rows], np.bool_).reshape(shape),
        np.array([max(0, row.level) / 2 for row in rows], np.float32),
        np.array([row.level for row in rows], np.int8),
        np.array([row.revision for row in rows], np.int64),
    )


def part_of(
    values: NDArray[np.float64],
    names: Sequence[str],
    channels: Sequence[str],
    *,
    step0: int = 0,
    step_us: int = HOUR_US,
    revision: int = 1,
) -> HistoryPart:
    """Return a table [E, T, C] as a part: a row where there is a value, all to be learned from, nothing open."""
    entity, t = np.nonzero(~np.isnan(values).all(axis=2))
    n = len(t)
    return HistoryPart(
        tuple(channels),
        step_us,
        list(names),
        entity.astype(np.int32),
        step0 + t.astype(np.int64),
        values[entity, t],
        ~np.isnan(values[entity, t]),
        np.zeros(n, np.float32),
        np.zeros(n, np.int8),
        np.full(n, revision, np.int64),
    )


def naive(rows: Iterable[Row], channels: int) -> FrameArrays:
    """Return what counts of ``rows``, in any order, worked out one by one."""
    said: dict[tuple[str, int], Row] = {}
    judged: dict[tuple[str, int], Row] = {}
    for row in rows:
        for book, counts in ((said, True), (judged, row.level != NO_LEVEL)):
            key = row.entity, row.step
            if counts and (key not in book or row.revision >= book[key].revision):
                book[key] = row
    names, steps = sorted({entity for entity, _ in said}), [step for _, step in said]
    step0 = min(steps)
    E, T = len(names), max(steps) - step0 + 1
    values, learn = np.full((E, T, channels), np.nan), np.zeros((E, T, channels), np.bool_)
    score, level = np.zeros((E, T), np.float32), np.zeros((E, T), np.int8)
    for (entity, step), row in said.items():
        values[names.index(entity), step - step0] = row.values
        learn[names.index(entity), step - step0] = row.learn
    for (entity, step), row in judged.items():
        level[names.index(entity), step - step0] = row.level
        score[names.index(entity), step - step0] = row.level / 2
    return FrameArrays(names, step0, values, learn, score, level)


def assert_equal(got: FrameArrays, wanted: FrameArrays) -> None:
    """Fail unless both say the same of the same entities and steps."""
    assert got.names == wanted.names
    assert got.step0 == wanted.step0
    for name in ("values", "learn", "score", "level"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
