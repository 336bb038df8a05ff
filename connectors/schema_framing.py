"""Which schema a Kafka value was written with: what a registry's serializers put before it, or into its headers.

======================= ================================================================= ===========
version 0               ``00``, then the schema's id in four bytes, big end first         before it
version 1               ``01``, then the schema's GUID in sixteen bytes                   before it
ids in headers          either of both in ``__value_schema_id`` (``__key_schema_id``)     bare value
======================= ================================================================= ===========

Behind the id, and with it in the header, Protobuf has the way to the message within its file: a zig-zag varint with the
number of steps, then the steps; a single 0 stands for the first message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from connectors.reading import Reason
from connectors.refusal import Refusal, shortened

Headers = Sequence[tuple[str, bytes]]
VALUE_HEADER = "__value_schema_id"
KEY_HEADER = "__key_schema_id"
_MOST_STEPS = 20
_LONGEST_VARINT = 10
"""Bytes of 64 bits."""

SchemaId = int | UUID


class Framed(NamedTuple):
    """A value and the schema it was written with."""

    schema: SchemaId
    value: bytes
    steps: bytes | None
    """Of a header, what stands behind the id; None: steps, if there are any, lead the value."""


def unframe(value: bytes, headers: Headers = (), header: str = VALUE_HEADER) -> Framed | Refusal:
    """Return a framed value's parts, or why it is not framed. Never raises.

    >>> unframe(b"\\0\\0\\0\\0\\x07rest")
    Framed(schema=7, value=b'rest', steps=None)
    """
    for name, content in headers:
        if name == header and content:
            found = _id(content)
            return found if isinstance(found, Refusal) else Framed(found[0], value, content[found[1] :])
    found = _id(value)
    return found if isinstance(found, Refusal) else Framed(found[0], value[found[1] :], None)


def is_framed(value: bytes, headers: Headers = (), header: str = VALUE_HEADER) -> bool:
    """Return whether a value says that it is framed; JSON never does."""
    return value[:1] in (b"\0", b"\1") or any(name == header and content for name, content in headers)


def _id(frame: bytes) -> tuple[SchemaId, int] | Refusal:
    """Return the id and its length with the first byte."""
    if frame[:1] == b"\0" and len(frame) >= 5:
        return int.from_bytes(frame[1:5], "big"), 5
    if frame[:1] == b"\1" and len(frame) >= 17:
        return UUID(bytes=frame[1:17]), 17
    begins = shortened(frame[:20])
    detail = f"no schema's id before it: it begins with {begins}; allowed: 00 and 4 bytes, or 01 and 16 bytes"
    return Refusal(Reason.UNSUPPORTED, detail)


def read_steps(data: bytes) -> tuple[tuple[int, ...], int] | Refusal:
    """Return the way to a message within its Protobuf file, and how many bytes told it.

    >>> read_steps(b"\\x00rest"), read_steps(b"\\x04\\x02\\x00rest")
    (((0,), 1), ((1, 0), 3))
    """
    at = 0
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        found = _varint(data, at)
        if found is None:
            return Refusal(Reason.UNSUPPORTED, f"no way to a Protobuf message: {shortened(data[:20])}")
        number, at = found
        numbers.append(number)
        if len(numbers) == 1:
            if not 0 <= number <= _MOST_STEPS:
                return Refusal(Reason.UNSUPPORTED, f"a way of {number} steps to a Protobuf message")
            wanted = 1 + number
    if any(step < 0 for step in numbers[1:]):
        return Refusal(Reason.UNSUPPORTED, f"a way to a Protobuf message over {shortened(numbers[1:])}")
    return tuple(numbers[1:]) or (0,), at


def _varint(data: bytes, at: int) -> tuple[int, int] | None:
    value = shift = 0
    for place in range(at, min(at + _LONGEST_VARINT, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), place + 1
    return None
