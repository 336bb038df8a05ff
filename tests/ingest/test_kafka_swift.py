"""Batches go by librdkafka where they can, and nobody sees a difference but in time."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.errors import Misconfigured, SinkUnavailable
from connectors.kafka_delivery import KafkaDelivery
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_local import LocalKafka
from connectors.kafka_outcome import Blame, Outcome
from connectors.kafka_swift import SwiftProducer, swift_settings
from connectors.kafka_topics import ensure_topics
from connectors.spool import Message
from tests.end_to_end.kafka_parts import read_all
from tests.kafka_broker import fresh, until


def test_settings_are_translated_or_left_to_the_other() -> None:
    """Protects logins and limits in the config, which are written in kafka-python's names."""
    found = swift_settings(["a:1", "b:2"], {"sasl_plain_password": "x", "acks": "all", "ssl_check_hostname": False,
                                            "api_version": (2, 3), "ssl_password": None})  # fmt: skip
    assert found is not None
    assert found["bootstrap.servers"] == "a:1,b:2"
    assert (found["sasl.password"], found["acks"]) == ("x", "all")
    assert found["ssl.endpoint.identification.algorithm"] == "none"
    assert "ssl.key.password" not in found
    assert swift_settings("a:1", {"sasl_oauth_token_provider": object()}) is None
    assert swift_settings("a:1", {"partitioner": hash}) is None


def test_a_wrong_value_is_told() -> None:
    """Protects whoever writes a setting that librdkafka does not take."""
    settings = swift_settings("a:1", {"compression_type": "zip"})
    with pytest.raises(Misconfigured, match=r"compression\.codec"):
        SwiftProducer(settings or {})


def test_what_is_dropped_ends_without_the_garbage_collector(embedded: EmbeddedBroker) -> None:
    """Protects locks: the end of librdkafka's part may last, and came upon whichever thread the collector ran in."""

    def instances() -> int:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        return names.count("rdk:main")

    gc.collect()
    before = instances()
    gc.disable()
    try:
        for _ in range(3):
            delivery = KafkaDelivery(embedded.bootstrap_servers, settings=EmbeddedBroker.settings)
            delivery.deliver([Message(fresh("air"), "a", b"1")])
            assert isinstance(delivery._producer, SwiftProducer)
            delivery._producer._producer.produce("air", b"under way", on_delivery=delivery._producer._on_delivery)
            delivery.close()
        until(lambda: instances() <= before)
    finally:
        gc.enable()


def test_an_entity_stays_on_its_partition(embedded: EmbeddedBroker) -> None:
    """Protects the order of an entity's readings, whichever client sends them: both take the same partition."""
    topic, keys = fresh("air"), [f"station-{i}" for i in range(40)] + ["ü", "a/b c"]
    delivery = KafkaDelivery(embedded.bootstrap_servers, settings=EmbeddedBroker.settings)
    delivery.deliver([Message(topic, key, b"swift") for key in keys])
    assert isinstance(delivery._producer, SwiftProducer)
    delivery.close()
    other = KafkaProducer(bootstrap_servers=embedded.bootstrap_servers, **EmbeddedBroker.settings)
    theirs = {key: other.send(topic, b"slow", key.encode()).get(60).partition for key in keys}
    other.close()
    records = read_all(embedded.bootstrap_servers, topic, EmbeddedBroker.settings)
    assert len(records) == 2 * len(keys)
    ours = KafkaDelivery(embedded.bootstrap_servers, settings=EmbeddedBroker.settings)
    assert {key: partition(ours, embedded, topic, key) for key in keys[:5]} == {key: theirs[key] for key in keys[:5]}
    ours.close()


def partition(delivery: KafkaDelivery, broker: EmbeddedBroker, topic: str, key: str) -> int:
    """Return where a message lands, by the one partition that grows."""
    before = ends(broker, topic)
    delivery.deliver([Message(topic, key, b"x")])
    (grown,) = [p for p, end in ends(broker, topic).items() if end > before[p]]
    return grown


def ends(broker: EmbeddedBroker, topic: str) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, **EmbeddedBroker.settings)
    try:
        found = consumer.end_offsets([TopicPartition(topic, p) for p in range(4)])
    finally:
        consumer.close()
    return {place.partition: end for place, end in found.items()}


def test_a_broker_that_vanishes_is_told_in_time() -> None:
    """Protects the spool's turn when Kafka dies in the middle, and the process from hanging on what is pending."""
    broker = EmbeddedBroker()
    delivery = KafkaDelivery(broker.bootstrap_servers, settings=EmbeddedBroker.settings, deliver_s=60.0)
    delivery.deliver([Message("air", "a", b"1")])
    broker.close()
    started = time.monotonic()
    with pytest.raises(SinkUnavailable, match="writing to Kafka"):
        delivery.deliver([Message("air", "a", b"2")])
    with pytest.raises(SinkUnavailable, match="no broker listens"):
        delivery.deliver([Message("air", "a", b"3")])
    delivery.close()
    assert time.monotonic() - started < 30.0


@pytest.mark.kafka
def test_the_real_one_takes_them_too(real_kafka: LocalKafka) -> None:
    """Protects order and headers with a real broker, across two batches of some thousand messages."""
    topic = fresh("air")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 1})
    delivery = KafkaDelivery(real_kafka.bootstrap_servers)
    for start in (0, 3_000):
        delivery.deliver([Message(topic, "a", b"%d" % n, (("h", b"%d" % n),)) for n in range(start, start + 3_000)])
    assert isinstance(delivery._producer, SwiftProducer)
    delivery.close()
    records = read_all(real_kafka.bootstrap_servers, topic, {})
    assert [record.value for record in records] == [b"%d" % n for n in range(6_000)]
    assert tuple(records[17].headers) == (("h", b"17"),)
    impatient = {"delivery_timeout_ms": 1_000, "request_timeout_ms": 500}
    slow = KafkaDelivery(real_kafka.bootstrap_servers, settings=impatient)
    assert "there is no topic nowhere" in str(slow.deliver([Message("nowhere", "a", b"1")])["nowhere"])
    slow.close()


@pytest.mark.parametrize(
    "message",
    [Message("dead", "", b"", (("h", b"1"),)), Message("dead", "\ud800\u00fc", b"x")],
    ids=["empty", "no text"],
)
def test_every_failure_is_told_whatever_the_message(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects odd dead letters: librdkafka tells of failures only, so one that is not recognised would be lost."""
    monkeypatch.setattr("connectors.kafka_swift.listening", lambda *_: ("127.0.0.1", 1))  # or it is noticed before
    broker = EmbeddedBroker()
    impatient = {"delivery_timeout_ms": 600, "request_timeout_ms": 500, "linger_ms": 5}
    producer = SwiftProducer(swift_settings(broker.bootstrap_servers, EmbeddedBroker.settings | impatient) or {})
    until(lambda: producer.send([message], 5.0) == Outcome({}, frozenset()))
    broker.close()
    failure = producer.send([message], 5.0).failures[message.topic]
    assert failure.blame is Blame.OPEN
    assert "not acknowledged within" in str(failure.error)
    producer.close()
