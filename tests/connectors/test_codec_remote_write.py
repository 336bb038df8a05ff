"""Remote-write is read as Prometheus writes it, quickly and exactly alike, and nothing in it raises."""

from __future__ import annotations

import math
import struct

import pytest
import snappy
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_remote_write import STALE, BodyTooLarge, RemoteWrite, decompressed
from connectors.label_mapping import LabelMapping
from connectors.pushed import Pushed
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal
from tests.connectors.remote_write_body import block, field, request, series

NOW_MS = 1_795_190_400_000
NOW_US = NOW_MS * 1000
LABELS = {"__name__": "pm25", "instance": "station-7", "job": "air"}


def read(body: bytes, codec: RemoteWrite | None = None) -> Pushed:
    whole = Pushed()
    for piece in (codec or RemoteWrite()).read(body):
        whole.readings += piece.readings
        whole.rejected += piece.rejected
        whole.ignored += piece.ignored
    return whole


def test_a_series_with_one_sample() -> None:
    """Protects what Prometheus sends for each scrape: first met, and known already."""
    codec = RemoteWrite()
    body = request(series(LABELS, [(12.5, NOW_MS)]))
    assert read(body, codec).readings == read(body, codec).readings == [Reading("station-7", "pm25", NOW_US, 12.5)]


def test_zero_is_a_value() -> None:
    """Protects zeros, which are left out on the wire."""
    codec = RemoteWrite()
    body = request(series(LABELS, [(0.0, NOW_MS)]))
    assert read(body, codec).readings == read(body, codec).readings == [Reading("station-7", "pm25", NOW_US, 0.0)]


def test_samples_that_were_collected() -> None:
    """Protects what comes after an interruption: many samples of one series."""
    body = request(series(LABELS, [(float(i), NOW_MS + i) for i in range(5)]))
    assert [(r.value, r.time_us) for r in read(body).readings] == [(i, NOW_US + 1000 * i) for i in range(5)]


def test_no_label_gets_lost() -> None:
    """Protects from two series becoming one: labels that are neither entity nor ignored stand behind the channel."""
    idle, user = ({"__name__": "cpu", "instance": "a", "job": "x", "mode": mode} for mode in ("idle", "user"))
    found = read(request(series(idle, [(1, NOW_MS)]), series(user, [(2, NOW_MS)])))
    assert [r.channel for r in found.readings] == ['cpu{mode="idle"}', 'cpu{mode="user"}']
    ours = RemoteWrite(LabelMapping(("job", "mode"), ("instance",)))
    assert [r.entity for r in read(request(series(idle, [(1, NOW_MS)])), ours).readings] == ["x/idle"]


def test_the_end_of_a_series_is_no_value() -> None:
    """Protects from stale markers taken for missing values, also where the series is known; other NaN are missing."""
    codec = RemoteWrite()
    nan = struct.pack("<Q", 0x7FF8_0000_0000_0001)  # what Prometheus calls a normal NaN
    body = request(*(series(LABELS, [(value, NOW_MS)]) for value in (1.0, STALE, nan)))
    for _ in range(2):
        found = read(body, codec)
        assert [(r.value, r.quality) for r in found.readings] == [(1.0, Quality.UNKNOWN), (None, Quality.MISSING)]
        assert (found.ignored, found.rejected) == (1, [])


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        (series({"instance": "a"}, [(1, NOW_MS)]), Reason.MISSING_KEY, "__name__"),
        (series({"__name__": "x"}, [(1, NOW_MS)]), Reason.MISSING_KEY, "no instance"),
        (series(LABELS, [(math.inf, NOW_MS)]), Reason.NOT_FINITE, "infinite"),
        (series(LABELS, [(1, 10**16)]), Reason.BAD_TIME, "2200"),
        (series(LABELS, [(1, -5)]), Reason.BAD_TIME, "1970"),
        (series(LABELS, []) + field(4, b"\x78\x01"), Reason.UNSUPPORTED, "native histogram"),
        (b"\x0a\x05ab", Reason.WRONG_TYPE, "no TimeSeries"),
        (series(LABELS | {"v": "x" * 300}, [(1, NOW_MS)]), Reason.WRONG_TYPE, "ignored by the configuration"),
    ],
)
def test_a_bad_series_is_refused_by_itself(bad: bytes, reason: Reason, words: str) -> None:
    """Protects the good series around a bad one: Prometheus never sends a request again that was refused."""
    good = series(LABELS, [(1, NOW_MS)])
    codec = RemoteWrite()
    for _ in range(2):  # unknown, and known
        found = read(request(good, bad, good), codec)
        assert len(found.readings) == 2
        (rejected,) = found.rejected
        assert (rejected.reason, rejected.offset, rejected.raw) == (reason, 2, bad)
        assert words in rejected.detail


def test_a_request_that_breaks_off_gives_what_stood_before() -> None:
    """Protects what could be read of a damaged request, and tells of the rest."""
    body = request(series(LABELS, [(1, NOW_MS)]), series(LABELS, [(2, NOW_MS)]))
    found = read(body[:-3])
    assert [r.value for r in found.readings] == [1.0]
    assert "begins no field" in found.rejected[0].detail


def test_metadata_is_passed_over() -> None:
    """Protects requests that carry metadata only, which Prometheus sends each minute."""
    found = read(field(3, b"\x08\x01\x12\x01x") + request(series(LABELS, [(1, NOW_MS)])))
    assert (len(found.readings), found.rejected) == (1, [])


def test_a_block_that_says_it_is_huge_is_refused_before_memory_is_taken() -> None:
    """Protects memory: a dozen bytes may claim four gigabytes."""
    with pytest.raises(BodyTooLarge, match=r"4294967295 bytes .* at most 1000"):
        decompressed(b"\xff\xff\xff\xff\x0f" + b"\x00" * 8, 1000)
    assert decompressed(block(b"x" * 1000), 1000) == b"x" * 1000


@pytest.mark.parametrize("bad", [b"", b"\x05", b"\x05\x00", b"\xff" * 12, snappy.compress(b"x" * 100)[:-1]])
def test_what_is_no_block_is_refused(bad: bytes) -> None:
    """Protects from bodies that are not compressed, or framed."""
    assert isinstance(decompressed(bad, 10**6), Refusal)


TEXTS = st.text(min_size=1, max_size=20)
SAMPLES = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 7_000_000_000_000))


@given(st.lists(st.tuples(TEXTS, TEXTS, st.lists(SAMPLES, min_size=1, max_size=3)), max_size=5))
def test_round_trip(all_series: list[tuple[str, str, list[tuple[float, int]]]]) -> None:
    """Protects every float to its last bit, every name, and every time, whether the series is known or not."""
    body = request(*(series({"__name__": name, "instance": entity}, s) for name, entity, s in all_series))
    expected = [
        (entity, name, time_ms * 1000, struct.pack("<d", value))
        for name, entity, samples in all_series
        for value, time_ms in samples
    ]
    codec = RemoteWrite()
    for _ in range(2):
        found = read(bytes(decompressed(block(body), 10**6)), codec)  # type: ignore[arg-type]
        assert not found.rejected
        got = [(r.entity, r.channel, r.time_us, struct.pack("<d", r.value)) for r in found.readings]
        assert got == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(body: bytes) -> None:
    """Protects the server from whatever somebody sends, as a block and as what is in one."""
    outcome = decompressed(body, 10**6) if not body[:1] > b"\x7f" else Refusal(Reason.EMPTY, "")
    if not isinstance(outcome, Refusal):
        read(outcome)
    read(body)


@given(st.integers(0, 120), st.integers(0, 255))
def test_a_flipped_byte_never_raises_nor_splits_quick_from_exact(at: int, byte: int) -> None:
    """Protects the parity of both ways on requests that are nearly right."""
    good = request(series(LABELS, [(1.5, NOW_MS)]), series(LABELS, [(0.0, NOW_MS)]))
    bad = good[: at % len(good)] + bytes([byte]) + good[at % len(good) + 1 :]
    knowing = RemoteWrite()
    read(good, knowing)
    quick, exact = read(bad, knowing), read(bad)
    assert quick.readings == exact.readings
    assert [r.reason for r in quick.rejected] == [r.reason for r in exact.rejected]
