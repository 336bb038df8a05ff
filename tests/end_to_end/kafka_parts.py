"""What end-to-end tests do beside the daemon: produce records as anyone would, read topics, wait with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """A record to be produced, or one that was read."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


def produce(servers: str, topic: str, records: Iterable[Record], settings: Mapping[str, Any]) -> int:
    """Write ``records`` and return how many when all are acknowledged."""
    known = {name: value for name, value in settings.items() if name in KafkaProducer.DEFAULT_CONFIG}
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=20, batch_size=65_536, max_request_size=8_000_000, **known
    )
    try:
        futures = [
            producer.send(
                topic, r.value, r.key, headers=list(r.headers), partition=r.partition, timestamp_ms=r.timestamp_ms
            )
            for r in records
        ]
        producer.flush(timeout=60)
        for future in futures:
            future.get(timeout=60)
        return len(futures)
    finally:
        producer.close(timeout=5)


def read_all(servers: str, topic: str, settings: Mapping[str, Any]) -> list[Record]:
    """Return every record that the topic holds now; none when there is no such topic."""
    known = {name: value for name, value in settings.items() if name in KafkaConsumer.DEFAULT_CONFIG}
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, **known)
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Record] = []

        def read() -> bool:
            for batch in consumer.poll(timeout_ms=200).values():
                records.extend(Record(r.value, r.key, r.headers, r.timestamp, r.partition) for r in batch)
            return all(consumer.position(p) >= ends[p] for p in partitions)

        wait_until(read, f"all of {topic} is read")
        return records
    finally:
        consumer.close()


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = 180.0) -> None:
    """Call ``done``, which does some waiting or some work itself, until it is True; fail with ``what`` in the end."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
