"""Topics and load on the embedded broker, and what is said where there is no other."""

from __future__ import annotations

import pytest

from connectors.errors import Misconfigured
from connectors.kafka_embedded import PARTITIONS, EmbeddedBroker
from connectors.kafka_load import bare_consume, fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from tests.kafka_broker import drain, fresh


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
