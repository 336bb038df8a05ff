"""Values as others write them: Avro by fastavro, Protobuf by descriptors built here, framed as for a registry."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from uuid import UUID

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

AVRO: dict[str, Any] = {
    "type": "record", "name": "Measured", "namespace": "plant", "fields": [
        {"name": "station", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "level", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}]},
        {"name": "air", "type": {"type": "record", "name": "Air", "fields": [{"name": "no2", "type": "double"}]}},
        {"name": "flag", "type": {"type": "enum", "name": "Flag", "symbols": ["GOOD", "SUSPECT"]}, "default": "GOOD"},
    ],
}  # fmt: skip


def framed(schema: int | UUID, payload: bytes, steps: bytes = b"") -> bytes:
    """Return a value with what a registry's serializer puts before it."""
    if isinstance(schema, UUID):
        return b"\x01" + schema.bytes + steps + payload
    return b"\x00" + schema.to_bytes(4, "big") + steps + payload


def avro(record: object, schema: dict[str, Any] | None = None) -> bytes:
    """Return a record as Avro without a container."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema or AVRO))), record)
    return out.getvalue()


def common_file() -> Any:
    """Return a Protobuf file that another one imports."""
    file = descriptor_pb2.FileDescriptorProto(name="plant/common.proto", package="plant", syntax="proto3")
    message = file.message_type.add(name="Value")
    message.field.add(name="number", number=1, type=1, label=1)
    return file


def measured_file() -> Any:
    """Return a Protobuf file: the second message holds one that is nested in it, a time and an imported one.

    As .proto::

        message Other { string text = 1; }
        message Measured {
          message Where { string station = 1; }
          Where where = 1;  google.protobuf.Timestamp at = 2;  Value level = 3;  sint64 count = 4;
        }
    """
    file = descriptor_pb2.FileDescriptorProto(name="", package="plant", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "plant/common.proto", "confluent/meta.proto"])
    other = file.message_type.add(name="Other")
    other.field.add(name="text", number=1, type=9, label=1)
    measured = file.message_type.add(name="Measured")
    measured.nested_type.add(name="Where").field.add(name="station", number=1, type=9, label=1)
    fields = [("where", ".plant.Measured.Where"), ("at", ".google.protobuf.Timestamp"), ("level", ".plant.Value")]
    for number, (name, type_name) in enumerate(fields, 1):
        measured.field.add(name=name, number=number, type=11, label=1, type_name=type_name)
    measured.field.add(name="count", number=4, type=18, label=1)
    return file


def text_of(file: Any) -> str:
    """Return a file as a registry gives it for ``?format=serialized``."""
    return base64.b64encode(file.SerializeToString()).decode()


def measured_class() -> Any:
    """Return the class of ``Measured``."""
    pool = descriptor_pool.DescriptorPool()
    stamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamp)
    root = measured_file()
    root.name = "root.proto"
    empty = descriptor_pb2.FileDescriptorProto(name="confluent/meta.proto")
    for file in (stamp, common_file(), empty, root):
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("plant.Measured"))
