"""A CloudEvent, structured or binary, gives the readings that its data gives."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from connectors.decoding import ReadingDecoder
from connectors.reading import ReadingBatch, Reason, Rejected
from tests.connectors.blocks import block_of

READING = {"entity": "station-7", "channel": "pm25", "time": "2026-11-21T10:00:00Z", "value": 12.5, "unit": "ug/m3"}
BINARY = [("ce_specversion", b"1.0"), ("ce_type", b"org.example.reading"), ("ce_id", b"7"), ("ce_source", b"/s")]


def event(**attributes: Any) -> bytes:
    required = {"specversion": "1.0", "id": "7", "source": "/s", "type": "org.example.reading"}
    return json.dumps(required | attributes).encode()


def the_rejected(batch: ReadingBatch) -> Rejected:
    assert len(batch) == 0
    (rejected,) = batch.rejected
    return rejected


@pytest.mark.parametrize(
    "value",
    [
        event(data=READING, time="1999-01-01T00:00:00Z"),
        event(data=[READING], datacontenttype="application/json; charset=utf-8"),
        event(data_base64=base64.b64encode(json.dumps(READING).encode()).decode()),
        event(data=[{"bn": "station-7/", "bt": 1795255200, "bu": "ug/m3", "n": "pm25", "v": 12.5}]),
    ],
)
def test_structured_gives_what_its_data_gives(value: bytes) -> None:
    """Protects object, list, base64 and SenML data; the event's time is not the reading's."""
    plain, wrapped = ReadingDecoder(), ReadingDecoder()
    expected = plain.decode(block_of(json.dumps(READING).encode()))
    batch = wrapped.decode(block_of(value))
    assert batch.rejected == []
    assert wrapped.entities.names == ["station-7"]
    assert wrapped.units.names == plain.units.names
    for name in ("entity", "channel", "time_us", "value", "unit", "quality", "record"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name), err_msg=name)


def test_binary_mode_gives_what_its_value_gives() -> None:
    """Protects Kafka's binary mode: attributes are headers, the value is the reading."""
    decoder = ReadingDecoder()
    headers = {0: [*BINARY, ("content-type", b"application/json")], 1: [("traceparent", b"00-1")]}
    batch = decoder.decode(block_of(*[json.dumps(READING).encode()] * 2, headers=headers))
    assert batch.rejected == []
    assert batch.value.tolist() == [12.5, 12.5]


def test_whose_reading_it_is() -> None:
    """Protects the order: the reading's entity, the record's key, the partition key, the subject."""
    bare = {key: value for key, value in READING.items() if key != "entity"}
    value = json.dumps(bare).encode()
    decoder = ReadingDecoder()
    batch = decoder.decode(
        block_of(
            event(data=READING, subject="subject"),
            event(data=bare, subject="subject", partitionkey="partition"),
            event(data=bare, subject="subject", partitionkey="partition"),
            event(data=bare, subject="subject"),
            value,
            value,
            keys=[b"key", b"key", None, None, None, b"key"],
            headers={4: [*BINARY, ("ce_subject", b"subject")], 5: [*BINARY, ("ce_subject", b"subject")]},
        )
    )
    assert batch.rejected == []
    names = [decoder.entities.names[code] for code in batch.entity]
    assert names == ["station-7", "key", "partition", "subject", "subject", "key"]


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (event(specversion="0.3", data=READING), Reason.UNSUPPORTED, "'0.3'"),
        (event(data=READING, datacontenttype="application/avro"), Reason.UNSUPPORTED, "application/avro"),
        (event(), Reason.EMPTY, "no data"),
        (event(data=None), Reason.EMPTY, "no data"),
        (event(data_base64="***"), Reason.WRONG_TYPE, "no base64"),
        (event(data_base64=7), Reason.WRONG_TYPE, "$.data_base64"),
        (event(data={"channel": "pm25"}), Reason.MISSING_KEY, "`time`"),
        (event(data="text"), Reason.WRONG_TYPE, "str"),
        (event(data=READING)[:-1], Reason.INVALID_JSON, "truncated"),
        (b'{"specversion":"1.0","subject":"\xff"}', Reason.INVALID_JSON, "utf-8"),
        (b'[{"specversion":"1.0"}]', Reason.WRONG_TYPE, "object"),
        (b'{"subject":"specversion","data":{"specversion":' + b"[" * 5000, Reason.INVALID_JSON, "too deeply"),
    ],
)
def test_each_fault_has_its_reason(value: bytes, reason: Reason, said: str) -> None:
    """Protects the reasons for events that carry nothing readable."""
    rejected = the_rejected(ReadingDecoder().decode(block_of(value)))
    assert rejected.reason == reason
    assert said in rejected.detail
    assert rejected.raw == value


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (json.dumps(READING).encode(), [("ce_specversion", b"2.0")], Reason.UNSUPPORTED),
        (json.dumps(READING).encode(), [*BINARY, ("content-type", b"text/plain")], Reason.UNSUPPORTED),
        (None, [("ce_specversion", b"2.0")], Reason.TOMBSTONE),
    ],
)
def test_binary_mode_is_refused_by_its_headers(
    value: bytes | None, headers: list[tuple[str, bytes]], reason: Reason
) -> None:
    """Protects against reading what its headers say is something else; a null value stays a tombstone."""
    rejected = the_rejected(ReadingDecoder().decode(block_of(value, headers={0: headers})))
    assert rejected.reason == reason
