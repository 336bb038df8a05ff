"""Batches reach Kafka whole and in order, also where a topic takes only small messages."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.admin import KafkaAdminClient

from connectors.errors import Misconfigured, SinkUnavailable
from connectors.kafka_delivery import KafkaDelivery
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_halving import CUT, pieces
from connectors.kafka_local import LocalKafka
from connectors.spool import Message
from tests.end_to_end.kafka_parts import Record, read_all
from tests.kafka_broker import fresh


def listed(numbers: range) -> bytes:
    return msgspec.json.encode([{"value": number} for number in numbers])


def values(records: list[Record]) -> list[int]:
    found: list[int] = []
    for record in records:
        document = msgspec.json.decode(record.value or b"")
        found += [one["value"] for one in (document if isinstance(document, list) else [document])]
    return found


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.integers(1, 300))
def test_pieces_say_the_same_in_the_same_order(numbers: list[int], most: int) -> None:
    """Protects readings from being cut: pieces are within the bound, or a single reading."""
    message = Message("air", "a", msgspec.json.encode([{"value": number} for number in numbers]))
    found = pieces(message, most)
    assert values([Record(one.value) for one in found]) == numbers
    assert all(len(one.value) <= most or len(values([Record(one.value)])) == 1 for one in found)
    assert {one.key for one in found} == {"a"}


def test_a_dead_letter_is_cut_and_says_so() -> None:
    """Protects from refusing the refused: its beginning is kept, and how long it was."""
    [cut] = pieces(Message("dead", "", b"[" + b"x" * 999, (("vedette-reason", b"invalid_json"),)), 300)
    assert (len(cut.value), dict(cut.headers)[CUT]) == (250, b"1000")


def test_a_batch_arrives_in_order_with_its_headers(embedded: EmbeddedBroker) -> None:
    """Protects the usual way."""
    topic = fresh("air")
    delivery = KafkaDelivery(embedded.bootstrap_servers, settings=EmbeddedBroker.settings)
    for start in (0, 50):
        delivery.deliver(
            [Message(topic, "a", b'{"value":%d}' % n, (("source", b"city"),)) for n in range(start, start + 50)]
        )
    delivery.close()
    records = read_all(embedded.bootstrap_servers, topic, EmbeddedBroker.settings)
    assert values(records) == list(range(100))
    assert {(record.key, tuple(record.headers)) for record in records} == {(b"a", (("source", b"city"),))}


def test_no_broker_is_said_soon() -> None:
    """Protects the spool's turn: an absent broker costs a moment, not a time-out of many seconds."""
    delivery = KafkaDelivery("127.0.0.1:1")
    with pytest.raises(SinkUnavailable, match=r"no broker listens at 127\.0\.0\.1:1"):
        delivery.deliver([Message("air", "a", b"1")])


@pytest.mark.kafka
def test_a_topic_that_takes_only_small_messages_gets_them_in_pieces(real_kafka: LocalKafka) -> None:
    """Protects all that waits behind a message that a broker will never take: it is sent in pieces, nothing is lost."""
    topic, other = fresh("small"), fresh("other")
    limited(real_kafka, topic, 2_000)
    limited(real_kafka, other, 100_000)
    delivery = KafkaDelivery(real_kafka.bootstrap_servers)
    delivery.deliver([Message(topic, "a", listed(range(10))), Message(topic, "a", listed(range(10, 500)))])
    delivery.deliver([Message(topic, "a", listed(range(500, 900))), Message(other, "a", listed(range(9)))])
    delivery.deliver([Message(topic, "", b"x" * 9_000, (("vedette-reason", b"invalid_json"),))])
    with pytest.raises(Misconfigured, match=rf"{topic} takes no message of 9000 bytes: raise its max\.message\.bytes"):
        delivery.deliver([Message(topic, "a", b'"' + b"x" * 8_998 + b'"')])
    delivery.close()
    records = [one for one in read_all(real_kafka.bootstrap_servers, topic, {}) if not one.headers]
    assert list(dict.fromkeys(values(records))) == list(range(900))
    assert values(read_all(real_kafka.bootstrap_servers, other, {})) == list(range(9))


def limited(kafka: LocalKafka, topic: str, most_bytes: int) -> None:
    """Make a topic of one partition that takes no larger batches."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        admin.create_topics(
            {topic: {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": str(most_bytes)}}}
        )
    finally:
        admin.close()
