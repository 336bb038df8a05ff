"""All metrics, in one class. Units are base units, and labels come from bounded sets.

Only what ``pipeline.metrics_entities`` writes has entities for labels, and that is bounded by ``metrics.max_series``.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from connectors.base import RecordBlock, TopicPartition
from connectors.reading import ReadingBatch, Rejected
from pipeline.checkpoint_format import Unusable
from pipeline.incident import AlertMessage, Phase, Tier
from pipeline.metrics_models import ModelMetrics
from pipeline.metrics_receivers import ReceiverMetrics
from pipeline.status import NotReady, Status

if TYPE_CHECKING:
    from models.detection import Detection
    from pipeline.frames import Frames
    from pipeline.screen import Screened
    from pipeline.stream import Stream

_STEP_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From a few entities to 100,000 on a slow machine."""
_DELAY_BUCKETS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0)
"""From grace alone to data that is published hours later."""
_STEP_STAGES = ("predict", "score", "alert")
_COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Description(NamedTuple):
    """A metric, as the README lists it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def version() -> str:
    """Return Vedette's version; "unknown" where it runs from a folder that was never installed."""
    try:
        return importlib.metadata.version("vedette")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Metrics:
    """What the daemon does, as numbers; the methods are named by what has happened. Called from the loop's thread.

    It also keeps ``status``, from which the health probes answer.
    """

    def __init__(self, registry: CollectorRegistry | None = None, status: Status | None = None) -> None:
        """Register with ``registry``; none: with one of its own, so that two daemons in a process do not mix."""
        self.registry = registry if registry is not None else CollectorRegistry()
        self.status = status if status is not None else Status()
        self._described: list[Description] = []
        self._stage_s: dict[str, float] = {}
        self._spent_s = 0.0  # in the stages of steps, up to the newest one
        self._now_us = 0  # when the loop last turned
        self._frames: dict[str, int] = {}
        self._readings_seen = 0
        self._totals: dict[Counter, int] = {}
        self._open: dict[str, tuple[str, str, str]] = {}
        self._watermarks_us: dict[str, int] = {}
        self._assigned: set[TopicPartition] = set()
        self._register_readings()
        self._register_verdicts()
        self._register_running()
        self._register_checkpoints()
        self.models = ModelMetrics(self._counter, self._gauge)
        self.receivers = ReceiverMetrics(self._counter, self._gauge, self._histogram)
        ProcessCollector(registry=self.registry)
        self._build.labels(version()).set(1)

    # ---- what there is ----

    def _register_readings(self) -> None:
        self._records = self._counter("records_consumed", "Records read from a topic.", "topic", "partition")
        self._skipped = self._counter(
            "records_skipped", "Records that retention removed before they were read.", "topic", "partition"
        )
        self._readings = self._counter("readings", "Readings taken in.", "stream")
        self._late = self._counter("readings_late", "Readings that came after their step could be revised.", "stream")
        self._refused = self._counter("dead_letters", "Records and readings refused, by reason.", "stream", "reason")
        self._lag = self._gauge("consumer_lag_records", "Records between us and the topic's end.", "topic", "partition")
        self._watermark = self._gauge(
            "watermark_timestamp_seconds", "Event time up to which steps are closed, since 1970.", "stream"
        )
        self._event_lag = self._gauge("event_time_lag_seconds", "How far the watermark is behind the clock.", "stream")
        self._entities = self._gauge("entities", "Entities known.", "stream")
        self._warming = self._gauge("entities_warming", "Entities that are not scored yet.", "stream")

    def _register_verdicts(self) -> None:
        self._closed = self._counter("frames_closed", "Steps closed.", "stream")
        self._revised = self._counter("revisions", "Closed steps that late readings changed.", "stream")
        self._alerts = self._counter("alerts", "Alert messages sent.", "stream", "kind", "tier", "phase")
        self._alerted = self._counter("incidents_alerted", "Incidents that became an alert.", "stream", "kind")
        self._incidents = self._gauge("open_incidents", "Incidents that are open.", "stream", "kind", "tier")
        self._suppressed = self._counter("suppressed", "Openings that were held back.", "stream", "reason")
        self._score = self._gauge("score_max", "Largest score of the newest step; 1 is the boundary.", "stream")
        self._breaker = self._gauge("circuit_breaker_open", "1 while a flood of bad records is held off.", "stream")

    def _register_running(self) -> None:
        self._stages = self._counter("stage_seconds", "Time spent in each stage of the loop.", "stage")
        self._commits = self._histogram("commit_seconds", "Time to make outputs durable and commit.", _COMMIT_BUCKETS_S)
        self._steps = self._histogram(
            "step_seconds", "Time to take a step of all entities from forecast to alerts.", _STEP_BUCKETS_S, "stream"
        )
        self._delays = self._histogram(
            "step_delay_seconds", "From a step's end until it was scored.", _DELAY_BUCKETS_S, "stream"
        )
        self._tick = self._gauge("loop_tick_timestamp_seconds", "When the loop last turned, since 1970.")
        self._ready = self._gauge("ready", "1 when /readyz answers 200.")
        self._reachable = self._gauge("source_reachable", "1 when the broker answered last time.")
        self._partitions = self._gauge("assigned_partitions", "Partitions that this process reads.")
        self._rebalances = self._counter("rebalances", "Times that the partitions changed.")
        self._build = self._gauge("build_info", "1, with the version.", "version")
        self._ready.set_function(lambda: float(not self.status.reasons()))

    def _register_checkpoints(self) -> None:
        self._kept = self._gauge("checkpoint_timestamp_seconds", "When state was last kept, since 1970.")
        self._kept_s = self._gauge("checkpoint_duration_seconds", "How long the newest checkpoint took to write.")
        self._kept_bytes = self._gauge("checkpoint_size_bytes", "Size of the newest checkpoint, all partitions.")
        self._kept_errors = self._counter("checkpoint_errors", "Checkpoints that could not be written.")
        self._unusable = self._counter("checkpoints_unusable", "Checkpoints that could not be taken up.", "reason")

    def describe(self) -> list[Description]:
        """Return every metric of ours by name, with ``_total`` where Prometheus adds it."""
        from pipeline.metrics_entities import FAMILIES  # late: it takes Arrow, which few who count need

        return sorted(
            [*self._described, *(Description(name, "gauge", labels, text) for name, labels, text in FAMILIES)]
        )

    # ---- what has happened ----

    def saw(self, stream: str, block: RecordBlock, batch: ReadingBatch, readings: Screened) -> None:
        """A block of records was decoded and screened."""
        self._records.labels(block.topic, str(block.partition)).inc(len(block.values))
        self._readings.labels(stream).inc(len(readings.slot))
        self._readings_seen += len(readings.slot)
        for rejected in (batch.rejected, readings.rejected):
            self.refused(stream, rejected)

    def skipped(self, partition: TopicPartition, records: int) -> None:
        """Records were gone before they could be read."""
        self._skipped.labels(partition.topic, str(partition.partition)).inc(records)

    def refused(self, stream: str, rejected: Sequence[Rejected]) -> None:
        """Records or readings were refused."""
        counts: dict[str, int] = {}
        for each in rejected:
            counts[each.reason] = counts.get(each.reason, 0) + 1
        for reason, count in counts.items():
            self._refused.labels(stream, str(reason)).inc(count)

    def late(self, stream: str, count: int) -> None:
        """Readings came too late to count."""
        self._late.labels(stream).inc(count)

    def stepped(self, stream: Stream, frames: Frames, detection: Detection, messages: Sequence[AlertMessage]) -> None:
        """A step was closed and scored."""
        name, n = stream.name, len(frames.values)
        self._frames[name] = self._frames.get(name, 0) + 1
        self._closed.labels(name).inc()
        self._entities.labels(name).set(n)
        self._warming.labels(name).set(int(detection.warming.sum()))
        self._score.labels(name).set(float(detection.score.max(initial=0.0)))
        self._watermark.labels(name).set(frames.time_us / 1e6)
        self._watermarks_us[name] = frames.time_us
        self._delays.labels(name).observe(max(self._now_us - frames.time_us, 0) / 1e6)
        spent_s = sum(self._stage_s.get(stage, 0.0) for stage in _STEP_STAGES)
        self._steps.labels(name).observe(spent_s - self._spent_s)
        self._spent_s = spent_s
        self.said(messages)

    def said(self, messages: Sequence[AlertMessage]) -> None:
        """Alert messages were handed to the outputs."""
        for message in messages:
            tier = message.tier.name.lower()
            self._alerts.labels(message.stream, str(message.kind), tier, str(message.phase)).inc()
            before = self._open.pop(message.incident_id, None)
            grown = message.phase is Phase.OPENED if before is None else before[2] != tier
            if message.tier is Tier.ALERT and grown:
                self._alerted.labels(message.stream, str(message.kind)).inc()
            if before is not None:
                self._incidents.labels(*before).dec()
            if message.phase not in (Phase.RESOLVED, Phase.CORRECTED):
                now = self._open[message.incident_id] = (message.stream, str(message.kind), tier)
                self._incidents.labels(*now).inc()

    def so_far(self, stream: str, revised: int, suppressed: Mapping[str, int], holding_back: bool) -> None:
        """What a stream counts by itself, since the start: steps revised by late readings, and what was not said by
        cause; and whether a flood of refused records is being held back."""
        self._grow(self._revised.labels(stream), revised)
        for reason, count in suppressed.items():
            self._grow(self._suppressed.labels(stream, reason), count)
        self._breaker.labels(stream).set(holding_back)

    def _grow(self, counter: Counter, total: int) -> None:
        """Bring a counter up to ``total``."""
        before = self._totals.get(counter, 0)
        if total > before:
            counter.inc(total - before)
            self._totals[counter] = total

    def model(self, stream: str, model_version: str, previous: str | None = None) -> None:
        """A model took charge; ``previous`` is the one that it replaced."""
        self.models.model(stream, model_version, previous)

    def stage(self, name: str, seconds: float) -> None:
        """Time was spent in a stage of the loop."""
        self._stage_s[name] = self._stage_s.get(name, 0.0) + seconds
        self._stages.labels(name).inc(seconds)
        if name == "commit":
            self._commits.observe(seconds)

    def ticked(self, now_us: int) -> None:
        """The loop turned."""
        self.status.tick()
        self._tick.set(now_us / 1e6)
        self._now_us = now_us
        for stream, watermark_us in self._watermarks_us.items():
            self._event_lag.labels(stream).set((now_us - watermark_us) / 1e6)

    def source_reachable(self, reachable: bool) -> None:
        """The broker answered, or did not."""
        self._reachable.set(reachable)
        (self.status.release if reachable else self.status.hold)(NotReady.SOURCE)

    def partitions(self, assigned: Collection[TopicPartition]) -> None:
        """The group gave us these partitions; their state is restored."""
        for gone in self._assigned - set(assigned):
            for metric in (self._lag, self._records):
                with suppress(KeyError):  # a partition that brought nothing has no series
                    metric.remove(gone.topic, str(gone.partition))
        for partition in assigned:
            self._skipped.labels(partition.topic, str(partition.partition))  # 0, so that the first loss is an increase
        self._assigned = set(assigned)
        self._partitions.set(len(assigned))
        self._rebalances.inc()
        self.status.release(NotReady.JOINING)

    def lag(self, records: Mapping[TopicPartition, int]) -> None:
        """The distance to the end of each partition is known."""
        for partition, count in records.items():
            self._lag.labels(partition.topic, str(partition.partition)).set(count)

    def draining(self) -> None:
        """The daemon is shutting down."""
        self.status.hold(NotReady.DRAINING)

    def checkpointed(self, size_bytes: int, seconds: float) -> None:
        """State was kept."""
        self._kept.set_to_current_time()
        self._kept_bytes.set(size_bytes)
        self._kept_s.set(seconds)

    def checkpoint_failed(self) -> None:
        """State could not be kept."""
        self._kept_errors.inc()

    def checkpoint_unusable(self, reason: Unusable) -> None:
        """A checkpoint could not be taken up."""
        self._unusable.labels(str(reason)).inc()

    # ---- what benchmarks and reports ask ----

    def stage_seconds(self) -> dict[str, float]:
        """Return the time spent in each stage so far."""
        return dict(self._stage_s)

    def readings_seen(self) -> int:
        """Return the readings that passed the screen so far."""
        return self._readings_seen

    def frames_closed(self) -> dict[str, int]:
        """Return the steps closed so far, by stream."""
        return dict(self._frames)

    # ---- inner ----

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._described.append(Description(f"vedette_{name}_total", "counter", labels, text))
        return Counter(f"vedette_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self._described.append(Description(f"vedette_{name}", "gauge", labels, text))
        return Gauge(f"vedette_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self._described.append(Description(f"vedette_{name}", "histogram", labels, text))
        return Histogram(f"vedette_{name}", text, labels, registry=self.registry, buckets=buckets)
