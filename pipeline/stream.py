"""A stream at work: the family of entities with the same channels, and every stage's state for them.

Legend: n entities in use, C channels, N horizons.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.base import RecordBlock
from connectors.reading import ReadingBatch, Reason
from models.detection import Detection, Detector
from models.online import OnlineDetector
from models.state import RowState
from pipeline.alerting import Alerting
from pipeline.casebook import Casebook
from pipeline.data_quality import DataQuality
from pipeline.explaining import Explaining
from pipeline.frames import Frames
from pipeline.incident import AlertMessage
from pipeline.limits import Limits
from pipeline.predicting import Predictor
from pipeline.recording import Recorder
from pipeline.retraining import InRunTraining
from pipeline.screen import Screen, Screened
from pipeline.silence import Silence
from pipeline.stuck import Stuck
from pipeline.watermarks import Watermarks
from pipeline.windowing import Windows

# Forecast errors within this many spreads are unremarkable: late data that puts a value there withdraws an alert.
_UNREMARKABLE = 3.0


@dataclass(slots=True)
class Expected:
    """What was forecast for a frame, at the frame before it."""

    values: NDArray[np.float64]
    """[n, C], NaN where nothing was known."""
    spread: NDArray[np.float32]
    """[n, C], robust standard deviation of the forecast's error."""


@dataclass(slots=True)
class Stages:
    """The stages of one stream, ready made."""

    screen: Screen
    windows: Windows
    watermarks: Watermarks
    predictor: Predictor
    detector: Detector
    cold_start: OnlineDetector
    alerting: Alerting
    limits: Limits
    silence: Silence
    stuck: Stuck
    data_quality: DataQuality


class Stream:
    """Takes a stream's readings to frames, forecasts, scores and alerts; each method is one stage of the loop."""

    def __init__(
        self,
        name: str,
        channels: Sequence[str],
        units: Sequence[str],
        step_us: int,
        stages: Stages,
        *,
        revise_steps: int = 0,
        training: InRunTraining | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Take the stages ready made.

        Args:
            name: the stream's name.
            channels: names of the C channels.
            units: their UCUM units.
            step_us: length of a step.
            stages: the stages' objects.
            revise_steps: for how many closed steps late data may still change a verdict.
            training: trains and swaps the network within the run (demo, backtest); None where models come from outside.
            recorder: collects every step for a report; None in a daemon.
        """
        self.name = name
        self.channels = tuple(channels)
        self.units = tuple(units)
        self.stages = stages
        self.predictor = stages.predictor
        self.training = training
        self.recorder = recorder
        self.explaining = Explaining(
            self.channels, step_us, stages.predictor, stages.detector, lambda: stages.screen.entities
        )
        self._past: deque[tuple[int, Expected]] = deque(maxlen=revise_steps)
        self._named = 0
        self._cold_score: NDArray[np.float32] | None = None
        self.revised_steps = 0
        """Closed steps that late readings have changed so far."""

    @property
    def entities(self) -> list[str]:
        """Names of the entities by slot."""
        return self.stages.screen.entities

    def level(self, n: int) -> NDArray[np.int8]:
        """Return [n] the tier of the open anomaly of each entity: 0 none, 1 watch, 2 alert."""
        return self.stages.alerting.level(n)

    # ---- the stages, in the order of the loop ----

    def screen_batch(self, batch: ReadingBatch, block: RecordBlock | None, now_us: int) -> Screened:
        """Return the readings that belong to this stream in its own codes and units, and those that it refuses."""
        screened = self.stages.screen.screen(batch, block, now_us)
        self._make_room()
        ahead = sum(r.reason is Reason.TOO_FAR_AHEAD for r in screened.rejected)
        refused = len(batch.rejected) + len(screened.rejected)
        self.stages.data_quality.count(len(batch) + len(batch.rejected), refused, ahead)
        return screened

    def window(self, readings: Screened, partition: int, now_us: int) -> int:
        """Add readings to their windows; return how many came too late to count."""
        if len(readings.slot) == 0:
            return 0
        self.stages.watermarks.observe(partition, readings.max_time_us, now_us)
        added = self.stages.windows.add(
            readings.slot,
            readings.channel,
            readings.time_us,
            readings.value,
            readings.learnable,
            readings.result_time_us,
        )
        return added.late

    def closed(self, now_us: int, to_the_end: bool = False) -> Iterator[Frames]:
        """Yield the frames that are complete now, in order; with ``to_the_end`` also those that still wait for more."""
        watermark = self.stages.watermarks.watermark(now_us)
        if watermark is None:
            return
        if to_the_end:
            watermark = self.stages.windows.last_time_us()
        while frames := self.stages.windows.close(watermark):
            yield from frames

    def expect(self, frames: Frames) -> Expected:
        """Return what the predictor said about this frame before it came."""
        values, spread = self.predictor.expected(len(frames.values))
        return Expected(values.copy(), spread.copy())

    def score(self, frames: Frames, expected: Expected) -> Detection:
        """Return how odd the frame is; the detector learns from it after it has scored it."""
        n = len(frames.values)
        detection = self.stages.detector.detect(
            frames.values,
            frames.learn,
            expected.values,
            expected.spread,
            frames.time_us,
            frames.step,
            self.stages.alerting.open_incident(n),
        )
        self._cold_score = self._cold(frames, detection)
        return detection

    def shown_score(self, detection: Detection, row: int) -> float:
        """Return the score that outputs show: the cold-start detector's while the entity is warming up."""
        if detection.warming[row] and self._cold_score is not None:
            return float(self._cold_score[row])
        return float(detection.score[row])

    def alert(self, frames: Frames, expected: Expected, detection: Detection, now_us: int) -> list[AlertMessage]:
        """Return what there is to say about this frame; the incidents' life goes on."""
        stages = self.stages
        explain = self.explaining.of(frames)
        messages = stages.alerting.step(frames, detection, expected.values, expected.spread, explain, now_us)
        messages += stages.limits.step(frames, expected.values, expected.spread, now_us)
        messages += stages.silence.step(frames, now_us)
        messages += stages.stuck.step(frames, now_us)
        self._past.append((frames.step, expected))
        if self.recorder is not None:
            self._record(self.recorder, frames, expected, detection, messages)
        return messages

    def observe(self, frames: Frames, detection: Detection) -> list[AlertMessage]:
        """Let the predictor learn from the frame and forecast the next ones; return the warnings that they give."""
        self.predictor.observe(frames.values, frames.learn, frames.step, frames.time_us, detection.admit)
        n = len(frames.values)
        if self.training is not None:
            self.training.step(self.predictor, self.entities, frames, self.level(n))
        messages = self.stages.limits.look_ahead(*self.predictor.forecast(n), frames.time_us)
        if self.recorder is not None:
            for message in messages:
                self.recorder.message(message)
        return messages

    def revise(self, now_us: int) -> list[AlertMessage]:
        """Return the corrections that late data brings: verdicts on revised frames whose evidence is gone."""
        stages = self.stages
        messages: list[AlertMessage] = []
        revisions = stages.windows.take_revisions()
        self.revised_steps += len(revisions) // 2
        for outdated, new in zip(revisions[::2], revisions[1::2], strict=True):
            for part in (stages.limits, stages.silence, stages.stuck):
                messages += part.revise(new, now_us)
            messages += stages.alerting.revise(outdated, new, self._unremarkable(new), now_us)
        return messages

    def _unremarkable(self, new: Frames) -> NDArray[np.bool_]:
        """Return [k] for the rows of a revised frame whether it lies within its forecast; not where there was none."""
        assert new.rows is not None
        past = next((expected for step, expected in self._past if step == new.step), None)
        if past is None:
            return np.zeros(len(new.rows), np.bool_)
        known = new.rows < len(past.values)
        values = new.values[known]
        error = np.abs(values - past.values[new.rows[known]]) / past.spread[new.rows[known]]
        unremarkable = np.zeros(len(new.rows), np.bool_)
        # A value without a forecast has an error of NaN: nobody knows whether it is remarkable.
        unremarkable[known] = ((error <= _UNREMARKABLE) | np.isnan(values)).all(axis=1)
        return unremarkable

    def watch_data(self, now_us: int) -> list[AlertMessage]:
        """Return what there is to say about the quality of the data as a whole."""
        return self.stages.data_quality.step(now_us)

    def process(self, frames: Frames, now_us: int) -> tuple[Expected, Detection, list[AlertMessage]]:
        """Take one frame through all the stages."""
        expected = self.expect(frames)
        detection = self.score(frames, expected)
        messages = self.alert(frames, expected, detection, now_us)
        messages += self.observe(frames, detection)
        return expected, detection, messages

    def add_entities(self, names: Sequence[str], partition: int = 0) -> None:
        """Make the entities known before their first reading."""
        self.stages.screen.restore_entities(list(names), [partition] * len(names))
        self._make_room()

    def incidents_opened(self) -> int:
        """Return how many incidents of all kinds have opened so far."""
        return sum(book.counts.opened for book in self._books())

    # ---- partitions ----

    def assign(self, partition: int, now_us: int) -> None:
        """Hold event time for a partition that is read from now on: at what its state has seen, else until it delivers.

        Without this the first partition to deliver in a catch-up would make the others late.
        """
        screen, watermarks = self.stages.screen, self.stages.watermarks
        watermarks.expect(partition, now_us)
        slots = self._slots_of(partition)
        if len(slots):
            watermarks.observe(partition, int(screen.state["last_time_us"][slots].max()), now_us)

    def leave_out(self, partition: int) -> None:
        """Let event time go on without a partition that has nothing to deliver; it counts again once it does."""
        self.stages.watermarks.remove(partition)

    def suppressed(self) -> Counter[str]:
        """Return how often something was not said so far, by cause."""
        total: Counter[str] = Counter()
        for book in self._books():
            total += book.counts.suppressed
        return total

    # ---- state ----

    def states(self) -> dict[str, RowState]:
        """Return all per-entity state by component."""
        stages = self.stages
        states = {"screen": stages.screen.state, "windows": stages.windows.state}
        states |= self.predictor.states()
        states |= {f"detector.{name}": state for name, state in stages.detector.states().items()}
        states |= {"alerting": stages.alerting.state, "limits": stages.limits.state}
        states |= {"silence": stages.silence.state, "stuck": stages.stuck.state}
        return states

    def snapshot(self, partition: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the whole state of a partition's entities: what JSON can hold, and arrays with a row per entity.

        The arrays may be views of the live state: to be written or copied before the next step.
        """
        slots = self._slots_of(partition)
        in_order = len(slots) > 0 and slots[-1] == len(slots) - 1
        rows = slice(len(slots)) if in_order else slots  # a view costs nothing, picked rows cost their bytes
        arrays = {
            f"{component}/{name}": array[rows]
            for component, state in self.states().items()
            for name, array in state.arrays.items()
        }
        arrays |= {f"held/{name}": column for name, column in self.stages.windows.held(slots).items()}
        arrays |= self._past_of(slots)
        meta = {
            "stream": self.name,
            "model_version": self.predictor.model_version,
            "entities": [self.entities[slot] for slot in slots],
            "past_steps": [step for step, _ in self._past],
            "shared": {name: part.shared() for name, part in self._sharing().items()},
            "incidents": {
                name: part.rows_shared(slots) for name, part in self._with_incidents().items()
            },
        }
        return meta, arrays

    def restore(self, partition: int, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what ``snapshot`` gave; the entities get new slots here."""
        names = meta["entities"]
        fresh = not self.entities
        slots = self.stages.screen.restore_entities(names, [partition] * len(names))
        same_network = meta["model_version"] == self.predictor.model_version
        if fresh and names:
            self._adopt(arrays, same_network)
        self._make_room()
        embedding = self.predictor.state["embedding"][slots]
        if not fresh:
            self._copy_in(slots, arrays, same_network)
        if not same_network:
            self.predictor.state["embedding"][slots] = embedding
            self.predictor.start_anew(slots)
        if self._past.maxlen and "past/values" in arrays:
            self._restore_past(slots, meta["past_steps"], arrays["past/values"], arrays["past/spread"])
        for name, part in self._sharing().items():
            part.restore_shared(meta["shared"][name])
        held = {name.removeprefix("held/"): column for name, column in arrays.items() if name.startswith("held/")}
        if held:
            self.stages.windows.restore_held(slots, held)
        for name, incidents in self._with_incidents().items():
            incidents.restore_rows_shared(slots, meta["incidents"][name])

    def release(self, partition: int) -> None:
        """Forget a partition's entities: another process has them now. The others move to fresh slots."""
        partitions = set(np.unique(self.stages.screen.state["partition"][: len(self.entities)]).tolist()) - {partition}
        kept = {}
        for p in partitions:
            meta, arrays = self.snapshot(p)
            kept[p] = meta, {name: array.copy() for name, array in arrays.items()}
        for state in self.states().values():
            state.reset(np.arange(state.capacity))
        self.stages.screen.clear()
        self.stages.windows.clear_held()
        self.stages.watermarks.remove(partition)
        for incidents in self._with_incidents().values():
            incidents.clear()
        self._past.clear()
        self.stages.cold_start.forget(np.arange(len(self.entities)))
        self.predictor.forget_recent()
        self._named = 0
        for p, (meta, arrays) in kept.items():
            self.restore(p, meta, arrays)

    # ---- inner ----

    def _cold(self, frames: Frames, detection: Detection) -> NDArray[np.float32] | None:
        """Return [n] the cold-start detector's scores while any entity needs them; it learns afterwards."""
        if not detection.warming.any() and len(self.stages.cold_start) == 0:
            return None
        scores = self.stages.cold_start.score_many(frames.values)
        self.stages.cold_start.learn_many(frames.values, frames.learn, detection.warming)
        return scores

    def _adopt(self, arrays: Mapping[str, NDArray[Any]], same_network: bool) -> None:
        """Make the saved arrays the state itself, without a copy: there are no other entities."""
        for component, state in self.states().items():
            if component == "network" and not same_network:
                continue  # hidden states mean nothing to another network; the rest does not depend on it
            prefix = f"{component}/"
            state.adopt({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})

    def _copy_in(self, slots: NDArray[np.intp], arrays: Mapping[str, NDArray[Any]], same_network: bool) -> None:
        for component, state in self.states().items():
            if component == "network" and not same_network:
                continue
            for name, array in state.arrays.items():
                saved = arrays.get(f"{component}/{name}")
                if saved is not None and saved.shape[1:] == array.shape[1:]:
                    array[slots] = saved

    def _sharing(self) -> dict[str, Any]:
        stages = self.stages
        return {
            "windows": stages.windows,
            "watermarks": stages.watermarks,
            "detector": stages.detector,
            "data_quality": stages.data_quality,
        }

    def _with_incidents(self) -> dict[str, Any]:
        stages = self.stages
        return {
            "alerting": stages.alerting,
            "limits": stages.limits,
            "silence": stages.silence,
            "stuck": stages.stuck,
        }

    def _books(self) -> list[Casebook]:
        stages = self.stages
        parts = (stages.limits, stages.silence, stages.stuck, stages.data_quality)
        return [*stages.alerting.books, *(book for part in parts for book in part.books)]

    def _past_of(self, slots: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return what was forecast for the steps that may still be revised, [k, P, C] each; {} where none may."""
        if not self._past:
            return {}
        shape = (len(slots), len(self._past), len(self.channels))
        values, spread = np.full(shape, np.nan), np.ones(shape, np.float32)
        for p, (_, expected) in enumerate(self._past):
            known = slots < len(expected.values)
            values[known, p], spread[known, p] = expected.values[slots[known]], expected.spread[slots[known]]
        return {"past/values": values, "past/spread": spread}

    def _restore_past(
        self, slots: NDArray[np.intp], steps: Sequence[int], values: NDArray[np.float64], spread: NDArray[np.float32]
    ) -> None:
        past = dict(self._past)
        for p, step in enumerate(steps):
            n, C = int(slots.max(initial=-1)) + 1, len(self.channels)
            mine = past.setdefault(step, Expected(np.empty((0, C)), np.empty((0, C), np.float32)))
            missing = ((0, max(0, n - len(mine.values))), (0, 0))
            mine.values = np.pad(mine.values, missing, constant_values=np.nan)
            mine.spread = np.pad(mine.spread, missing, constant_values=1.0)
            mine.values[slots], mine.spread[slots] = values[:, p], spread[:, p]
        self._past = deque(sorted(past.items(), key=lambda item: item[0]), maxlen=self._past.maxlen)

    def _slots_of(self, partition: int) -> NDArray[np.intp]:
        return self.stages.screen.rows_of(partition)

    def _make_room(self) -> None:
        """Let every stage grow to the number of entities, by doubling."""
        n = len(self.entities)
        if n > self._named:
            for part in (
                self.stages.windows,
                self.predictor,
                self.stages.detector,
                self.stages.alerting,
                self.stages.limits,
                self.stages.silence,
                self.stages.stuck,
            ):
                part.grow(self.stages.screen.state.capacity)
            self.predictor.name_entities(self._named, self.entities)
            self._named = n

    def _record(
        self,
        recorder: Recorder,
        frames: Frames,
        expected: Expected,
        detection: Detection,
        messages: Sequence[AlertMessage],
    ) -> None:
        n = len(frames.values)
        recorder.record(
            self.name,
            self.entities[:n],
            frames,
            expected.values,
            expected.spread,
            detection,
            self.level(n),
            messages,
            self.predictor.attention(np.arange(n)) if recorder.wants_attention else None,
            self.predictor.positions() if recorder.wants_attention else [],
        )

