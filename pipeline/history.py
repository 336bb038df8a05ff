"""The history: closed frames in Parquet, by stream and day, for training and for people.

    HistoryError                 foreign or unusable content; a person has to look
    ├── NoHistoryError           there is nothing of what was asked for
    └── HistoryUnavailableError  retriable: the disk is full, the store is away

Layout: ``LOCATION/stream=NAME/day=YYYY-MM-DD/part_….parquet``, the day in UTC, of the end of the step. A table has one
row per entity and step in which there was a reading: ``time`` (end of the step), ``step``, ``entity``, a column per
channel under the channel's own name (null where missing), ``_learn:CHANNEL`` (may be learned from),
``_expected:CHANNEL`` and ``_spread:CHANNEL`` (what was forecast the step before, and the standard deviation of its
error; older parts lack them), ``_score``, ``_level`` (0 none, 1 watch, 2 alert open then) and ``_revision``. A channel
that is called like one of our columns, or begins with an underscore, is in column ``_channel:NAME``. People read it
with ``pandas.read_parquet(LOCATION)``, or with ``LOCATION/stream=NAME`` where streams have different channels (pandas
takes the columns of the first file only).

Parts are never changed. Of rows for the same entity and step the one with the highest ``_revision`` counts, which is
when it was said, in microseconds since 1970: so a revised frame takes back what was said before, and what is said again
after a restart counts once. ``_score``, ``_level`` and forecasts are null in revisions, which know values only; the
newest that are not null count.

Legend: E entities, T steps, C channels, n rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.history_files import (
    DAY_US,
    Entry,
    PartFile,
    day_begin_us,
    new_path,
    open_files,
    part_file,
    stream_folder,
    stream_of,
)

NO_LEVEL = -1
"""The level of a row that is a revision: what was open then is known from another row."""


class HistoryError(Exception):
    """The history cannot be used as it is."""

    retriable = False


class NoHistoryError(HistoryError):
    """There is nothing of what was asked for."""


class HistoryUnavailableError(HistoryError):
    """The place where the history lies cannot be reached or written to now."""

    retriable = True


@dataclass(slots=True)
class FrameArrays:
    """The frames of a stream on the whole time grid from ``step0`` on; entities in the order of their names."""

    names: list[str]
    step0: int
    values: NDArray[np.float64]
    """[E, T, C], NaN where missing."""
    learn: NDArray[np.bool_]
    """[E, T, C] may be learned from; False where missing."""
    score: NDArray[np.float32]
    """[E, T], 0 where unknown."""
    level: NDArray[np.int8]
    """[E, T] 0 none, 1 watch, 2 alert open then."""
    skipped: int = 0
    """Damaged or foreign files that were passed over, each with a warning in the log."""


@dataclass(slots=True)
class HistoryPart:
    """n rows of one stream, in any order, as columns."""

    channels: tuple[str, ...]
    step_us: int
    names: list[str]
    """The entities' names, each once."""
    codes: NDArray[np.int32]
    """[n] indexes into ``names``."""
    step: NDArray[np.int64]
    """[n]"""
    values: NDArray[np.float64]
    """[n, C], NaN where missing. A row without any value takes back what was said before."""
    learn: NDArray[np.bool_]
    """[n, C]"""
    score: NDArray[np.float32]
    """[n]; of no meaning where the level is NO_LEVEL."""
    level: NDArray[np.int8]
    """[n] 0, 1, 2; NO_LEVEL in a revision."""
    revision: NDArray[np.int64]
    """[n] the higher one counts; microseconds since 1970 at which the row was said."""
    expected: NDArray[np.float32] | None = None
    """[n, C] what was forecast, NaN where nothing was; None: nobody knows. Of no meaning in a revision."""
    spread: NDArray[np.float32] | None = None
    """[n, C] standard deviation of the forecast's error; there where ``expected`` is."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[np.intp]) -> HistoryPart:
        """Return those rows, in that order."""
        return HistoryPart(
            self.channels,
            self.step_us,
            self.names,
            self.codes[rows],
            self.step[rows],
            self.values[rows],
            self.learn[rows],
            self.score[rows],
            self.level[rows],
            self.revision[rows],
            None if self.expected is None else self.expected[rows],
            None if self.spread is None else self.spread[rows],
        )


class Span(NamedTuple):
    """What is kept of a stream. Times are the ends of the first and the last step."""

    first_us: int
    last_us: int
    rows: int
    """On the disk: a row that was said twice counts twice until its day is compacted."""


@dataclass(frozen=True, slots=True)
class Day:
    """What is kept of one day of a stream."""

    day: str
    parts: tuple[PartFile, ...]

    @property
    def rows(self) -> int:
        """Rows on the disk."""
        return sum(part.rows for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def begin_us(self) -> int:
        """Midnight at its beginning."""
        return day_begin_us(self.day)

    @property
    def end_us(self) -> int:
        """Midnight at its end."""
        return self.begin_us + DAY_US


class HistoryStore:
    """Keeps closed frames below one location. Safe from several threads, processes and machines at once.

    Nothing is locked: a part has a name of its own, appears whole or not at all, and is only ever removed by who has
    put all its rows into another one, or when it is too old. Who reads meanwhile lists again.
    """

    def __init__(self, location: str, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        """Keep parts at ``location``: a path or a URL of fsspec; nothing is made or reached yet.

        Args:
            location: such as state/history or s3://bucket/history.
            now_us: the wall clock, for the parts' names.

        Raises:
            HistoryError: if that kind of URL cannot be used here.
        """
        self.location = location
        self._now_us = now_us
        self._written: dict[str, tuple[int, int]] = {}
        try:
            self.files = open_files(location)
        except OSError as error:
            raise HistoryError(
                f"history at {location} cannot be opened: {error}; allowed: a directory, or a URL for which fsspec has"
                " a package installed"
            ) from error

    def write(self, stream: str, part: HistoryPart, *, merged: bool = False) -> int:
        """Make the rows of ``part`` durable, a file for each day in it; return how many they are.

        A failure may leave the files of some days: written again, their rows count once.

        Args:
            stream: whose rows they are.
            part: any rows, also none.
            merged: each entity and step is in it once, which makes reading it faster.

        Raises:
            HistoryUnavailableError: if it could not be written now.
        """
        from pipeline.history_parts import encode

        time_us = part.step * part.step_us
        days = time_us // DAY_US
        for day in np.unique(days).tolist():
            rows = np.flatnonzero(days == day)
            of_day = part if len(rows) == len(part) else part.take(rows)
            first_us, last_us = int(time_us[rows].min()), int(time_us[rows].max())
            data = encode(stream, of_day, merged=merged)
            path = new_path(stream, first_us, last_us, len(rows), self._now_us(), data)
            with reaching(self.location, f"write {path}"):
                self.files.put(path, data)
            before = self._written.get(stream, (first_us, last_us))
            self._written[stream] = min(before[0], first_us), max(before[1], last_us)
        return len(part)

    def written(self, stream: str) -> tuple[int, int] | None:
        """Return the ends of the first and the last step that were written by this object; None if none was.

        Some of them may have been removed since.
        """
        return self._written.get(stream)

    def read(
        self,
        stream: str,
        channels: Sequence[str],
        step_us: int,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        max_cells: int | None = None,
    ) -> FrameArrays:
        """Return the frames of a stream as dense arrays, revisions and repetitions resolved.

        Args:
            stream: whose frames.
            channels: C names, in the order wanted; one that was never kept comes out as NaN.
            step_us: length of a step; frames of another length are passed over, as another stream's would be.
            from_us: the first end of a step to return; None: from the beginning.
            to_us: the end of a step that is too late to return; None: to the end.
            max_cells: bound on E · T · C; the newest steps are kept, at least one. Reading takes about 13 bytes a cell,
                and two of the largest part's size.

        Raises:
            NoHistoryError: if there is no row of any of these channels with that step in that time.
            HistoryUnavailableError: if a file that is there cannot be read now.
            HistoryError: if all there is, is damaged or foreign.
        """
        from pipeline.history_reading import Reading

        return Reading(self, stream, tuple(channels), step_us, from_us, to_us, max_cells).read()

    def span(self, stream: str) -> Span | None:
        """Return the ends of the first and the last step and the number of rows; None if there is nothing.

        It asks the names of the files only.
        """
        parts = [part for day in self.days(stream) for part in day.parts]
        if not parts:
            return None
        first_us, last_us = min(part.first_us for part in parts), max(part.last_us for part in parts)
        return Span(first_us, last_us, sum(part.rows for part in parts))

    def streams(self) -> list[str]:
        """Return the names of the streams of which something may be kept."""
        with reaching(self.location, "list"):
            return [stream for folder in self.files.folders() if (stream := stream_of(folder)) is not None]

    def days(self, stream: str) -> list[Day]:
        """Return what is kept, oldest day first; parts by their first step."""
        by_day: dict[str, list[PartFile]] = {}
        for entry in self._entries(stream):
            part = part_file(entry)
            if part is not None:
                by_day.setdefault(part.day, []).append(part)
        ordered = sorted(by_day, key=day_begin_us)
        return [Day(day, tuple(sorted(by_day[day], key=lambda part: (part.first_us, part.path)))) for day in ordered]

    def strangers(self, stream: str) -> list[str]:
        """Return the paths of files in a stream's folder that are not ours by their names."""
        return [entry.path for entry in self._entries(stream) if part_file(entry) is None]

    @staticmethod
    def digest(arrays: FrameArrays) -> str:
        """Return a SHA-256 of all that is in ``arrays`` but ``skipped``: equal for equal frames, however they lie."""
        state = hashlib.sha256(f"{arrays.step0} {arrays.values.shape}".encode())
        for e, name in enumerate(arrays.names):
            state.update(repr(name).encode())
            values = arrays.values[e]
            state.update(np.where(np.isnan(values), np.nan, values).tobytes())  # NaN has many bit patterns
            for column in (arrays.learn[e], arrays.score[e], arrays.level[e]):
                state.update(column.tobytes())
        return state.hexdigest()

    def _entries(self, stream: str) -> list[Entry]:
        folder = stream_folder(stream)
        with reaching(self.location, f"list {folder}"):
            return self.files.list_files(folder)


@contextmanager
def reaching(location: str, what: str, *, may_be_gone: bool = False) -> Iterator[None]:
    """Turn the troubles of a place into HistoryUnavailableError; FileNotFoundError passes if a file may be gone."""
    try:
        yield
    except OSError as error:
        if may_be_gone and isinstance(error, FileNotFoundError):
            raise
        raise HistoryUnavailableError(f"history at {location}: cannot {what}: {error.strerror or error}") from error
