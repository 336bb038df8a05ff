"""The recorder: keeps what a run saw and said, step by step, so that a report can show it afterwards.

Legend: n entities in use at a step, C channels, V witnesses, A heads, M attention positions, T steps kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from models.explanation import BAND_SPREADS, Position
from pipeline.incident import AlertMessage, finite_json


class StepFrames(Protocol):
    """What is read of a frame."""

    @property
    def time_us(self) -> int:
        """End of the step."""

    @property
    def values(self) -> NDArray[np.float64]:
        """[n, C], NaN where missing."""


class StepDetection(Protocol):
    """What is read of a detection."""

    @property
    def score(self) -> NDArray[np.float32]:
        """[n]."""

    @property
    def emitted(self) -> NDArray[np.float32]:
        """[n]."""

    @property
    def witness(self) -> NDArray[np.float32]:
        """[n, V]."""

    @property
    def share(self) -> NDArray[np.float32]:
        """[n, C]."""

    @property
    def sign(self) -> NDArray[np.int8]:
        """[n, C]."""


@dataclass(slots=True)
class Description:
    """What a report says about a stream besides its values."""

    channels: tuple[str, ...]
    units: tuple[str, ...]
    step_us: int
    model: str = ""
    simulated: bool = False
    witnesses: tuple[str, ...] = ()


@dataclass(slots=True)
class Table:
    """One entity's steps in time order. T steps, C channels; NaN before the entity was known."""

    time_us: NDArray[np.int64]
    observed: NDArray[np.float32]
    """[T, C]."""
    expected: NDArray[np.float32]
    """[T, C]."""
    lower: NDArray[np.float32]
    """[T, C]."""
    upper: NDArray[np.float32]
    """[T, C]."""
    score: NDArray[np.float32]
    """[T]."""
    emitted: NDArray[np.float32]
    """[T]."""
    incident: NDArray[np.int8]
    """[T] 0 none, 1 a watch is open, 2 an alert is open."""


@dataclass(slots=True)
class Moment:
    """What the scorer and the network looked at when an incident spoke for the first time."""

    time_us: int
    score: float
    witness: NDArray[np.float32]
    """[V]."""
    share: NDArray[np.float32]
    """[C]."""
    sign: NDArray[np.int8]
    """[C]."""
    positions: tuple[Position, ...] = ()
    attention_us: list[int] = field(default_factory=list)
    attention: list[NDArray[np.float32]] = field(default_factory=list)
    """One [M] row, the mean over the heads, for each of ``attention_us``; both empty where there was no network."""


@dataclass(slots=True)
class _Step:
    time_us: int
    columns: NDArray[np.float32]
    """[n, 3C + 2]: observed, expected, spread per channel, then score and emitted."""
    incident: NDArray[np.int8]


@dataclass(slots=True)
class _Attended:
    time_us: int
    weights: NDArray[np.float32]
    """[n, M]."""
    positions: tuple[Position, ...]


class StreamRecord:
    """What was recorded of one stream."""

    def __init__(self, max_steps: int, attention_before: int) -> None:
        self.description: Description | None = None
        self.entities: list[str] = []
        self.steps: deque[_Step] = deque(maxlen=max_steps)
        self.moments: dict[str, Moment] = {}
        """By incident id."""
        self.attended: deque[_Attended] = deque(maxlen=attention_before)
        self.awaiting: list[tuple[Moment, int, int]] = []
        """(moment, slot, steps still to come) of the moments whose heat map goes on."""
        self._positions: tuple[Position, ...] = ()

    def same(self, positions: tuple[Position, ...]) -> tuple[Position, ...]:
        """Return one object for equal positions, so that they are compared and kept once for all steps."""
        if positions != self._positions:
            self._positions = positions
        return self._positions


class Recorder:
    """Collects steps, alert messages and attention of a run; its memory is bounded.

    The newest ``max_steps`` steps of each stream are kept. Attention is kept only around incidents: the
    ``attention_before`` steps up to the first message of an incident and ``attention_after`` steps from there on; at
    most ``max_moments`` incidents are kept so, the first ones.
    """

    def __init__(
        self,
        *,
        max_steps: int = 200_000,
        attention_before: int = 24,
        attention_after: int = 12,
        max_moments: int = 1_000,
        max_messages: int = 10_000,
        wants_attention: bool = True,
        band_spreads: float = BAND_SPREADS,
    ) -> None:
        self.wants_attention = wants_attention
        """Whether whoever records should go to the expense of reading the attention weights at each step."""
        self.band_spreads = band_spreads
        self.messages: deque[dict[str, Any]] = deque(maxlen=max_messages)
        """Alert messages in the order in which they were said, as plain JSON-like dicts."""
        self.streams: dict[str, StreamRecord] = {}
        self._max_steps = max_steps
        self._before = attention_before
        self._after = attention_after
        self._max_moments = max_moments

    def describe(
        self,
        stream: str,
        channels: Sequence[str],
        units: Sequence[str],
        step_us: int,
        *,
        model: str = "",
        simulated: bool = False,
        witnesses: Sequence[str] = (),
    ) -> None:
        """Name a stream's channels, units and model; may be said at any time, the last word counts."""
        record = self._stream(stream)
        record.description = Description(tuple(channels), tuple(units), step_us, model, simulated, tuple(witnesses))

    def record(
        self,
        stream: str,
        entities: Sequence[str],
        frames: StepFrames,
        expected: NDArray[np.float64],
        spread: NDArray[np.float32],
        detection: StepDetection,
        level: NDArray[np.int8],
        messages: Sequence[AlertMessage],
        attention: NDArray[np.float32] | None = None,
        positions: Sequence[Position] = (),
    ) -> None:
        """Append one step; every array is copied.

        Args:
            stream: the stream's name.
            entities: names by slot, [n]; may only grow from step to step.
            frames: the step's values [n, C].
            expected: [n, C] what was forecast for this step; NaN where nothing was.
            spread: [n, C] of that forecast.
            detection: the step's scores.
            level: [n] 0, 1 or 2: nothing, a watch, an alert is open.
            messages: what was said at this step.
            attention: [n, A, M] or [n, M] weights with which the forecast was made; None where there is no network.
            positions: the M positions that the weights are about.
        """
        record = self._stream(stream)
        record.entities.extend(entities[len(record.entities) :])
        score = np.stack([detection.score, detection.emitted], axis=1)  # [n, 2]
        columns = np.concatenate([frames.values, expected, spread, score], axis=1).astype(np.float32)  # [n, 3C + 2]
        record.steps.append(_Step(frames.time_us, columns, np.array(level, np.int8)))
        if attention is not None and len(positions) > 0:
            weights = np.asarray(attention, np.float32)
            weights = weights.mean(axis=1) if weights.ndim == 3 else weights.copy()  # [n, M]
            self._attend(record, _Attended(frames.time_us, weights, record.same(tuple(positions))))
        for message in messages:
            self._hear(record, frames.time_us, detection, message)

    def message(self, message: AlertMessage) -> None:
        """Keep a message that belongs to no step (late corrections, the quality of the data)."""
        self.messages.append(_plain(message))

    def table(self, stream: str, entity: str) -> Table:
        """Return an entity's steps as columns; ``KeyError`` if it was never recorded."""
        record = self.streams[stream]
        if entity not in record.entities:
            raise KeyError(f"{stream}/{entity}")
        slot = record.entities.index(entity)
        C = (record.steps[-1].columns.shape[1] - 2) // 3
        rows = np.full((len(record.steps), 3 * C + 2), np.nan, np.float32)
        incident = np.zeros(len(record.steps), np.int8)
        for t, step in enumerate(record.steps):
            if slot < len(step.columns):
                rows[t] = step.columns[slot]
                incident[t] = step.incident[slot]
        observed, expected, spread = rows[:, :C], rows[:, C : 2 * C], rows[:, 2 * C : 3 * C]
        half = np.float32(self.band_spreads) * spread
        times_us = np.array([step.time_us for step in record.steps], np.int64)
        score, emitted = np.nan_to_num(rows[:, -2]), np.nan_to_num(rows[:, -1])
        return Table(times_us, observed, expected, expected - half, expected + half, score, emitted, incident)

    def _stream(self, name: str) -> StreamRecord:
        if name not in self.streams:
            self.streams[name] = StreamRecord(self._max_steps, self._before)
        return self.streams[name]

    def _attend(self, record: StreamRecord, attended: _Attended) -> None:
        record.attended.append(attended)
        going_on = []
        for moment, slot, left in record.awaiting:
            if attended.positions is moment.positions:  # a new network may look elsewhere: its rows are another map
                moment.attention_us.append(attended.time_us)
                moment.attention.append(attended.weights[slot])
                if left > 1:
                    going_on.append((moment, slot, left - 1))
        record.awaiting = going_on

    def _hear(self, record: StreamRecord, time_us: int, detection: StepDetection, message: AlertMessage) -> None:
        self.messages.append(_plain(message))
        incident, entity = message.incident_id, message.entity
        if incident in record.moments or entity not in record.entities or len(record.moments) >= self._max_moments:
            return
        slot = record.entities.index(entity)
        if slot >= len(detection.score):
            return
        moment = Moment(
            time_us,
            float(detection.score[slot]),
            np.array(detection.witness[slot], np.float32),
            np.array(detection.share[slot], np.float32),
            np.array(detection.sign[slot], np.int8),
        )
        record.moments[incident] = moment
        self._look_back(record, moment, slot)

    def _look_back(self, record: StreamRecord, moment: Moment, slot: int) -> None:
        """Give a new moment the attention of the steps before it, and let it collect those after it."""
        if not record.attended:
            return
        moment.positions = record.attended[-1].positions
        for attended in record.attended:
            if attended.positions is moment.positions and slot < len(attended.weights):
                moment.attention_us.append(attended.time_us)
                moment.attention.append(attended.weights[slot])
        if self._after > 0:
            record.awaiting.append((moment, slot, self._after))


def _plain(message: AlertMessage) -> dict[str, Any]:
    """Return the message as finite JSON-like data, so that a report needs nothing of the incident's classes."""
    return cast(dict[str, Any], finite_json(asdict(message)))
