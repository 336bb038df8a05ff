"""What cannot be right among the sources of one configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config_validation import Conflict

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.ingest.kind import SourceOptions


def ingest_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield what contradicts something else: names used twice, topics not told, read by nobody, or in a circle."""
    topics = [topic for stream in config.streams for topic in stream.topics]
    names: set[str] = set()
    for index, source in enumerate(config.ingest.sources):
        at: tuple[str | int, ...] = ("ingest", "sources", index)
        if source.name in names:
            yield (*at, "name"), source.name, "is the name of another source too", "each name once"
        names.add(source.name)
        if source.topic is None and len(topics) > 1:
            yield (*at, "topic"), None, "is missing: the streams read several topics", f"one of {', '.join(topics)}"
        elif source.topic is not None and source.topic not in topics:
            yield (*at, "topic"), source.topic, "is read by no stream", f"one of {', '.join(topics)}"
        own = source.topic or (topics[0] if len(topics) == 1 else None)
        if own is not None and own in _topics_read(source):
            yield (*at, "topics"), own, "is where its readings go: it would bring them for ever", "topics of others"
        yield from _counters_misnamed(config, source, own, at)


def _counters_misnamed(
    config: Config, source: SourceOptions, topic: str | None, at: tuple[str | int, ...]
) -> Iterator[Conflict]:
    """Yield counters of which the stream would take the rate once more, and names that mean no channel."""
    from pipeline.ingest.channel_patterns import ChannelPatterns

    for index, name in enumerate(source.counters):
        meant = ChannelPatterns([name])
        if source.only and not any(meant(channel) for channel in source.only):
            allowed = f"channels of {', '.join(source.only)}"
            yield (*at, "counters", index), name, "is none of the channels that `only` lets through", allowed
        for stream in config.streams:
            rates = [c.name for c in stream.channels if c.aggregate == "rate" and meant(c.name)]
            if topic in stream.topics and rates and (not source.only or rates[0] in source.only):
                problem = f"means {rates[0]}, of which stream {stream.name} takes the rate: that wants the totals"
                yield (*at, "counters", index), name, problem, "aggregate: sum there, or no counter here"


def _topics_read(source: SourceOptions) -> tuple[str, ...]:
    """Return the topics of the Kafka that readings go to which a source reads."""
    from pipeline.ingest.kinds.kafka import KafkaOptions

    return source.topics if isinstance(source, KafkaOptions) and source.cluster is None else ()
