"""Avro values without a container, by the schema they were written with."""

from __future__ import annotations

import io
import json
from typing import Any, Protocol

import fastavro
from fastavro.read import LOGICAL_READERS
from fastavro.repository.base import SchemaRepositoryError
from fastavro.schema import SchemaParseException, UnknownType

from connectors.reading import Reason
from connectors.refusal import LONGEST_DETAIL, Refusal
from connectors.schema_registry import Schema

LARGEST_BYTES = 16 << 20
LARGEST_DECIMAL_BYTES = 64
"""A longer one is no measurement; Python needs minutes for a megabyte of digits, and all threads wait for it."""


def _guarded(read_decimal: Any) -> Any:
    """Return fastavro's reader of decimals, refusing what is too long for it."""

    def read(data: bytes, *schemas: Any) -> Any:
        if len(data) > LARGEST_DECIMAL_BYTES:
            raise ValueError(f"a decimal of {len(data)} bytes; allowed: at most {LARGEST_DECIMAL_BYTES}")
        return read_decimal(data, *schemas)

    return read


for _kind in ("bytes-decimal", "fixed-decimal"):  # fastavro knows one table of them for the whole process
    LOGICAL_READERS[_kind] = _guarded(LOGICAL_READERS[_kind])


class ValueDecoder(Protocol):
    """Reads values that were written with one schema."""

    def read(self, value: bytes, steps: bytes | None) -> object | Refusal:
        """Return what a value holds: dicts, lists, texts, numbers, datetimes, None. Never raises for what is in it."""


class AvroDecoder:
    """Reads values of one schema.

    Raises:
        ValueError: if the schema is none.
    """

    def __init__(self, schema: Schema) -> None:
        named: dict[str, Any] = {}
        try:
            for _, text in schema.needs:
                fastavro.parse_schema(json.loads(text), named_schemas=named)
            self._schema: Any = fastavro.parse_schema(json.loads(schema.text), named_schemas=named)
            _least_bytes(self._schema, named, ())
        except (SchemaParseException, SchemaRepositoryError, UnknownType, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no Avro schema: {type(error).__name__}: {error}") from error

    def read(self, value: bytes, steps: bytes | None) -> object | Refusal:
        """See ``ValueDecoder.read``; times become datetimes, decimals Decimals."""
        if len(value) > LARGEST_BYTES:
            return Refusal(Reason.TOO_LARGE, f"{len(value)} bytes; allowed: at most {LARGEST_BYTES}")
        stream = io.BytesIO(value)
        try:
            found: object = fastavro.schemaless_reader(stream, self._schema, None)
        except Exception as error:  # a wrong byte can lead it anywhere; whatever it says is told
            detail = f"no Avro of its schema: {type(error).__name__}: {error}"
            return Refusal(Reason.WRONG_TYPE, detail[:LONGEST_DETAIL])
        left = len(value) - stream.tell()
        if left:
            return Refusal(Reason.WRONG_TYPE, f"no Avro of its schema: {left} bytes are left")
        return found


_LEAST = {"null": 0, "float": 4, "double": 8}
"""Bytes; all other types take at least one."""


def _least_bytes(schema: Any, named: dict[str, Any], within: tuple[str, ...]) -> int:
    """Return the bytes that the smallest value takes.

    Raises:
        ValueError: if a value could be nested without end, which would overrun fastavro's stack, or a few bytes could
            stand for a list without end.
    """
    if isinstance(schema, list):
        return 1 + min((_least_bytes(branch, named, within) for branch in schema), default=0)
    if isinstance(schema, str):
        if schema in within:
            raise ValueError(f"the Avro schema contains itself ({schema}); readings are flat")
        return _least_bytes(named[schema], named, within) if schema in named else _LEAST.get(schema, 1)
    kind = schema["type"]
    if kind in ("record", "error"):
        if schema["name"] in within:
            raise ValueError(f"the Avro schema contains itself ({schema['name']}); readings are flat")
        inner = (*within, schema["name"])
        return sum(_least_bytes(field["type"], named, inner) for field in schema["fields"])
    if kind == "fixed":
        return int(schema["size"])
    if kind == "map":
        _least_bytes(schema["values"], named, within)
        return 1
    if kind == "array":
        if _least_bytes(schema["items"], named, within) == 0:
            raise ValueError("the Avro schema has a list of items that take no bytes")
        return 1
    return 1 if kind == "enum" else _least_bytes(kind, named, within)
