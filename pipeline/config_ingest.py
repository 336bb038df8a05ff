"""The section ``ingest``: which sources run, and where their readings wait while Kafka is away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field, SerializeAsAny

from pipeline.config_fields import Count, Name, Section, Size
from pipeline.ingest.catalogue import source_kinds, unusable_kinds
from pipeline.ingest.kind import SourceOptions


def _any_source() -> Any:
    """Return the type of one source's options, told apart by ``kind``."""
    options = tuple(kind.options for kind in source_kinds().values())
    return Annotated[Union[options], Field(discriminator="kind"), BeforeValidator(_of_usable_kind)]  # noqa: UP007


def _of_usable_kind(given: Any) -> Any:
    """Refuse what names a kind whose package is there, and broken: that it is not known would be half of the truth."""
    why = unusable_kinds().get(str(given.get("kind"))) if isinstance(given, dict) else None
    if why is not None:
        raise ValueError(f"is of a kind that cannot be used: {why} | repair its package, or take it away")
    return given


if TYPE_CHECKING:
    AnySource = SourceOptions
else:
    AnySource = _any_source()


class IngestHttpConfig(Section):
    """Where /metrics, /livez and /readyz of ``vedette ingest`` answer. Port 0 takes any free one."""

    host: Name = "127.0.0.1"
    port: Count = Field(default=9465, le=65535)


class IngestConfig(Section):
    """What ``vedette ingest`` does: bring readings from outside onto the streams' topics."""

    sources: tuple[SerializeAsAny[AnySource], ...] = ()
    spool: Path = Path("state/spool.db")
    """Where readings wait while Kafka is away, and where the sources' cursors are kept."""
    max_spool: Size = 1 << 30
    """What may wait there; beyond it sources have to wait."""
    http: IngestHttpConfig = Field(default_factory=IngestHttpConfig)
