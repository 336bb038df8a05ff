"""The hook in kafka-python's fetcher shows what a committed reader may see, and stops at damage without spinning."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.consumer.fetcher import Fetcher

from connectors.kafka_batches import DamagedBatch
from connectors.kafka_fetching import (
    BATCH_HOOKS,
    FETCHER_HOOKS,
    _Draining,
    _RawPartitionRecords,
    install,
    missing_hooks,
)
from tests.connectors.record_batches import (
    Aborted,
    Record,
    _partition_records,
    batch,
    marker,
    plain_records,
    plain_rows,
    raw_batches,
    raw_rows,
)

PAIR = [Record(b"a", b"k"), Record(b"b")]
KINDS = pytest.mark.parametrize("kind", [_RawPartitionRecords, _Draining])


class FetcherLike:
    """What the hook is put into."""

    PartitionRecords = Fetcher.PartitionRecords


class ConsumerLike:
    """A consumer with a fetcher, or without one."""

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher


def transactions() -> tuple[bytes, list[Aborted]]:
    """Return a log of two producers: 11 commits and aborts, 12 aborts in between, and one writes outside of any."""
    log = b"".join(
        (
            batch(0, PAIR, producer_id=11, transactional=True),
            batch(2, PAIR, "gzip", producer_id=12, transactional=True),
            marker(4, 11, commit=True),
            batch(5, PAIR),
            batch(7, PAIR, producer_id=11, transactional=True),
            marker(9, 12, commit=False),
            batch(10, PAIR, producer_id=12, transactional=True),
            marker(12, 11, commit=False),
            marker(13, 12, commit=True),
            batch(14, PAIR, producer_id=13),
        )
    )
    return log, [Aborted(11, 7), Aborted(12, 2)]


@pytest.mark.parametrize("offset", range(17))
def test_aborted_records_and_markers_stay_hidden(offset: int) -> None:
    """Protects from readings that were never committed, from wherever one reads on."""
    log, aborted = transactions()
    # The broker names those transactions that reach into what was asked for.
    aborted = [one for one in aborted if {11: 12, 12: 9}[one.producer_id] >= offset]
    assert raw_rows(log, offset, aborted) == plain_rows(plain_records(log, offset, aborted))
    if offset == 0:
        assert [row[0] for row in raw_rows(log, offset, aborted)] == [0, 1, 5, 6, 10, 11, 14, 15]


def test_reading_goes_on_behind_what_is_hidden() -> None:
    """Protects from fetching a run of aborted batches again and again."""
    log, aborted = transactions()
    records = _partition_records(_RawPartitionRecords, log[: log.index(batch(5, PAIR))], 2, aborted)
    assert records.take(10) == []
    assert records.next_fetch_offset == 5
    assert not records


@KINDS
def test_a_wrong_checksum_ends_the_fetch_and_says_where(kind: type[Any]) -> None:
    """Protects from the endless loop that kafka-python's next poll would be."""
    bad = batch(2, PAIR)
    bad[-1] ^= 1
    log = bytes(batch(0, PAIR)) + bytes(bad) + bytes(batch(4, PAIR))
    records = _partition_records(kind, log, 0, ())
    before = records.take(100)
    assert before
    assert records.next_fetch_offset == 2
    assert not records
    again = _partition_records(kind, log[len(batch(0, PAIR)) :], 2, ())
    with pytest.raises(DamagedBatch, match="readings-2: the record batch at offset 2 is damaged") as caught:
        again.take(100)
    assert not again
    assert 2 < caught.value.next_offset <= 4


def test_a_batch_too_short_to_be_one_is_damaged() -> None:
    """Protects from garbage where a batch should begin."""
    with pytest.raises(DamagedBatch, match=r"at offset 9 .*minimum record overhead"):
        raw_batches(b"\0" * 11 + b"\x05" + b"\0" * 30, offset=9)


def test_old_formats_are_named() -> None:
    """Protects readers of logs from before Kafka 0.11 from records that are silently left out."""
    old = bytearray(batch(0, PAIR))
    old[16] = 1
    with pytest.raises(DamagedBatch, match=r"format 1 is older than Kafka 0\.11"):
        raw_batches(bytes(old))


def test_the_hook_goes_where_it_fits() -> None:
    """Protects the choice between whole batches and records that merely survive damage."""
    consumer = ConsumerLike(FetcherLike())
    assert missing_hooks(consumer) == []
    install(consumer, raw=True)
    assert consumer._fetcher.PartitionRecords is _RawPartitionRecords
    install(consumer, raw=False)
    assert consumer._fetcher.PartitionRecords is _Draining


@pytest.mark.parametrize("name", [*FETCHER_HOOKS, *BATCH_HOOKS])
def test_a_missing_private_attribute_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from another kafka-python in which one of the attributes we stand on is gone."""
    from kafka.record.default_records import DefaultRecordBatch

    owner = DefaultRecordBatch if name in BATCH_HOOKS else Fetcher.PartitionRecords
    monkeypatch.delattr(owner, name)
    assert missing_hooks(ConsumerLike(FetcherLike())) == [name]


def test_a_missing_fetcher_is_noticed() -> None:
    """Protects from a consumer that is built in another way."""
    assert missing_hooks(ConsumerLike(None)) == ["_fetcher.PartitionRecords"]
