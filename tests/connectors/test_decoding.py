"""A block becomes columns; what cannot be read is refused alone, with its origin, and never raises."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.decoding import KEPT_BYTES, ReadingDecoder
from connectors.reading import NO_TIME, Quality, ReadingBatch, Reason, Vocabulary
from tests.connectors.blocks import SENT_MS, block_of

TIME = "2026-11-21T10:00:00Z"
TIME_US = 1_795_255_200_000_000


def raw(**fields: Any) -> bytes:
    reading: dict[str, Any] = {"entity": "a", "channel": "b", "time": TIME, "value": 1.0}
    return json.dumps({key: value for key, value in (reading | fields).items() if value != "leave out"}).encode()


def columns(batch: ReadingBatch) -> list[list[Any]]:
    names = ("entity", "channel", "time_us", "value", "unit", "quality", "result_time_us", "record")
    return [np.nan_to_num(getattr(batch, name), nan=-1e300).tolist() for name in names]


def test_columns_of_a_mixed_block() -> None:
    """Protects every column, its type, and the index of the record that each reading came from."""
    decoder = ReadingDecoder()
    batch = decoder.decode(
        block_of(
            raw(unit="Cel", quality="good", source="s", id="7"),
            b"[" + raw(entity="x", value=None) + b"," + raw(result_time="2026-11-21T10:05:00Z", unit=None) + b"]",
            b"not json",
            b'[{"n":"x/c","v":3,"u":"Cel"}]',
        )
    )
    assert decoder.entities.names == ["a", "x"]
    assert decoder.channels.names == ["b", "c"]
    assert decoder.units.names == ["Cel", ""]
    assert batch.entity.tolist() == [0, 1, 0, 1]
    assert batch.channel.tolist() == [0, 0, 0, 1]
    assert batch.unit.tolist() == [0, 1, 1, 0]
    assert batch.time_us.tolist() == [TIME_US, TIME_US, TIME_US, SENT_MS * 1000]
    np.testing.assert_array_equal(batch.value, [1.0, np.nan, 1.0, 3.0])
    assert batch.quality.tolist() == [Quality.GOOD] + [Quality.UNKNOWN] * 3
    assert batch.result_time_us.tolist() == [NO_TIME, NO_TIME, TIME_US + 300_000_000, NO_TIME]
    assert batch.record.tolist() == [0, 1, 1, 3]
    assert [rejected.offset for rejected in batch.rejected] == [102]
    assert (batch.topic, batch.partition, batch.next_offset) == ("readings", 3, 104)
    dtypes = {name: getattr(batch, name).dtype for name in ("entity", "channel", "unit", "record", "quality")}
    assert dtypes == {"entity": "i4", "channel": "i4", "unit": "i4", "record": "i4", "quality": "i1"}
    assert batch.time_us.dtype == batch.result_time_us.dtype == np.int64
    assert batch.value.dtype == np.float64


def test_a_block_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the joints between the parts of a large block: no record is lost, moved or misnumbered."""
    values = [b"{" if i % 7 == 3 else b"[" + raw() + b"," + raw(value=i) + b"]" for i in range(60)]
    whole = ReadingDecoder().decode(block_of(*values))
    monkeypatch.setattr("connectors.decoding.PART_BYTES", 500)
    parts = ReadingDecoder().decode(block_of(*values))
    assert columns(parts) == columns(whole)
    assert parts.rejected == whole.rejected
    assert whole.record.tolist() == [i for i in range(60) if i % 7 != 3 for _ in range(2)]
    assert [rejected.offset for rejected in parts.rejected] == [100 + i for i in range(60) if i % 7 == 3]


def test_an_empty_block() -> None:
    """Protects the loop when a poll brings nothing."""
    batch = ReadingDecoder().decode(block_of())
    assert len(batch) == 0
    assert batch.rejected == []


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, Reason.TOMBSTONE, "tombstone"),
        (b"", Reason.EMPTY, "empty"),
        (b" \n", Reason.EMPTY, "empty"),
        (b"[]", Reason.EMPTY, "no reading"),
        (raw(entity="leave out")[:-1] + b', "entity": "\xff"}', Reason.INVALID_JSON, "utf-8"),
        (b"[" + raw() + b',{"channel":"\xc3"}]', Reason.INVALID_JSON, "utf-8"),
        (b'{"value": "x", "n": "\xc3"}', Reason.INVALID_JSON, "utf-8"),
        (raw(time="2026-11-21T10:00:00"), Reason.NAIVE_TIME, "2026-11-21T10:00:00"),
        (raw(time="now"), Reason.BAD_TIME, "'now'"),
        (raw(time="1969-12-31T23:59:59Z"), Reason.BAD_TIME, "1970 to 2200"),
        (raw(time="2200-01-01T00:00:00Z"), Reason.BAD_TIME, "1970 to 2200"),
        (raw(time=1795190400), Reason.WRONG_TYPE, "RFC 3339"),
        (raw(result_time="2026-11-21"), Reason.BAD_TIME, "'2026-11-21'"),
        (raw(quality="excellent"), Reason.BAD_QUALITY, "allowed: good, provisional"),
        (raw(quality=3), Reason.WRONG_TYPE, "$.quality"),
        (raw(entity="leave out"), Reason.MISSING_KEY, "no key"),
        (raw(channel="c" * 257), Reason.WRONG_TYPE, "256"),
        (raw(value=float("nan")), Reason.NOT_FINITE, "NaN"),
        (b"[" + raw() + b"," + raw(quality="odd") + b"]", Reason.BAD_QUALITY, "'odd'"),
    ],
)
def test_a_bad_record_is_refused_alone(value: bytes | None, reason: Reason, said: str) -> None:
    """Protects the good neighbours of a bad record, its reason, its detail, its bytes and its origin."""
    decoder = ReadingDecoder()
    batch = decoder.decode(block_of(raw(), value, raw(value=2.0), keys=[b"k", None, b"k"]))
    assert batch.value.tolist() == [1.0, 2.0]
    assert batch.record.tolist() == [0, 2]
    (rejected,) = batch.rejected
    assert rejected.reason == reason
    assert said in rejected.detail
    assert rejected.raw == (value or b"")
    assert (rejected.topic, rejected.partition, rejected.offset, rejected.key) == ("readings", 3, 101, None)
    assert decoder.entities.names == ["a"]
    assert decoder.channels.names == ["b"]


def test_the_key_names_the_entity_that_a_reading_leaves_out() -> None:
    """Protects topics whose key is the entity, and says why a key cannot be one."""
    decoder = ReadingDecoder()
    bare = raw(entity="leave out")
    batch = decoder.decode(block_of(bare, raw(), bare, bare, keys=[b"station-7", b"k", b"\xff", b"k" * 300]))
    assert [decoder.entities.names[code] for code in batch.entity] == ["station-7", "a"]
    assert [(rejected.reason, rejected.key) for rejected in batch.rejected] == [
        (Reason.WRONG_TYPE, b"\xff"),
        (Reason.WRONG_TYPE, b"k" * 300),
    ]


def test_a_large_record_is_refused_and_cut() -> None:
    """Protects the memory: 5 MB is neither parsed nor kept, a large bad record is kept in part, a small one shared."""
    huge, large, small = b"[" + b" " * 5_000_000 + b"]", b"x" * 100_000, b"small"
    batch = ReadingDecoder().decode(block_of(huge, large, small))
    too_large, cut, shared = batch.rejected
    assert too_large.reason == Reason.TOO_LARGE
    assert "5000002 bytes" in too_large.detail
    assert "1048576" in too_large.detail
    assert len(too_large.raw) == len(cut.raw) == KEPT_BYTES
    assert "100000 bytes" in cut.detail
    assert shared.raw is small


def test_names_beyond_the_vocabulary_are_refused() -> None:
    """Protects the memory from ever new names; names that are known go on."""
    decoder = ReadingDecoder(
        entities=Vocabulary(max_size=1), channels=Vocabulary(max_size=1), units=Vocabulary(["m"], 2)
    )
    block = block_of(raw(), raw(entity="z"), raw(channel="z"), raw(unit="m"), raw(unit="z"), raw())
    for _ in range(2):
        batch = decoder.decode(block)
        assert batch.record.tolist() == [0, 3, 5]
        assert [rejected.reason for rejected in batch.rejected] == [
            Reason.TOO_MANY_ENTITIES,
            Reason.UNKNOWN_CHANNEL,
            Reason.UNIT_MISMATCH,
        ]


def test_a_flood_of_bad_records_leaves_nothing_behind() -> None:
    """Protects the decoder's own memory: bad records teach it no names and no times."""
    decoder = ReadingDecoder()
    for start in range(0, 2000, 500):
        values = [raw(entity=f"e{i}", time=f"2026-13-01T00:00:{i}Z") for i in range(start, start + 500)]
        assert len(decoder.decode(block_of(*values)).rejected) == 500
    assert len(decoder.entities) == len(decoder.channels) == 0
    assert len(decoder._times._cache) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(TIME) | st.just("good"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["entity", "channel", "time", "value", "unit", "quality", "specversion", "data", "n", "v", "t", "bn"]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=12,
)
VALUES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    JSON.map(lambda document: json.dumps(document).encode()),
    st.builds(raw, value=st.none() | st.floats(), quality=st.sampled_from(["good", "bad", "odd"]), time=st.just(TIME)),
    st.builds(lambda end: raw(entity="é").replace(b"\\u00e9", b"\xc3" + end), st.sampled_from([b"", b"\xa9", b"\xff"])),
    st.builds(lambda a, b: b"[" + a + b"," + b + b"]", st.just(raw()), st.sampled_from([raw(), raw(time="x"), b"1"])),
)


@given(st.lists(VALUES, max_size=12), st.lists(st.none() | st.binary(max_size=4), min_size=12, max_size=12))
def test_any_block_is_decoded_and_each_record_is_read_or_refused(
    values: list[bytes | None], keys: list[bytes | None]
) -> None:
    """Protects the daemon from raising, and each record from being lost or counted twice."""
    block = block_of(*values, keys=keys[: len(values)])
    batch = ReadingDecoder().decode(block)
    refused = {rejected.offset - 100 for rejected in batch.rejected}
    assert refused.isdisjoint(batch.record.tolist())
    assert refused | set(batch.record.tolist()) == set(range(len(values)))
    assert len(refused) == len(batch.rejected)
    assert not np.isinf(batch.value).any()
    assert (batch.time_us >= 0).all()
    for codes in (batch.entity, batch.channel, batch.unit, batch.quality):
        assert (codes >= 0).all()


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_a_block_is_as_its_records_one_by_one(values: list[bytes | None]) -> None:
    """Protects the fast path and its repairs: neighbours never change what a record gives."""
    together, alone = ReadingDecoder(), ReadingDecoder()
    keys = [b"key"] * len(values)
    batch = together.decode(block_of(*values, keys=keys))
    singles = [alone.decode(block_of(value, keys=[b"key"])) for value in values]
    expected = [[cell for single in parts for cell in single] for parts in zip(*map(columns, singles), strict=True)]
    expected[-1] = [index for index, single in enumerate(singles) for _ in range(len(single))]
    assert columns(batch) == expected
    assert (together.entities.names, together.units.names) == (alone.entities.names, alone.units.names)
    assert [(rejected.reason, rejected.detail) for rejected in batch.rejected] == [
        (rejected.reason, rejected.detail) for single in singles for rejected in single.rejected
    ]


def test_repeated_decoding_is_the_same() -> None:
    """Protects replays: a block gives the same batch again, whatever the decoder saw in between."""
    decoder = ReadingDecoder()
    block = block_of(raw(), b"{", raw(entity="z", unit="m"))
    first = columns(decoder.decode(block))
    decoder.decode(block_of(raw(entity="other", time="2026-11-22T00:00:00Z")))
    assert columns(decoder.decode(block)) == first
