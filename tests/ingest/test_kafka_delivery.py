"""Batches reach Kafka whole and in order, also where a topic takes only small messages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType
from kafka.errors import InvalidTopicError, TopicAuthorizationFailedError

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.kafka_delivery import KafkaDelivery
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_halving import CUT, pieces
from connectors.kafka_local import LocalKafka
from connectors.kafka_outcome import Blame, Failure, Outcome, blamed
from connectors.kafka_steady import SteadyProducer, _of
from connectors.kafka_swift import SwiftProducer
from connectors.kafka_topics import ensure_topics
from connectors.spool import Message
from tests.end_to_end.kafka_parts import Record, read_all
from tests.kafka_broker import fresh, until


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


SILENT, SAID = Failure(Blame.OPEN, SinkUnavailable("silent")), Failure(Blame.TOPIC, Misconfigured("said"))
LEADERLESS = SinkUnavailable("no leader")


@pytest.mark.parametrize(
    ("failures", "known", "blame"),
    [
        ({"air": SILENT}, {}, {"air": "silent"}),  # others were acknowledged
        ({"air": SILENT, "water": SILENT}, {}, None),  # none was, and nothing is wrong with them
        ({"air": SILENT, "water": SILENT}, None, None),
        ({"air": SILENT, "water": SILENT}, {"air": LEADERLESS}, {"air": "no leader", "water": "silent"}),
        ({"air": SAID, "water": SILENT}, {}, {"air": "said", "water": "silent"}),
        ({"air": SILENT}, None, None),  # others were, and since then the broker is gone
        ({"air": SAID, "water": SAID}, None, {"air": "said", "water": "said"}),  # it has answered
        ({"air": SAID, "water": Failure(Blame.KAFKA, Misconfigured("login"))}, {}, None),
    ],
)
def test_who_is_to_blame(
    failures: dict[str, Failure], known: dict[str, ConnectorError] | None, blame: dict[str, str] | None
) -> None:
    """Protects the topics that go on from one that does not, and readings from being thrown at a Kafka that is away."""
    outcome, topics = Outcome(failures, frozenset()), frozenset({"air", "water"})

    def ask(silent: Sequence[str]) -> dict[str, ConnectorError]:
        if known is None:
            raise SinkUnavailable("no broker answers")
        return {topic: fault for topic, fault in known.items() if topic in silent}

    if blame is None:
        with pytest.raises(ConnectorError):
            blamed(outcome, topics, ask)
    else:
        assert {topic: str(error) for topic, error in blamed(outcome, topics, ask).items()} == blame


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
    hopeless = Message(topic, "a", b'"' + b"x" * 8_998 + b'"')
    refused = delivery.deliver([hopeless, Message(other, "a", listed(range(9, 20)))])
    assert {name: str(error) for name, error in refused.items()} == {
        topic: f"topic {topic} takes no message of 9000 bytes: raise its max.message.bytes"
    }
    delivery.close()
    records = [one for one in read_all(real_kafka.bootstrap_servers, topic, {}) if not one.headers]
    assert list(dict.fromkeys(values(records))) == list(range(900))
    assert values(read_all(real_kafka.bootstrap_servers, other, {})) == list(range(20)), "and none twice"


SWIFT: dict[str, Any] = {}
STEADY: dict[str, Any] = {
    "delivery_timeout_ms": 1_500, "request_timeout_ms": 500, "max_block_ms": 500,
    "send_buffer_bytes": 131_072,  # which librdkafka's settings do not have under this name
}  # fmt: skip
PRODUCERS = pytest.mark.parametrize("settings", [SWIFT, STEADY], ids=["swift", "steady"])


@pytest.mark.kafka
@PRODUCERS
def test_what_one_topic_refuses_is_told_of_it_alone(real_kafka: LocalKafka, settings: dict[str, Any]) -> None:
    """Protects all other topics: their messages are acknowledged, and a person is told which one, why, what to do."""
    well, missing, unkeyed = fresh("well"), fresh("missing"), fresh("unkeyed")
    ensure_topics(real_kafka.bootstrap_servers, {well: 2})
    made(real_kafka, unkeyed, {"cleanup.policy": "compact"})
    delivery = KafkaDelivery(real_kafka.bootstrap_servers, settings=settings)
    bad = [Message(missing, "a", b"1"), Message("not a name", "a", b"1"), Message(unkeyed, "", b"1")]
    messages = [Message(well, "a", listed(range(n, n + 1))) for n in range(9)]
    refused = delivery.deliver([*bad[:2], *messages, *bad[2:]])
    assert refused.keys() == {missing, "not a name", unkeyed}
    assert f"there is no topic {missing}" in str(refused[missing])
    assert "create it, or correct the name" in str(refused[missing])
    assert isinstance(refused["not a name"], Misconfigured)
    assert all(topic in str(error) for topic, error in refused.items())
    assert values(read_all(real_kafka.bootstrap_servers, well, {})) == list(range(9))
    started = time.monotonic()
    assert delivery.deliver(bad[:2]).keys() == {missing, "not a name"}, "alone as well"
    ensure_topics(real_kafka.bootstrap_servers, {missing: 1})
    assert delivery.deliver(bad[:1]) == {}
    assert time.monotonic() - started < 9.0  # a message to a missing topic waits for ten seconds
    assert isinstance(delivery._producer, SwiftProducer if settings is SWIFT else SteadyProducer)
    delivery.close()


@pytest.mark.kafka
@PRODUCERS
def test_what_is_sent_beside_a_message_that_is_too_large_is_not_blamed(
    real_kafka: LocalKafka, settings: dict[str, Any]
) -> None:
    """Protects what is small, and cannot be cut: kafka-python's idempotent producer says of all that is behind a
    message too large, and of what goes to other topics, that it is too large."""
    small, other = fresh("small"), fresh("other")
    limited(real_kafka, small, 2_000)
    ensure_topics(real_kafka.bootstrap_servers, {other: 2})
    delivery = KafkaDelivery(real_kafka.bootstrap_servers, settings={**settings, "batch_size": 1_000})
    messages = []
    for start in range(0, 900, 300):
        messages.append(Message(small, "a", listed(range(start, start + 290))))
        messages += [Message(small, "a", listed(range(n, n + 1))) for n in range(start + 290, start + 300)]
        messages += [Message(other, str(n), listed(range(n, n + 30))) for n in range(start, start + 300, 30)]
    assert delivery.deliver(messages) == {}
    delivery.close()
    for topic in (small, other):
        assert set(values(read_all(real_kafka.bootstrap_servers, topic, {}))) == set(range(900))
    assert other not in delivery._most_bytes


@pytest.mark.kafka
@PRODUCERS
def test_a_topic_that_is_deleted_is_noticed(real_kafka: LocalKafka, settings: dict[str, Any]) -> None:
    """Protects the others from waiting for what was there a moment ago; what comes back takes its readings again."""
    well, gone = fresh("well"), fresh("gone")
    ensure_topics(real_kafka.bootstrap_servers, {well: 1, gone: 1})
    delivery = KafkaDelivery(real_kafka.bootstrap_servers, settings=settings)
    both = [Message(well, "a", listed(range(1))), Message(gone, "a", listed(range(1)))]
    assert delivery.deliver(both) == {}
    deleted(real_kafka, gone)
    refused = delivery.deliver(both)
    assert {topic: "there is no topic" in str(error) for topic, error in refused.items()} == {gone: True}
    assert delivery.deliver(both).keys() == {gone}
    ensure_topics(real_kafka.bootstrap_servers, {gone: 1})
    until(lambda: delivery.deliver(both) == {})
    delivery.close()
    assert set(values(read_all(real_kafka.bootstrap_servers, gone, {}))) == {0}


def test_what_is_said_of_another_topic_is_no_answer() -> None:
    """Protects a topic that can be written from the rights that another one lacks: kafka-python asks for both at once,
    and fails both."""
    said = [TopicAuthorizationFailedError({"hidden"}), InvalidTopicError("odd"), TopicAuthorizationFailedError("air")]

    def ask() -> None:
        raise said.pop(0)

    with pytest.raises(TopicAuthorizationFailedError, match="air"):
        _of("air", ask)
    assert said == []


AUTHORIZER = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


@pytest.mark.kafka
def test_a_topic_that_may_not_be_written_is_told_of_it_alone() -> None:
    """Protects what may be written from rights that are missing for the rest, whether or not it can be seen."""
    with local_kafka(AUTHORIZER) as kafka:
        ensure_topics(kafka.bootstrap_servers, {"well": 1, "read_only": 1, "hidden": 1})
        forbid(kafka, {"read_only": ACLOperation.WRITE, "hidden": ACLOperation.ALL})
        for settings in (SWIFT, STEADY):
            delivery = KafkaDelivery(kafka.bootstrap_servers, settings=settings)
            messages = [Message(topic, "a", b"1") for topic in ("hidden", "well", "read_only")]
            until(lambda delivery=delivery, messages=messages: len(delivery.deliver(messages)) == 2)  # type: ignore[misc]
            for _ in range(3):
                refused = delivery.deliver(messages)
                assert {topic: type(error) for topic, error in refused.items()} == {
                    "hidden": Misconfigured, "read_only": Misconfigured,
                }  # fmt: skip
                assert "topic read_only may not be written: give its user the right" in str(refused["read_only"])
            delivery.close()


@contextmanager
def local_kafka(properties: str) -> Iterator[LocalKafka]:
    """Run a broker of its own, or skip."""
    try:
        kafka = LocalKafka(properties=properties)
    except Misconfigured as error:
        pytest.skip(str(error))
    with kafka:
        yield kafka


def forbid(kafka: LocalKafka, operations: dict[str, ACLOperation]) -> None:
    """Deny everybody an operation on each of some topics; what is left of it is allowed."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        acls = []
        for topic, operation in operations.items():
            pattern = ResourcePattern(ResourceType.TOPIC, topic)
            acls.append(ACL("User:ANONYMOUS", "*", operation, ACLPermissionType.DENY, pattern))
            if operation is not ACLOperation.ALL:
                acls.append(ACL("User:ANONYMOUS", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, pattern))
        admin.create_acls(acls)
    finally:
        admin.close()


def limited(kafka: LocalKafka, topic: str, most_bytes: int) -> None:
    """Make a topic of one partition that takes no larger batches."""
    made(kafka, topic, {"max.message.bytes": str(most_bytes)})


def made(kafka: LocalKafka, topic: str, configs: dict[str, str]) -> None:
    """Make a topic of one partition."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
    finally:
        admin.close()


def deleted(kafka: LocalKafka, topic: str) -> None:
    """Delete a topic, and return when it is gone."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics())
    finally:
        admin.close()
