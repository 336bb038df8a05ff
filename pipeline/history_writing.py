"""Writing the history behind the loop: the loop hands columns over, a thread makes parts of them.

Legend: n entities of a frame, k rows of it that are kept, C channels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from pipeline.frames import Frames
from pipeline.history import NO_LEVEL, HistoryStore, HistoryUnavailableError
from pipeline.history_rows import FrameRows, KeptStream, any_value, copied, part_of
from pipeline.metrics_models import ModelMetrics

log = structlog.get_logger("vedette.history")

_BACKOFF_FIRST_S = 1.0
_BACKOFF_LAST_S = 60.0
_CLOSE_S = 10.0
# What a frame's arrays take beside their numbers, so that many small frames are bounded too.
_FRAME_BYTES = 1000
# So much becomes one part: building it takes as much again, and some of that holds the interpreter.
_PART_BYTES = 16 * 1024 * 1024


class HistoryWriter:
    """Keeps closed frames without slowing who hands them over: ``add`` copies and returns, a thread of its own writes.

    Memory is bounded: while the place is full or away, rows wait and are tried again; what then does not fit is
    refused, counted and logged; what waits is not given up for it. Methods are called from one thread, the loop's.
    """

    def __init__(
        self,
        store: HistoryStore,
        streams: Mapping[str, KeptStream],
        metrics: ModelMetrics,
        *,
        flush_every_s: float = 60.0,
        max_bytes: int = 256 * 1024 * 1024,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            store: where to.
            streams: channels and step of each stream by name.
            metrics: counts rows kept and lost, and failures.
            flush_every_s: what waits is written at least so often, earlier when it fills a quarter of the room.
            max_bytes: room for rows that wait.
            now_us: the wall clock; from it rows have their order, so it should not go back over a restart.
            monotonic: the clock for waiting.
        """
        self._store = store
        self._streams = dict(streams)
        self._metrics = metrics
        self._flush_every_s = flush_every_s
        self._max_bytes = max_bytes
        self._now_us = now_us
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: list[FrameRows] = []
        self._waiting_bytes = 0
        self._revision = 0
        self._added = 0
        """Number of the newest rows handed over."""
        self._wanted = 0
        """Up to this number somebody waits in ``flush``."""
        self._failures = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    # ---- the loop's side ----

    def add(
        self,
        stream: str,
        entities: Sequence[str],
        frames: Frames,
        level: NDArray[np.int8],
        score: NDArray[np.float32],
        *,
        expected: NDArray[np.float64] | None = None,
        spread: NDArray[np.float32] | None = None,
    ) -> None:
        """Keep the rows of ``frames`` in which there is a value; never waits for the disk.

        Args:
            stream: whose frames.
            entities: names by slot; the list may grow, but what is in it must not change.
            frames: of all entities. Its arrays may be changed afterwards.
            level: [n] 0 none, 1 watch, 2 alert open now.
            score: [n].
            expected: [n, C] what was forecast for this step, NaN where nothing was; None: not kept.
            spread: [n, C] standard deviation of the forecast's error.
        """
        slots = np.flatnonzero(any_value(frames.values))
        if len(slots) == 0:
            return
        whole = len(slots) == len(frames.values)
        values, learn = copied(frames.values, slots, whole), copied(frames.learn, slots, whole)
        score, level = copied(score, slots, whole), copied(level, slots, whole)
        forecasts: tuple[NDArray[np.float32], ...] = ()
        if expected is not None and spread is not None:
            with np.errstate(over="ignore"):
                forecasts = tuple(np.asarray(each[slots], np.float32) for each in (expected, spread))
        self._hand_over(stream, entities, slots, frames.step, values, learn, score, level, *forecasts)

    def revised(self, stream: str, entities: Sequence[str], new: Frames) -> None:
        """Keep a revision: what ``new`` says of its rows replaces what was kept, also where it says "missing".

        Args:
            stream: whose frames.
            entities: names by slot.
            new: status NEW, with ``rows``.
        """
        k = len(new.values)
        slots = np.arange(k) if new.rows is None else np.array(new.rows)
        score, level = np.zeros(k, np.float32), np.full(k, NO_LEVEL, np.int8)
        self._hand_over(stream, entities, slots, new.step, new.values.copy(), new.learn.copy(), score, level)

    def flush(self, timeout_s: float) -> bool:
        """Return whether all that was handed over is durable; tries at once, and gives up at the first failure.

        What was refused before is not part of it. After False everything still waits, and is tried again.
        """
        deadline_s = self._monotonic() + timeout_s
        with self._changed:
            wanted, failures = self._added, self._failures
            self._wanted = max(self._wanted, wanted)
            self._changed.notify_all()
            while self._waits(wanted) and self._failures == failures and self._thread.is_alive():
                left_s = deadline_s - self._monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            return not self._waits(wanted)

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """Write what waits and end the thread; return whether all of it is durable. What is not, is counted as lost."""
        done = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            left, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if left:
            log.error("history closed with rows that could not be written", rows=self._lose(left))
        return done

    def waiting_bytes(self) -> int:
        """Return the size of what waits, that which is being written included."""
        return self._waiting_bytes

    # ---- inner: handing over ----

    def _hand_over(
        self,
        stream: str,
        entities: Sequence[str],
        slots: NDArray[np.intp],
        step: int,
        values: NDArray[np.float64],
        learn: NDArray[np.bool_],
        score: NDArray[np.float32],
        level: NDArray[np.int8],
        *forecasts: NDArray[np.float32],
    ) -> None:
        self._revision = max(self._revision + 1, self._now_us())
        columns = (slots, values, learn, score, level, *forecasts)
        size_bytes = sum(column.nbytes for column in columns) + _FRAME_BYTES
        number = self._added + 1
        rows = FrameRows(
            stream, entities, slots, step, values, learn, score, level, self._revision, number, size_bytes, *forecasts
        )
        with self._changed:
            refused = self._waiting_bytes + size_bytes > self._max_bytes or self._closing
            if not refused:
                self._waiting.append(rows)
                self._waiting_bytes += size_bytes
                self._added = number
                if self._full():
                    self._changed.notify_all()
        if refused:
            self._lose([rows])
            log.error("no room for closed frames: they are missing from the history", stream=stream, rows=len(slots))

    def _lose(self, rows: Sequence[FrameRows]) -> int:
        for each in rows:
            self._metrics.history_lost(each.stream, len(each.slots))
        return sum(len(each.slots) for each in rows)

    def _waits(self, number: int) -> bool:
        """Return whether rows up to ``number`` wait."""
        return bool(self._waiting) and self._waiting[0].number <= number

    def _full(self) -> bool:
        return self._waiting_bytes * 4 >= self._max_bytes

    # ---- inner: the thread ----

    def _run(self) -> None:
        from pipeline import history_parts  # noqa: F401  # loads Arrow now, not amid the first minute's readings

        backoff_s = 0.0
        while self._wait(backoff_s):
            if self._write_waiting():
                backoff_s = 0.0
            else:
                backoff_s = min(max(2 * backoff_s, _BACKOFF_FIRST_S), _BACKOFF_LAST_S)

    def _wait(self, backoff_s: float) -> bool:
        """Return True when there is something to write, False when it is time to end."""
        due_s = self._monotonic() + (backoff_s if backoff_s else self._flush_every_s)
        with self._changed:
            while True:
                if self._closing:
                    return False
                left_s = due_s - self._monotonic()
                if left_s <= 0:
                    self._wanted = self._added  # all that waits now, in as many parts as it takes
                    due_s, left_s = self._monotonic() + self._flush_every_s, self._flush_every_s
                if self._waits(self._wanted) or (self._full() and not backoff_s):
                    return True
                self._changed.wait(left_s)

    def _write_waiting(self) -> bool:
        """Write what has waited longest, one part per stream; return False if some of it has to be tried again."""
        by_stream: dict[str, list[FrameRows]] = {}
        taken_bytes = 0
        with self._changed:
            for rows in self._waiting:
                if taken_bytes >= _PART_BYTES:
                    break
                taken_bytes += rows.size_bytes
                by_stream.setdefault(rows.stream, []).append(rows)
        done = [rows for of_stream in by_stream.values() if self._write(of_stream) for rows in of_stream]
        whole = len(done) == sum(map(len, by_stream.values()))
        numbers = {rows.number for rows in done}
        with self._changed:
            self._waiting = [rows for rows in self._waiting if rows.number not in numbers]
            self._waiting_bytes -= sum(rows.size_bytes for rows in done)
            if not whole:
                # Who waited is told, and the next attempt comes when its time has come.
                self._failures += 1
                self._wanted = 0
            self._changed.notify_all()
        return whole

    def _write(self, rows: list[FrameRows]) -> bool:
        """Write rows of one stream; return False if they have to be tried again."""
        stream = rows[0].stream
        try:
            written = self._store.write(stream, part_of(self._streams[stream], rows))
        except (HistoryUnavailableError, MemoryError) as error:
            self._metrics.history_failed()
            log.error("history not written; will try again", stream=stream, error=str(error))
            return False
        except Exception:
            # Not the place but the rows are at fault: tried again they would be in the way of all that follow.
            lost = self._lose(rows)
            log.exception("closed frames cannot be written; they are missing from the history", rows=lost)
            return True
        self._metrics.history_kept(stream, written)
        return True
