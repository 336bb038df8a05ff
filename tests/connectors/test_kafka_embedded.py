"""Source, sink and load on the embedded broker: rebalances between two members, topics, filling."""

from __future__ import annotations

import pytest

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import Misconfigured
from connectors.kafka_embedded import PARTITIONS, EmbeddedBroker
from connectors.kafka_load import bare_consume, fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from tests.kafka_broker import drain, fresh, until


class Member:
    """A source of a group, and what it was told and given."""

    def __init__(self, broker: EmbeddedBroker, topic: str, group: str) -> None:
        self.source = KafkaSource(
            broker.bootstrap_servers, [topic], group, settings={**EmbeddedBroker.settings, "fetch_max_wait_ms": 20}
        )
        self.known: set[TopicPartition] = set()
        self.blocks: list[RecordBlock] = []
        self.source.on_rebalance(self._changed)

    def _changed(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        assert revoked <= self.known
        assert not assigned & self.known
        self.known = (self.known - revoked) | assigned

    def poll(self) -> int:
        """Poll once; return how many records came in all."""
        new = self.source.poll(0.05)
        assert {TopicPartition(b.topic, b.partition) for b in new} <= self.known
        self.blocks += new
        return sum(len(block.values) for block in self.blocks)


def test_two_members_share_the_partitions(embedded: EmbeddedBroker) -> None:
    """Protects a second instance: each is told before a record of a partition comes; together they read all."""
    topic, group = fresh("shared"), fresh("group")
    records = [(b"k", b"%d" % i, i % PARTITIONS) for i in range(400)]
    assert fill(embedded.bootstrap_servers, topic, records) == 400
    one = Member(embedded, topic, group)
    until(lambda: one.poll() == 400)
    assert len(one.known) == PARTITIONS
    one.source.commit({TopicPartition(b.topic, b.partition): b.next_offset for b in one.blocks})
    two = Member(embedded, topic, group)

    def shared() -> bool:
        one.poll()
        two.poll()
        return len(one.known) == len(two.known) == PARTITIONS // 2

    until(shared)
    assert not one.known & two.known
    fill(embedded.bootstrap_servers, topic, records)
    until(lambda: one.poll() + two.poll() == 800)
    assert sorted(v for b in two.blocks for v in b.values if v) == sorted(
        value for _, value, partition in records if TopicPartition(topic, partition) in two.known
    )
    one.source.close()
    two.source.close()


def test_the_load_is_read_as_it_was_written(embedded: EmbeddedBroker) -> None:
    """Protects benchmarks from measuring something else than they say."""
    topic = fresh("load")
    ensure_topics(embedded.bootstrap_servers, {topic: PARTITIONS}, settings=EmbeddedBroker.settings)
    fill(embedded.bootstrap_servers, topic, ((b"k%d" % i, b"v%d" % i, 0) for i in range(300)), batch_bytes=1000)
    settings = {**EmbeddedBroker.settings, "fetch_max_wait_ms": 20}
    source = KafkaSource(embedded.bootstrap_servers, [topic], fresh("group"), settings=settings)
    (*_, last) = blocks = drain(source, 300)
    assert [value for block in blocks for value in block.values] == [b"v%d" % i for i in range(300)]
    assert last.keys is not None
    assert last.keys[-1] == b"k299"
    source.close()


@pytest.mark.kafka
def test_a_bare_consumer_reads_it_too(real_kafka: LocalKafka) -> None:
    """Protects the yardstick of every ratio that is published."""
    topic = fresh("bare")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 2})
    fill(real_kafka.bootstrap_servers, topic, ((b"k", b"v", i % 2) for i in range(5_000)))
    assert bare_consume(real_kafka.bootstrap_servers, topic, [0, 1], 5_000) > 0.0


def test_no_kafka_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects whoever runs the benchmarks for the first time."""
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    with pytest.raises(Misconfigured, match="set KAFKA_HOME"):
        LocalKafka()
