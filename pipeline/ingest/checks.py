"""What cannot be right among the sources of one configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config_validation import Conflict

if TYPE_CHECKING:
    from pipeline.config import Config


def ingest_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield what contradicts something else: names used twice, topics that are not told or that nobody reads."""
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
