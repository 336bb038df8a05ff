"""The metrics of models, training, history, labels and the database; ``Metrics.models`` holds them.

Methods are named by what has happened; they may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from prometheus_client import Counter, Gauge

_FAILURES = ("failed", "hung", "died")
_OUTCOMES = ("promoted", "refused", "shadowed", "kept", *_FAILURES)
"""What can come of a training job."""

MakeCounter = Callable[..., Counter]
MakeGauge = Callable[..., Gauge]


class ModelMetrics:
    """What becomes of models and of what they learn from, as numbers."""

    def __init__(self, counter: MakeCounter, gauge: MakeGauge) -> None:
        """Make the metrics with ``counter`` and ``gauge``, each called as (name, help, *labels)."""
        self._step = gauge("stream_step_seconds", "Length of a step, as configured.", "stream")
        self._budget = gauge(
            "alert_budget_per_day", "False alarms that an entity may raise a day, as configured.", "stream"
        )
        self._model = gauge("model_info", "1 for the model in charge.", "stream", "version")
        self._trained = gauge("model_created_timestamp_seconds", "When the model in charge was trained.", "stream")
        self._trusted = gauge(
            "model_trusted_share", "Share of entity-channels whose forecast the network corrects.", "stream"
        )
        self._loss = gauge(
            "forecast_loss", "Mean absolute forecast error in spreads, by who forecast.", "stream", "role"
        )
        self._shadow = gauge("shadow_score_max", "Largest score of the newest step by the challenger.", "stream")
        self._swaps = counter("model_swaps", "Times that another model took charge.", "stream")
        self._rollbacks = counter("model_rollbacks", "Models given up for failing, by reason.", "stream", "reason")
        self._unusable = counter("models_unusable", "Versions in charge that could not be loaded.", "stream")
        self._missed = counter(
            "model_steps_missed", "Steps forecast without the network for want of memory.", "stream"
        )
        self._jobs = counter("training_jobs", "Training jobs ended, by what came of them.", "stream", "outcome")
        self._running = gauge("training_running", "1 while a training job runs.", "stream")
        self._progress = gauge("training_progress_ratio", "Share of the epochs done by the running job.", "stream")
        self._heartbeat = gauge("training_heartbeat_timestamp_seconds", "When the job last reported.", "stream")
        self._success = gauge("training_success_timestamp_seconds", "When a job last ended well.", "stream")
        self._next = gauge("training_next_timestamp_seconds", "When the schedule starts the next job.", "stream")
        self._scheduler = gauge("scheduler_tick_timestamp_seconds", "When the scheduler last turned.")
        self._drifts = counter("drifts", "Drifts seen, by what drifted.", "stream", "signal")
        self._rows = counter("history_rows", "Rows of closed frames kept.", "stream")
        self._lost = counter("history_dropped", "Rows of closed frames that could not be kept.", "stream")
        self._history_errors = counter("history_errors", "Failed writes to the history.")
        self._flushed = gauge("history_flushed_timestamp_seconds", "When the history was last written.")
        self._waiting = gauge("database_waiting", "Messages that wait for the alert database.")
        self._database_lost = counter("database_dropped", "Messages given up before the alert database had them.")
        self._database_lost_so_far = 0
        self._feedback = counter("feedback", "Labels that came by the feedback topic, by outcome.", "outcome")
        self._database_errors = counter("database_errors", "Failed writes to or reads from the alert database.")
        self._labels = gauge("labels", "Operators' labels that act now, by kind.", "stream", "kind")

    def configured(self, stream: str, step_s: float, alerts_per_day: float) -> None:
        """A stream is served: what alert rules measure it by, and zeros for what has not happened to it yet.

        A counter that only appears when it first counts has not increased, as Prometheus sees it.
        """
        self._step.labels(stream).set(step_s)
        self._budget.labels(stream).set(alerts_per_day)
        for counter in (self._swaps, self._unusable, self._missed, self._lost):
            counter.labels(stream)
        for outcome in _OUTCOMES:
            self._jobs.labels(stream, outcome)

    # ---- models ----

    def model(self, stream: str, version: str, previous: str | None = None) -> None:
        """A model took charge; ``previous`` is the one that it replaced."""
        if previous is not None and previous != version:
            with suppress(KeyError):
                self._model.remove(stream, previous)
        self._model.labels(stream, version).set(1)

    def created(self, stream: str, timestamp_s: float) -> None:
        """The model in charge was trained then."""
        self._trained.labels(stream).set(timestamp_s)

    def swapped(self, stream: str) -> None:
        """Another model took charge while readings flow."""
        self._swaps.labels(stream).inc()

    def rolled_back(self, stream: str, reason: str) -> None:
        """A model was given up; ``reason`` is from a bounded set."""
        self._rollbacks.labels(stream, reason).inc()

    def unusable(self, stream: str) -> None:
        """The version in charge could not be loaded."""
        self._unusable.labels(stream).inc()

    def steps_missed(self, stream: str, steps: int) -> None:
        """There was no memory for so many steps of a network; the linear forecast stood in."""
        self._missed.labels(stream).inc(steps)

    def trusted(self, stream: str, share: float) -> None:
        """So many entity-channels are corrected by the network."""
        self._trusted.labels(stream).set(share)

    def losses(self, stream: str, by_role: Mapping[str, float]) -> None:
        """What the forecasters' errors are now; roles that are gone lose their series."""
        for role in ("linear", "champion", "challenger"):
            if role in by_role:
                self._loss.labels(stream, role).set(by_role[role])
            else:
                with suppress(KeyError):
                    self._loss.remove(stream, role)

    def shadow_score(self, stream: str, score: float | None) -> None:
        """The challenger's largest score of the newest step; None: there is no challenger."""
        if score is not None:
            self._shadow.labels(stream).set(score)
        else:
            with suppress(KeyError):
                self._shadow.remove(stream)

    # ---- training ----

    def job_running(self, stream: str, progress: float, heartbeat_s: float) -> None:
        """A job runs, is so far (0 to 1), and last reported then."""
        self._running.labels(stream).set(1)
        self._progress.labels(stream).set(progress)
        self._heartbeat.labels(stream).set(heartbeat_s)

    def job_idle(self, stream: str) -> None:
        """No job runs."""
        self._running.labels(stream).set(0)
        self._progress.labels(stream).set(0)

    def job_ended(self, stream: str, outcome: str, ended_s: float) -> None:
        """A job ended; ``outcome`` is "promoted", "refused", "shadowed", "kept", "failed", "hung" or "died".

        Not having found history enough, or a better model, is no failure: training works.
        """
        self._jobs.labels(stream, outcome).inc()
        if outcome not in _FAILURES:
            self._success.labels(stream).set(ended_s)

    def next_job(self, stream: str, at_s: float | None) -> None:
        """The schedule starts the next job then; None: never."""
        if at_s is not None:
            self._next.labels(stream).set(at_s)
        else:
            with suppress(KeyError):
                self._next.remove(stream)

    def scheduler_ticked(self) -> None:
        """The scheduler is alive."""
        self._scheduler.set(time.time())

    def drifted(self, stream: str, signal: str) -> None:
        """A drift was seen in ``signal``: "score" or "residual"."""
        self._drifts.labels(stream, signal).inc()

    # ---- history and database ----

    def history_kept(self, stream: str, rows: int) -> None:
        """Rows are durable."""
        self._rows.labels(stream).inc(rows)
        self._flushed.set(time.time())

    def history_lost(self, stream: str, rows: int) -> None:
        """Rows could not be kept: there was no room for them."""
        self._lost.labels(stream).inc(rows)

    def history_failed(self) -> None:
        """A write failed; it is tried again."""
        self._history_errors.inc()

    def database_waiting(self, messages: int, lost: int = 0) -> None:
        """So many messages wait for the database; so many were given up since the start."""
        self._waiting.set(messages)
        self._database_lost.inc(max(0, lost - self._database_lost_so_far))
        self._database_lost_so_far = max(lost, self._database_lost_so_far)

    def feedback(self, accepted: bool) -> None:
        """A record of the feedback topic became a label, or was left behind."""
        self._feedback.labels("accepted" if accepted else "refused").inc()

    def database_failed(self) -> None:
        """The database could not be reached; it is tried again."""
        self._database_errors.inc()

    def labels(self, stream: str, by_kind: Mapping[str, int]) -> None:
        """So many labels act now."""
        for kind, count in by_kind.items():
            self._labels.labels(stream, kind).set(count)
