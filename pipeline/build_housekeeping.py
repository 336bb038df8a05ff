"""Builds the housekeeping from the configuration; one of the few files that know both, see ``pipeline.build``."""

from __future__ import annotations

from pathlib import Path

import structlog

from connectors.alert_store import AlertStore
from connectors.errors import Misconfigured
from models.drift import DriftWatch
from models.registry import Registry
from pipeline.alert_keeping import AlertKeeping
from pipeline.alert_spool import AlertSpool
from pipeline.build_receivers import build_receivers, console_url
from pipeline.config import Config
from pipeline.config_streams import StreamConfig
from pipeline.feedback_topic import FeedbackTopic
from pipeline.history import HistoryError, HistoryStore
from pipeline.history_extent import HistoryExtent
from pipeline.history_rows import KeptStream
from pipeline.history_upkeep import upkeep
from pipeline.history_writing import HistoryWriter
from pipeline.housekeeping import Housekeeping
from pipeline.job_request import train_command
from pipeline.label_feed import LabelFeed
from pipeline.live import Live
from pipeline.metrics import Metrics
from pipeline.metrics_models import ModelMetrics
from pipeline.scheduling import Chore, Scheduling
from pipeline.swapping import ModelWatch
from pipeline.training_due import StreamSchedule
from pipeline.training_jobs import TrainingJobs

log = structlog.get_logger("vedette.build")


def build_housekeeping(
    config: Config, path: Path, metrics: Metrics, *, live: Live | None = None, embedded: bool = False
) -> Housekeeping:
    """Return the housekeeping that ``config`` describes; nothing of it runs before ``start``.

    Args:
        config: everything.
        path: the file it was read from: training processes read it too.
        metrics: where to count.
        live: holds the newest steps for whoever shows them.
        embedded: whether the broker is the embedded one.

    Raises:
        Misconfigured: if a place that is named cannot be used at all. One that is only away now is no error.
    """
    registry = Registry(config.models.directory)
    counts = metrics.models
    models = ModelWatch(registry, counts, every_s=config.models.watch.total_seconds())
    try:
        store = AlertStore(config.database.url.get_secret_value())
        spool = AlertSpool(config.database.spool)
    except OSError as error:
        raise Misconfigured(f"database.spool: {config.database.spool} cannot be used: {error.strerror}") from error
    retention_us = _us(config.database.retention.total_seconds())
    receivers = build_receivers(config, metrics.receivers, console_url(config))
    alerts = AlertKeeping(store, spool, counts, retention_us=retention_us)
    labels = LabelFeed(
        store,
        counts,
        refresh_s=config.feedback.refresh.total_seconds(),
        lookalikes_us=_us(config.feedback.lookalikes_for.total_seconds()),
    )
    feedback = _feedback(config, store, counts, labels, embedded)
    if config.history.directory is None:
        return Housekeeping(
            alerts=alerts, labels=labels, feedback=feedback, models=models, receivers=receivers, live=live
        )
    try:
        kept = HistoryStore(config.history.directory)
    except HistoryError as error:
        raise Misconfigured(f"history.directory: {error}") from error
    history = HistoryWriter(
        kept,
        {s.name: KeptStream(tuple(c.name for c in s.channels), s.step_us) for s in config.streams},
        counts,
        flush_every_s=config.history.flush.total_seconds(),
    )
    return Housekeeping(
        history=history,
        alerts=alerts,
        labels=labels,
        feedback=feedback,
        models=models,
        scheduling=_scheduling(config, path, registry, counts, kept),
        receivers=receivers,
        live=live,
        drift={s.name: DriftWatch(s.step.total_seconds()) for s in config.streams if s.retrain.on_drift},
    )


def _scheduling(
    config: Config, path: Path, registry: Registry, metrics: ModelMetrics, history: HistoryStore
) -> Scheduling:
    training = config.training
    names = [s.name for s in config.streams]
    jobs = TrainingJobs(
        training.directory,
        names,
        train_command(path.absolute()),
        metrics,
        threads=training.threads,
        attempts=training.attempts,
        stale_after_s=training.stale_after.total_seconds(),
        max_duration_s=training.max_duration.total_seconds(),
    )
    retention_us = _us(config.history.retention.total_seconds())
    tidy = Chore(
        "tidy the history",
        config.history.compact.total_seconds(),
        lambda now_us: upkeep(history, names, now_us, retention_us),
    )
    least_us = {s.name: s.retrain.least_history * s.step_us for s in config.streams}

    extent = HistoryExtent(history)

    def enough(stream: str) -> bool:
        return extent.reaches(stream, least_us[stream])

    schedules = [_schedule(s) for s in config.streams]
    try:
        return Scheduling(schedules, jobs, registry, metrics, chores=[tidy], enough=enough)
    except ValueError as error:
        raise Misconfigured(f"retrain: {error}") from error


def _schedule(stream: StreamConfig) -> StreamSchedule:
    retrain = stream.retrain
    return StreamSchedule(
        stream.name,
        every_s=None if retrain.every is None else retrain.every.total_seconds(),
        cron=retrain.cron,
        jitter_s=retrain.jitter.total_seconds(),
        on_drift=retrain.on_drift,
        drift_pause_s=retrain.drift_pause.total_seconds(),
        drift_wait_s=retrain.drift_wait.total_seconds(),
        shadow_s=retrain.shadow.total_seconds() if retrain.shadow and retrain.promote else None,
    )


def _feedback(
    config: Config, store: AlertStore, metrics: ModelMetrics, labels: LabelFeed, embedded: bool
) -> FeedbackTopic | None:
    topic = config.feedback.topic
    if topic is None:
        return None
    from connectors.kafka_embedded import EmbeddedBroker
    from connectors.kafka_source import KafkaSource

    settings = config.kafka.client_settings()
    servers = settings.pop("bootstrap_servers")
    if embedded:
        settings |= EmbeddedBroker.settings
    group = f"{config.kafka.group}.feedback"
    source = KafkaSource(servers, [topic], group, instance=config.kafka.instance, settings=settings)
    return FeedbackTopic(source, store, metrics, changed=labels.refresh)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
