"""Line protocol is read as InfluxDB's documents say, its quick way as its exact one, and nothing in it raises."""

from __future__ import annotations

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_line_protocol import LineMapping, LineProtocol
from connectors.label_mapping import LabelMapping
from connectors.pushed import MOST_LISTED, Pushed
from connectors.reading import Reading, Reason

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z
NOW_NS = NOW_US * 1000


def read(body: str | bytes, mapping: LineMapping | None = None, precision: str = "ns") -> Pushed:
    """Return all pieces as one."""
    whole = Pushed()
    for piece in LineProtocol(mapping).read(body.encode() if isinstance(body, str) else body, NOW_US, precision):
        whole.readings += piece.readings
        whole.rejected += piece.rejected
        whole.unlisted += piece.unlisted
        whole.ignored += piece.ignored
    return whole


def escaped(text: str, marks: str) -> str:
    return "".join(f"\\{c}" if c in marks else c for c in text)


def written(measurement: str, tags: dict[str, str], fields: dict[str, str], stamp: str = "") -> str:
    """Return one line, as a client would write it."""
    series = escaped(measurement, ", ") + "".join(f",{escaped(k, ',= ')}={escaped(v, ',= ')}" for k, v in tags.items())
    values = ",".join(f"{escaped(name, ',= ')}={value}" for name, value in fields.items())
    return f"{series} {values} {stamp}".rstrip(" ")


def test_the_example_of_the_documents() -> None:
    """Protects escapes in tags, and nanoseconds as the unit of timestamps that name none."""
    found = read(f"water,site=dock\\ 3,param=stage level=1.59,temp=11.2 {NOW_NS}", LineMapping(LabelMapping(("site",))))
    assert found.readings == [
        Reading("dock 3", 'level{param="stage"}', NOW_US, 1.59),
        Reading("dock 3", 'temp{param="stage"}', NOW_US, 11.2),
    ]


def test_a_station_without_tags_or_clock() -> None:
    """Protects loggers that send neither: the measurement is the entity, the time that of arrival."""
    assert read("garden temperature=3.5").readings == [Reading("garden", "temperature", NOW_US, 3.5)]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3i", 3.0), ("-3i", -3.0), ("18446744073709551615u", 1.8446744073709552e19), ("t", 1.0), ("False", 0.0),
     ("1e3", 1000.0), ("-.5", -0.5), ("7.", 7.0), ("+2", 2.0)],
)  # fmt: skip
def test_every_kind_of_number(text: str, value: float) -> None:
    """Protects integers, unsigned ones and truths, which loggers write as readily as floats."""
    assert read(f"m,t=a f={text} {NOW_NS}").readings == [Reading("a", "f", NOW_US, value)]


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("m", Reason.MISSING_KEY, "no field"),
        (",t=a f=1", Reason.MISSING_KEY, "no measurement"),
        ("m,t= f=1", Reason.MISSING_KEY, "'t' has no value"),
        ("m,t f=1", Reason.MISSING_KEY, "no name=value"),
        ("m,t=a,t=b f=1", Reason.WRONG_TYPE, "twice"),
        ("m,t=a=b f=1", Reason.WRONG_TYPE, "not escaped"),
        ("m f", Reason.MISSING_KEY, "no field=value"),
        ("m f=", Reason.WRONG_TYPE, "no value"),
        ("m f=1_0", Reason.WRONG_TYPE, "'1_0' is no value"),
        ("m f=nan", Reason.WRONG_TYPE, "'nan' is no value"),
        ("m f=1e400", Reason.NOT_FINITE, "64-bit float"),
        ("m f=9223372036854775808i", Reason.NOT_FINITE, "64 bits"),
        ("m f=-1u", Reason.NOT_FINITE, "64 bits"),
        ('m f="a', Reason.WRONG_TYPE, "has no end"),
        ('m f="a"b', Reason.WRONG_TYPE, "follows the end"),
        ('m f="a"', Reason.UNSUPPORTED, "is a text"),
        ("m f=1 soon", Reason.BAD_TIME, "'soon'"),
        ("m f=1 1 2", Reason.BAD_TIME, "'1 2'"),
        ("m f=1 9999999999999999999", Reason.BAD_TIME, "precision"),
        ("m f=1 -1", Reason.BAD_TIME, "1970"),
        (f"{'m' * 257} f=1", Reason.WRONG_TYPE, "257 characters"),
        (f"m {'f' * 257}=1", Reason.WRONG_TYPE, "too long"),
        (f"m f={'1' * 70_000}", Reason.TOO_LARGE, "70004 characters"),
    ],
)
def test_a_bad_line_is_refused_by_itself(line: str, reason: Reason, words: str) -> None:
    """Protects the good lines around a bad one, and the sender from guessing which and why."""
    found = read(f"m good=1 {NOW_NS}\n{line}\nm good=2 {NOW_NS}")
    assert [reading.value for reading in found.readings] == [1.0, 2.0]
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.offset) == (reason, 2)
    assert rejected.detail.startswith("line 2: ")
    assert words in rejected.detail
    assert rejected.raw == line.encode()[:65_536]


def test_bytes_that_are_no_text_refuse_their_line_only() -> None:
    """Protects the rest of a body from one logger's Latin-1."""
    found = read(b"m a=1 5000\nm b\xfc=2 5000\nm c=3 5000")
    assert [r.channel for r in found.readings] == ["a", "c"]
    assert found.rejected[0].detail == "line 2: byte 3 is no UTF-8"


def test_comments_blank_lines_and_windows_line_ends() -> None:
    """Protects hand-written files."""
    found = read("# about\r\n\r\nm f=1 5000\r\n  m  f=2  6000\r\n\n#")
    assert [(r.value, r.time_us) for r in found.readings] == [(1.0, 5), (2.0, 6)]
    assert not found.rejected


@pytest.mark.parametrize(
    ("precision", "stamp"),
    [("ns", NOW_NS), ("n", NOW_NS), ("us", NOW_US), ("u", NOW_US), ("ms", NOW_US // 1000), ("s", NOW_US // 10**6),
     ("m", NOW_US // 60_000_000), ("h", NOW_US // 3_600_000_000)],
)  # fmt: skip
def test_precisions(precision: str, stamp: int) -> None:
    """Protects the unit of timestamps that the address names, in both versions' words."""
    assert read(f"m f=1 {stamp}", precision=precision).readings == [Reading("m", "f", NOW_US, 1.0)]


def test_texts_may_be_passed_over() -> None:
    """Protects senders such as Telegraf, which write a text beside each measurement."""
    found = read('m a="x, \\" y=z",b=2', LineMapping(ignore_text=True))
    assert [r.channel for r in found.readings] == ["b"]
    assert (found.ignored, found.rejected) == (1, [])


def test_a_text_refuses_itself_and_not_its_line() -> None:
    """Protects the numbers that stand beside a text."""
    found = read('m a="x",b=2')
    assert [r.channel for r in found.readings] == ["b"]
    assert [r.reason for r in found.rejected] == [Reason.UNSUPPORTED]


def test_measurement_and_field_as_the_channel() -> None:
    """Protects senders whose fields are all called ``value``."""
    mapping = LineMapping(LabelMapping(("host",), ("rack",)), channel="measurement_field")
    (reading,) = read("temperature,host=a,rack=9 value=3", mapping).readings
    assert (reading.entity, reading.channel) == ("a", "temperature_value")


def test_airrohr_stations_write_lines_too() -> None:
    """Protects stations that write to an InfluxDB: their names become channels with units, first met or known."""
    protocol = LineProtocol()
    line = b"feinstaub,node=esp8266-777 SDS_P1=12.30,SDS_P2=4.5,BME280_pressure=99512.00,min_micro=1,max_micro=2\n"
    for _ in range(2):
        readings = [r for piece in protocol.read(line, NOW_US) for r in piece.readings]
        found = {(r.entity, r.channel): (r.value, r.unit) for r in readings}
        assert found["esp8266-777", "pm10"] == (12.3, "ug/m3")
        assert found["esp8266-777", "pm25"] == (4.5, "ug/m3")
        assert found["esp8266-777", "pressure"][1] in ("Pa", "hPa")
        assert len(found) == 3


def test_a_flood_of_bad_lines_takes_little_memory() -> None:
    """Protects the process from a body that is all wrong: refusals are counted, the first of them kept."""
    pieces = list(LineProtocol().read(b"x\n" * 50_000, NOW_US))
    assert sum(len(p.rejected) + p.unlisted for p in pieces) == 50_000
    assert all(len(p.rejected) <= MOST_LISTED for p in pieces)


def test_large_bodies_come_in_pieces() -> None:
    """Protects memory: what one body holds is never there all at once."""
    body = "\n".join(f"m,t={i % 100} a=1,b=2,c=3 {NOW_NS + i * 1000}" for i in range(30_000)).encode()
    pieces = list(LineProtocol().read(body, NOW_US))
    assert len(pieces) > 2
    assert max(len(p.readings) for p in pieces) < 30_000
    assert [r.time_us for p in pieces for r in p.readings][::3] == [NOW_US + i for i in range(30_000)]


NAMES = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters='\\\n\r"'), min_size=1, max_size=12
).filter(lambda text: text.strip(" ") == text and not text.startswith("#"))
"""A backslash before a mark cannot be written: the protocol has no way to escape it there."""
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(NAMES, st.dictionaries(NAMES, NAMES, max_size=3), st.dictionaries(NAMES, FLOATS, min_size=1, max_size=4))
def test_round_trip(measurement: str, tags: dict[str, str], fields: dict[str, float]) -> None:
    """Protects every name with commas, spaces and equals signs in it, and every float to its last bit."""
    line = written(measurement, tags, {name: repr(value) for name, value in fields.items()}, str(NOW_NS))
    entity = "/".join(tags[name] for name in sorted(tags)) or measurement
    found = read(f"{line}\n{line}")
    assert not found.rejected
    assert found.readings == 2 * [Reading(entity, name, NOW_US, value) for name, value in fields.items()]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(body: bytes) -> None:
    """Protects the server from whatever somebody sends."""
    found = read(body)
    assert all(math.isfinite(r.value) for r in found.readings if r.value is not None)


PIECES = st.lists(
    st.sampled_from(
        ["m", ",t=a", ",t=", " ", "f=1", "f=1_0", "f=nan", "f=inf", "f=2i", 'f="x y"', ",", "=", "\\", "\\ ", '"', "ü",
         f" {NOW_NS}", " 5", " 1e3", "\t", "\r", "\x1c", "#", "f=\u0663", "f= 1", "f=1\u00a0"],
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(st.lists(PIECES, max_size=6))
def test_the_quick_way_gives_what_the_exact_one_gives(lines: list[str]) -> None:
    """Protects the parity of both ways: the second time around series and times are known, so lines go quickly."""
    protocol = LineProtocol()
    body = "\n".join(lines).encode()
    first = list(protocol.read(body, NOW_US))
    again = list(protocol.read(body, NOW_US))
    twice = list(protocol.read(body + b"\n" + body, NOW_US))
    assert again == first
    assert [r for p in twice for r in p.readings] == 2 * [r for p in first for r in p.readings]


@given(st.text(string.printable, max_size=40))
def test_numbers_are_what_the_protocol_says_and_not_what_python_takes(text: str) -> None:
    """Protects from 1_0, infinities and the like, on a series that is known already."""
    protocol = LineProtocol()
    list(protocol.read(b"m f=1 5000", NOW_US))
    known = [r for p in protocol.read(f"m f={text} 5000".encode(), NOW_US) for r in p.readings]
    unknown = [r for p in LineProtocol().read(f"m f={text} 5000".encode(), NOW_US) for r in p.readings]
    assert known == unknown
