"""The bytes of a checkpoint: a checksummed header of JSON, then raw arrays, each with its own checksum.

    fixed part, 32 bytes   magic, version, length of the JSON, length of the file, CRC-32C of the rest of the header
    JSON                   {"key", "meta", "arrays": [{"name", "dtype", "shape", "offset", "crc"}, …]}, zero-padded
    arrays                 little-endian, C order, each from a multiple of 64 bytes on, zero-padded

Every byte of the file is under a checksum, padding included, and the length is told up front: a flipped bit or a
missing end is found, whatever it hits.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

MAGIC = b"VEDETTE\n"
VERSION = 1
_FIXED = struct.Struct("<8sIIQI4x")
_CRC_AT = 24
_ALIGN = 64
_MAX_HEADER_BYTES = 1 << 30
_DTYPE = re.compile(r"<[iuf][248]|\|[iub]1")


class Output(Protocol):
    """What a checkpoint is written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write all of ``data``."""


class Unusable(StrEnum):
    """Why a checkpoint is not taken up; a bounded set, so it may be a metric label."""

    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    OTHER_VERSION = "other_version"
    OTHER_KEY = "other_key"
    OTHER_CONFIG = "other_config"
    OTHER_MODEL = "other_model"
    TOO_NEW = "too_new"


class UnusableCheckpointError(Exception):
    """This file cannot be taken up. Not retriable; the one before it may serve."""

    retriable = False

    def __init__(self, reason: Unusable, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the arrays."""

    key: str
    meta: dict[str, Any]
    arrays: tuple[ArrayEntry, ...]


@dataclass(frozen=True, slots=True)
class ArrayEntry:
    """Where an array lies, and what it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    crc: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the array, without its padding."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def write(file: Output, key: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write a checkpoint; return its length in bytes.

    Raises:
        ValueError: if ``meta`` is not JSON or an array is of objects, text or complex numbers.
        OSError: as writing does.
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    header, size = _header(key, meta, plain)
    file.write(header)
    for array in plain.values():
        file.write(_bytes_of(array))
        file.write(_padding(array.nbytes))
    return size


def _header(key: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[bytes, int]:
    entries: list[dict[str, Any]] = []
    at = 0
    for name, array in arrays.items():
        crc = crc32c(_padding(array.nbytes), crc32c(_bytes_of(array)))
        entries.append({"name": name, "dtype": array.dtype.str, "shape": array.shape, "offset": at, "crc": crc})
        at += _padded(array.nbytes)
    text = json.dumps({"key": key, "meta": meta, "arrays": entries}, separators=(",", ":")).encode("ascii")
    size = _padded(_FIXED.size + len(text)) + at
    unsigned = _FIXED.pack(MAGIC, VERSION, len(text), size, 0)[:_CRC_AT]
    body = text + _padding(_FIXED.size + len(text))
    return _FIXED.pack(MAGIC, VERSION, len(text), size, crc32c(body, crc32c(unsigned))) + body, size


def read_header(file: BinaryIO) -> tuple[Header, int]:
    """Return the header, and where the arrays begin.

    Raises:
        UnusableCheckpointError: if it is not the header of a whole checkpoint of this version.
    """
    size = file.seek(0, 2)
    file.seek(0)
    fixed = file.read(_FIXED.size)
    if not MAGIC.startswith(fixed[: len(MAGIC)]):
        raise UnusableCheckpointError(Unusable.FOREIGN, "it does not begin as a checkpoint does")
    if len(fixed) < _FIXED.size:
        raise UnusableCheckpointError(Unusable.TRUNCATED, f"it ends after {size} bytes")
    _, version, length, told, crc = _FIXED.unpack(fixed)
    if version != VERSION:
        raise UnusableCheckpointError(Unusable.OTHER_VERSION, f"its version is {version}, not {VERSION}")
    if told != size:
        kind = Unusable.TRUNCATED if told > size else Unusable.DAMAGED
        raise UnusableCheckpointError(kind, f"it has {size} bytes and should have {told}")
    begin = _padded(_FIXED.size + length)
    if length > _MAX_HEADER_BYTES or begin > size:
        raise UnusableCheckpointError(Unusable.DAMAGED, f"its header claims {length} bytes")
    body = file.read(begin - _FIXED.size)
    if crc32c(body, crc32c(fixed[:_CRC_AT])) != crc or fixed[_CRC_AT + 4 :].strip(b"\0"):
        raise UnusableCheckpointError(Unusable.DAMAGED, "its header's checksum is wrong")
    return _parse(body[:length], size - begin), begin


def _parse(text: bytes, room: int) -> Header:
    """Return the header, whose checksum was right; a hostile one may still claim what cannot be."""
    try:
        data = msgspec.json.decode(text)
        entries = tuple(
            ArrayEntry(e["name"], e["dtype"], tuple(map(int, e["shape"])), int(e["offset"]), int(e["crc"]))
            for e in data["arrays"]
        )
        header = Header(str(data["key"]), dict(data["meta"]), entries)
    except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise UnusableCheckpointError(Unusable.DAMAGED, f"its header cannot be read: {error}") from error
    at = 0
    for entry in entries:
        if not _DTYPE.fullmatch(entry.dtype) or min(entry.shape, default=0) < 0 or entry.offset != at:
            raise UnusableCheckpointError(Unusable.DAMAGED, f"array {entry.name} cannot be as its header says")
        at += _padded(entry.size_bytes)
    if at != room:
        raise UnusableCheckpointError(Unusable.DAMAGED, f"its arrays take {at} bytes, but {room} are there")
    return header


def read_arrays(path: Path, header: Header, begin: int) -> dict[str, NDArray[Any]]:
    """Return the arrays, writable, each checked.

    They are the file itself, mapped copy-on-write: nothing is copied until it is changed, and the file never is. It may
    be removed meanwhile; it is only ever replaced as a whole.

    Raises:
        UnusableCheckpointError: at the first array whose checksum is wrong.
    """
    arrays: dict[str, NDArray[Any]] = {}
    mapped = np.memmap(path, np.uint8, "c")
    for entry in header.arrays:
        first = begin + entry.offset
        if crc32c(mapped[first : first + _padded(entry.size_bytes)].data) != entry.crc:
            raise UnusableCheckpointError(Unusable.DAMAGED, f"the checksum of array {entry.name} is wrong")
        data = mapped[first : first + entry.size_bytes]
        arrays[entry.name] = np.asarray(data.view(entry.dtype).reshape(entry.shape))
    return arrays


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` in C order and little-endian; itself where it is so already."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if not _DTYPE.fullmatch(plain.dtype.str):
        raise ValueError(f"array {name} of {array.dtype} cannot be kept in a checkpoint; numbers and booleans can")
    return plain


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _padding(size: int) -> bytes:
    return bytes(_padded(size) - size)
