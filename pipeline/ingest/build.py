"""Builds the ingest process from the configuration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.kafka_delivery import KafkaDelivery
from connectors.source import ReadingSource, Site
from connectors.spool import Spool
from pipeline.config import Config
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.kind import SourceOptions, SourcePlace
from pipeline.ingest.lanes import Delivery
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import Rules, SourceOutlet
from pipeline.ingest.site_keeping import as_delivered
from pipeline.ingest.supervising import Supervised, Supervisor

log = structlog.get_logger("vedette.ingest")

_ASK_S = 3.0
Describe = Callable[[str, Sequence[Site]], None]


class Ingest(NamedTuple):
    """The parts of an ingest process; nothing runs yet."""

    spool: Spool
    delivering: Delivering
    supervisor: Supervisor


def build_ingest(
    config: Config,
    metrics: IngestMetrics,
    *,
    delivery: Delivery | None = None,
    describe: Describe = lambda source, sites: None,
    ticked: Callable[[], None] = lambda: None,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Ingest:
    """Return the ingest process that ``config`` describes.

    Args:
        config: everything.
        metrics: where to count.
        delivery: to Kafka; None: to the brokers in the config.
        describe: where sites go, named as their readings are delivered.
        ticked: called at every turn of the thread that delivers.
        now_us: the wall clock, or that of a replay.

    Raises:
        Misconfigured: if it cannot work as configured.
        SpoolUnavailable: if the spool cannot be opened now.
    """
    sources = config.ingest.sources
    if not sources:
        raise Misconfigured("ingest.sources: there is none; name at least one source to bring readings from")
    settings = config.kafka.client_settings()
    if delivery is None:
        servers = settings["bootstrap_servers"]
        others = {name: value for name, value in settings.items() if name != "bootstrap_servers"}
        delivery = KafkaDelivery(servers, settings=others)
    spool = Spool(config.ingest.spool, config.ingest.max_spool)
    try:
        delivering = Delivering(delivery, spool, metrics, ticked=ticked)
        stop = threading.Event()
        supervised = [_supervised(config, options, delivering, metrics, stop, describe, now_us) for options in sources]
    except BaseException:
        spool.close()
        raise
    return Ingest(spool, delivering, Supervisor(supervised, stop))


def require_topics_of(config: Config) -> bool:
    """Return whether all topics exist; False when no broker can be asked now.

    Raises:
        Misconfigured: naming those that do not exist: what goes there would fill the spool.
    """
    from connectors.kafka_topics import require_topics

    settings = config.kafka.client_settings()
    if settings.get("allow_auto_create_topics"):
        return True
    servers = settings.pop("bootstrap_servers")
    wanted = {topic_of(config, options) for options in config.ingest.sources}
    dead_letters = config.outputs.dead_letter_topic
    try:
        require_topics(servers, [*wanted, *([] if dead_letters is None else [dead_letters])], timeout_s=_ASK_S,
                       settings=settings)  # fmt: skip
    except SourceUnavailable:
        return False
    return True


def topic_of(config: Config, options: SourceOptions) -> str:
    """Return where a source's readings go."""
    return options.topic or config.streams[0].topics[0]


def source_of(
    config: Config, options: SourceOptions, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
) -> ReadingSource:
    """Return the source that ``options`` describe; it connects to nothing yet. Raises ``Misconfigured``."""
    topic = topic_of(config, options)
    channels = tuple(c.name for stream in config.streams if topic in stream.topics for c in stream.channels)
    place = SourcePlace(_state_of(config, options), config.kafka.client_settings(), channels, now_us)
    return source_kinds()[options.kind].build(options, place)


def _supervised(
    config: Config,
    options: SourceOptions,
    delivering: Delivering,
    metrics: IngestMetrics,
    stop: threading.Event,
    describe: Describe,
    now_us: Callable[[], int],
) -> Supervised:
    topic = topic_of(config, options)
    rules = Rules(
        topic=topic,
        dead_letter_topic=config.outputs.dead_letter_topic,
        prefix=options.prefix,
        rename=options.rename,
        only=frozenset(options.only),
        max_ahead_us=round(options.max_ahead.total_seconds() * 1e6),
        remember=options.remember,
        counters=options.counters,
        rates=frozenset(c.name for stream in config.streams if topic in stream.topics for c in stream.channels
                        if c.aggregate == "rate"),
        counter_gap_us=round(options.counter_gap.total_seconds() * 1e6),
    )  # fmt: skip
    source = source_of(config, options, now_us)
    delivering.register(options.name)

    def described(name: str, sites: Sequence[Site]) -> None:
        describe(name, as_delivered(sites, rules.prefix, rules.rename, rules.only))

    def outlet(report: Callable[[str | None], None]) -> SourceOutlet:
        return SourceOutlet(
            options.name, rules, delivering, metrics, stop, describe=described, report=report, now_us=now_us,
            counters=_state_of(config, options) / "counters.db",
        )  # fmt: skip

    return Supervised(options.name, source, outlet, metrics, stop)


def _state_of(config: Config, options: SourceOptions) -> Path:
    return config.ingest.spool.parent / "sources" / options.name
