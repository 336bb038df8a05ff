"""The metrics of the ingest process; methods are named by what has happened, and may be called from any thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from connectors.reading import Reason

NAMESPACE = "vedette_ingest"
_DELIVERY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class IngestMetrics:
    """What the ingest process does, as numbers; registered with ``registry``, or one of its own where that is None."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._all: list[Any] = []
        self._delivered = self._counter("delivered_readings", "Readings that Kafka has acknowledged.")
        self._messages = self._counter("delivered_messages", "Messages that Kafka has acknowledged.")
        self._delivery = self._kept(
            Histogram(
                f"{NAMESPACE}_delivery_seconds", "From handing a batch to Kafka until it is acknowledged.",
                buckets=_DELIVERY_BUCKETS_S, registry=self.registry,
            )
        )  # fmt: skip
        self._kafka = self._gauge("kafka_up", "1 while Kafka takes readings.")
        self._spool_bytes = self._gauge("spool_bytes", "Size of what waits in the spool.")
        self._spool_readings = self._gauge("spool_readings", "Readings that wait in the spool.")
        self._spool_most = self._gauge("spool_max_bytes", "What the spool may hold.")
        self._spool_full = self._counter("spool_full", "Times that a source had to wait for room.")
        self._spool_errors = self._counter("spool_errors", "Failed reads and writes of the spool.")
        self._waiting = self._gauge("spool_topic_readings", "Readings that wait in the spool, by topic.", "topic")
        self._refused = self._gauge("topic_refused", "1 while Kafka takes others, but not this topic.", "topic")
        self._topics: set[str] = set()
        self._up = self._gauge("source_up", "1 while the source's peer answers.", "source")
        self._stopped = self._gauge("source_stopped", "1 when the source was given up; a person has to look.", "source")
        self._restarts = self._counter("source_restarts", "Times that a source was started again.", "source")
        self._readings = self._counter("source_readings", "Readings let through.", "source")
        self._repeats = self._counter("source_repeats", "Readings dropped, for they had come before.", "source")
        self._corrections = self._counter("source_corrections", "Readings that correct earlier ones.", "source")
        self._outdated = self._counter("source_outdated", "Readings dropped, for newer versions came.", "source")
        self._left_out = self._counter("source_left_out", "Readings of channels that are not asked for.", "source")
        self._rejected = self._counter("source_rejected", "Records refused, by reason.", "source", "reason")
        self._events = self._counter("source_events", "What else happened, by kind.", "source", "event")
        self._newest = self._gauge("source_newest_timestamp_seconds", "Time of the newest reading.", "source")
        self._heard = self._gauge("source_heard_timestamp_seconds", "When the source last brought anything.", "source")
        ProcessCollector(registry=self.registry)

    def delivered(self, readings: int, messages: int, seconds: float) -> None:
        """Kafka has acknowledged a batch."""
        self._delivered.inc(readings)
        self._messages.inc(messages)
        self._delivery.observe(seconds)

    def kafka_reachable(self, yes: bool) -> None:
        """Kafka takes readings, or not."""
        self._kafka.set(yes)

    def spooled(self, size: int, readings: int, most: int) -> None:
        """So much waits in the spool."""
        self._spool_bytes.set(size)
        self._spool_readings.set(readings)
        self._spool_most.set(most)

    def lanes(self, waiting: Mapping[str, int], refused: Collection[str]) -> None:
        """So many readings wait for each topic; these topics are refused. Of others that ever were it is told, too."""
        self._topics |= {*waiting, *refused}
        for topic in self._topics:
            self._waiting.labels(topic).set(waiting.get(topic, 0))
            self._refused.labels(topic).set(topic in refused)

    def spool_was_full(self) -> None:
        """Something was not taken for want of room."""
        self._spool_full.inc()

    def spool_failed(self) -> None:
        """The spool could not be read or written."""
        self._spool_errors.inc()

    def known(self, source: str) -> None:
        """There is such a source: its counters begin at 0."""
        for metric in (
            self._restarts, self._readings, self._repeats, self._corrections, self._outdated, self._left_out,
            self._up, self._stopped,
        ):  # fmt: skip
            metric.labels(source)

    def source_up(self, source: str, yes: bool) -> None:
        """The source's peer answers, or not."""
        self._up.labels(source).set(yes)

    def source_stopped(self, source: str) -> None:
        """The source was given up."""
        self._stopped.labels(source).set(1)
        self._up.labels(source).set(0)

    def restarted(self, source: str) -> None:
        """The source was started again."""
        self._restarts.labels(source).inc()

    def sifted(self, source: str, counts: Mapping[str, int], newest_us: int | None, now_s: float) -> None:
        """A batch was sifted; ``counts`` has some of readings, repeats, corrections, outdated and left_out."""
        for name, metric in (
            ("readings", self._readings), ("repeats", self._repeats), ("corrections", self._corrections),
            ("outdated", self._outdated), ("left_out", self._left_out),
        ):  # fmt: skip
            if counts.get(name):
                metric.labels(source).inc(counts[name])
        if newest_us is not None:
            self._newest.labels(source).set(newest_us / 1e6)
        self._heard.labels(source).set(now_s)

    def rejected(self, source: str, reasons: Sequence[Reason]) -> None:
        """Records were refused."""
        for reason in reasons:
            self._rejected.labels(source, str(reason)).inc()

    def event(self, source: str, event: str, n: int) -> None:
        """Something else happened; ``event`` is from a bounded set."""
        self._events.labels(source, event).inc(n)

    def describe(self) -> list[dict[str, Any]]:
        """Return name, type, labels and help of every metric, as they are exposed."""
        found = []
        for metric in self._all:
            kind = type(metric).__name__.lower()
            name = f"{metric._name}_total" if kind == "counter" else metric._name
            labels = list(metric._labelnames)
            found.append({"name": name, "type": kind, "labels": labels, "help": metric._documentation})
        return found

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._kept(Counter(f"{NAMESPACE}_{name}", text, labels, registry=self.registry))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._kept(Gauge(f"{NAMESPACE}_{name}", text, labels, registry=self.registry))

    def _kept(self, metric: Metric) -> Metric:
        self._all.append(metric)
        return metric
