"""Protocol Buffers messages from a description in code: no compiler, no generated files.

A field is written ``(number, type)``: a scalar's name as in a .proto file (``double``, ``fixed64``, ``string``), or the
name of a message or enum described beside it; with ``*`` behind it is repeated, with ``?`` it knows whether it was
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Fields = Mapping[str, tuple[int, str]]
Oneofs = Mapping[str, tuple[str, ...]]
Enums = Mapping[str, tuple[str, ...]]

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8, "string": 9,
    "bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16, "sint32": 17, "sint64": 18,
}  # fmt: skip
"""FieldDescriptorProto.Type in descriptor.proto."""
_MESSAGE = 11
_ENUM = 14


def message_classes(
    package: str, messages: Mapping[str, Fields], oneofs: Oneofs | None = None, enums: Enums | None = None
) -> dict[str, Any]:
    """Return a class for each message, proto3; unknown fields in what they parse are kept aside, not refused.

    Args:
        package: of all messages; with their names it is to be unique in the process, or the same each time.
        messages: name to fields.
        oneofs: ``"Message.name"`` to the fields of which only one is there.
        enums: name to the names of its values, from 0.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"vedette/{package}.proto", package=package, syntax="proto3")
    for name, values in (enums or {}).items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in messages.items():
        _describe(file.message_type.add(name=name), package, fields, oneofs or {}, enums or {})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _describe(message: Any, package: str, fields: Fields, oneofs: Oneofs, enums: Enums) -> None:
    whole = {
        field: index
        for index, (_, members) in enumerate(o for o in oneofs.items() if o[0].startswith(f"{message.name}."))
        for field in members
    }
    for path in oneofs:
        if path.startswith(f"{message.name}."):
            message.oneof_decl.add(name=path.partition(".")[2])
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number, label=3 if kind.endswith("*") else 1)
        of = kind.rstrip("*?")
        scalar = _SCALARS.get(of)
        if scalar is None:
            field.type, field.type_name = (_ENUM if of in enums else _MESSAGE), f".{package}.{of}"
        else:
            field.type = scalar
        if name in whole:
            field.oneof_index = whole[name]
    for name, (_, kind) in fields.items():  # proto3's optional fields come behind all real oneofs
        if kind.endswith("?"):
            field = next(f for f in message.field if f.name == name)
            field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
