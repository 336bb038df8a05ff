"""Whole batches give the very records that kafka-python gives one by one, and damage is seen, not guessed over."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.errors import UnsupportedCodecError

from connectors import kafka_batches
from connectors.errors import Misconfigured
from connectors.kafka_batches import DamagedBatch, PlainRecords, index_records, merge
from tests.connectors.record_batches import (
    AT,
    CODECS,
    FIRST_MS,
    LOG_APPEND_TIME,
    Record,
    batch,
    checksummed,
    plain_records,
    plain_rows,
    raw_batches,
    raw_rows,
    rows,
    with_attributes,
)

SIZE_OF_HEADER = 61
RECORDS = st.builds(
    Record,
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=70)), max_size=2),
    st.integers(-(10**7), 10**7),
)
LOGS = st.lists(st.tuples(st.lists(RECORDS, min_size=1, max_size=8), st.sampled_from(sorted(CODECS))), max_size=5)
VARIED = [Record(b"v", b"k"), Record(None, b"k2"), Record(b"", None, [("h", b"1"), ("h", b"")], 5), Record(b"w" * 300)]


def log_of(batches: list[tuple[list[Record], str]]) -> bytes:
    """Return the batches as one log from offset 100, with a gap behind each as compaction leaves."""
    log, offset = b"", 100
    for records, codec in batches:
        log += bytes(batch(offset, records, codec))
        offset += len(records) + 3
    return log


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(LOGS, st.integers(0, 60))
def test_whole_batches_give_the_records_of_kafka_python(batches: list[tuple[list[Record], str]], ahead: int) -> None:
    """Protects the fast path, for any records, codecs, batch sizes, and positions in the middle of a batch."""
    log = log_of(batches)
    assert raw_rows(log, 100 + ahead) == plain_rows(plain_records(log, 100 + ahead))


def test_plain_records_have_the_same_surface() -> None:
    """Protects the slow path: the same block comes out of it, keys and headers included."""
    log = log_of([(VARIED, "none")])
    plain = PlainRecords(AT, plain_records(log))
    (raw,) = raw_batches(log)
    for name in ("partition", "count", "start_offset", "next_offset", "first_ms", "last_ms"):
        assert getattr(plain, name) == getattr(raw, name), name
    assert rows(merge(AT, [plain.columns()], 104)) == raw_rows(log)


def test_records_without_keys_have_none() -> None:
    """Protects decoders, which look for an entity in the key only where there are keys."""
    parts = [one.columns() for one in raw_batches(log_of([([Record(b"a")], "none")] * 2))]
    assert merge(AT, parts, 0).keys is None


def test_the_brokers_clock_wins_where_the_topic_says_so() -> None:
    """Protects time stamps of topics with LogAppendTime: they stand in the batch's header alone."""
    log = bytes(with_attributes(batch(7, VARIED), LOG_APPEND_TIME, max_ms=FIRST_MS + 99))
    assert {row[1] for row in raw_rows(log)} == {FIRST_MS + 99}
    assert raw_rows(log) == plain_rows(plain_records(log))


def test_a_header_name_that_is_no_utf8_stops_nothing() -> None:
    """Protects a partition from one hostile record, on which kafka-python itself stops for ever."""
    data = batch(0, [Record(b"v", None, [("name", b"x")])])
    at = data.index(b"name")
    data[at : at + 2] = b"\xff\xfe"
    ((_, _, _, value, headers),) = raw_rows(bytes(checksummed(data)))
    assert (value, headers) == (b"v", [("��me", b"x")])


@pytest.mark.parametrize(
    ("position", "change", "said"),
    [
        (57, struct.pack(">i", 3), "its records have no valid structure"),  # fewer records than there are
        (57, struct.pack(">i", 5), "its records have no valid structure"),  # more
        (57, struct.pack(">i", 2**31 - 1), "its record count does not fit its size"),
        (57, struct.pack(">i", -1), "its record count does not fit its size"),
        (61, b"\x7f", "its records have no valid structure"),  # a record longer than the batch
    ],
)
def test_a_batch_that_lies_about_itself_is_damaged(position: int, change: bytes, said: str) -> None:
    """Protects memory and data from a batch whose checksum is right and whose contents are not."""
    data = batch(40, VARIED)
    data[position : position + len(change)] = change
    (one,) = raw_batches(bytes(checksummed(data)))
    with pytest.raises(DamagedBatch, match=f"readings-2: the record batch at offset 40 is damaged .{said}") as caught:
        one.columns()
    assert (caught.value.partition, caught.value.offset, caught.value.next_offset) == (AT, 40, 44)


def test_headers_that_do_not_fill_their_record_are_damage() -> None:
    """Protects from reading the next record's bytes as a header."""
    data = batch(0, [Record(b"v", None, [("name", b"x")])])
    data[data.index(b"name") - 1] = 2 * 3  # the name is said to be three bytes long
    (one,) = raw_batches(bytes(checksummed(data)))
    with pytest.raises(DamagedBatch, match="the headers of offset 0 have no valid structure"):
        one.columns()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_does_not_uncompress_is_damaged(codec: str) -> None:
    """Protects from each codec's own exceptions."""
    data = batch(0, VARIED * 30, codec)
    data[SIZE_OF_HEADER:] = b"\x01" * (len(data) - SIZE_OF_HEADER)
    (one,) = raw_batches(bytes(checksummed(data)))
    with pytest.raises(DamagedBatch, match=r"readings-2: .* does not uncompress"):
        one.columns()


def test_a_missing_codec_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects good data from the advice to skip it, where only a library is missing."""
    (one,) = raw_batches(bytes(batch(5, VARIED, "snappy")))

    def refuse(self: Any, codec: int) -> None:
        raise UnsupportedCodecError("Libraries for snappy compression codec not found")

    monkeypatch.setattr(type(one._batch), "_assert_has_codec", refuse)
    with pytest.raises(Misconfigured, match=r"readings-2 at offset 5: .*snappy.*install"):
        one.columns()


@settings(deadline=None)
@given(st.data())
def test_no_bytes_make_the_index_leave_its_buffer(data: st.DataObject) -> None:
    """Protects memory: whatever the bytes, spans lie within them, or the batch is refused."""
    contents = bytearray(bytes(batch(0, VARIED * 2))[SIZE_OF_HEADER:])
    for at in data.draw(st.lists(st.integers(0, len(contents) - 1), max_size=4)):
        contents[at] = data.draw(st.integers(0, 255))
    contents = contents[: data.draw(st.integers(0, len(contents)))]
    index = np.full((8, 9), -7, np.int64)
    if index_records(np.frombuffer(bytes(contents), np.uint8), 8, 0, 0, index):
        assert len(contents) > 0
        spans = index[:, kafka_batches.KEY_START : kafka_batches.HEADER_START + 1]
        assert spans.min() >= -1
        assert spans.max() <= len(contents)
        assert (np.diff(index[:, kafka_batches.RECORD_END]) > 0).all()


def test_nothing_is_left_to_compile_once_records_come() -> None:
    """Protects a group's rebalances from a compilation in the middle of a poll."""
    kafka_batches.warm_up()
    compiled = [len(f.signatures) for f in (index_records, kafka_batches._span)]
    assert raw_rows(log_of([(VARIED, "none")]))
    assert [len(f.signatures) for f in (index_records, kafka_batches._span)] == compiled
