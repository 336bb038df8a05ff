"""The canonical reading survives the wire, and each way of being wrong has its reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_json import encode_reading, encode_readings, read_wire
from connectors.decoding import ReadingDecoder
from connectors.reading import NO_TIME, Quality, Reading, Reason
from connectors.refusal import LONGEST_DETAIL, Refusal
from connectors.timestamps import LATEST_US
from tests.connectors.blocks import block_of

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
TIMES = st.integers(0, LATEST_US - 1)
READINGS = st.builds(
    Reading,
    entity=NAMES,
    channel=NAMES,
    time_us=TIMES,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    unit=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    quality=st.sampled_from(Quality),
    source=NAMES,
    result_time_us=st.none() | TIMES,
    id=NAMES,
)


def refusal(raw: bytes) -> Refusal:
    outcome = read_wire(raw)
    assert isinstance(outcome, Refusal)
    return outcome


@given(READINGS)
def test_a_reading_comes_back_as_it_went(reading: Reading) -> None:
    """Protects the round trip of every field that the columns hold."""
    decoder = ReadingDecoder()
    batch = decoder.decode(block_of(encode_reading(reading)))
    assert batch.rejected == []
    assert decoder.entities.names[batch.entity[0]] == reading.entity
    assert decoder.channels.names[batch.channel[0]] == reading.channel
    assert decoder.units.names[batch.unit[0]] == reading.unit
    assert batch.time_us[0] == reading.time_us
    assert batch.quality[0] == reading.quality
    assert batch.result_time_us[0] == (NO_TIME if reading.result_time_us is None else reading.result_time_us)
    assert math.isnan(batch.value[0]) if reading.value is None else batch.value[0] == reading.value


@given(st.lists(READINGS, min_size=1, max_size=20))
def test_columns_come_back_as_they_went(readings: list[Reading]) -> None:
    """Protects the columnar encoder: what it writes, the decoder reads as the same columns."""
    decoder = ReadingDecoder()
    batch = decoder.decode(block_of(*map(encode_reading, readings)))
    values = encode_readings(batch, decoder.entities, decoder.channels, decoder.units)
    again = decoder.decode(block_of(*values))
    assert again.rejected == []
    for name in ("entity", "channel", "time_us", "value", "unit", "quality", "result_time_us", "record"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name), err_msg=name)


def test_what_would_be_refused_is_not_written() -> None:
    """Protects against sending what our own decoder refuses: infinite values."""
    with pytest.raises(ValueError, match="infinite"):
        encode_reading(Reading("a", "b", 0, math.inf))
    decoder = ReadingDecoder()
    batch = decoder.decode(block_of(encode_reading(Reading("a", "b", 0, 1.0))))
    batch.value[0] = -math.inf
    with pytest.raises(ValueError, match="infinite"):
        encode_readings(batch, decoder.entities, decoder.channels, decoder.units)


GOOD = b'"entity":"a","channel":"b","time":"2026-11-21T10:00:00Z"'


@pytest.mark.parametrize(
    ("raw", "reason", "said"),
    [
        (b"{", Reason.INVALID_JSON, "truncated"),
        (b"\xff\xfe", Reason.INVALID_JSON, "malformed"),
        (b"{" + GOOD + b',"value":1}x', Reason.INVALID_JSON, "trailing"),
        (b'{"a":' * 100_000, Reason.INVALID_JSON, "nested too deeply"),
        (b"{" + GOOD + b',"value":"12"}', Reason.WRONG_TYPE, "value '12'"),
        (b"{" + GOOD + b',"value":true}', Reason.WRONG_TYPE, "value True"),
        (b"{" + GOOD + b',"value":{"x":1}}', Reason.WRONG_TYPE, "an object of 1"),
        (b'{"entity":7,"channel":"b","time":"2026-11-21T10:00:00Z","value":1}', Reason.WRONG_TYPE, "$.entity"),
        (b'{"entity":"","channel":"b","time":"2026-11-21T10:00:00Z","value":1}', Reason.WRONG_TYPE, ">= 1"),
        (b'{"channel":"b","time":1795190400,"value":1}', Reason.WRONG_TYPE, "RFC 3339 text, not a number"),
        (b"3", Reason.WRONG_TYPE, "object | array"),
        (b'"text"', Reason.WRONG_TYPE, "object | array"),
        (b"[[]]", Reason.WRONG_TYPE, "$[0]"),
        (b"{" + GOOD + b"}", Reason.MISSING_KEY, "`value`"),
        (b'{"time":"2026-11-21T10:00:00Z","value":1}', Reason.MISSING_KEY, "`channel`"),
        (b'{"channel":"b","value":1}', Reason.MISSING_KEY, "`time`"),
        (b"{" + GOOD + b',"value":NaN}', Reason.NOT_FINITE, "null for a missing value"),
        (b"{" + GOOD + b',"value":-Infinity}', Reason.NOT_FINITE, "null for a missing value"),
        (b"{" + GOOD + b',"value":1e999}', Reason.NOT_FINITE, "$.value"),
        (b"{" + GOOD + b',"value":' + b"9" * 400 + b"}", Reason.NOT_FINITE, "$.value"),
        (b'{"NaN":', Reason.INVALID_JSON, "truncated"),
        (b'{"channel":1,"time":', Reason.INVALID_JSON, "truncated"),
        (b'{"channel":1,"value":NaN}', Reason.NOT_FINITE, "null for a missing value"),
        (b'{"channel":1,"value":1e999}', Reason.NOT_FINITE, "out of range"),
        (b'{"channel":1,"value":' + b"[" * 100_000, Reason.INVALID_JSON, "nested too deeply"),
        (b"[]", Reason.EMPTY, "no reading"),
    ],
)
def test_each_fault_has_its_reason(raw: bytes, reason: Reason, said: str) -> None:
    """Protects the reasons, which are metric labels, and that the detail says what was wrong."""
    outcome = refusal(raw)
    assert outcome.reason == reason
    assert said in outcome.detail


def test_a_detail_stays_short_and_shows_where() -> None:
    """Protects the memory under a flood of huge wrong values, and the reader's time."""
    outcome = refusal(b"[{" + GOOD + b',"value":1},{' + GOOD + b',"value":"' + b"x" * 500_000 + b'"}]')
    assert len(outcome.detail) <= LONGEST_DETAIL
    assert "$[1].value" in outcome.detail
    assert "…" in outcome.detail
