"""The scanner says what the general decoder says, or leaves the batch to it: never a third thing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit

from connectors import json_scanner
from connectors.decoding import ReadingDecoder
from connectors.json_scanner import JsonScanner
from connectors.reading import NO_TIME, Quality, ReadingBatch, Vocabulary
from tests.connectors.blocks import block_of

TIME = "2026-11-21T10:00:00Z"
TIME_US = 1_795_255_200_000_000
ENTITIES = ["a", "station-7", "München", "水", "e" * 256, "with space", "a'b{}[]:,"]
CHANNELS = ["b", "pm25", "café"]
UNITS = ["", "ug/m3", "µg/m³"]
COLUMNS = ("entity", "channel", "time_us", "value", "unit", "quality", "result_time_us", "record")


def plain(**fields: Any) -> str:
    """Return a reading; ``...`` leaves a key out."""
    reading: dict[str, Any] = {"entity": "a", "channel": "b", "time": TIME, "value": 1.0, "unit": "ug/m3"}
    kept = {key: value for key, value in (reading | fields).items() if value is not ...}
    return json.dumps(kept, ensure_ascii=False)


def knowing() -> tuple[Vocabulary, Vocabulary, Vocabulary]:
    """Return vocabularies that hold the names above."""
    return Vocabulary(ENTITIES), Vocabulary(CHANNELS), Vocabulary(UNITS)


def scanned(*values: str | bytes | None) -> list[list[Any]] | None:
    """Return the columns that a scanner makes of records."""
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    columns = JsonScanner(*knowing(), 1_000_000).scan(raw, 0)
    return None if columns is None else [np.nan_to_num(column, nan=-1e300).tolist() for column in columns]


def decoded(values: Sequence[bytes | None], scans: bool) -> tuple[Any, ...]:
    """Return all that a decoder says of records, and the names that it knows then."""
    decoder = ReadingDecoder(*knowing())
    if not scans:
        decoder._scanner._skip = 10**9
    batch: ReadingBatch = decoder.decode(block_of(*values))
    said = [getattr(batch, name) for name in COLUMNS]
    shown = [(column.dtype.str, np.nan_to_num(column, nan=-1e300).tolist()) for column in said]
    return shown, batch.rejected, decoder.entities.names, decoder.channels.names, decoder.units.names


def assert_the_same(*values: bytes | None) -> None:
    """Compare the two ways, over what the scanner takes and what it leaves."""
    assert decoded(values, scans=True) == decoded(values, scans=False)


def test_columns_of_plain_readings() -> None:
    """Protects every column, expected by hand, and lists, spaces, the order of keys, and what may be left out."""
    found = scanned(
        plain(quality="good"),
        f" [ {plain(entity='水', value=None)} ,\n{plain(value=-2.5e-3, unit=...)}\t] \r\n",
        f'{{"value":7,"time":"{TIME}","unit":"µg/m³","source":"x","id":"7","n":-1.5e3,"m":null,'
        '"result_time":"2026-11-21T10:05:00.25Z","channel":"pm25","entity":"station-7"}',
    )
    assert found == [
        [0, 3, 0, 1],
        [0, 0, 0, 1],
        [TIME_US] * 4,
        [1.0, -1e300, -2.5e-3, 7.0],
        [1, 1, 0, 2],
        [Quality.GOOD] + [Quality.UNKNOWN] * 3,
        [NO_TIME] * 3 + [TIME_US + 300_250_000],
        [0, 1, 1, 2],
    ]


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b" ", b"{}", b"[]", b"[{}]", b"1", b"null", b'"a"', b"\0", plain()[:-1], plain() + "x",
        plain() + "\0", plain() + plain(), f"[{plain()}", f"[{plain()},]", f"[{plain()} {plain()}]",
        f"{plain()},{plain()}", plain().replace("{", "{,"), plain()[:-1] + ",}", plain()[:-1] + ',"value":2}',
        plain().replace('"b"', '"\\u0062"'), plain().replace("1.0", "01.0"), plain().replace("1.0", "1."),
        plain().replace("1.0", ".5"), plain().replace("1.0", "+1"), plain().replace("1.0", "1e"),
        plain().replace("1.0", "-"), plain().replace("1.0", "1e999"), plain().replace("1.0", "nul"),
        plain().replace("1.0", "nulL"), plain().replace("1.0", "true"), plain().replace("1.0", '"1.0"'),
        plain().replace("1.0", "NaN"), plain(entity=...), plain(entity="new"), plain(entity=""), plain(entity=None),
        plain(channel=...), plain(value=...), plain(time=...), plain(unit=None), plain(unit="new"),
        plain(quality="odd"), plain(quality=None), plain(entity="e" * 257), plain(extra=[1]), plain(extra={}),
        plain(extra=True), plain(extra="ä"), plain(extra="\x01"), plain(ä=1), plain(time=1),
        plain(time="2026-11-21T10:00:00"), plain(time="2026-11-21 10:00:00Z"), plain(time="2026-02-29T10:00:00Z"),
        plain(time="2026-04-31T10:00:00Z"), plain(time="2100-02-29T10:00:00Z"), plain(time="2026-00-01T10:00:00Z"),
        plain(time="2026-13-01T10:00:00Z"), plain(time="2026-11-00T10:00:00Z"), plain(time="2026-11-21T24:00:00Z"),
        plain(time="2026-11-21T10:60:00Z"), plain(time="2026-11-21T23:59:60Z"), plain(time="2026-11-21T10:00:00.Z"),
        plain(time="2026-11-21T10:00:00.1234567Z"), plain(time=TIME + "x"), plain(time="2026-11-21T10:00:00z"),
        plain(time="2026-11-21T10:00:00-00:00"), plain(time="2026-11-21T10:00:00+24:00"),
        plain(time="2026-11-21T10:00:00+0100"), plain(time="1969-12-31T23:59:59Z"),
        plain(time="2200-01-01T00:00:00Z"), plain(time="1970-01-01T00:00:00+00:01"),
        plain(time="2199-12-31T23:59:59-01:00"), plain(result_time="2026-11-21"), plain(result_time=None),
        "\ufeff" + plain(), plain().encode("utf-16"), plain().replace("a", "\xff").encode("latin-1"), b'{"entity":"a',
        plain().replace(TIME + '"', "2026-11-21T10"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_general_decoder(value: str | bytes | None) -> None:
    """Protects from a second opinion on what is bad: the scanner has none, wherever in a batch the record lies."""
    raw = value.encode() if isinstance(value, str) else value
    assert scanned(plain(), raw) is scanned(raw, plain()) is None
    assert_the_same(plain().encode(), raw, plain(value=2.0).encode())


TEXTS_OF_NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(2**53 - 3, 2**53 + 3).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=12).map(lambda d: format(d, "f")),
    st.tuples(st.integers(0, 10**19), st.integers(-40, 40)).map(lambda t: f"{t[0]}e{t[1]}"),
    st.sampled_from(
        ["0", "-0", "-0.0", "0e0", "1E+5", "0.30000000000000004", "null", "9007199254740993", "1e22", "1e23"]
    ),
)


@given(TEXTS_OF_NUMBERS)
@example("9007199254740993")
@example("123456789012345678901234567890")
def test_every_number_is_the_nearest_one(text: str) -> None:
    """Protects values to the last bit: what is scanned is what Python reads, and a missing one is missing."""
    found = scanned(plain(value=7).replace("7", text))
    assert found is not None
    expected = -1e300 if text == "null" else float(text)
    assert found[3] == [expected]
    assert math.copysign(1.0, found[3][0]) == math.copysign(1.0, expected)


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2199, 1, 1)),  # noqa: DTZ001  # the zone is drawn
    st.sampled_from(["Z", "+00:00", "+05:45", "-11:30", "+23:59"]),
    st.sampled_from([0, 1, 3, 6]),
)
def test_every_time_is_the_one_that_the_general_decoder_reads(moment: Any, zone: str, digits: int) -> None:
    """Protects the calendar: leap years, ends of months, fractions, offsets."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    text += (f".{moment.microsecond:06d}"[: digits + 1] if digits else "") + zone
    value = plain(time=text, result_time=text).encode()
    assert scanned(value) is not None
    assert_the_same(value)


KEYS = st.sampled_from(
    ["entity", "channel", "time", "value", "unit", "quality", "result_time", "source", "", "valu", "values",
     "xxxult_time", "result_timf", "a key that is long indeed"]
)  # fmt: skip
PIECES = st.one_of(
    st.sampled_from([*ENTITIES, *CHANNELS, *UNITS, TIME, "good", "provisional", "2026-11-21T10:00:00.5+01:00"]).map(
        lambda text: json.dumps(text, ensure_ascii=False)
    ),
    TEXTS_OF_NUMBERS,
    st.text(max_size=4).map(json.dumps),
    st.sampled_from(["[]", "{}", "true", '"', "", " "]),
)
OBJECTS = st.one_of(
    st.builds(
        plain, entity=st.sampled_from([*ENTITIES, "new"]), channel=st.sampled_from(CHANNELS),
        unit=st.sampled_from(UNITS), value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        quality=st.sampled_from(["good", "bad", "x"]),
    ),
    st.lists(st.tuples(KEYS, PIECES), max_size=8).map(
        lambda pairs: "{" + ",".join(f'"{key}":{piece}' for key, piece in pairs) + "}"
    ),
    st.lists(st.tuples(KEYS, PIECES), max_size=3).map(
        lambda pairs: plain()[:-1] + "".join(f' , "{k}" : {v}' for k, v in pairs) + "}"
    ),
)  # fmt: skip
DOCUMENTS = st.one_of(OBJECTS, st.lists(OBJECTS, max_size=3).map(lambda some: f"[{', '.join(some)}]")).map(
    lambda text: text.encode("utf-8", "replace")
)


BYTES = b'{}[]",:0 19eE.-+TZ\\\x00\n\xc3\xa4n'


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a record, with up to three bytes changed, removed or put in."""
    value = bytearray(draw(DOCUMENTS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(b'{}[]",:0 19eE.-+TZ\\\x00\n\xc3\xa4n')
        ).to_bytes()
    return bytes(value)


@given(st.lists(damaged(), max_size=6))
def test_both_ways_agree_on_anything(values: list[bytes]) -> None:
    """Protects the data: whatever comes, the decoder says the same with the scanner and without it."""
    assert_the_same(*values)


BOUNDS_CHECKED: list[Any] = []


@given(st.lists(damaged() | st.binary(max_size=60), min_size=1, max_size=4))
def test_nothing_is_read_beyond_the_bytes(values: list[bytes]) -> None:
    """Protects memory: with bounds that are checked, no index is ever out of them, and the answers are the same.

    Only what reads arrays is checked so; the helpers get pointers, and are compiled anew here to be given arrays.
    """
    if not BOUNDS_CHECKED:
        BOUNDS_CHECKED.append(checked_scan())
    joined = b"\0".join(values) + b"\0" * (1 + json_scanner._AHEAD)
    ends = np.cumsum(np.array([len(value) + 1 for value in values])) - 1
    scanner = JsonScanner(*knowing(), 1_000_000)
    scanner._known.follow()
    answers = []
    for scan in (json_scanner._scan_records, BOUNDS_CHECKED[0]):
        most = len(joined) // json_scanner._SHORTEST + 1
        out = [np.zeros(most, dtype) for dtype in ("i4", "i4", "i8", "f8", "i4", "i1", "i8", "i4")]
        long_numbers = np.zeros((most, 3), np.int64)
        known = scanner._known
        answer = scan(
            np.frombuffer(joined, np.uint8), ends, known.slots, known.entries, known.pool, 0, *out, long_numbers
        )
        answers.append((answer, [np.nan_to_num(column, nan=-1e300).tolist() for column in out], long_numbers.tolist()))
    assert answers[0] == answers[1]


def checked_scan() -> Any:
    """Return the scanner compiled with checked bounds: every helper, and arrays where there are pointers."""
    names = ["_field", "_two_digits", "_seconds", "_days", "_spaces", "_text", "_number", "_moment", "_name", "_key"]
    space = dict(vars(json_scanner))
    space["_pointer"] = njit(lambda array: array.ravel())

    def compiled(name: str) -> Any:
        original = getattr(json_scanner, name).py_func
        function = type(original)(original.__code__, space, name)
        return njit(boundscheck=True, error_model="numpy")(function)

    for name in names:
        space[name] = compiled(name)
    return compiled("_scan_records")


def test_a_source_that_writes_otherwise_is_not_tried_at_every_batch() -> None:
    """Protects the time of sources whose JSON is never plain; one that is plain again is scanned again."""
    scanner = JsonScanner(*knowing(), 1_000_000)
    odd, good = [plain(extra=True).encode()], [plain().encode()]
    assert scanner.scan(good, 0) is not None
    tried, scan = [], scanner._scan

    def counted(values: Sequence[bytes | None], first: int) -> Any:
        tried.append(values)
        return scan(values, first)

    scanner._scan = counted  # type: ignore[method-assign]
    for _ in range(1_000):
        assert scanner.scan(odd, 0) is None
    assert 10 < len(tried) < 40
    outcomes = [scanner.scan(good, 0) for _ in range(80)]
    assert outcomes[-1] is not None
    first = next(i for i, outcome in enumerate(outcomes) if outcome is not None)
    assert all(outcome is not None for outcome in outcomes[first:])


def test_names_that_come_later_are_scanned_then() -> None:
    """Protects growth: tens of thousands of names, of any length, over many rehashes, each with its own code."""
    decoder = ReadingDecoder()
    names = [f"station-{i}" * (1 + i % 7) for i in range(20_000)]
    for start in range(0, len(names), 2_500):
        values = [plain(entity=name, value=i).encode() for i, name in enumerate(names[: start + 2_500])]
        batch = decoder.decode(block_of(*values))
        assert batch.entity.tolist() == list(range(start + 2_500))
        assert not batch.rejected
    assert decoder.entities.names == names
    assert decoder._scanner._scan([plain(entity=names[-1]).encode()], 0) is not None


def test_names_that_no_reading_may_have_are_not_taken() -> None:
    """Protects from taking through the vocabulary what the general decoder refuses: empty, too long, no UTF-8."""
    vocabularies = (
        Vocabulary(["", "e" * 257, "\ud800", "a"]),
        Vocabulary(["", "b"]),
        Vocabulary(["u" * 65, "", "ug/m3"]),
    )
    scanner = JsonScanner(*vocabularies, 1_000_000)
    good = scanner.scan([plain().encode()], 0)
    assert good is not None
    assert [int(column[0]) for column in good[:2]] == [3, 1]
    for fields in ({"entity": ""}, {"entity": "e" * 257}, {"channel": ""}, {"unit": "u" * 65}):
        assert scanner._scan([plain(**fields).encode()], 0) is None
    assert scanner._scan([plain(entity="?").encode()], 0) is None
    assert scanner._scan([plain().replace('"a"', '"\ud800"').encode("utf-8", "surrogatepass")], 0) is None


def test_a_large_record_is_left_alone() -> None:
    """Protects the bound on a record's size, which is the general decoder's to tell of."""
    small, large = plain().encode(), plain().encode() + b" " * 200
    scanner = JsonScanner(*knowing(), len(small))
    assert scanner._scan([small], 0) is not None
    assert scanner._scan([small, large], 0) is None
