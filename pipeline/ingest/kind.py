"""What a kind of source is to the configuration: the options that a user may write, and how a source comes of them.

A package of somebody else's offers its kinds as entry points of the group ``vedette.sources``; each names a
``SourceKind``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field

from connectors.source import ReadingSource
from pipeline.config_fields import Count, Duration, Name, PositiveDuration, Section

ENTRY_POINTS = "vedette.sources"


class SourceOptions(Section):
    """What may be said of every source; each kind adds its own, and says what ``kind`` is."""

    name: Name = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=60, examples=["city"])
    """Its name in metrics, logs and readings; its cursor is kept under it."""
    kind: str
    topic: Name | None = None
    """The Kafka topic that its readings go to; none: that of the only stream."""
    prefix: str = Field(default="", max_length=100)
    """Put before every entity, so that two sources cannot mean the same one by chance."""
    rename: dict[Name, Name] = Field(default_factory=dict)
    """The source's name of a channel to the stream's; what is not named keeps its name."""
    only: tuple[Name, ...] = ()
    """Channels, by the stream's names, that are let through; empty: all."""
    counters: tuple[Name, ...] = ()
    """Channels, by the stream's names, whose values are totals that only grow until they are reset; ``*`` and ``?``
    stand for any characters, and labels in braces need not be named. What was added since the reading before goes on,
    with ``aggregate: sum`` a step's count. What OTLP calls cumulative and monotonic is one unasked, but where its
    stream takes the ``rate``."""
    counter_gap: PositiveDuration = timedelta(days=1)
    """A counter that was silent for longer starts anew: what was added meanwhile belongs to no step."""
    max_ahead: Duration = timedelta(hours=1)
    """Readings further in the future are refused: a clock that is wrong."""
    remember: Count = 1_000_000
    """So many readings are known again when they come twice."""


Options = TypeVar("Options", bound=SourceOptions)


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """Where a source runs."""

    state: Path
    """A directory of its own, for what it may want to keep; it need not exist."""
    kafka: dict[str, Any]
    """kafka-python's settings of the configured brokers, secrets in the clear; for sources that read from Kafka."""
    stream_channels: tuple[str, ...] = ()
    """The channels of the stream that its topic feeds; empty: no stream reads that topic."""
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    """The wall clock, or that of a replay."""


@dataclass(frozen=True, slots=True)
class SourceKind(Generic[Options]):
    """A kind of source."""

    options: type[Options]
    """With ``kind: Literal["its name"]``."""
    build: Callable[[Options, SourcePlace], ReadingSource]
    """Makes a source from its options; connects to nothing. Imports what is heavy only here."""
    text: str
    """What it reads, in a few words for a person."""

    @property
    def name(self) -> str:
        """What users write after ``kind:``."""
        return str(self.options.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]
