"""The newest steps as they were just scored, for whoever shows them: metrics, pages, the API.

The loop hands a step over by one reference; readers in other threads take what is there without a lock.

Legend: n entities of a step, C channels, N horizons, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.detection import Detection
    from pipeline.frames import Frames
    from pipeline.stream import Stream
    from pipeline.stream_state import Expected

_MOST_STEPS = 2_000
"""Recent steps of a stream, however small they are: each step costs the loop a copy of so many references at most."""


@dataclass(frozen=True, slots=True)
class LiveStep:
    """One step of a stream as the loop left it. Nobody writes its arrays after it was handed over."""

    stream: str
    step: int
    time_us: int
    """The end of the step."""
    names: Sequence[str]
    """Entities by row: the stream's own list, which grows; only the first n count."""
    channels: tuple[str, ...]
    units: tuple[str, ...]
    values: NDArray[np.float64]
    """[n, C]; NaN where missing."""
    expected: NDArray[np.float64]
    """[n, C] what was forecast for this step the step before; NaN where nothing was."""
    spread: NDArray[np.float32]
    """[n, C] standard deviation of the forecast's error, > 0; NaN or 0 where nothing was forecast."""
    score: NDArray[np.float32]
    """[n] the shown score, >= 0; 1 is the boundary."""
    level: NDArray[np.int8]
    """[n] tier of the open anomaly: 0 none, 1 watch, 2 alert."""
    warming: NDArray[np.bool_]
    """[n] True while too little is known of the entity."""
    forecast: NDArray[np.float64] | None = None
    """[n, C, N] for the steps after this one; None in steps that are not the newest, or where nobody asked for it."""
    horizons: tuple[int, ...] = ()
    """Steps ahead, N of them."""
    forecast_spread: NDArray[np.float32] | None = None
    """[n, C, N] standard deviation of the forecast's error; there where ``forecast`` is."""

    @property
    def n(self) -> int:
        """Entities in this step."""
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        arrays = (self.values, self.expected, self.spread, self.score, self.level, self.warming)
        ahead = (self.forecast, self.forecast_spread)
        return sum(array.nbytes for array in arrays) + sum(array.nbytes for array in ahead if array is not None)


@dataclass(frozen=True, slots=True)
class LiveSeries:
    """The recent steps of one entity, oldest first."""

    times_us: NDArray[np.int64]
    """[T] ends of steps, ascending."""
    values: NDArray[np.float64]
    """[T, C]; likewise the next two; NaN where missing."""
    expected: NDArray[np.float64]
    spread: NDArray[np.float32]
    score: NDArray[np.float32]
    """[T]; likewise the next."""
    level: NDArray[np.int8]


class Live:
    """Holds the newest step of each stream and as many before it as there is room for.

    ``stepped`` is for one thread, the loop's; it replaces what readers hold, and never changes it. All other methods
    may be called from any thread.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        """Hold recent steps of up to ``max_bytes`` over all streams; the newest of each is held in any case."""
        self.max_bytes = max_bytes
        self._recent: dict[str, tuple[LiveStep, ...]] = {}
        """Stream to its steps, oldest first, never empty."""
        self._bytes = 0

    def stepped(self, step: LiveStep) -> None:
        """Take the newest step; its arrays are the caller's no more."""
        past = self._recent.get(step.stream, ())
        if past and past[-1].forecast is not None:
            # What an older step forecast is not shown, and would be most of its bytes.
            slim = replace(past[-1], forecast=None, forecast_spread=None)
            self._bytes -= past[-1].nbytes - slim.nbytes
            past = (*past[:-1], slim)
        excess = max(len(past) - _MOST_STEPS + 1, 0)
        self._bytes += step.nbytes - sum(each.nbytes for each in past[:excess])
        self._recent = {**self._recent, step.stream: (*past[excess:], step)}
        self._make_room()

    def streams(self) -> list[str]:
        """Return the streams that have taken a step."""
        return list(self._recent)

    def newest(self, stream: str) -> LiveStep | None:
        """Return the newest step; None before the first."""
        steps = self._recent.get(stream)
        return None if steps is None else steps[-1]

    def steps_after(self, stream: str, time_us: int) -> list[LiveStep]:
        """Return the recent steps that ended after ``time_us``, oldest first; those that there was no room for miss."""
        return [step for step in self._recent.get(stream, ()) if step.time_us > time_us]

    def row(self, stream: str, entity: str) -> int | None:
        """Return the row of an entity in the newest step; None where it is not in it. Costs a look at each name."""
        newest = self.newest(stream)
        if newest is None:
            return None
        try:
            return newest.names.index(entity, 0, newest.n)
        except ValueError:
            return None

    def recent(self, stream: str, entity_row: int) -> LiveSeries | None:
        """Return the recent steps of the entity that has this row in the newest one; None where there is none.

        Steps from before the rows were given anew, as when a partition left, are not in it.
        """
        steps = self._recent.get(stream, ())
        if not steps or not 0 <= entity_row < steps[-1].n:
            return None
        names = steps[-1].names
        of = [each for each in steps if each.names is names and entity_row < each.n]
        return LiveSeries(
            times_us=np.array([each.time_us for each in of], np.int64),
            values=np.array([each.values[entity_row] for each in of]),
            expected=np.array([each.expected[entity_row] for each in of]),
            spread=np.array([each.spread[entity_row] for each in of]),
            score=np.array([each.score[entity_row] for each in of]),
            level=np.array([each.level[entity_row] for each in of]),
        )

    def _make_room(self) -> None:
        """Give up the oldest steps, of the stream that holds most, until the rest fits."""
        while self._bytes > self.max_bytes:
            sizes = {name: sum(s.nbytes for s in steps[:-1]) for name, steps in self._recent.items()}
            largest = max(sizes, key=sizes.__getitem__)
            if sizes[largest] == 0:
                return
            steps = self._recent[largest]
            # An eighth at once: one by one, each step of a full ring would copy every stream's references.
            gone = max(len(steps) // 8, 1)
            gone = min(gone, len(steps) - 1)
            self._bytes -= sum(each.nbytes for each in steps[:gone])
            self._recent = {**self._recent, largest: steps[gone:]}


def live_step(
    stream: Stream, frames: Frames, expected: Expected, detection: Detection, *, forecast: bool = False
) -> LiveStep:
    """Return the step that ``stream`` has just scored and observed, without a copy of what is nobody else's.

    Args:
        forecast: whether to copy the newest forecasts and their spread too, [n, C, N] each.
    """
    n = len(frames.values)
    ahead, ahead_spread = stream.predictor.forecast(n) if forecast else (None, None)
    return LiveStep(
        stream=stream.name,
        step=frames.step,
        time_us=frames.time_us,
        names=stream.entities,
        channels=tuple(stream.channels),
        units=stream.units,
        values=frames.values,
        expected=expected.values,
        spread=expected.spread,
        score=stream.shown_scores(detection),
        level=stream.level(n),
        warming=detection.warming,
        forecast=None if ahead is None else ahead.copy(),
        horizons=stream.predictor.horizons,
        forecast_spread=None if ahead_spread is None else ahead_spread.copy(),
    )
