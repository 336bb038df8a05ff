"""Rebalances at bad moments, on a real Apache Kafka: with records queued, within a commit; and silence."""

from __future__ import annotations

import pytest
from kafka.structs import MemberState

from connectors.base import TopicPartition
from connectors.kafka_consumer import Patience
from connectors.kafka_load import fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from tests.kafka_broker import drain, fresh, until

pytestmark = pytest.mark.kafka

PARTITIONS = 2


def filled_topic(kafka: LocalKafka, records: int) -> str:
    """Return a new topic of two partitions with small batches in both."""
    topic = fresh("topic")
    ensure_topics(kafka.bootstrap_servers, {topic: PARTITIONS})
    fill(kafka.bootstrap_servers, topic, ((b"k", b"%d" % i, i % PARTITIONS) for i in range(records)), batch_bytes=1000)
    return topic


def member(kafka: LocalKafka, topic: str, group: str, max_records: int = 20_000) -> KafkaSource:
    """Return a source that notices a rebalance soon."""
    settings = {"heartbeat_interval_ms": 100}
    return KafkaSource(kafka.bootstrap_servers, [topic], group, max_records=max_records, settings=settings)


def test_a_backlog_does_not_keep_others_out(real_kafka: LocalKafka) -> None:
    """Protects scaling out while catching up: with records queued no poll waits, and yet it must end."""
    topic, group = filled_topic(real_kafka, 20_000), fresh("group")
    busy, late = member(real_kafka, topic, group, max_records=20), member(real_kafka, topic, group)
    drain(busy, 20)

    def shared() -> bool:
        busy.poll(0.0)
        late.poll(0.01)
        return len(busy.assignment()) == len(late.assignment()) == 1

    until(shared)
    assert sum(busy.lag().values()) > 0
    assert busy.assignment() | late.assignment() == {TopicPartition(topic, p) for p in range(PARTITIONS)}
    busy.close()
    late.close()


def test_a_commit_in_the_middle_of_a_rebalance_comes_through(real_kafka: LocalKafka) -> None:
    """Protects from a deadlock: whoever waits for a commit does not poll, and without polls the group never settles."""
    topic, group = filled_topic(real_kafka, 40), fresh("group")
    first, second = member(real_kafka, topic, group), member(real_kafka, topic, group)
    drain(first, 40)

    def rebalancing() -> bool:
        second.poll(0.05)
        first.poll(0.0)
        return bool(first._consumer.connected().group_metadata().state != MemberState.STABLE)

    until(rebalancing)
    first.commit({TopicPartition(topic, p): 20 for p in range(PARTITIONS)})
    kept = first.assignment()
    assert kept
    assert all(first.committed(partition) == 20 for partition in kept)
    first.close()
    second.close()


def test_silence_of_a_healthy_broker_is_no_outage(real_kafka: LocalKafka) -> None:
    """Protects readiness on quiet topics: a question that stands behind a waiting fetch is answered, if later."""
    topic = filled_topic(real_kafka, 40)
    patience = Patience(quiet_s=0.01)
    reader = KafkaSource(real_kafka.bootstrap_servers, [topic], fresh("group"), patience=patience)
    drain(reader, 40)
    for _ in range(30):
        assert reader.poll(0.0) == []
    reader.close()
