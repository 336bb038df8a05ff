"""Protects the promises of every source, for topics that others write: Avro, with a schema registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.kafka_local import LocalKafka
from connectors.source import ReadingSource
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from tests.connectors.foreign_topic import Topic, real_topic
from tests.connectors.foreign_values import AVRO, avro, framed
from tests.schema_registry import SchemaRegistryServer

START_MS = 1_795_132_800_000
"""Midnight before 20 November 2026."""
MAPPING = {"time": "at", "entity": "station", "channels": {"stage": {"field": "level", "unit": "m"}}}


class Plant:
    """Writes measurements with a registry, which goes away; what nobody knows the schema of is asked for then."""

    keeps = True

    def __init__(self, topic: Topic, registry: SchemaRegistryServer) -> None:
        self.topic = topic
        self.registry = registry
        self.schema = registry.register(json.dumps(AVRO)).id
        self.time_ms = START_MS

    def source(self) -> ReadingSource:
        return self.topic.source(registry={"url": self.registry.url}, mapping=MAPPING)

    def give(self, count: int) -> Sequence[Identity]:
        first, self.time_ms = self.time_ms, self.time_ms + count * 1000
        times_ms = range(first, self.time_ms, 1000)
        for time_ms in times_ms:
            record = {"station": "S7", "at": time_ms, "level": Decimal(1), "air": {"no2": 1.0}, "flag": "GOOD"}
            self.topic.put(framed(self.schema, avro(record)))
        return [("S7", "stage", time_ms * 1000) for time_ms in times_ms]

    def give_bad(self) -> None:
        self.topic.put(framed(self.schema, b"\xff"))

    def go_away(self) -> None:
        self.schema = self.registry.register(json.dumps(AVRO)).id
        self.registry.go_away()
        self.give(1)  # a registry is missed only by who asks it

    def come_back(self) -> None:
        self.registry.come_back()


@pytest.mark.kafka
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_topics_of_others_keep_the_contract(check: Check, real_kafka: LocalKafka, tmp_path: Path) -> None:
    """Protects from what a source may not do."""
    with SchemaRegistryServer() as registry:
        check(Plant(real_topic(real_kafka), registry), tmp_path)
