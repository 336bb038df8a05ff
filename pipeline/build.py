"""Build: with its neighbours build_housekeeping, build_receivers and build_console the only files that know both the
configuration and the concrete classes.

No class below knows a config object; each gets flat arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from connectors.base import Sink
from connectors.decoding import ReadingDecoder
from connectors.errors import SourceUnavailable
from connectors.json_lines import JsonLinesSink
from connectors.reading import Vocabulary
from connectors.units import conversion
from models.calibration import rows_per_alarm
from models.detection import WITNESSES, Detector
from models.online import OnlineDetector
from models.registry import Registry, RegistryError
from pipeline.alerting import Alerting, AnomalyPolicy
from pipeline.casebook import StreamFacts, sites
from pipeline.checkpointing import CheckpointStore
from pipeline.config import Config
from pipeline.config_streams import StreamConfig
from pipeline.daemon import Daemon
from pipeline.data_quality import DataQuality, DeadLetterBreaker
from pipeline.frames import Aggregator
from pipeline.housekeeping import Housekeeping
from pipeline.keeping import Keeper
from pipeline.lifecycle import LifePolicy
from pipeline.limits import Limit, Limits
from pipeline.lookalikes import Lookalikes
from pipeline.maintenance import Maintenance, MaintenanceWindow
from pipeline.metrics import Metrics
from pipeline.outputs import Outputs
from pipeline.predicting import Predictor
from pipeline.preparing import Terms
from pipeline.recording import Recorder
from pipeline.screen import Screen
from pipeline.silence import Silence
from pipeline.stream import Stream
from pipeline.stream_state import Stages
from pipeline.stuck import Stuck
from pipeline.watermarks import Watermarks
from pipeline.windowing import Windows

if TYPE_CHECKING:  # it brings torch, which a daemon needs for nothing
    from pipeline.retraining import InRunTraining

log = structlog.get_logger("vedette.build")

_MOST_NAMES = 50_000
"""Channels and units that a decoder may learn from records: a bound on memory, far above what senders need."""

Vocabularies = tuple[Vocabulary, Vocabulary, Vocabulary]
"""Entities, channels and units, as a decoder codes them."""


def build_daemon(
    config: Config,
    *,
    recorder: Recorder | None = None,
    trainings: Mapping[str, InRunTraining] | None = None,
    extra_alert_sinks: Sequence[Sink] = (),
    embedded: bool = False,
    metrics: Metrics | None = None,
    housekeeping: Housekeeping | None = None,
) -> Daemon:
    """Return the daemon that ``config`` describes, over Kafka.

    Args:
        config: everything.
        recorder: collects every step for a report.
        trainings: stream name to training within the run; other streams load their champion from the registry.
        extra_alert_sinks: sinks besides those of the configuration.
        embedded: whether the broker is the embedded one, which makes topics on first use.
        metrics: where to count; one of its own if None.
        housekeeping: what goes on beside the loop; nothing if None, then the champion of now stays.
    """
    from connectors.kafka_embedded import EmbeddedBroker
    from connectors.kafka_sink import KafkaSink
    from connectors.kafka_source import KafkaSource

    metrics = metrics or Metrics()
    # What is configured is known from the start, so a flood of hostile names fills neither memory nor their places.
    channels = [c for s in config.streams for c in s.channels]
    decoder = ReadingDecoder(
        channels=Vocabulary((c.name for c in channels), max_size=_MOST_NAMES),
        units=Vocabulary(("", *(c.unit for c in channels)), max_size=_MOST_NAMES),
    )
    vocabularies = (decoder.entities, decoder.channels, decoder.units)
    registry = Registry(config.models.directory)
    streams: dict[str, Stream] = {}
    for stream_config in config.streams:
        training = (trainings or {}).get(stream_config.name)
        stream = build_stream(
            stream_config,
            vocabularies=vocabularies,
            training=training,
            recorder=recorder,
            lookalikes_for=config.feedback.lookalikes_for,
        )
        if housekeeping is not None and housekeeping.models is not None:
            housekeeping.models.add(stream, _terms(stream_config))
        elif training is None:
            _adopt_champion_if_usable(stream, registry, stream_config)
        metrics.model(stream.name, stream.predictor.model_version)
        budget = stream_config.budget
        metrics.models.configured(
            stream.name, stream_config.step.total_seconds(), budget.events / budget.period_s * 86_400
        )
        streams |= dict.fromkeys(stream_config.topics, stream)
    settings = config.kafka.client_settings()
    servers = settings.pop("bootstrap_servers")
    if embedded:
        settings |= EmbeddedBroker.settings
    source = KafkaSource(
        servers, list(streams), config.kafka.group, instance=config.kafka.instance, settings=settings,
        skipped=metrics.skipped,
    )  # fmt: skip
    outputs = config.outputs

    def topic(name: str | None) -> list[Sink]:
        return [] if name is None else [KafkaSink(servers, name, settings=settings)]

    def file(path: Path | None) -> list[Sink]:
        return [] if path is None else [JsonLinesSink(path)]

    return Daemon(
        source,
        decoder,
        streams,
        Outputs(
            alerts=[*topic(outputs.alerts_topic), *file(outputs.alerts_file), *extra_alert_sinks],
            scores=[*topic(outputs.scores_topic), *file(outputs.scores_file)],
            dead_letters=topic(outputs.dead_letter_topic),
            breaker=DeadLetterBreaker(),
        ),
        Keeper(
            CheckpointStore(
                config.checkpoints.directory,
                keep=config.checkpoints.keep,
                on_unusable=metrics.checkpoint_unusable,
            ),
            {s.name: s.fingerprint() for s in config.streams},
            metrics,
            every_s=config.checkpoints.every.total_seconds(),
        ),
        metrics,
        housekeeping=housekeeping,
        startup_timeout_s=config.startup_timeout.total_seconds(),
    )


def require_topics_of(config: Config) -> None:
    """Raise ``Misconfigured`` naming the topics that do not exist; say nothing when no broker can be asked now.

    A consumer group would wait for a missing topic in silence, and alerts to one would never be acknowledged.
    """
    from connectors.kafka_topics import require_topics

    settings = config.kafka.client_settings()
    servers = settings.pop("bootstrap_servers")
    outputs = config.outputs
    wanted = [topic for stream in config.streams for topic in stream.topics]
    others = (outputs.alerts_topic, outputs.scores_topic, outputs.dead_letter_topic, config.feedback.topic)
    wanted += [topic for topic in others if topic is not None]
    try:
        require_topics(servers, wanted, settings=settings)
    except SourceUnavailable as error:
        log.warning("cannot ask for the topics yet", error=str(error))


def build_stream(
    config: StreamConfig,
    *,
    vocabularies: Vocabularies | None = None,
    training: InRunTraining | None = None,
    recorder: Recorder | None = None,
    warmup_steps: int | None = None,
    lookalikes_for: timedelta = timedelta(days=90),
) -> Stream:
    """Return one stream, cold.

    Args:
        config: of the stream.
        vocabularies: as a decoder codes; new ones if None.
        training: within the run; none if None.
        recorder: collects every step for a report.
        warmup_steps: how long the detector only learns, if not as it decides.
        lookalikes_for: how long a false alarm keeps incidents like it silent.
    """
    channels = [c.name for c in config.channels]
    units = [c.unit for c in config.channels]
    step_us = _us(config.step)
    step_s = config.step.total_seconds()
    capacity = 64
    vocabularies = vocabularies or (Vocabulary(), Vocabulary(), Vocabulary())
    screen = Screen(
        channels,
        units,
        *vocabularies,
        conversion=conversion,
        max_ahead_us=_us(config.max_ahead),
        max_entities=config.max_entities,
    )
    predictor = Predictor(capacity, len(channels), config.horizons, step_s, replay_steps=config.model.window)
    lookalikes = Lookalikes(len(channels), round(lookalikes_for.total_seconds() * 1e6))
    facts = StreamFacts(
        config.name, step_us, lambda slot: screen.entities[slot], sites(config.site_of), _maintenance(config),
        lambda: predictor.forecast_version, lookalikes.silenced_by,
    )  # fmt: skip
    budget = config.budget
    stages = Stages(
        screen=screen,
        windows=Windows(
            [Aggregator(c.aggregate) for c in config.channels],
            step_us,
            _us(config.grace),
            _us(config.revise),
            capacity=capacity,
            least=[c.least_readings(config.step) for c in config.channels],
        ),
        watermarks=Watermarks(_us(config.idle_timeout)),
        predictor=predictor,
        detector=Detector(
            capacity, len(channels), step_s, budget.events, budget.period_s, warmup_steps
        ),
        cold_start=OnlineDetector(len(channels), 1.0 / rows_per_alarm(step_s, budget.events, budget.period_s)),
        alerting=Alerting(
            facts, channels, units, WITNESSES, 1.0 / rows_per_alarm(step_s, budget.events, budget.period_s),
            _anomaly_policy(config), capacity, lookalikes,
        ),
        limits=Limits(facts, _limits(config), channels, units, config.horizons, capacity=capacity),
        silence=Silence(facts, channels, max(1, round(config.silence / config.step)), capacity=capacity),
        stuck=Stuck(facts, channels, units, enabled=[c.stuck for c in config.channels], capacity=capacity),
        data_quality=DataQuality(facts),
    )  # fmt: skip
    revise_steps = round(config.revise / config.step) + 1 if config.revise else 0
    return Stream(
        config.name, channels, units, step_us, stages, revise_steps=revise_steps, training=training, recorder=recorder
    )


def _adopt_champion_if_usable(stream: Stream, registry: Registry, config: StreamConfig) -> None:
    try:
        adopt_champion(stream, registry, config)
    except RegistryError as error:
        # Scoring goes on with the linear forecaster: a bad model must not silence a monitor.
        log.error("the model in charge cannot be used", stream=stream.name, error=str(error))


def adopt_champion(stream: Stream, registry: Registry, config: StreamConfig) -> bool:
    """Put the stream's champion in charge if there is one; return whether there is."""
    champion = registry.champion(config.name)
    if champion is None:
        return False
    names = tuple(c.name for c in config.channels)
    wanted = (names, config.step_us, config.horizons)
    if wanted != (champion.manifest.channels, champion.manifest.step_us, champion.manifest.horizons):
        raise RegistryError(
            f"stream {config.name!r}: version {champion.version} was trained for other channels, step or horizons; "
            "train anew or configure it as it was"
        )
    stream.predictor.adopt(
        champion.weights,
        champion.version,
        stream.entities,
        champion.embedding_ids,
        champion.neighbours_of,
        config.model.ring,
    )
    return True


def _terms(config: StreamConfig) -> Terms:
    """Return what a stream asks of its networks."""
    return Terms(config.step_us, config.horizons, config.model.ring, config.retrain.probation)


def _limits(config: StreamConfig) -> list[Limit]:
    return [
        Limit(
            limit.name,
            channel.name,
            above=limit.above,
            below=limit.below,
            clear=limit.clear,
            needed=limit.n_of_m[0],
            window=limit.n_of_m[1],
            probability=limit.probability if limit.forecast else None,
        )
        for channel in config.channels
        for limit in channel.limits
    ]


def _anomaly_policy(config: StreamConfig) -> AnomalyPolicy:
    policy = config.alerts

    def steps(duration: timedelta) -> int:
        return max(1, round(duration / config.step)) if duration else 0

    life = LifePolicy(
        needed=policy.n_of_m[0],
        window=policy.n_of_m[1],
        clear_after=policy.clear_after,
        max_steps=steps(policy.max_duration),
        cooldown=steps(policy.cooldown),
        flap_openings=policy.flap.times,
        flap_within=steps(policy.flap.within),
        flap_calm=steps(policy.flap.within) // 4,
    )
    return AnomalyPolicy(life, clear_level=policy.clear_level, watches=policy.watches)


def _maintenance(config: StreamConfig) -> Maintenance:
    return Maintenance(
        [
            MaintenanceWindow(
                round(m.start.timestamp() * 1e6),
                round(m.end.timestamp() * 1e6),
                None if m.repeat is None else _us(m.repeat),
                m.entities,
                m.reason,
            )
            for m in config.maintenance
        ]
    )


def _us(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
