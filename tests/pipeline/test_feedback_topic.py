"""Labels from Kafka reach the database once each, and nothing that comes there stops the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import LabelRow
from connectors.base import RecordBlock, TopicPartition
from connectors.errors import StoreUnavailable
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from connectors.kafka_source import KafkaSource
from connectors.memory import MemorySource
from pipeline.alert_rows import incident_row
from pipeline.feedback_topic import FeedbackTopic, parse
from pipeline.labels import LabelKind
from tests.kafka_broker import fresh
from tests.pipeline.alert_parts import START_US, Numbers, id_of, message
from tests.pipeline.daemon_parts import Clock

TOPIC = "feedback"


def feedback(n: int, label: str = "false_alarm", **more: object) -> bytes:
    """Return a record's value about incident ``n``."""
    return json.dumps({"incident_id": id_of(n), "label": label, "author": "kim"} | more).encode()


def block(values: list[bytes | None], partition: int = 0, first: int = 0) -> RecordBlock:
    """Return a block of the feedback topic."""
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return RecordBlock(TOPIC, partition, values, offsets, offsets, first + len(values))


class FailingStore(AlertStore):
    """A database that can be away."""

    away = False

    def label(self, *arguments: object, **named: object) -> LabelRow | None:
        """Label, or fail."""
        if self.away:
            raise StoreUnavailable("gone")
        return super().label(*arguments, **named)  # type: ignore[arg-type]


class WatchedSource(KafkaSource):
    """Says when the offsets of three records are committed."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.all_committed = threading.Event()

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit."""
        super().commit(offsets)
        if sum(offsets.values()) == 3:
            self.all_committed.set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FailingStore]:
    """A database with incidents 0 to 2."""
    store = FailingStore(f"sqlite:///{tmp_path}/vedette.db")
    store.keep([incident_row(message(n)) for n in range(3)])
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    """Clocks by hand."""
    return Clock(START_US)


def topic_over(source: MemorySource, store: AlertStore, clock: Clock) -> FeedbackTopic:
    """Return the topic that is read from ``source``; its turns are taken by hand."""
    return FeedbackTopic(source, store, Numbers().metrics.models, now_us=clock.now_us, monotonic=clock.monotonic)


def acting(store: AlertStore) -> dict[str, str]:
    """Return the labels that act, by incident."""
    return {label.incident_id: label.kind for label in store.labels() if label.withdrawn_us is None}


def committed(source: MemorySource, partition: int = 0) -> int | None:
    """Return what is committed."""
    return source.committed(TopicPartition(TOPIC, partition))


def test_labels_are_said_in_their_order(store: FailingStore, clock: Clock) -> None:
    """Protects the last word, and the commit that comes after it."""
    values = [feedback(0), feedback(1, "expected", reason="fair", until="1d"), feedback(0, "true"), feedback(1, "none")]
    source = MemorySource([block([*values, None])])
    topic = topic_over(source, store, clock)
    topic.turn()
    assert acting(store) == {id_of(0): "true"}
    assert [(label.kind, label.author) for label in store.labels_of([id_of(1)])] == [("expected", "kim")]
    assert (topic.accepted, topic.refused) == (4, 0)
    assert committed(source) == 5


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"not json",
        b"[]",
        b'{"label": "true"}',
        b'{"incident_id": 7, "label": "true"}',
        b'{"incident_id": "a", "label": "maybe"}',
        b'{"incident_id": "a", "label": "false_alarm", "untill": "3d"}',
        b'{"incident_id": "a", "label": "expected", "reason": "fair"}',
        b'{"incident_id": "a", "label": "true", "reason": "\xff"}',
        b"[" * 100_000,
        b"[" * 10_000,
        b'{"incident_id": "' + b"a" * 100_000 + b'", "label": "true"}',
    ],
    ids=range(12),
)
def test_what_is_no_label_is_left_behind(store: FailingStore, clock: Clock, bad: bytes) -> None:
    """Protects everybody's labels from one that cannot be read; it is counted and never read again."""
    source = MemorySource([block([bad, feedback(0)])])
    topic = topic_over(source, store, clock)
    topic.turn()
    assert acting(store) == {id_of(0): "false_alarm"}
    assert (topic.accepted, topic.refused) == (1, 1)
    assert committed(source) == 2


def test_a_label_waits_for_its_incident(store: FailingStore, clock: Clock) -> None:
    """Protects a label that is faster than its alert; a later one for the same incident waits behind it."""
    source = MemorySource([block([feedback(0), feedback(7), feedback(1)]), block([feedback(7, "true")], first=3)])
    topic = topic_over(source, store, clock)
    topic.turn()
    assert acting(store) == {id_of(0): "false_alarm", id_of(1): "false_alarm"}
    assert committed(source) == 1, "a restart has to read it again"
    store.keep([incident_row(message(7))])
    topic.turn()
    assert committed(source) == 1
    clock.pause(5.0)
    topic.turn()
    assert acting(store)[id_of(7)] == "true"
    assert [label.kind for label in store.labels_of([id_of(7)])] == ["false_alarm", "true"]
    assert committed(source) == 4


def test_a_label_does_not_wait_for_ever(store: FailingStore, clock: Clock) -> None:
    """Protects the topic from a mistyped id."""
    source = MemorySource([block([feedback(7)])])
    topic = topic_over(source, store, clock)
    topic.turn()
    clock.pause(600.0)
    topic.turn()
    assert topic.refused == 1
    assert committed(source) == 1


def test_nothing_is_committed_while_the_database_is_away(store: FailingStore, clock: Clock) -> None:
    """Protects labels from an outage, in each partition."""
    source = MemorySource([block([feedback(0)]), block([feedback(1)], partition=1)], blocks_per_poll=2)
    topic = topic_over(source, store, clock)
    store.away = True
    with pytest.raises(StoreUnavailable):
        topic.turn()
    assert (committed(source, 0), committed(source, 1)) == (0, 0)
    store.away = False
    topic.turn()
    assert len(acting(store)) == 2
    assert (committed(source, 0), committed(source, 1)) == (1, 1)


def test_what_comes_twice_is_said_once(store: FailingStore, clock: Clock) -> None:
    """Protects an operator's newer word from an older one that is read again after a crash before its commit."""
    blocks = [block([feedback(0)])]
    topic_over(MemorySource(blocks), store, clock).turn()
    store.label(id_of(0), "true", "", None, "lee", START_US + 1)
    topic_over(MemorySource(blocks), store, clock).turn()
    assert acting(store) == {id_of(0): "true"}


def test_a_withdrawal_that_comes_twice_is_done_once(store: FailingStore, clock: Clock) -> None:
    """Protects a newer label, from the topic or from elsewhere, from an older "none" that is read again."""
    blocks = [block([feedback(0), feedback(0, "none"), feedback(0, "true"), feedback(1, "none")])]
    topic_over(MemorySource(blocks), store, clock).turn()
    store.label(id_of(1), "true", "", None, "lee", START_US + 1)
    for _ in range(2):
        topic = topic_over(MemorySource(blocks), store, clock)
        topic.turn()
        assert (topic.accepted, topic.refused) == (4, 0)
        assert acting(store) == {id_of(0): "true", id_of(1): "true"}
    newer = [*blocks, block([feedback(0, "none")], first=4)]
    topic_over(MemorySource(newer, blocks_per_poll=2), store, clock).turn()
    assert acting(store) == {id_of(1): "true"}
    assert [label.kind for label in store.labels_of([id_of(0), id_of(1)])] == ["false_alarm", "true", "true"]


def test_a_partition_that_moves_takes_its_labels_along(store: FailingStore, clock: Clock) -> None:
    """Protects from two replicas that say, and commit, the same labels."""
    source = MemorySource([block([feedback(7)]), block([feedback(8)], partition=1)], blocks_per_poll=2)
    topic = topic_over(source, store, clock)
    topic.turn()
    source.rebalance({TopicPartition(TOPIC, 0)}, set())
    topic.turn()
    store.keep([incident_row(message(7)), incident_row(message(8))])
    clock.pause(5.0)
    topic.turn()
    assert acting(store) == {id_of(8): "false_alarm"}
    assert committed(source, 0) == 0


def test_the_documented_record_is_understood() -> None:
    """Protects whoever writes to the topic by the book."""
    text = '{"incident_id": "%s", "label": "expected", "reason": "fire drill", "until": "2026-03-03T00:00:00Z"}'
    request = parse((text % id_of(0)).encode(), START_US)
    assert (request.kind, request.reason, request.author) == (LabelKind.EXPECTED, "fire drill", "feedback topic")
    assert request.until_us == START_US + 86_400_000_000


def test_it_works_over_kafka(store: FailingStore, embedded: EmbeddedBroker) -> None:
    """Protects the whole way: a producer anywhere, the thread with its own group, the database, the commit."""
    name = fresh("feedback")
    sink = KafkaSink(embedded.bootstrap_servers, name, settings=EmbeddedBroker.settings)
    sink.send("a", feedback(0))
    sink.send("a", b"nonsense")
    sink.send("b", feedback(1, "true"))
    sink.flush(30.0)
    settings = {**EmbeddedBroker.settings, "fetch_max_wait_ms": 20}
    source = WatchedSource(embedded.bootstrap_servers, [name], fresh("group"), settings=settings)
    topic = FeedbackTopic(source, store, Numbers().metrics.models)
    topic.start()
    assert source.all_committed.wait(60.0)
    topic.close(30.0)
    assert (topic.accepted, topic.refused) == (2, 1)
    assert acting(store) == {id_of(0): "false_alarm", id_of(1): "true"}
    sink.close()
