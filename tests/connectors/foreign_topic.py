"""A topic of somebody else's, for tests: one reading a record, and a group that reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka_local import LocalKafka
from connectors.source import ReadingSource
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.kafka import KIND, KafkaOptions
from tests.kafka_broker import fresh

PARTITION = 1
"""Where records lie unless it is said otherwise."""


class Topic:
    """A topic that is made by its first record, on a broker that allows it."""

    def __init__(self, servers: str, settings: Mapping[str, Any]) -> None:
        self.name = fresh("plant")
        self.group = fresh("readers")
        self.given = 0
        self._servers = servers
        self._settings = settings
        # without idempotence the first record of a new topic may be retried behind its followers
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})

    def put(self, value: bytes | None) -> None:
        """Write one record."""
        self._producer.produce(self.name, value, b"S7", partition=PARTITION)
        self._flush()

    def give(self, count: int, partitions: Sequence[int] = (PARTITION,)) -> None:
        """Write canonical readings of station S7 whose values go on counting from 1."""
        for _ in range(count):
            self.given += 1
            partition = partitions[self.given % len(partitions)]
            self._producer.produce(self.name, document(self.given), b"S7", partition=partition)
        self._flush()

    def _flush(self) -> None:
        assert self._producer.flush(60.0) == 0, "the broker does not take all"

    def committed(self) -> int:
        """Return the group's committed offset; below zero: none."""
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": self.group})
        found = consumer.committed([TopicPartition(self.name, PARTITION)], 60.0)[0].offset
        consumer.close()
        return int(found)

    def source(self, **options: Any) -> ReadingSource:
        """Return a source on this topic."""
        given = {"name": "plant", "kind": "kafka", "topics": [self.name], "group": self.group, **options}
        kafka = {"bootstrap_servers": self._servers, **self._settings}
        return KIND.build(KafkaOptions.model_validate(given), SourcePlace(Path(), kafka))


def document(number: int) -> bytes:
    """Return a canonical reading: so many seconds after a midnight, and of this value."""
    time = f"2026-11-20T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return json.dumps({"entity": "S7", "channel": "stage", "time": time, "value": number}).encode()


def real_topic(kafka: LocalKafka) -> Topic:
    """Return a topic on a real broker, with two partitions."""
    topic = Topic(kafka.bootstrap_servers, {})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for done in admin.create_topics([NewTopic(topic.name, 2, 1)]).values():
        done.result(60.0)
    return topic
