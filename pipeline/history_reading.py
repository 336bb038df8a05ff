"""Reading the history: parts in any order become dense arrays, twice over: first who and when, then the values.

Legend: E entities, T steps, C channels, D steps of a day, n rows of a part.
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
    NO_LEVEL,
    Day,
    FrameArrays,
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    NoHistoryError,
    reaching,
)
from pipeline.history_files import PartFile
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
        grid = _Grid(survey, len(self._channels))
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
                keys = decode_keys(data, self._stream, self._step_us)
                if keys is not None:
                    _compare(part, keys, self._step_us)
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
                decoded = decode(self._get(part), self._stream, self._step_us, self._channels)
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


def _compare(part: PartFile, keys: Keys, step_us: int) -> None:
    """Raise DamagedPartError unless a part holds what its name says: the names decide what is read at all."""
    first, last = (int(keys.step.min()), int(keys.step.max())) if len(keys.step) else (0, 0)
    if len(keys.step) != part.rows or first * step_us != part.first_us or last * step_us != part.last_us:
        raise DamagedPartError("its rows are not those that its name tells of")


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


class _Said:
    """Which revision each entity and step of a day is at, for values and for levels."""

    def __init__(self, entities: int, first: int, last: int) -> None:
        self.first, self.steps = first, last - first + 1
        self.values = np.full(entities * self.steps, _NEVER)
        self.levels = np.full(entities * self.steps, _NEVER)


class _Grid:
    """Dense arrays that rows are put into; the order of the parts does not matter."""

    def __init__(self, survey: _Survey, channels: int) -> None:
        self._names = survey.names.take(pc.sort_indices(survey.names))
        self._first, self._last = survey.first, survey.last
        E, T = len(self._names), survey.last - survey.first + 1
        self._shape = E, T
        self._values = np.full((E * T, channels), np.nan)
        self._learn = np.zeros((E * T, channels), np.bool_)
        self._score = np.zeros(E * T, np.float32)
        self._level = np.zeros(E * T, np.int8)
        self._present = np.zeros(T, np.bool_)

    def put_day(self, parts: Iterator[StoredPart], alone: bool, first: int, last: int) -> None:
        """Put the parts of one day in; all rows of an entity and step lie in one day.

        Args:
            parts: of the day.
            alone: there is one part only.
            first: the first step that may be in them.
            last: the last one.
        """
        said: _Said | None = None
        for part in parts:
            if said is None and not (alone and part.merged):
                said = _Said(self._shape[0], max(first, self._first), min(last, self._last))
            self._put(part, said)

    def _put(self, part: StoredPart, said: _Said | None) -> None:
        """Put rows in; where ``said`` is None each entity and step is said once."""
        found = pc.fill_null(pc.index_in(part.names, value_set=self._names), -1).to_numpy().astype(np.int64)
        entity = found[part.codes]  # [n]
        rows = np.flatnonzero((entity >= 0) & (part.step >= self._first) & (part.step <= self._last))
        judged = part.level[rows] != NO_LEVEL
        if said is None:
            self._assign(part, entity, rows, rows[judged])
            return
        order = np.argsort(part.revision[rows], kind="stable")  # of rows for one place the last assigned stays
        rows, judged = rows[order], judged[order]
        revision = part.revision[rows]
        at = entity[rows] * said.steps + (part.step[rows] - said.first)
        newer = revision >= said.values[at]
        judged &= revision >= said.levels[at]
        said.values[at[newer]] = revision[newer]
        said.levels[at[judged]] = revision[judged]
        self._assign(part, entity, rows[newer], rows[judged])

    def _assign(
        self, part: StoredPart, entity: NDArray[np.int64], rows: NDArray[np.intp], judged: NDArray[np.intp]
    ) -> None:
        t = part.step - self._first
        self._present[t[rows]] = True
        at = entity * self._shape[1] + t
        self._values[at[rows]] = part.values[rows]
        self._learn[at[rows]] = part.learn[rows]
        self._score[at[judged]] = part.score[judged]
        self._level[at[judged]] = part.level[judged]

    def arrays(self, skipped: int) -> FrameArrays:
        """Return the arrays, from the first step that has a row on."""
        E, T = self._shape
        begin = int(np.argmax(self._present))
        return FrameArrays(
            self._names.to_pylist(),
            self._first + begin,
            self._values.reshape(E, T, -1)[:, begin:],
            self._learn.reshape(E, T, -1)[:, begin:],
            self._score.reshape(E, T)[:, begin:],
            self._level.reshape(E, T)[:, begin:],
            skipped,
        )
