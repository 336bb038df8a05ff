"""Record batches to columns, without one object per record.

kafka-python spends four fifths of a consumer's time on building a ConsumerRecord per record. ``RawBatch.columns``
uncompresses a whole batch and finds its keys, values and headers in one compiled loop; ``PlainRecords`` is the slow
path with the same surface. Format: https://kafka.apache.org/documentation/#recordbatch (magic 2).

Legend: n records of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from kafka.errors import UnsupportedCodecError
from numba import njit
from numpy.typing import NDArray

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import DamagedRecords, Misconfigured
from connectors.kafka_keys import Keys, Spans

OFFSET, TIME, KEY_START, KEY_END, VALUE_START, VALUE_END, HEADER_START, HEADER_COUNT, RECORD_END = range(9)
"""Columns of a batch's index. An END of -1 is a null key or value."""

MIN_RECORD_BYTES = 7
"""Length, attributes, two deltas, key length, value length and header count take a byte each at least."""

LOG_APPEND_TIME = 1


class DamagedBatch(DamagedRecords):
    """A record batch that failed its checksum or has no valid structure.

    ``next_offset`` is where reading would go on behind it, as far as the damaged header can be believed.
    """

    def __init__(self, partition: TopicPartition, offset: int, next_offset: int, reason: str) -> None:
        super().__init__(
            f"{partition.topic}-{partition.partition}: the record batch at offset {offset} is damaged ({reason});"
            f" reading stops there. Restore the partition from a replica, or give the batch up: seek to {next_offset}."
        )
        self.partition = partition
        self.offset = offset
        self.next_offset = next_offset


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _varint(buffer: NDArray[np.uint8], position: int, end: int) -> tuple[np.int64, int]:
    """Return the zigzag varint at ``position`` and where it ends; the end is -1 when it is cut off or too long."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while position < end and shift < np.uint64(70):
        byte = np.uint64(buffer[position])
        position += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), position
        shift += np.uint64(7)
    return np.int64(0), -1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _span(buffer: NDArray[np.uint8], position: int, end: int) -> tuple[int, int, int]:
    """Return start and end (-1: null) of the bytes whose length is at ``position``, and what follows (-1: damaged)."""
    length, start = _varint(buffer, position, end)
    if start < 0 or length < -1 or length > end - start:
        return 0, 0, -1
    if length < 0:
        return start, -1, start
    return start, start + length, start + length


@njit(cache=True, nogil=True, error_model="numpy")
def index_records(
    buffer: NDArray[np.uint8], count: int, base_offset: int, first_ms: int, index: NDArray[np.int64]
) -> bool:
    """Fill ``index`` [n, 9] with the place of every part of every record; False when the batch has no valid structure.

    Never reads outside ``buffer``. Headers are not looked into: only where they start and how many there are.
    """
    size = len(buffer)
    position = 0
    for i in range(count):
        length, position = _varint(buffer, position, size)
        if position < 0 or length < 1 or length > size - position:
            return False
        end = position + length
        time_delta, position = _varint(buffer, position + 1, end)  # the byte skipped holds attributes, all unused
        if position < 0:
            return False
        offset_delta, position = _varint(buffer, position, end)
        if position < 0:
            return False
        index[i, OFFSET] = base_offset + offset_delta
        index[i, TIME] = first_ms + time_delta
        index[i, KEY_START], index[i, KEY_END], position = _span(buffer, position, end)
        if position < 0:
            return False
        index[i, VALUE_START], index[i, VALUE_END], position = _span(buffer, position, end)
        if position < 0:
            return False
        headers, position = _varint(buffer, position, end)
        if position < 0 or headers < 0 or (headers == 0 and position != end):
            return False
        index[i, HEADER_START] = position
        index[i, HEADER_COUNT] = headers
        index[i, RECORD_END] = end
        position = end
    return position == size


def read_headers(data: bytes, start: int, count: int, end: int) -> list[tuple[str, bytes]] | None:
    """Return the headers of one record, None when they do not fill it exactly. A null header value reads as empty."""
    buffer = np.frombuffer(data, np.uint8)
    headers = []
    position = start
    for _ in range(count):
        key_start, key_end, position = _span(buffer, position, end)
        if position < 0 or key_end < 0:
            return None
        value_start, value_end, position = _span(buffer, position, end)
        if position < 0:
            return None
        # A name that is no UTF-8 must not stop the partition: it reads with replacement characters.
        name = data[key_start:key_end].decode("utf-8", "replace")
        headers.append((name, data[value_start : max(value_end, value_start)]))
    return headers if position == end else None


@dataclass(slots=True)
class Columns:
    """The records of one batch."""

    values: list[bytes | None]
    keys: Spans
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    headers: dict[int, list[tuple[str, bytes]]] | None


class RawBatch:
    """One fetched record batch, still compressed."""

    __slots__ = (
        "_batch",
        "_min_offset",
        "count",
        "first_ms",
        "last_ms",
        "leader_epoch",
        "next_offset",
        "offset",
        "partition",
        "size_bytes",
        "start_offset",
    )

    def __init__(self, partition: TopicPartition, batch: Any, min_offset: int) -> None:
        self._batch = batch
        self._min_offset = min_offset
        self.partition = partition
        self.leader_epoch: int = batch.leader_epoch
        self.offset: int = batch.last_offset  # kafka-python compares this with the position that was asked for
        self.start_offset: int = max(batch.base_offset, min_offset)
        self.next_offset: int = batch.next_offset
        self.count: int = batch.records_count
        self.first_ms: int = batch.first_timestamp
        self.last_ms: int = batch.max_timestamp
        self.size_bytes: int = batch.size_in_bytes

    def columns(self) -> Columns:
        """Return the records from the position asked for on.

        Raises:
            DamagedBatch: if the records do not uncompress, or do not fill the batch exactly.
            Misconfigured: if the library that uncompresses them is not installed.
        """
        data = self._uncompressed()
        # A count that the bytes cannot hold must not decide how much memory is taken.
        if not 0 <= self.count * MIN_RECORD_BYTES <= len(data):
            raise self._damaged("its record count does not fit its size")
        index = np.empty((self.count, 9), np.int64)
        buffer = np.frombuffer(data, np.uint8)
        if not index_records(buffer, self.count, self._batch.base_offset, self._batch.first_timestamp, index):
            raise self._damaged("its records have no valid structure")
        if self._batch.timestamp_type == LOG_APPEND_TIME:
            index[:, TIME] = self.last_ms  # [n, 9]; the broker's clock stands in the header only
        if self._batch.base_offset < self._min_offset:
            index = index[np.searchsorted(index[:, OFFSET], self._min_offset) :]
        return Columns(
            values=_slices(data, index[:, VALUE_START], index[:, VALUE_END]),
            keys=Spans(data, index[:, KEY_START], index[:, KEY_END]),
            offsets=index[:, OFFSET],
            timestamps_ms=index[:, TIME],
            headers=self._headers(data, index),
        )

    def _uncompressed(self) -> bytes:
        try:
            self._batch._maybe_uncompress()
        except UnsupportedCodecError as error:
            where = f"{self.partition.topic}-{self.partition.partition} at offset {self.start_offset}"
            raise Misconfigured(f"{where}: {error}; install the library (snappy: python-snappy)") from error
        except Exception as error:  # each codec raises its own
            raise self._damaged(f"it does not uncompress: {error}") from error
        return bytes(memoryview(self._batch._buffer)[self._batch._pos :])

    def _headers(self, data: bytes, index: NDArray[np.int64]) -> dict[int, list[tuple[str, bytes]]] | None:
        found = {}
        for i in np.flatnonzero(index[:, HEADER_COUNT]).tolist():
            headers = read_headers(data, *index[i, HEADER_START:].tolist())
            if headers is None:
                raise self._damaged(f"the headers of offset {index[i, OFFSET]} have no valid structure")
            found[i] = headers
        return found or None

    def _damaged(self, reason: str) -> DamagedBatch:
        return DamagedBatch(self.partition, self._batch.base_offset, self.next_offset, reason)


def _slices(data: bytes, start: NDArray[np.int64], end: NDArray[np.int64]) -> list[bytes | None]:
    ends = end.tolist()
    if -1 in ends:
        return [data[a:b] if b >= 0 else None for a, b in zip(start.tolist(), ends, strict=True)]
    return [data[a:b] for a, b in zip(start.tolist(), ends, strict=True)]


class PlainRecords:
    """ConsumerRecords of one partition: the slow path, and the proof of the fast one."""

    __slots__ = ("_records", "count", "first_ms", "last_ms", "next_offset", "partition", "size_bytes", "start_offset")

    def __init__(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        self._records = records
        self.partition = partition
        self.start_offset: int = records[0].offset
        self.next_offset: int = records[-1].offset + 1
        self.count = len(records)
        self.first_ms: int = records[0].timestamp
        self.last_ms: int = max(record.timestamp for record in records)
        self.size_bytes = sum(len(record.value or b"") + len(record.key or b"") for record in records)

    def columns(self) -> Columns:
        """Return the records as columns."""
        records = self._records
        headers = {i: [(k, v or b"") for k, v in r.headers] for i, r in enumerate(records) if r.headers}
        return Columns(
            values=[record.value for record in records],
            keys=_spans([record.key for record in records]),
            offsets=np.array([record.offset for record in records], np.int64),
            timestamps_ms=np.array([record.timestamp for record in records], np.int64),
            headers=headers or None,
        )


def merge(partition: TopicPartition, parts: Sequence[Columns], next_offset: int) -> RecordBlock:
    """Return batches that follow each other as one block, so that what comes later pays once for them."""
    headers: dict[int, list[tuple[str, bytes]]] = {}
    start = 0
    for part in parts:
        headers.update({start + i: pairs for i, pairs in (part.headers or {}).items()})
        start += len(part.values)
    return RecordBlock(
        topic=partition.topic,
        partition=partition.partition,
        values=list(chain.from_iterable(part.values for part in parts)),
        offsets=np.concatenate([part.offsets for part in parts]),
        timestamps_ms=np.concatenate([part.timestamps_ms for part in parts]),
        next_offset=next_offset,
        keys=Keys([part.keys for part in parts]) if any(part.keys.any() for part in parts) else None,
        headers=headers or None,
    )


def _spans(keys: Sequence[bytes | None]) -> Spans:
    end = np.cumsum([len(key or b"") for key in keys], dtype=np.int64)
    start = np.concatenate([[0], end[:-1]])
    return Spans(b"".join(key or b"" for key in keys), start, np.where([key is None for key in keys], -1, end))


def warm_up() -> None:
    """Compile the index loop. Call before joining a group: a first compilation takes seconds."""
    data = bytes(1)  # read-only, as fetched records are: to the compiler an array that may be written is another type
    index_records(np.frombuffer(data, np.uint8), 0, 0, 0, np.empty((0, 9), np.int64))
    read_headers(data, 0, 1, 1)
