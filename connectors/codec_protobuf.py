"""Protobuf values, by descriptors that come at run time: no compiler, no generated files."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)  # fmt: skip
from google.protobuf.message import DecodeError

from connectors.reading import Reason
from connectors.refusal import LONGEST_DETAIL, Refusal
from connectors.schema_framing import read_steps
from connectors.schema_registry import Schema

_WELL_KNOWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        any_pb2, api_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, source_context_pb2, struct_pb2,
        timestamp_pb2, type_pb2, wrappers_pb2,
    )
}  # fmt: skip
_META = "confluent/meta.proto"
"""Imported by what Kafka Connect writes, for options alone: an empty file does as well."""


class ProtobufDecoder:
    """Reads values of one schema.

    Raises:
        ValueError: if the schema is none, or needs a file that nobody gave.
    """

    def __init__(self, schema: Schema) -> None:
        self._pool: Any = descriptor_pool.DescriptorPool()
        self._added: set[str] = set()
        self._classes: dict[tuple[int, ...], Any] = {}
        try:
            for name, text in schema.needs:
                self._add(name, _file(text))
            self._file = _file(schema.text)
            self._add(self._file.name or "value.proto", self._file)
        except (TypeError, KeyError, DecodeError, RecursionError) as error:
            raise ValueError(f"no Protobuf schema: {error}") from error

    def read(self, value: bytes, steps: bytes | None) -> object | Refusal:
        """See ``ValueDecoder.read``; as in Protobuf's JSON: 64-bit integers and times as texts, enums by name."""
        way = read_steps(value if steps is None else steps)
        if isinstance(way, Refusal):
            return way
        body = value[way[1] :] if steps is None else value
        try:
            message = self._class(way[0])()
            message.ParseFromString(body)
            return json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True,
                descriptor_pool=self._pool,
            )  # fmt: skip
        except (LookupError, DecodeError, ValueError, TypeError, json_format.Error, RecursionError) as error:
            detail = f"no Protobuf of its schema: {type(error).__name__}: {error}"
            return Refusal(Reason.WRONG_TYPE, detail[:LONGEST_DETAIL])

    def _class(self, steps: tuple[int, ...]) -> Any:
        """Return the class of the message that lies at the end of a way; LookupError if there is none."""
        if steps not in self._classes:
            node = self._file.message_type[steps[0]]
            names = [self._file.package] if self._file.package else []
            names.append(node.name)
            for step in steps[1:]:
                node = node.nested_type[step]
                names.append(node.name)
            found = self._pool.FindMessageTypeByName(".".join(names))
            self._classes[steps] = message_factory.GetMessageClass(found)
        return self._classes[steps]

    def _add(self, name: str, file: Any) -> None:
        file.name = name
        for needed in file.dependency:
            self._add_well_known(needed)
        self._pool.Add(file)
        self._added.add(name)

    def _add_well_known(self, name: str) -> None:
        if name in self._added:
            return
        if name == _META:
            self._add(name, descriptor_pb2.FileDescriptorProto(syntax="proto3"))
        elif name in _WELL_KNOWN:
            file = descriptor_pb2.FileDescriptorProto()
            _WELL_KNOWN[name].CopyToProto(file)
            self._add(name, file)


def _file(text: str) -> Any:
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("the registry gives no descriptor for ?format=serialized, but a text") from error
