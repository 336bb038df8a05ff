"""The hook in kafka-python's fetcher that hands out whole record batches.

Only the unpacking of records is replaced. Everything that decides *which* records a reader may see (checksums, aborted
transactions, control batches, fetch positions) stays kafka-python's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch

from connectors.base import TopicPartition
from connectors.kafka_batches import DamagedBatch, RawBatch

FETCHER_HOOKS = (
    "_unpack_records",
    "_consume_aborted_transactions_up_to",
    "_contains_abort_marker",
    "_is_batch_aborted",
    "drain",
)
BATCH_HOOKS = ("_maybe_uncompress", "_buffer", "_pos")
"""The private attributes that this module stands on; present in kafka-python 3.0.12 to 3.1."""


class _Draining(Fetcher.PartitionRecords):
    """kafka-python's records of one fetch, ended by damage.

    Without this, the poll after a damaged batch spins for ever: the ended iterator stays in line and yields nothing.
    """

    def _unpack_records(self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any) -> Iterator[Any]:
        try:
            yield from self._unpacked(tp, records)
        except Exception:
            self.drain()
            raise

    def _unpacked(self, tp: Any, records: Any) -> Iterator[Any]:
        try:
            yield from super()._unpack_records(tp, records, None, None)
        except CorruptRecordError as error:
            at = self.next_fetch_offset
            raise DamagedBatch(TopicPartition(tp.topic, tp.partition), at, at + 1, str(error)) from error


class _RawPartitionRecords(_Draining):
    """Yields a ``RawBatch`` per record batch (so a poll's ``max_records`` counts batches)."""

    def _unpacked(self, tp: Any, records: Any) -> Iterator[RawBatch]:
        partition = TopicPartition(tp.topic, tp.partition)
        while (batch := self._next_batch(partition, records)) is not None:
            self.next_fetch_offset = batch.next_offset
            if self._hidden(batch) or not batch.records_count:
                continue
            self.records_read += batch.records_count
            self.bytes_read += batch.size_in_bytes
            yield RawBatch(partition, batch, self.fetch_offset)
        self.drain()

    def _next_batch(self, partition: TopicPartition, records: Any) -> Any:
        """Return the next batch, its checksum verified; None at the end of what was fetched."""
        at = self.next_fetch_offset
        try:
            batch = records.next_batch()
        except CorruptRecordError as error:
            raise DamagedBatch(partition, at, at + 1, str(error)) from error
        if batch is None:
            return None
        if batch.magic != 2:
            reason = f"its format {batch.magic} is older than Kafka 0.11, which only the plain path (raw off) reads"
            raise DamagedBatch(partition, at, at + 1, reason)
        if self.check_crcs and not batch.validate_crc():
            raise DamagedBatch(partition, batch.base_offset, max(batch.next_offset, at + 1), "its checksum is wrong")
        return batch

    def _hidden(self, batch: Any) -> bool:
        """Return True for what no reader may see: control batches, and aborted ones under read_committed."""
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def missing_hooks(consumer: Any) -> list[str]:
    """Return which of the private attributes that ``install`` needs this kafka-python does not have."""
    missing = [name for name in FETCHER_HOOKS if not hasattr(Fetcher.PartitionRecords, name)]
    missing += [name for name in BATCH_HOOKS if not hasattr(DefaultRecordBatch, name)]
    if not hasattr(getattr(consumer, "_fetcher", None), "PartitionRecords"):
        missing.append("_fetcher.PartitionRecords")
    return missing


def install(consumer: Any, raw: bool) -> None:
    """Have ``consumer.poll`` return lists of ``RawBatch`` (or, not ``raw``, of ConsumerRecords that survive damage)."""
    consumer._fetcher.PartitionRecords = _RawPartitionRecords if raw else _Draining
