"""Reading the history: parts in any order become dense arrays, twice over: first who and when, then the values.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray

from pipeline.history import (
    Day,
    FrameArrays,
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    NoHistoryError,
    reaching,
)
from pipeline.history_files import PartFile
from pipeline.history_grid import Grid
from pipeline.history_parts import DamagedPartError, Keys, StoredPart, decode, decode_keys

log = structlog.get_logger("vedette.history")

# Each attempt lists anew. A compaction removes parts once per day and hour, so two in a row are bad luck already.
_ATTEMPTS = 5
# Small parts are fetched once for both passes: what is far away should not be asked twice for what fits here.
_KEPT_BYTES = 128 * 1024 * 1024

_NEVER = np.iinfo(np.int64).min


@dataclass(slots=True)
class _Survey:
    """Who is there, and when."""

    names: Any
    """Arrow array of names, in the order in which they were found."""
    newest: NDArray[np.int64]
    """[E] each one's newest step."""
    first: int
    last: int


class Reading:
    """One call of ``HistoryStore.read``, whose arguments these are."""

    def __init__(
        self,
        store: HistoryStore,
        stream: str,
        channels: tuple[str, ...],
        step_us: int,
        from_us: int | None,
        to_us: int | None,
        max_cells: int | None,
    ) -> None:
        self._store = store
        self._stream = stream
        self._channels = channels
        self._step_us = step_us
        self._from_step = _NEVER if from_us is None else -(-from_us // step_us)
        self._to_step = np.iinfo(np.int64).max if to_us is None else -(-to_us // step_us)
        self._max_cells = max_cells
        self._skipped: dict[str, str] = {}
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def read(self) -> FrameArrays:
        """Return the arrays; lists again when a part was merged into another one meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return self._read()
            except FileNotFoundError as error:
                gone = error
                self._kept.clear()
        raise HistoryUnavailableError(
            f"history at {self._store.location}: parts of stream {self._stream} vanished {_ATTEMPTS} times while they"
            f" were read, last {gone.filename or gone}; try again"
        )

    def _read(self) -> FrameArrays:
        days = [self._in_time(day) for day in self._store.days(self._stream)]
        survey = self._survey(days)
        if survey is None:
            raise self._nothing(sum(len(parts) for parts in days))
        grid = Grid(survey.names, survey.first, survey.last, len(self._channels))
        for parts in days:
            wanted = [part for part in parts if part.last_us >= survey.first * self._step_us]
            if wanted:
                first, last = min(p.first_us for p in wanted), max(p.last_us for p in wanted)
                grid.put_day(self._decoded(wanted), len(wanted) == 1, first // self._step_us, last // self._step_us)
        return grid.arrays(len(self._skipped))

    # ---- first pass ----

    def _survey(self, days: Sequence[list[PartFile]]) -> _Survey | None:
        """Return who was there from which step on, newest day first, as far as ``max_cells`` reaches."""
        survey: _Survey | None = None
        for parts in reversed(days):
            with_day = survey
            for keys in self._keys(parts):
                with_day = _extended(with_day, keys)
            if with_day is None:
                continue
            if self._max_cells is not None and self._cells(with_day) > self._max_cells:
                return self._cut(survey, with_day)
            survey = with_day
        return survey

    def _cells(self, survey: _Survey) -> int:
        return len(survey.names) * (survey.last - survey.first + 1) * len(self._channels)

    def _cut(self, without: _Survey | None, survey: _Survey) -> _Survey:
        """Return as much of ``survey`` as there is room for; ``without`` its oldest day if none of that fits."""
        assert self._max_cells is not None
        steps = max(1, self._max_cells // (len(survey.names) * len(self._channels)))
        first = survey.last - steps + 1
        if without is not None and without.first <= first:
            return without
        log.info("history cut to its newest part", stream=self._stream, steps=steps, max_cells=self._max_cells)
        stays = survey.newest >= first
        return _Survey(survey.names.filter(pa.array(stays)), survey.newest[stays], first, survey.last)

    def _keys(self, parts: list[PartFile]) -> Iterator[Keys]:
        """Yield the keys of the rows in time, part by part."""
        for part in parts:
            data = self._get(part)
            try:
                keys = decode_keys(part, data, self._stream, self._step_us)
            except DamagedPartError as error:
                self._skip(part, error)
                continue
            if keys is None:
                continue
            inside = (keys.step >= self._from_step) & (keys.step < self._to_step)
            if inside.any():
                yield keys if inside.all() else Keys(keys.names, keys.codes[inside], keys.step[inside])

    # ---- second pass ----

    def _decoded(self, parts: list[PartFile]) -> Iterator[StoredPart]:
        """Yield the rows of the parts that count."""
        for part in parts:
            if part.path in self._skipped:
                continue
            try:
                decoded = decode(part, self._get(part), self._stream, self._step_us, self._channels)
            except DamagedPartError as error:
                self._skip(part, error)
                continue
            if decoded is not None:
                yield decoded

    # ---- files ----

    def _in_time(self, day: Day) -> list[PartFile]:
        """Return the parts of ``day`` in which there may be rows in time."""
        return [
            part
            for part in day.parts
            if part.last_us // self._step_us >= self._from_step and part.first_us // self._step_us < self._to_step
        ]

    def _get(self, part: PartFile) -> bytes:
        data = self._kept.get(part.path)
        if data is not None:
            return data
        with reaching(self._store.location, f"read {part.path}", may_be_gone=True):
            data = self._store.files.get(part.path)
        if sum(map(len, self._kept.values())) + len(data) <= _KEPT_BYTES:
            self._kept[part.path] = data
        return data

    def _skip(self, part: PartFile, error: DamagedPartError) -> None:
        if part.path not in self._skipped:
            self._skipped[part.path] = str(error)
            log.warning(
                "part of the history not usable; going on without it. Remove it, or restore it from a backup",
                location=self._store.location, path=part.path, rows=part.rows, error=str(error),
            )  # fmt: skip

    def _nothing(self, parts: int) -> HistoryError:
        """Return what to raise when there is not one row."""
        what = f"stream {self._stream} with steps of {self._step_us / 1e6:g} s"
        if self._skipped and len(self._skipped) == parts:
            path, error = next(iter(self._skipped.items()))
            return HistoryError(
                f"history at {self._store.location}: none of the {parts} parts of {what} is usable, such as {path}"
                f" ({error}); remove them, or restore them from a backup"
            )
        return NoHistoryError(f"history at {self._store.location} has no frames of {what} in the time asked for")


def _extended(survey: _Survey | None, keys: Keys) -> _Survey:
    """Return ``survey`` with the entities and steps of ``keys``, which has rows."""
    newest = np.full(len(keys.names), _NEVER)
    np.maximum.at(newest, keys.codes, keys.step)
    there = newest > _NEVER  # a name in the dictionary may have no row in time
    names, newest = keys.names.filter(pa.array(there)), newest[there]
    first, last = int(keys.step.min()), int(keys.step.max())
    if survey is None:
        return _Survey(names, newest, first, last)
    at = pc.index_in(names, value_set=survey.names)
    known = at.is_valid().to_numpy(zero_copy_only=False)
    known_at = at.drop_null().to_numpy()
    old = survey.newest.copy()
    old[known_at] = np.maximum(old[known_at], newest[known])
    together = pa.concat_arrays([survey.names, names.filter(pa.array(~known))])
    return _Survey(together, np.concatenate((old, newest[~known])), min(survey.first, first), max(survey.last, last))
