"""Sources of kind ``sparkplug``: Sparkplug B edge nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from connectors.source import ReadingSource
from pipeline.config_fields import Name
from pipeline.ingest.broker_options import BrokerOptions
from pipeline.ingest.kind import SourceKind, SourcePlace


def _one_level(value: str) -> str:
    if any(character in value for character in "/+#"):
        raise ValueError("is no group id | one level of a topic, without / + #")
    return value


class SparkplugOptions(BrokerOptions):
    """Which broker, and which groups of edge nodes."""

    kind: Literal["sparkplug"]
    groups: tuple[Annotated[Name, AfterValidator(_one_level)], ...] = ()
    """Ids of the groups that are read; empty: all."""
    rebirths: bool = True
    """Whether edge nodes are asked for their births when one was missed; without the right to publish: false."""


def _build(options: SparkplugOptions, place: SourcePlace) -> ReadingSource:
    from connectors.sparkplug import SparkplugSource

    return SparkplugSource(options.broker(), options.groups, rebirths=options.rebirths)


KIND = SourceKind(SparkplugOptions, _build, "Sparkplug B edge nodes and devices, over MQTT")
