"""One entity's series out of the history: what was measured, what had been forecast, how odd it was.

Legend: T steps, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from pipeline.history import HistoryStore, HistoryUnavailableError, reaching
from pipeline.history_files import PartFile

log = structlog.get_logger("vedette.history")

_ATTEMPTS = 3
"""Each lists anew: a compaction may remove parts while they are read."""


@dataclass(frozen=True, slots=True)
class EntitySeries:
    """Steps of one entity, oldest first; steps without a reading are not in it."""

    times_us: NDArray[np.int64]
    """[T] ends of steps, ascending."""
    values: NDArray[np.float64]
    """[T, C], NaN where missing; likewise the next two, which are NaN too where nothing was kept."""
    expected: NDArray[np.float32]
    spread: NDArray[np.float32]
    score: NDArray[np.float32]
    """[T], 0 where unknown."""
    level: NDArray[np.int8]
    """[T] 0 none, 1 watch, 2 alert open then; 0 where unknown."""
    complete_from_us: int
    """Older steps may be missing: there was no time to read them."""

    def __len__(self) -> int:
        return len(self.times_us)


def series(
    store: HistoryStore,
    stream: str,
    entity: str,
    channels: Sequence[str],
    step_us: int,
    from_us: int,
    to_us: int,
    *,
    patience_s: float = 5.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> EntitySeries:
    """Return what is kept of an entity, newest parts first as far as time allows; nothing kept: no steps.

    Args:
        store: the history.
        stream: whose.
        entity: its name.
        channels: C names, in the order wanted.
        step_us: length of a step; frames of another length are passed over.
        from_us: the first end of a step to return.
        to_us: the end of a step that is too late to return.
        patience_s: after so long no further part is begun.
        monotonic: the clock for that.

    Raises:
        HistoryUnavailableError: if the place cannot be read now.
    """
    until_s = monotonic() + patience_s
    for _ in range(_ATTEMPTS):
        reader = _Reader(store, stream, entity, tuple(channels), step_us, lambda: monotonic() >= until_s)
        try:
            return reader.read(from_us, to_us)
        except FileNotFoundError:
            continue
    raise HistoryUnavailableError(f"history at {store.location}: parts of stream {stream} vanish while they are read")


class _Reader:
    def __init__(
        self,
        store: HistoryStore,
        stream: str,
        entity: str,
        channels: tuple[str, ...],
        step_us: int,
        out_of_time: Callable[[], bool],
    ) -> None:
        self._store = store
        self._stream = stream
        self._entity = entity
        self._channels = channels
        self._step_us = step_us
        self._out_of_time = out_of_time

    def read(self, from_us: int, to_us: int) -> EntitySeries:
        from pipeline.history_merging import merge
        from pipeline.history_parts import DamagedPartError, StoredPart, decode_entity

        found: list[StoredPart] = []
        complete_from_us = from_us
        for file in self._newest_first(from_us, to_us):
            if self._out_of_time():
                complete_from_us = file.last_us + 1
                break
            with reaching(self._store.location, f"read {file.path}", may_be_gone=True):
                data = self._store.files.get(file.path)
            try:
                part = decode_entity(file, data, self._stream, self._step_us, self._channels, self._entity)
            except DamagedPartError as error:
                log.warning("part of the history not usable; shown without it", path=file.path, error=str(error))
                continue
            if part is not None:
                found.append(part)
        if not found:
            return self._nothing(complete_from_us)
        whole = merge(found)
        times_us = whole.step * self._step_us
        # A row without any value takes back what was said before: nothing is known of that step.
        inside = (times_us >= from_us) & (times_us < to_us) & ~np.isnan(whole.values).all(axis=1)
        whole = whole.take(np.flatnonzero(inside))
        blank = np.full(whole.values.shape, np.nan, np.float32)
        return EntitySeries(
            whole.step * self._step_us,
            whole.values,
            blank if whole.expected is None else whole.expected,
            blank if whole.spread is None else whole.spread,
            whole.score,
            np.maximum(whole.level, 0).astype(np.int8),
            complete_from_us,
        )

    def _newest_first(self, from_us: int, to_us: int) -> Iterator[PartFile]:
        for day in reversed(self._store.days(self._stream)):
            parts = [part for part in day.parts if part.last_us >= from_us and part.first_us < to_us]
            yield from sorted(parts, key=lambda part: -part.last_us)

    def _nothing(self, complete_from_us: int) -> EntitySeries:
        blank = np.zeros((0, len(self._channels)))
        narrow = blank.astype(np.float32)
        score, level = np.zeros(0, np.float32), np.zeros(0, np.int8)
        return EntitySeries(np.zeros(0, np.int64), blank, narrow, narrow, score, level, complete_from_us)
