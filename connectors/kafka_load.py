"""Load for benchmarks: fill a topic fast, and read it the way kafka-python's users do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Producer
from kafka import KafkaConsumer
from kafka.structs import TopicPartition


def fill(
    bootstrap_servers: str, topic: str, records: Iterable[tuple[bytes, bytes, int]], batch_bytes: int = 16384
) -> int:
    """Write (key, value, partition) records with batches of at most ``batch_bytes``; return how many."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "batch.size": batch_bytes,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "acks": "all",
        }
    )
    count = 0
    for key, value, partition in records:
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if count % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} of {count} records could not be written to {topic}")
    return count


def bare_consume(bootstrap_servers: str, topic: str, partitions: Sequence[int], records: int) -> float:
    """Return the records per second of a plain kafka-python consumer that reads ``records`` and does nothing else."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False, group_id=None
    )
    try:
        consumer.assign([TopicPartition(topic, p) for p in partitions])
        # Connecting and the first fetch are not what is measured.
        first = count = _polled(consumer)
        started = time.perf_counter()
        while count < records:
            count += _polled(consumer)
        return (count - first) / (time.perf_counter() - started)
    finally:
        consumer.close()


def _polled(consumer: KafkaConsumer) -> int:
    polled = consumer.poll(timeout_ms=30_000, max_records=2000)
    if not polled:
        raise RuntimeError("no more records came within 30 s: the topic holds fewer than were asked for")
    return sum(len(records) for records in polled.values())
