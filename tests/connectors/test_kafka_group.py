"""Two members of one consumer group on a real Apache Kafka."""

from __future__ import annotations

import pytest

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import Misconfigured
from connectors.kafka_load import fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from tests.kafka_broker import fresh, until

pytestmark = pytest.mark.kafka


class Member:
    """A source of a group, and what it was told and given."""

    def __init__(self, broker: LocalKafka, topic: str, group: str, instance: str | None = None) -> None:
        settings = {"fetch_max_wait_ms": 20, "heartbeat_interval_ms": 200}
        self.source = KafkaSource(broker.bootstrap_servers, [topic], group, instance=instance, settings=settings)
        self.changes = 0
        self.known: set[TopicPartition] = set()
        self.blocks: list[RecordBlock] = []
        self.source.on_rebalance(self._changed)

    def _changed(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        self.changes += 1
        assert revoked <= self.known
        assert not assigned & self.known
        self.known = (self.known - revoked) | assigned

    def poll(self) -> int:
        """Poll once; return how many records came in all."""
        new = self.source.poll(0.05)
        assert {TopicPartition(b.topic, b.partition) for b in new} <= self.known
        self.blocks += new
        return sum(len(block.values) for block in self.blocks)


def test_two_members_share_the_partitions(real_kafka: LocalKafka) -> None:
    """Protects a second instance: each is told before a record of a partition comes; together they read all."""
    topic, group = fresh("shared"), fresh("group")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 4})
    records = [(b"k", b"%d" % i, i % 4) for i in range(400)]
    assert fill(real_kafka.bootstrap_servers, topic, records) == 400
    one = Member(real_kafka, topic, group)
    until(lambda: one.poll() == 400)
    assert len(one.known) == 4
    one.source.commit({TopicPartition(b.topic, b.partition): b.next_offset for b in one.blocks})
    two = Member(real_kafka, topic, group)

    def shared() -> bool:
        one.poll()
        two.poll()
        return len(one.known) == len(two.known) == 2

    until(shared)
    assert not one.known & two.known
    fill(real_kafka.bootstrap_servers, topic, records)
    until(lambda: one.poll() + two.poll() == 800)
    assert sorted(v for b in two.blocks for v in b.values if v) == sorted(
        value for _, value, partition in records if TopicPartition(topic, partition) in two.known
    )
    one.source.close()
    two.source.close()


def test_an_instance_that_restarts_moves_no_partition(real_kafka: LocalKafka) -> None:
    """Protects replicas from each other's restarts: who comes back under its name goes on with what was its own."""
    topic, group = fresh("instances"), fresh("group")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 4})
    one, two = Member(real_kafka, topic, group, "one"), Member(real_kafka, topic, group, "two")

    def shared() -> bool:
        one.poll()
        two.poll()
        return len(one.known) == len(two.known) == 2

    until(shared)
    before, changes = one.known, two.changes
    one.source.close()
    again = Member(real_kafka, topic, group, "one")

    def back() -> bool:
        two.poll()
        again.poll()
        return again.known == before

    until(back)
    records = [(b"k", b"%d" % i, i % 4) for i in range(40)]
    fill(real_kafka.bootstrap_servers, topic, records)
    until(lambda: again.poll() + two.poll() == 40)
    assert two.changes == changes
    again.source.close()
    two.source.close()


def test_a_second_process_of_the_same_instance_ends_the_first(real_kafka: LocalKafka) -> None:
    """Protects from two replicas that say the same name: the one that came first is told so when it commits."""
    topic, group = fresh("twins"), fresh("group")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 1})
    first = Member(real_kafka, topic, group, "one")
    until(lambda: first.poll() == 0 and bool(first.known))
    second = Member(real_kafka, topic, group, "one")
    until(lambda: second.poll() == 0 and bool(second.known))

    with pytest.raises(Misconfigured, match="as instance 'one', so this one is out"):
        first.source.commit({TopicPartition(topic, 0): 0})
    second.source.commit({TopicPartition(topic, 0): 0})
    first.source.close()
    second.source.close()
