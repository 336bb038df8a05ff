"""A stream at work: the family of entities with the same channels, taken through every stage.

Legend: n entities in use, C channels, N horizons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connectors.base import RecordBlock
from connectors.reading import ReadingBatch, Reason
from models.detection import Detection
from pipeline.casebook import Casebook
from pipeline.correcting import Rebuilding
from pipeline.explaining import Explaining
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, Incident, Tier
from pipeline.probation import AlertRate, Failure, Probation, blamed
from pipeline.recording import Recorder
from pipeline.screen import Screened
from pipeline.shadowing import Shadow
from pipeline.stream_state import Expected, Stages, StreamState

if TYPE_CHECKING:  # it brings torch, which a daemon needs for nothing
    from pipeline.retraining import InRunTraining

# Forecast errors within this many spreads are unremarkable: late data that puts a value there withdraws an alert.
_UNREMARKABLE = 3.0


class Stream(StreamState):
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
        super().__init__(name, channels, stages, revise_steps)
        self.units = tuple(units)
        self.training = training
        self.recorder = recorder
        self.explaining = Explaining(
            self.channels, step_us, stages.predictor, stages.detector, lambda: stages.screen.entities
        )
        self._cold_score: NDArray[np.float32] | None = None
        self.revised_steps = 0
        """Closed steps that late readings have changed so far."""
        self.revised: list[Frames] = []
        """What ``revise`` found changed the last time, as it is now."""
        self.alert_rate = AlertRate()
        self._probation: Probation | None = None
        self._blamed = 0

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

    def window(self, readings: Screened, partition: int, now_us: int, topic: str = "") -> int:
        """Add readings to their windows; return how many came too late to count.

        ``topic`` is given where the stream has several: each partition of each is waited for.
        """
        if len(readings.slot) == 0:
            return 0
        self.stages.watermarks.observe((topic, partition), readings.max_time_us, now_us)
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
        if self.shadow is not None:
            self.shadow.step(frames, *self.predictor.expected_in_shadow(n), self.stages.alerting.open_incident(n))
        self._cold_score = self._cold(frames, detection)
        return detection

    def shown_score(self, detection: Detection, row: int) -> float:
        """Return the score that outputs show: the cold-start detector's while the entity is warming up."""
        if detection.warming[row] and self._cold_score is not None:
            return float(self._cold_score[row])
        return float(detection.score[row])

    def shown_scores(self, detection: Detection) -> NDArray[np.float32]:
        """Return [n] what ``shown_score`` does for each row; not to be written to."""
        if self._cold_score is None:
            return detection.score
        return np.where(detection.warming, self._cold_score, detection.score)

    def alert(self, frames: Frames, expected: Expected, detection: Detection, now_us: int) -> list[AlertMessage]:
        """Return what there is to say about this frame; the incidents' life goes on."""
        stages = self.stages
        explain = self.explaining.of(frames)
        level = self.level(len(frames.values))
        messages = stages.alerting.step(frames, detection, expected.values, expected.spread, explain, now_us)
        self._count_openings(frames, detection, level)
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
        self._judge_champion(n)
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
        self.revised = revisions[1::2]
        self.revised_steps += len(self.revised)
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

    def open_incidents(self) -> list[Incident]:
        """Return the open incidents of all kinds."""
        return [incident for book in self._books() for incident in book.open_incidents()]

    def incidents_opened(self) -> int:
        """Return how many incidents of all kinds have opened so far."""
        return sum(book.counts.opened for book in self._books())

    # ---- partitions ----

    def assign(self, partition: int, now_us: int, topic: str = "") -> None:
        """Hold event time for a partition that is read from now on: at what its state has seen, else until it delivers.

        Without this the first partition to deliver in a catch-up would make the others late. Where the stream has
        several topics the state is of all of them together, and says of none how far it has come.
        """
        screen, watermarks = self.stages.screen, self.stages.watermarks
        watermarks.expect((topic, partition), now_us)
        slots = self._slots_of(partition)
        if len(slots) and not topic:
            watermarks.observe((topic, partition), int(screen.state["last_time_us"][slots].max()), now_us)

    def leave_out(self, partition: int, topic: str = "") -> None:
        """Let event time go on without a partition that has nothing to deliver; it counts again once it does."""
        self.stages.watermarks.remove((topic, partition))

    def suppressed(self) -> Counter[str]:
        """Return how often something was not said so far, by cause."""
        total: Counter[str] = Counter()
        for book in self._books():
            total += book.counts.suppressed
        return total

    # ---- who corrects the forecast; between two frames ----

    def swap(self, rebuilt: Rebuilding | None, probation_steps: int = 0) -> None:
        """Put a rebuilt network, or none, in charge; what was forecast for the next frame stays.

        Costs the few frames that came while it was rebuilt, however long the window is; opens and closes nothing.

        Raises:
            BrokenNetworkError, ValueError: see ``Predictor.take_charge``; then nothing has changed.
        """
        if rebuilt is None:
            self.predictor.let_go()
        else:
            self.predictor.take_charge(rebuilt)
        self._watch(probation_steps)

    def begin_shadow(self, rebuilt: Rebuilding) -> None:
        """Let a rebuilt network run beside the champion, with a copy of the detector; raises as ``swap`` does."""
        shadow = Shadow(rebuilt.correction.version, self.stages.detector)  # first: there may be no memory for the copy
        self.predictor.shadow(rebuilt)
        self.shadow = shadow

    def promote_shadow(self, probation_steps: int = 0) -> None:
        """Put the challenger in charge with all that it knows; its scores end with that."""
        self.predictor.promote_shadow()
        self.end_shadow()
        self._watch(probation_steps)

    def take_failures(self) -> list[Failure]:
        """Return the networks that have failed since this was asked last; they are gone already."""
        failures = self.predictor.take_failures()
        if self.shadow is not None and self.predictor.challenger is None:
            self.end_shadow()
        return failures

    def _watch(self, probation_steps: int) -> None:
        champion, alarms_per_row = self.predictor.champion, self.stages.alerting.books[0].alpha or 0.0
        self._probation = None
        if champion is not None and probation_steps > 0:
            rate = self.alert_rate.per_step
            self._probation = Probation(champion.version, probation_steps, alarms_per_row, rate)

    def _count_openings(self, frames: Frames, detection: Detection, before: NDArray[np.int8]) -> None:
        """Count the alerts that this frame has opened, and those of them that only the champion saw."""
        rows = np.flatnonzero((self.level(len(before)) == Tier.ALERT) & (before < Tier.ALERT))
        self.alert_rate.step(len(rows))
        self._blamed = 0
        if len(rows) and self._probation is not None and self.predictor.champion is not None:
            miss = self.predictor.linear_miss(rows, frames.values[rows])
            self._blamed = blamed(detection, rows, miss, self.predictor.champion.trusted(len(before))[rows])

    def _judge_champion(self, n: int) -> None:
        """Let the champion go if it fails within its probation."""
        watched, champion = self._probation, self.predictor.champion
        if watched is None or champion is None or champion.version != watched.version or watched.over:
            self._probation = None
            return
        failure = watched.step(champion, n, self._blamed)
        if failure is not None:
            self.predictor.fail(failure)

    # ---- inner ----

    def _cold(self, frames: Frames, detection: Detection) -> NDArray[np.float32] | None:
        """Return [n] the cold-start detector's scores while any entity needs them; it learns afterwards."""
        if not detection.warming.any() and len(self.stages.cold_start) == 0:
            return None
        scores = self.stages.cold_start.score_many(frames.values)
        self.stages.cold_start.learn_many(frames.values, frames.learn, detection.warming)
        return scores

    def _books(self) -> list[Casebook]:
        stages = self.stages
        parts = (stages.limits, stages.silence, stages.stuck, stages.data_quality)
        return [*stages.alerting.books, *(book for part in parts for book in part.books)]

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
