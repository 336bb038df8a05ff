"""Write requests as a Prometheus makes them, for tests: labels sorted, zeros left out as gogoproto does."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import snappy

Sample = tuple[float, int]
"""Value, and milliseconds since 1970."""


def varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def sample(value: float | bytes, time_ms: int) -> bytes:
    """Return a sample's fields; a value may be given as its eight bytes."""
    raw = value if isinstance(value, bytes) else struct.pack("<d", value)
    return (b"\x09" + raw if any(raw) else b"") + (b"\x10" + varint(time_ms) if time_ms else b"")


def series(labels: Mapping[str, str], samples: Sequence[tuple[float | bytes, int]]) -> bytes:
    """Return the content of a TimeSeries."""
    pairs = (field(1, field(1, name.encode()) + field(2, labels[name].encode())) for name in sorted(labels))
    return b"".join(pairs) + b"".join(field(2, sample(*one)) for one in samples)


def request(*all_series: bytes) -> bytes:
    """Return a WriteRequest."""
    return b"".join(field(1, one) for one in all_series)


def block(body: bytes) -> bytes:
    """Return ``body`` as it goes over the wire."""
    return bytes(snappy.compress(body))
