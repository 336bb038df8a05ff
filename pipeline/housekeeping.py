"""Housekeeping: what a step leaves to be done beside the loop, and what comes of it back in at a step boundary.

    closed frames      ► history           (a thread writes Parquet)
    alert messages     ► alert database    (a thread writes, a spool on the disk waits with it)
    scores and errors  ► drift             ► training jobs (processes of their own, started by the scheduler)
    operators' labels  ► look-alikes       (a thread asks the database)
    registry           ► swap, shadow      (a thread loads and rebuilds)

The loop only hands over and takes what is ready; nothing here makes it wait but ``flush``, for a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from models.detection import Detection
from models.drift import DriftWatch, summarise_residuals, summarise_scores
from pipeline.alert_keeping import AlertKeeping
from pipeline.feedback_topic import FeedbackTopic
from pipeline.frames import Frames
from pipeline.history_writing import HistoryWriter
from pipeline.incident import AlertMessage
from pipeline.job_record import JobReason
from pipeline.label_feed import LabelFeed
from pipeline.labels import Label
from pipeline.live import Live, live_step
from pipeline.receivers import Receivers
from pipeline.scheduling import Scheduling
from pipeline.stream import Stream
from pipeline.stream_state import Expected
from pipeline.swapping import ModelWatch

log = structlog.get_logger("vedette.housekeeping")

_FIRST_LABELS_S = 5.0
"""How long the start waits for the labels; a database that is away may not keep the daemon from scoring."""
_FLUSH_S = 10.0


class Housekeeping:
    """All of it for all streams; any part may be missing. Methods are the loop's, where they do not say otherwise."""

    def __init__(
        self,
        *,
        history: HistoryWriter | None = None,
        alerts: AlertKeeping | None = None,
        labels: LabelFeed | None = None,
        feedback: FeedbackTopic | None = None,
        models: ModelWatch | None = None,
        scheduling: Scheduling | None = None,
        drift: Mapping[str, DriftWatch] | None = None,
        receivers: Receivers | None = None,
        live: Live | None = None,
    ) -> None:
        """Take the parts ready made.

        Args:
            history: keeps closed frames.
            alerts: keeps alert messages.
            labels: follows operators' labels.
            feedback: reads labels from a topic.
            models: follows the registry.
            scheduling: starts training jobs.
            drift: stream to what watches for it.
            receivers: delivers alerts to who is to be told.
            live: holds the newest steps for the console and for the metrics of single entities.
        """
        self.history = history
        self.alerts = alerts
        self.labels = labels
        self.feedback = feedback
        self.models = models
        self.scheduling = scheduling
        self.receivers = receivers
        self.live = live
        self.listener: Callable[[Sequence[AlertMessage]], None] = lambda messages: None
        """Told of messages as they are said, and returns at once: the console's events."""
        self._drift = dict(drift or {})
        self._forecaster: dict[str, str] = {}
        """Stream to the version whose errors are watched for drift."""
        self._labels: Mapping[str, tuple[Label, ...]] | None = None

    # ---- life ----

    def start(self) -> None:
        """Begin, before the loop does."""
        if self.labels is not None:
            self.labels.start(_FIRST_LABELS_S)
        for part in (self.feedback, self.models, self.scheduling, self.receivers):
            if part is not None:
                part.start()

    def close(self) -> None:
        """Stop the threads; training jobs go on, and the next daemon finds them."""
        if self.scheduling is not None:
            self.scheduling.close()
        if self.models is not None:
            self.models.stop()
        for part in (self.feedback, self.labels):
            if part is not None:
                part.close()
        if self.history is not None and not self.history.close():
            log.error("left with frames that the history did not take")
        for last in (self.alerts, self.receivers):
            if last is not None:
                last.close()

    # ---- the loop's side ----

    def stepped(self, stream: Stream, frames: Frames, expected: Expected, detection: Detection) -> None:
        """A step was scored, learned from and told of: hand it over, and let in what is ready."""
        n = len(frames.values)
        if self.history is not None:
            level = stream.stages.alerting.level_to_learn(n)
            self.history.add(
                stream.name, stream.entities, frames, level, detection.score,
                expected=expected.values, spread=expected.spread,
            )  # fmt: skip
        if self.live is not None:
            self.live.stepped(live_step(stream, frames, expected, detection, forecast=True))
        watch = self._drift.get(stream.name)
        if watch is not None and self.scheduling is not None:
            self._watch_for_drift(watch, self.scheduling, stream, frames, expected, detection)
        self.boundary(stream)

    def boundary(self, stream: Stream) -> None:
        """No step is under way: let in the network that is ready, also where no readings come."""
        if self.models is not None:
            self.models.turn(stream)

    def _watch_for_drift(
        self, watch: DriftWatch, scheduling: Scheduling, stream: Stream, frames: Frames, expected: Expected,
        detection: Detection,
    ) -> None:  # fmt: skip
        version = stream.predictor.model_version
        if self._forecaster.setdefault(stream.name, version) != version:
            # Its errors are others than those of the one before it: that is a swap, and no drift to train on.
            self._forecaster[stream.name] = version
            watch.start_anew()
        error = (frames.values - expected.values) / expected.spread
        drifted = watch.update(
            summarise_scores(detection.score, detection.warming), summarise_residuals(error[~detection.warming])
        )
        scheduling.progressed(stream.name, frames.time_us)
        scheduling.drift(stream.name, drifted, frames.time_us)

    def revised(self, stream: Stream, frames: Sequence[Frames]) -> None:
        """Late readings changed these closed frames."""
        if self.history is not None:
            for each in frames:
                self.history.revised(stream.name, stream.entities, each)

    def said(self, messages: Sequence[AlertMessage]) -> None:
        """Alert messages were handed to the outputs."""
        if not messages:
            return
        if self.alerts is not None:
            self.alerts.add(messages)
        if self.receivers is not None:
            self.receivers.add(messages)
        self.listener(messages)

    def moved(self, streams: Sequence[Stream]) -> None:
        """Partitions came or went: from now on these are the incidents that are open here."""
        if self.receivers is not None:
            self.receivers.hold([incident for stream in streams for incident in stream.open_incidents()])

    def labelled(self, streams: Sequence[Stream]) -> None:
        """Let in operators' labels if they have changed, and hand over what they kept silent."""
        if self.alerts is not None:
            for stream in streams:
                self.alerts.silenced(stream.stages.alerting.lookalikes.take_counts())
        current = None if self.labels is None else self.labels.current()
        if current is None or current is self._labels:
            return
        self._labels = current
        for stream in streams:
            stream.stages.alerting.lookalikes.take(current.get(stream.name, ()))

    def flush(self) -> None:
        """Make what was handed over durable, before a checkpoint says that it need not be handed over again.

        A place that is away holds up nothing: what waits goes on waiting, and what is lost then is counted.
        """
        for name, part in (
            ("history", self.history), ("alert database's spool", self.alerts), ("outbox", self.receivers),
        ):  # fmt: skip
            if part is not None and not part.flush(_FLUSH_S):
                log.warning("not durable yet; going on", what=name)

    # ---- asked from other threads ----

    def notes(self) -> list[str]:
        """Return what a person should know though the daemon is ready."""
        return [] if self.scheduling is None else self.scheduling.notes()

    def undelivered(self) -> int:
        """Return how many messages wait for receivers."""
        return 0 if self.receivers is None else self.receivers.undelivered()

    def train(self, stream: str | None) -> Mapping[str, Any]:
        """Start a training job now; return what came of it, as JSON."""
        if self.scheduling is None:
            return {"accepted": False, "job": None, "reason": "nothing is kept to train on: history.directory is null"}
        return self.scheduling.request_now(stream)

    def train_soon(self) -> None:
        """Ask for a training of every stream; returns at once, so a signal handler may call it."""
        if self.scheduling is not None:
            self.scheduling.request_soon(None, JobReason.NOW)

    def training(self) -> Mapping[str, Any]:
        """Return the state of all trainings, as JSON."""
        return {"scheduler": None, "streams": []} if self.scheduling is None else self.scheduling.status()

