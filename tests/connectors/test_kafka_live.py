"""Source and sink against a real Apache Kafka: nothing lost, nothing twice, whatever it does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as KafkaPartition
from structlog.testing import capture_logs

from connectors import kafka_consumer
from connectors.base import RecordBlock, TopicPartition
from connectors.errors import DamagedRecords, SinkUnavailable, SourceUnavailable
from connectors.kafka_batches import DamagedBatch
from connectors.kafka_consumer import Patience
from connectors.kafka_load import fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_sink import KafkaSink
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from tests.connectors.record_batches import Row, plain_rows, rows
from tests.kafka_broker import drain, fresh, until

pytestmark = pytest.mark.kafka

QUICK = {"fetch_max_wait_ms": 50}
CODECS = (None, "gzip", "lz4", "zstd", "snappy")


def producer(kafka: LocalKafka, **settings: Any) -> Any:
    """Return a producer."""
    return KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_block_ms=60_000, **settings)


def source(kafka: LocalKafka, topic: str, group: str | None = None, **options: Any) -> KafkaSource:
    """Return a source of one topic, of a group of its own unless said."""
    options.setdefault("settings", QUICK)
    return KafkaSource(kafka.bootstrap_servers, [topic], group or fresh("group"), **options)


def topic_with(kafka: LocalKafka, partitions: int = 1) -> str:
    """Return a new topic."""
    topic = fresh("topic")
    ensure_topics(kafka.bootstrap_servers, {topic: partitions})
    return topic


def send(kafka: LocalKafka, topic: str, values: Sequence[bytes], partition: int = 0, **settings: Any) -> None:
    """Write ``values``, each its own key, to one partition."""
    writer = producer(kafka, **settings)
    for value in values:
        writer.send(topic, value, key=value, partition=partition)
    writer.flush(60)
    writer.close()


def plainly(kafka: LocalKafka, topic: str) -> list[Row]:
    """Return all committed records of partition 0, as kafka-python gives them."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=None, isolation_level="read_committed", **QUICK
    )
    try:
        at = KafkaPartition(topic, 0)
        consumer.assign([at])
        consumer.seek(at, 0)
        (end,) = consumer.end_offsets([at]).values()
        found: list[Any] = []
        while consumer.position(at) < end:
            found += consumer.poll(1000).get(at, [])
        return plain_rows(found)
    finally:
        consumer.close()


def values(blocks: Sequence[RecordBlock]) -> list[bytes | None]:
    """Return the values of ``blocks`` in the order they came."""
    return [value for block in blocks for value in block.values]


def transaction(writer: Any, topic: str, name: bytes, records: int, commit: bool) -> None:
    """Write records in a transaction and end it."""
    writer.begin_transaction()
    for i in range(records):
        writer.send(topic, b"%s %d" % (name, i), partition=0)
    writer.flush(60)
    (writer.commit_transaction if commit else writer.abort_transaction)()


def write_varied(kafka: LocalKafka, topic: str) -> None:
    """Write a log with everything in it that a log can hold."""
    for codec in CODECS:
        writer = producer(kafka, compression_type=codec, linger_ms=50, batch_size=4000)
        for i in range(60):
            value = None if i % 7 == 3 else b"%s %d " % (str(codec).encode(), i) * (i % 40)
            key = b"key %d" % i if value is None or i % 3 else None
            headers = [("h", b"%d" % i), ("h", b""), ("ä", b"\xff")] if i % 5 == 0 else []
            writer.send(topic, value, key=key, headers=headers, partition=0, timestamp_ms=1_700_000_000_000 - 50 * i)
        writer.flush(60)
        writer.close()
    one = producer(kafka, transactional_id=fresh("one"), retry_backoff_ms=5)
    other = producer(kafka, transactional_id=fresh("other"), compression_type="lz4", retry_backoff_ms=5)
    one.init_transactions()
    other.init_transactions()
    one.begin_transaction()
    for i in range(5):
        one.send(topic, b"torn %d" % i, partition=0)
    one.flush(30)
    transaction(other, topic, b"other", 7, commit=True)
    one.abort_transaction()
    transaction(one, topic, b"kept", 3, commit=True)
    transaction(other, topic, b"gone", 3, commit=False)
    one.close()
    other.close()
    writer = producer(kafka)
    for i in range(40):
        writer.send(topic, b"small %d" % i, partition=0).get(60)
    writer.close()


@pytest.mark.parametrize("raw", [True, False], ids=["whole batches", "record by record"])
def test_all_that_was_committed_comes_from_any_position(real_kafka: LocalKafka, raw: bool) -> None:
    """Protects the fast path, on a real log: codecs, null keys and values, headers, small batches, transactions."""
    topic = topic_with(real_kafka)
    at = TopicPartition(topic, 0)
    write_varied(real_kafka, topic)
    expected = plainly(real_kafka, topic)
    assert len(expected) == 60 * len(CODECS) + 7 + 3 + 40
    reader = source(real_kafka, topic, raw=raw)
    assert [row for block in drain(reader, len(expected)) for row in rows(block)] == expected
    for first in (1, 3, 59, 60, 61, 100, 239, 301, len(expected) - 45, len(expected) - 20, len(expected) - 1):
        reader.seek(at, expected[first][0])
        assert [row for block in drain(reader, len(expected) - first) for row in rows(block)] == expected[first:]
    until(lambda: not reader.poll(0.1) and reader.lag() == {at: 0})
    reader.close()


def test_a_commit_is_where_the_next_life_begins(real_kafka: LocalKafka) -> None:
    """Protects restarts: what was committed does not come again, what was not does."""
    topic, group = topic_with(real_kafka), fresh("group")
    at = TopicPartition(topic, 0)
    send(real_kafka, topic, [b"%d" % i for i in range(20)])
    first = source(real_kafka, topic, group)
    drain(first, 20)
    assert first.committed(at) is None
    first.commit({at: 13})
    assert first.committed(at) == 13
    first.close()
    second = source(real_kafka, topic, group)
    assert values(drain(second, 7)) == [b"%d" % i for i in range(13, 20)]
    second.close()


def test_without_the_private_attributes_it_reads_record_by_record(
    real_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from another kafka-python: slower, said once, and the same records."""
    topic = topic_with(real_kafka)
    send(real_kafka, topic, [b"%d" % i for i in range(10)])
    monkeypatch.setattr(kafka_consumer, "missing_hooks", lambda consumer: ["_unpack_records"])
    reader = source(real_kafka, topic)
    with capture_logs() as logs:
        assert values(drain(reader, 10)) == [b"%d" % i for i in range(10)]
        reader._consumer.give_up()  # and again after a reconnection
        assert values(drain(reader, 10)) == [b"%d" % i for i in range(10)]
    said = [entry for entry in logs if "whole batches" in entry["event"]]
    assert [entry["missing"] for entry in said] == [["_unpack_records"]]
    reader.close()


def test_an_expelled_member_reads_on_from_what_was_committed(real_kafka: LocalKafka) -> None:
    """Protects from a gap: records queued when the group expelled us come again when the partition comes back."""
    topic, group = topic_with(real_kafka), fresh("group")
    at = TopicPartition(topic, 0)
    send(real_kafka, topic, [b"%d" % i for i in range(40)], batch_size=100)
    slow = source(real_kafka, topic, group, max_records=10, settings=QUICK | {"max_poll_interval_ms": 1500})
    came = values(drain(slow, 10))
    assert len(came) < 40
    slow.commit({at: 5})
    told: list[tuple[set[TopicPartition], set[TopicPartition]]] = []
    slow.on_rebalance(lambda revoked, assigned: told.append((revoked, assigned)))
    other = source(real_kafka, topic, group)
    until(lambda: bool(other.poll(0.2)) or other.assignment() == {at})
    other.close()
    assert values(drain(slow, 35)) == [b"%d" % i for i in range(5, 40)]
    assert told == [({at}, set()), (set(), {at})]
    slow.close()


@pytest.fixture
def stopped(real_kafka: LocalKafka) -> Iterator[LocalKafka]:
    """The broker, for tests that stop it; runs again afterwards."""
    yield real_kafka
    if not real_kafka.running:
        real_kafka.start()


def test_nothing_is_lost_while_the_broker_is_away(stopped: LocalKafka) -> None:
    """Protects a restart of the broker: the source says so and reads on; the sink keeps what it has, in order."""
    topic, out = topic_with(stopped), topic_with(stopped)
    at = TopicPartition(topic, 0)
    send(stopped, topic, [b"%d" % i for i in range(30)])
    reader = source(stopped, topic, patience=Patience(quiet_s=0.5))
    came: list[bytes | None] = []
    sink = KafkaSink(stopped.bootstrap_servers, out, connect_s=2.0)
    sink.send("before", b"0")
    sink.flush(60.0)
    until(lambda: _polled(reader, came) >= 30)
    reader.commit({at: 30})

    stopped.stop()
    with pytest.raises(SourceUnavailable, match="no answer from"):
        until(lambda: bool(reader.poll(0.2)))
    for i in range(1, 4):
        sink.send(f"while away {i}", b"%d" % i)
        with pytest.raises(SinkUnavailable):
            sink.flush(0.3)
    assert sink.waiting == 3

    stopped.start()
    send(stopped, topic, [b"%d" % i for i in range(30, 60)])
    until(lambda: _polled(reader, came) >= 60)
    reader.commit({at: 60})
    assert came == [b"%d" % i for i in range(60)]
    until(lambda: _flushed(sink))
    assert [(row[2], row[3]) for row in plainly(stopped, out)] == [
        (b"before", b"0"),
        *[(b"while away %d" % i, b"%d" % i) for i in range(1, 4)],
    ]
    sink.close()
    reader.close()


def test_a_damaged_batch_stops_its_partition_and_says_where(
    stopped: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from an endless loop on a bad disk, and from passing over the damage in silence; in all three ways."""
    topic = topic_with(stopped)
    for value in (b"first", b"second", b"third"):
        send(stopped, topic, [value])
    stopped.stop()
    _flip(stopped.data / f"{topic}-0", b"second")
    stopped.start()
    for raw in (True, False):
        error = _damage_found(source(stopped, topic, raw=raw), topic)
        assert isinstance(error, DamagedBatch)
    monkeypatch.setattr(kafka_consumer, "missing_hooks", lambda consumer: ["drain"])
    _damage_found(source(stopped, topic), topic)


def _damage_found(reader: KafkaSource, topic: str) -> DamagedRecords:
    """Read the first record, meet the damage twice, and read on behind it where the error says how."""
    came: list[bytes | None] = []
    with pytest.raises(DamagedRecords, match=f"{topic}.* offset 1 ") as caught:
        until(lambda: _polled(reader, came) > 3)
    assert came == [b"first"]
    with pytest.raises(DamagedRecords):
        until(lambda: _polled(reader, []) > 3)
    if isinstance(caught.value, DamagedBatch):
        assert (caught.value.partition, caught.value.next_offset) == (TopicPartition(topic, 0), 2)
        reader.seek(caught.value.partition, caught.value.next_offset)
        assert values(drain(reader, 1)) == [b"third"]
    reader.close()
    return caught.value


def _polled(reader: KafkaSource, came: list[bytes | None]) -> int:
    """Poll once, bearing with a broker that is away; return how many records came so far."""
    try:
        came.extend(values(reader.poll(0.2)))
    except SourceUnavailable:
        return len(came)
    return len(came)


def _flushed(sink: KafkaSink) -> bool:
    try:
        sink.flush(5.0)
    except SinkUnavailable:
        return False
    return True


def _flip(partition: Path, value: bytes) -> None:
    """Change one bit of ``value`` in the partition's log."""
    (segment,) = partition.glob("*.log")
    data = bytearray(segment.read_bytes())
    data[data.index(value)] ^= 1
    segment.write_bytes(data)


@pytest.mark.parametrize("raw", [True, False])
def test_records_that_retention_removed_are_told(real_kafka: LocalKafka, raw: bool) -> None:
    """Protects who believes that all was read: what was gone before is in the log and in the count, by partition."""
    topic, group = fresh("retained"), fresh("group")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 2})
    values = [(b"k", b"%d" % i, i % 2) for i in range(40)]
    fill(real_kafka.bootstrap_servers, topic, values)
    early = source(real_kafka, topic, group)
    drain(early, 40)
    early.commit({TopicPartition(topic, 0): 5, TopicPartition(topic, 1): 20})
    early.close()
    admin = KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers)
    admin.delete_records({KafkaPartition(topic, 0): 12, KafkaPartition(topic, 1): 7})
    admin.close()
    told: list[tuple[TopicPartition, int]] = []
    late = source(real_kafka, topic, group, raw=raw, skipped=lambda *lost: told.append(lost))
    with capture_logs() as logs:
        (block,) = drain(late, 8)
    assert block.offsets.tolist() == list(range(12, 20))
    assert told == [(TopicPartition(topic, 0), 7)]
    (warning,) = (entry for entry in logs if entry["log_level"] == "warning")
    assert {name: warning[name] for name in ("topic", "partition", "records", "offset", "goes_on_at")} == {
        "topic": topic, "partition": 0, "records": 7, "offset": 5, "goes_on_at": 12,
    }  # fmt: skip
    late.close()
