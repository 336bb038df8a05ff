"""The writer keeps what it was given, in order, without making the loop wait and without growing for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from pipeline.frames import Frames, FrameStatus
from pipeline.history import FrameArrays, HistoryPart, HistoryStore, HistoryUnavailableError, NoHistoryError
from pipeline.history_rows import KeptStream
from pipeline.history_writing import HistoryWriter
from pipeline.metrics import Metrics
from tests.pipeline.histories import HOUR_US

CHANNELS = ("pm25", "no2")
STREAMS = {"air": KeptStream(CHANNELS, HOUR_US), "water": KeptStream(CHANNELS, HOUR_US)}
LONG_S = 60.0
"""Longer than any test takes: what comes earlier did not come by this time."""


class Away(HistoryStore):
    """A history that can be away, slow, or have enough of some rows."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.away = False
        self.hates: str | None = None
        self.attempts: list[int] = []
        self.wrote = threading.Event()

    def write(self, stream: str, part: HistoryPart, *, merged: bool = False) -> int:
        self.attempts.append(len(part))
        if self.away:
            raise HistoryUnavailableError("the disk is full")
        if self.hates in part.names:
            raise ValueError("cannot be encoded")
        rows = super().write(stream, part, merged=merged)
        self.wrote.set()
        return rows


class Books:
    """A writer, its store, and the metrics that it keeps."""

    def __init__(self, folder: Path) -> None:
        self.store = Away(str(folder))
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry).models
        self.open: list[HistoryWriter] = []

    def writer(self, **options: Any) -> HistoryWriter:
        writer = HistoryWriter(self.store, STREAMS, self.metrics, **{"flush_every_s": LONG_S, **options})
        self.open.append(writer)
        return writer

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"vedette_{name}", labels) or 0.0

    def read(self, stream: str = "air") -> FrameArrays:
        return self.store.read(stream, CHANNELS, HOUR_US)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path)
    yield books
    for writer in books.open:
        writer.close(LONG_S)


def frames_of(step: int, values: Any, rows: Any = None) -> Frames:
    array: NDArray[np.float64] = np.array(values, np.float64)
    count = np.isfinite(array).astype(np.int32)
    slots = None if rows is None else np.array(rows, np.intp)
    return Frames(step, step * HOUR_US, array, np.isfinite(array), count, FrameStatus.NEW, slots)


def add(writer: HistoryWriter, step: int, values: Any, entities: list[str], stream: str = "air") -> None:
    n = len(values)
    writer.add(stream, entities, frames_of(step, values), np.zeros(n, np.int8), np.zeros(n, np.float32))


NAN = np.nan


def test_rows_with_a_reading_are_kept_with_level_and_score(books: Books) -> None:
    """Protects what training and people read: values, what may be learned, what was open, what it scored."""
    writer = books.writer()
    frames = frames_of(7, [[1, NAN], [NAN, NAN], [3, 4]])
    frames.learn[2, 0] = False
    level, score = np.array([0, 2, 1], np.int8), np.array([0.5, 9, 1.5], np.float32)
    writer.add("air", ["a", "b", "c"], frames, level, score)
    frames.values[:], frames.learn[:], level[:], score[:] = -1, True, 2, -1  # the loop goes on with its arrays
    assert writer.flush(LONG_S)
    arrays = books.read()
    assert (arrays.names, arrays.step0) == (["a", "c"], 7)
    np.testing.assert_array_equal(arrays.values[:, 0], [[1, NAN], [3, 4]])
    np.testing.assert_array_equal(arrays.learn[:, 0], [[True, False], [False, True]])
    np.testing.assert_array_equal(arrays.level[:, 0], [0, 1])
    np.testing.assert_array_equal(arrays.score[:, 0], [0.5, 1.5])
    assert books.metric("history_rows_total", stream="air") == 2


def test_a_revision_takes_back_values_and_leaves_levels(books: Books) -> None:
    """Protects from learning what late readings have corrected, in the same part and in another one."""
    writer = books.writer()
    names = ["a", "b", "c"]
    level, score = np.array([0, 1, 2], np.int8), np.array([0.1, 1.1, 2.1], np.float32)
    writer.add("air", names, frames_of(7, [[1, 1], [2, 2], [3, 3]]), level, score)
    writer.revised("air", names, frames_of(7, [[20, 2]], [1]))
    assert writer.flush(LONG_S)
    writer.revised("air", names, frames_of(7, [[NAN, NAN]], [2]))
    assert writer.flush(LONG_S)
    arrays = books.read()
    np.testing.assert_array_equal(arrays.values[:, 0], [[1, 1], [20, 2], [NAN, NAN]])
    assert not arrays.learn[2].any()
    np.testing.assert_array_equal(arrays.level[:, 0], level)
    np.testing.assert_array_equal(arrays.score[:, 0], score)


def test_what_is_said_again_after_a_restart_counts_once(books: Books) -> None:
    """Protects from doubles: after a kill the frames since the checkpoint close again, and are kept again."""
    first = books.writer(now_us=lambda: 1_000)
    for step in range(6):
        add(first, step, [[step, 1]], ["a"])
    first.revised("air", ["a"], frames_of(2, [[50, 1]], [0]))
    assert first.close(LONG_S)
    again = books.writer(now_us=lambda: 2_000)
    for step in range(3, 9):
        add(again, step, [[step, 1]], ["a"])
    assert again.close(LONG_S)
    np.testing.assert_array_equal(books.read().values[0, :, 0], [0, 1, 50, 3, 4, 5, 6, 7, 8])


def test_slots_keep_their_meaning_when_partitions_move(books: Books) -> None:
    """Protects entities from each other's values when slots are given anew while rows wait."""
    writer = books.writer()
    names = ["a", "b"]
    add(writer, 1, [[1, 1], [2, 2]], names)
    names.append("c")
    add(writer, 2, [[1, 1], [2, 2], [3, 3]], names)
    add(writer, 3, [[3, 3], [1, 1]], ["c", "a"])  # after a release the stream has another list
    assert writer.flush(LONG_S)
    arrays = books.read()
    assert arrays.names == ["a", "b", "c"]
    np.testing.assert_array_equal(arrays.values[:, :, 0], [[1, 1, 1], [2, 2, NAN], [NAN, 3, 3]])


def test_streams_get_parts_of_their_own(books: Books) -> None:
    """Protects streams from each other."""
    writer = books.writer()
    add(writer, 1, [[1, 1]], ["a"], "air")
    add(writer, 1, [[2, 2]], ["a"], "water")
    assert writer.flush(LONG_S)
    assert [books.read(stream).values[0, 0, 0] for stream in ("air", "water")] == [1, 2]


def test_nothing_is_lost_while_the_place_is_away_for_a_while(books: Books) -> None:
    """Protects rows from a full disk that is made room on: they wait, are tried again, and `flush` tells."""
    writer = books.writer(monotonic=lambda: 0.0)  # nothing is tried again by itself meanwhile
    books.store.away = True
    for step in range(5):
        add(writer, step, [[step, 1]], ["a"])
        assert not writer.flush(LONG_S)
    assert books.store.attempts == [1, 2, 3, 4, 5]
    assert books.metric("history_errors_total") == 5
    books.store.away = False
    assert writer.flush(LONG_S)
    np.testing.assert_array_equal(books.read().values[0, :, 0], np.arange(5))
    assert books.metric("history_dropped_total", stream="air") == 0
    assert writer.waiting_bytes() == 0


def test_it_tries_again_by_itself(books: Books) -> None:
    """Protects rows from waiting for the next checkpoint after the place has come back."""
    writer = books.writer(flush_every_s=0.01)
    books.store.away = True
    add(writer, 1, [[1, 1]], ["a"])
    assert not writer.flush(LONG_S)
    books.store.away = False
    assert books.store.wrote.wait(LONG_S)


def test_memory_is_bounded_while_the_place_is_away(books: Books) -> None:
    """Protects the process: what does not fit is refused and counted; what waits is kept."""
    writer = books.writer(max_bytes=100_000)
    books.store.away = True
    names = [f"entity-{e}" for e in range(100)]
    values = np.ones((100, 2))
    for step in range(200):
        add(writer, step, values * step, names)
        assert writer.waiting_bytes() <= 100_000
    lost = books.metric("history_dropped_total", stream="air")
    assert 0 < lost < 200 * 100
    assert not writer.flush(LONG_S)
    books.store.away = False
    assert writer.flush(LONG_S)
    span = books.store.span("air")
    assert span is not None
    assert span.rows == 200 * 100 - lost
    np.testing.assert_array_equal(books.read().values[0, :, 0], np.arange(span.rows // 100))
    add(writer, 200, values, names)
    assert writer.flush(LONG_S)


def test_many_small_frames_are_bounded_too(books: Books) -> None:
    """Protects the process from frames whose numbers are few beside what holds them."""
    writer = books.writer(max_bytes=100_000)
    books.store.away = True
    for step in range(200):
        add(writer, step, [[1, 1]], ["a"])
    assert books.metric("history_dropped_total", stream="air") > 100


def test_rows_that_can_never_be_written_are_not_in_the_way(books: Books) -> None:
    """Protects all that follows from rows at which the encoder fails: they are given up, counted, logged."""
    writer = books.writer()
    books.store.hates = "bad"
    add(writer, 1, [[1, 1]], ["bad"])
    assert writer.flush(LONG_S)
    assert books.metric("history_dropped_total", stream="air") == 1
    add(writer, 2, [[2, 2]], ["good"])
    assert writer.flush(LONG_S)
    assert books.read().names == ["good"]


def test_it_writes_when_its_time_has_come(books: Books) -> None:
    """Protects rows from waiting for a checkpoint that nobody makes."""
    writer = books.writer(flush_every_s=0.01)
    add(writer, 1, [[1, 1]], ["a"])
    assert books.store.wrote.wait(LONG_S)


def test_it_writes_early_when_a_quarter_of_the_room_is_taken(books: Books) -> None:
    """Protects a catch-up, in which a minute's frames come every second, from running out of room."""
    writer = books.writer(max_bytes=20_000)
    for step in range(5):
        add(writer, step, [[1, 1]], ["a"])
    assert books.store.wrote.wait(LONG_S)


def test_a_large_backlog_becomes_parts_of_a_bounded_size(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory and the interpreter when much has waited: it is written piece by piece, in order, all of it."""
    monkeypatch.setattr("pipeline.history_writing._PART_BYTES", 5_000)
    writer = books.writer()
    for step in range(20):
        add(writer, step, [[step, 1]], ["a"])
    assert writer.flush(LONG_S)
    assert max(books.store.attempts) <= 5
    np.testing.assert_array_equal(books.read().values[0, :, 0], np.arange(20))


def test_flush_gives_up_in_time(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the loop from a disk that hangs."""
    writer = books.writer()
    go_on = threading.Event()
    put = books.store.files.put

    def put_late(path: str, data: memoryview) -> None:
        go_on.wait(LONG_S)
        put(path, data)

    monkeypatch.setattr(books.store.files, "put", put_late)
    add(writer, 1, [[1, 1]], ["a"])
    assert not writer.flush(0.01)
    go_on.set()
    assert writer.flush(LONG_S)


def test_closing_writes_what_waits(books: Books) -> None:
    """Protects the last minute before a shutdown; what comes after it is refused and counted."""
    writer = books.writer()
    add(writer, 1, [[1, 1]], ["a"])
    assert writer.close(LONG_S)
    assert books.read().names == ["a"]
    add(writer, 2, [[1, 1]], ["a"])
    assert writer.close(LONG_S)
    assert books.metric("history_dropped_total", stream="air") == 1


def test_closing_tells_what_could_not_be_written(books: Books) -> None:
    """Protects the operator from a loss that nobody mentions."""
    writer = books.writer()
    books.store.away = True
    add(writer, 1, [[1, 1]], ["a"])
    assert not writer.close(LONG_S)
    assert books.metric("history_dropped_total", stream="air") == 1


def test_frames_without_any_reading_leave_no_row(books: Books) -> None:
    """Protects the disk from gaps: they come out of the grid by themselves."""
    writer = books.writer()
    add(writer, 1, [[NAN, NAN]], ["a"])
    add(writer, 2, np.zeros((0, 2)), [])
    assert writer.flush(LONG_S)
    with pytest.raises(NoHistoryError):
        books.read()
