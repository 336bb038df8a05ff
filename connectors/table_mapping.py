"""Which columns of a table mean what: wide (one column per channel) or long (one row per reading)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from connectors.errors import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where a table's times are and how they are written."""

    column: str
    zone: str | None = None
    """IANA name; required when the times have no offset from UTC. Hours that a clock change makes ambiguous or skips
    are refused, row by row."""
    format: str | None = None
    """``strptime`` format; None: ISO 8601."""
    epoch: Literal["s", "ms", "us", "ns"] | None = None
    """The unit, when times are numbers counted from 1970 UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """One row per time and entity, one column per channel."""

    time: Times
    channels: Mapping[str, str]
    """Column to channel."""
    entity: str | None = None
    """The column that names the entity; None: all rows are of ``fixed_entity``."""
    fixed_entity: str = ""
    quality: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    """Channel to UCUM code."""

    def __post_init__(self) -> None:
        if self.entity is None and not self.fixed_entity:
            raise Misconfigured("a wide table needs the column that names the entity, or one fixed entity for all rows")

    def columns(self) -> list[str]:
        """Return the columns that are read, each once."""
        wanted = [self.time.column, *self.channels, self.entity, self.quality]
        return list(dict.fromkeys(name for name in wanted if name is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """One row per reading."""

    time: Times
    entity: str
    channel: str
    value: str
    unit: str | None = None
    quality: str | None = None

    def columns(self) -> list[str]:
        """Return the columns that are read, each once."""
        wanted = [self.time.column, self.entity, self.channel, self.value, self.unit, self.quality]
        return list(dict.fromkeys(name for name in wanted if name is not None))
