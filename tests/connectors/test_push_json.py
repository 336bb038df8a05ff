"""Pushed JSON is read in every layout, the bad apart from the good, and nothing in it raises."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_json import encode_reading
from connectors.push_json import FORMS, Form, PushedJson
from connectors.pushed import PIECE_READINGS, Pushed
from connectors.reading import Quality, Reading, Reason
from connectors.timestamps import LATEST_US

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z
NOW = "2026-11-20T16:00:00Z"
GOOD = {"entity": "station-7", "channel": "pm25", "time": NOW, "value": 12.5}
READ = Reading("station-7", "pm25", NOW_US, 12.5)


def read(body: bytes | Any, form: Form = Form.ANY, entity: str | None = None) -> Pushed:
    whole = Pushed()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    for piece in PushedJson().read(raw, form, NOW_US, entity):
        whole.readings += piece.readings
        whole.rejected += piece.rejected
    return whole


def test_one_a_list_and_lines() -> None:
    """Protects the three layouts of canonical readings, and lines that are told from a document by looking."""
    line = json.dumps(GOOD).encode()
    assert read(GOOD).readings == [READ]
    assert read([GOOD, GOOD]).readings == [READ, READ]
    assert read(line + b"\n\n" + line + b"\n").readings == [READ, READ]
    assert read(line + b"\r\n" + line, Form.LINES).readings == [READ, READ]
    assert read(json.dumps(GOOD, indent=1).encode()).readings == [READ]


def test_everything_a_reading_may_say() -> None:
    """Protects unit, quality, result time, and a value that is known to be missing."""
    said = GOOD | {"value": None, "unit": "ug/m3", "quality": "provisional", "result_time": "2026-11-20T16:00:01Z"}
    expected = Reading("station-7", "pm25", NOW_US, None, "ug/m3", Quality.PROVISIONAL, NOW_US + 1_000_000)
    assert read(said).readings == [expected]


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        (GOOD | {"time": "soon"}, Reason.BAD_TIME, "'soon'"),
        (GOOD | {"time": "2026-11-20T16:00:00"}, Reason.NAIVE_TIME, "offset"),
        (GOOD | {"value": "12"}, Reason.WRONG_TYPE, "Expected `float | null`"),
        (GOOD | {"quality": "fine"}, Reason.BAD_QUALITY, "provisional"),
        (GOOD | {"result_time": "x"}, Reason.BAD_TIME, "result_time: "),
        ({"channel": "pm25", "time": NOW, "value": 1}, Reason.MISSING_KEY, "no `entity`"),
        ({"entity": "a"}, Reason.MISSING_KEY, "channel"),
        (3, Reason.WRONG_TYPE, "object"),
    ],
)
def test_a_bad_element_is_refused_by_itself(bad: Any, reason: Reason, words: str) -> None:
    """Protects the good readings around a bad one, in lists and in lines."""
    lines = b"\n".join(json.dumps(one).encode() for one in (GOOD, bad, GOOD))
    for found in (read([GOOD, bad, GOOD]), read(lines, Form.LINES), read(lines)):
        assert found.readings == [READ, READ]
        (rejected,) = found.rejected
        assert rejected.reason == reason
        assert rejected.offset == 2
        assert words in rejected.detail


def test_senml_packs() -> None:
    """Protects SenML, named by its media type or found by looking."""
    pack = [{"bn": "station-7/", "bt": NOW_US / 1e6, "n": "t", "u": "Cel", "v": 3.5}, {"n": "h", "u": "%RH", "v": 40}]
    expected = [Reading("station-7", "t", NOW_US, 3.5, "Cel"), Reading("station-7", "h", NOW_US, 40.0, "%")]
    assert read(pack).readings == expected
    assert read(pack, FORMS["application/senml+json"]).readings == expected
    broken = read([*pack, {"n": "x"}])
    assert (broken.readings, broken.rejected[0].reason) == ([], Reason.MISSING_KEY)


def test_cloud_events() -> None:
    """Protects structured events, batches of them, and entities that only the event names."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "station-7",
             "data": {"channel": "pm25", "time": NOW, "value": 12.5}}  # fmt: skip
    assert read(event).readings == [READ]
    assert read(event, Form.EVENT).readings == [READ]
    assert read([event, event], Form.EVENTS).readings == [READ, READ]
    assert read([event, event]).readings == [READ, READ]
    assert read({"channel": "pm25", "time": NOW, "value": 12.5}, entity="station-7").readings == [READ]
    assert read(event | {"specversion": "0.3"}).rejected[0].reason == Reason.UNSUPPORTED


@pytest.mark.parametrize(
    "body", [b"", b" \n ", b"[]", b"{", b"[1", b"\xff", b"[" * 100_000, b"null", b'["\xff"]', b'{"entity": "\xff"}']
)
@pytest.mark.parametrize("form", Form)
def test_what_holds_no_reading_is_refused(body: bytes, form: Form) -> None:
    """Protects senders of nothing from being told that all is well."""
    found = read(body, form)
    assert not found.readings
    assert len(found.rejected) == 1


def test_long_lists_come_in_pieces() -> None:
    """Protects memory, and the numbers by which senders find what was refused."""
    body = json.dumps([GOOD] * (2 * PIECE_READINGS) + [GOOD | {"quality": "x"}]).encode()
    pieces = list(PushedJson().read(body, Form.ANY, NOW_US))
    assert [len(piece.readings) for piece in pieces] == [PIECE_READINGS, PIECE_READINGS, 0]
    assert pieces[-1].rejected[0].offset == 2 * PIECE_READINGS + 1


READINGS = st.builds(
    Reading, st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9), st.integers(0, LATEST_US - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5), st.sampled_from(Quality),
    st.none() | st.integers(0, LATEST_US - 1),
)  # fmt: skip


@given(st.lists(READINGS, min_size=1, max_size=4))
def test_round_trip(readings: list[Reading]) -> None:
    """Protects every field of a reading, in a list and in lines."""
    raws = [encode_reading(reading) for reading in readings]
    assert read(b"[" + b",".join(raws) + b"]").readings == readings
    assert read(b"\n".join(raws), Form.LINES).readings == readings


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([NOW, "a", ""])
OBJECTS = st.dictionaries(
    st.sampled_from(["entity", "channel", "time", "value", "n", "v", "bn", "bt", "specversion", "data", "x_"]), VALUES
)


@given(st.binary(max_size=80) | st.lists(OBJECTS, max_size=3).map(lambda found: json.dumps(found).encode()))
def test_arbitrary_bytes_never_raise(body: bytes) -> None:
    """Protects the server from whatever somebody sends."""
    for form in Form:
        for reading in read(body, form).readings:
            msgspec.json.encode(reading)
