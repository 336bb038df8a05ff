"""Record batches as a broker would send them, and what kafka-python makes of them record by record."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition as KafkaPartition

from connectors.base import RecordBlock, TopicPartition
from connectors.kafka_batches import RawBatch, merge
from connectors.kafka_fetching import _RawPartitionRecords

AT = TopicPartition("readings", 2)
FIRST_MS = 1_700_000_000_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CONTROL, LOG_APPEND_TIME = 0x20, 0x08
Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Offset, time, key, value and headers of a record."""
_ATTRIBUTES, _CRC, _MAX_TIME = 21, 17, 35


class Record(NamedTuple):
    """What a producer gives; ``delta_ms`` counts from ``FIRST_MS``."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    delta_ms: int = 0


class Aborted(NamedTuple):
    """A transaction that a fetch answer says was aborted."""

    producer_id: int
    first_offset: int


def batch(
    base_offset: int, records: Sequence[Record], codec: str = "none", producer_id: int = -1, transactional: bool = False
) -> bytearray:
    """Return one record batch, offsets from ``base_offset`` on."""
    sequence = 0 if producer_id >= 0 else -1
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=transactional,
        producer_id=producer_id,
        producer_epoch=sequence,
        base_sequence=sequence,
        batch_size=1 << 30,
    )
    for i, record in enumerate(records):
        headers = list(record.headers)
        assert builder.append(i, FIRST_MS + record.delta_ms, record.key, record.value, headers) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base_offset)
    return data


def marker(offset: int, producer_id: int, commit: bool) -> bytearray:
    """Return the control batch that ends a transaction."""
    end = Record(struct.pack(">hi", 0, 0), key=struct.pack(">hh", 0, int(commit)))
    return with_attributes(batch(offset, [end], producer_id=producer_id, transactional=True), CONTROL)


def with_attributes(data: bytearray, bits: int, max_ms: int | None = None) -> bytearray:
    """Set attribute ``bits`` (and the largest time stamp) of a batch, and make its checksum right again."""
    (attributes,) = struct.unpack_from(">h", data, _ATTRIBUTES)
    struct.pack_into(">h", data, _ATTRIBUTES, attributes | bits)
    if max_ms is not None:
        struct.pack_into(">q", data, _MAX_TIME, max_ms)
    return checksummed(data)


def checksummed(data: bytearray) -> bytearray:
    """Make the checksum of a batch right."""
    struct.pack_into(">I", data, _CRC, calc_crc32c(bytes(data[_ATTRIBUTES:])))
    return data


def _partition_records(kind: type[Any], log: bytes, offset: int, aborted: Sequence[Aborted]) -> Any:
    level = IsolationLevel.READ_COMMITTED
    at = KafkaPartition(*AT)
    return kind(offset, at, MemoryRecords(log), isolation_level=level, aborted_transactions=aborted)


def raw_batches(log: bytes, offset: int = 0, aborted: Sequence[Aborted] = ()) -> list[RawBatch]:
    """Return what our hook takes out of ``log`` when it was fetched from ``offset``."""
    return list(_partition_records(_RawPartitionRecords, log, offset, aborted).take(100_000))


def plain_records(log: bytes, offset: int = 0, aborted: Sequence[Aborted] = ()) -> list[Any]:
    """Return kafka-python's own records of the same."""
    return list(_partition_records(Fetcher.PartitionRecords, log, offset, aborted).take(100_000))


def raw_rows(log: bytes, offset: int = 0, aborted: Sequence[Aborted] = ()) -> list[Row]:
    """Return the records that come through whole batches."""
    parts = [one.columns() for one in raw_batches(log, offset, aborted)]
    return rows(merge(AT, parts, 0)) if parts else []


def rows(block: RecordBlock) -> list[Row]:
    """Return offset, time, key, value and headers of each record of ``block``."""
    keys = block.keys if block.keys is not None else [None] * len(block.values)
    headers = block.headers or {}
    return [
        (int(block.offsets[i]), int(block.timestamps_ms[i]), keys[i], value, list(headers.get(i, ())))
        for i, value in enumerate(block.values)
    ]


def plain_rows(records: Sequence[Any]) -> list[Row]:
    """Return the same of ConsumerRecords, by hand."""
    return [(r.offset, r.timestamp, r.key, r.value, [(k, v or b"") for k, v in r.headers]) for r in records]
