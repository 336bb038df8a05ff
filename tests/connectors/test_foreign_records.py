"""Protects what others' records mean: every codec and envelope to the same reading, and no bytes that raise."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from connectors.document_envelopes import Unwrapped, unwrap
from connectors.field_mapping import FieldMapping, Fields
from connectors.foreign_records import ForeignRecord, ForeignRecords, Headers, Outcome
from connectors.reading import Quality, Reason
from connectors.record_times import RecordTimes
from connectors.refusal import Refusal
from connectors.schema_framing import SchemaId
from connectors.schema_registry import Schema, SchemaRegistry
from tests.connectors.foreign_values import AVRO, avro, common_file, framed, measured_class, measured_file, text_of
from tests.schema_registry import SchemaRegistryServer

NOON_US = 1_795_176_000_000_000
NOON = datetime.fromtimestamp(NOON_US / 1e6, UTC)
FIELDS = Fields(
    time="at", entity="station", values={"stage": "level", "no2": "air.no2"}, units={"stage": "m"}, quality="flag"
)
RECORD = {"station": "S7", "at": NOON, "level": Decimal("1.590"), "air": {"no2": 31.5}, "flag": "SUSPECT"}
DOCUMENT = {"station": "S7", "at": "2026-11-20T12:00:00Z", "level": 1.59, "air": {"no2": 31.5}, "flag": "suspect"}
AS_READ = [("S7", "stage", NOON_US, 1.59, Quality.SUSPECT), ("S7", "no2", NOON_US, 31.5, Quality.SUSPECT)]


@pytest.fixture(scope="module")
def server() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as registry:
        yield registry


@pytest.fixture(scope="module")
def registry(server: SchemaRegistryServer) -> Iterator[SchemaRegistry]:
    made = SchemaRegistry(server.url)
    yield made
    made.close()


def records(registry: Any = None, fields: Fields = FIELDS, **settings: bool) -> ForeignRecords:
    return ForeignRecords(FieldMapping(fields, RecordTimes()), registry, **settings)


def read(reader: ForeignRecords, value: bytes | None, headers: Headers = (), key: bytes | None = None) -> Outcome:
    return reader.read(ForeignRecord("plant", 2, 41, NOON_US // 1000, key, value, headers))


def shown(outcome: Outcome) -> list[tuple[str, str, int, float | None, Quality]]:
    assert not outcome.rejected, outcome.rejected
    return [(r.entity, r.channel, r.time_us, r.value, r.quality) for r in outcome.readings]


def test_avro_by_id_by_guid_and_by_header(server: SchemaRegistryServer, registry: SchemaRegistry) -> None:
    """Protects all frames, and Avro's logical types: a timestamp, a decimal, an enum, a union with null."""
    schema = server.register(json.dumps(AVRO))
    body = avro(RECORD)
    reader = records(registry)
    for value, headers in [
        (framed(schema.id, body), ()),
        (framed(schema.guid, body), ()),
        (body, [("__value_schema_id", framed(schema.guid, b""))]),
        (body, [("__value_schema_id", framed(schema.id, b""))]),
    ]:
        assert shown(read(reader, value, headers)) == AS_READ
    empty = read(reader, framed(schema.id, avro({**RECORD, "level": None})))
    assert empty.readings[0].value is None


def test_avro_with_a_referenced_schema(server: SchemaRegistryServer, registry: SchemaRegistry) -> None:
    """Protects schemas in parts."""
    server.register(json.dumps({**AVRO["fields"][3]["type"], "namespace": "plant"}), subject="air")
    parts = json.loads(json.dumps(AVRO))
    parts["fields"][3]["type"] = "plant.Air"
    schema = server.register(json.dumps(parts), references=[("plant.Air", "air", 1)])
    assert shown(read(records(registry), framed(schema.id, avro(RECORD)))) == AS_READ


def test_protobuf_with_nested_and_imported_messages(server: SchemaRegistryServer, registry: SchemaRegistry) -> None:
    """Protects descriptors from the registry: the second message of a file, a well-known type, an import."""
    server.register(text_of(common_file()), "PROTOBUF", "common")
    schema = server.register(text_of(measured_file()), "PROTOBUF", references=[("plant/common.proto", "common", 1)])
    message = measured_class()()
    message.where.station = "S7"
    message.at.FromDatetime(NOON)
    message.level.number = 1.59
    fields = Fields(time="at", entity="where.station", values={"stage": "level.number", "count": "count"})
    reader = records(registry, fields)
    body = message.SerializeToString()
    wanted = [("S7", "stage", NOON_US, 1.59, Quality.UNKNOWN), ("S7", "count", NOON_US, 0.0, Quality.UNKNOWN)]
    assert shown(read(reader, framed(schema.id, body, b"\x02\x02"))) == wanted
    assert shown(read(reader, body, [("__value_schema_id", framed(schema.guid, b"", b"\x02\x02"))])) == wanted
    for steps in (b"\x00", b"\x02\x12", b"\x04\x02\x04"):
        outcome = read(reader, framed(schema.id, body, steps))
        assert not outcome.readings
        assert outcome.rejected


def test_json_framed_or_plain(server: SchemaRegistryServer, registry: SchemaRegistry) -> None:
    """Protects JSON of a registry's serializer, with a registry and without, and JSON of everybody else."""
    schema = server.register('{"type": "object"}', "JSON")
    body = json.dumps(DOCUMENT).encode()
    assert shown(read(records(registry), framed(schema.id, body))) == AS_READ
    assert shown(read(records(), framed(schema.guid, body))) == AS_READ
    assert shown(read(records(), body)) == AS_READ
    assert shown(read(records(), b"[" + body + b"]")) == AS_READ


def test_a_bare_number_with_its_key() -> None:
    """Protects topics that hold a number a record; entity and time are around it."""
    fields = Fields(entity="{@topic}/{@key}", channel="@header.what", value="value")
    outcome = read(records(fields=fields), b"21.5", [("what", b"t")], key=b"S7")
    assert shown(outcome) == [("plant/S7", "t", NOON_US, 21.5, Quality.UNKNOWN)]
    fields = Fields(entity="@key.id", values={"t": "t"})
    keys = [b'{"id": 7}', b'{"schema": {"type": "struct"}, "payload": {"id": 7}}']
    for key in keys:
        assert shown(read(records(fields=fields), b'{"t": 1}', key=key))[0][0] == "7"


def connect(payload: object, fields: list[dict[str, Any]]) -> bytes:
    return json.dumps({"schema": {"type": "struct", "fields": fields}, "payload": payload}).encode()


def test_connects_envelope_with_its_logical_types() -> None:
    """Protects numbers that are bytes, and times that are numbers, where the envelope says so."""
    air = {"field": "air", "type": "struct", "fields": [{"field": "no2", "type": "double"}]}
    decimal = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "3"}}
    variable = {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}
    unscaled = base64.b64encode((1590).to_bytes(2, "big")).decode()
    times = {
        "org.apache.kafka.connect.data.Timestamp": NOON_US // 1000,
        "io.debezium.time.MicroTimestamp": NOON_US,
        "io.debezium.time.NanoTimestamp": NOON_US * 1000,
    }
    levels: list[tuple[object, dict[str, Any]]] = [
        (unscaled, decimal), ({"scale": 3, "value": unscaled}, variable), (1.59, {"type": "double"}),
    ]  # fmt: skip
    for name, at in times.items():
        for level, form in levels:
            time: dict[str, Any] = {"field": "at", "type": "int64", "name": name}
            fields = [time, {"field": "level", **form}, air]
            assert shown(read(records(), connect({**DOCUMENT, "at": at, "level": level}, fields))) == AS_READ
    assert read(records(), b'{"schema": null, "payload": null}').ignored == "tombstones"
    bad = read(records(), connect({**DOCUMENT, "level": "%%"}, [{"field": "level", **decimal}]))
    assert [r.reason for r in bad.rejected] == [Reason.WRONG_TYPE]


@pytest.mark.parametrize("wrapped", [False, True])
def test_changes_of_a_database(wrapped: bool) -> None:
    """Protects Debezium: rows after a change, when it was made; deletes and tombstones are no readings."""
    reader = records(fields=Fields(**{**_slots(FIELDS), "result_time": "@result_time"}))

    def change(op: str, after: object, **more: object) -> Outcome:
        source = {"ts_ms": NOON_US // 1000 + 5000, "table": "m"}
        document = {"before": None, "after": after, "source": source, "op": op, "ts_ms": 1, **more}
        return read(reader, connect(document, []) if wrapped else json.dumps(document).encode())

    for op in "cru":
        assert shown(change(op, DOCUMENT)) == AS_READ
        assert change(op, DOCUMENT).readings[0].result_time_us == NOON_US + 5_000_000
    assert change("d", None).ignored == "deletes"
    assert change("t", None).ignored == "deletes"
    assert read(reader, None).ignored == "tombstones"
    assert read(reader, json.dumps({**DOCUMENT, "__deleted": "true"}).encode()).ignored == "deletes"
    assert change("u", None).rejected[0].reason is Reason.UNSUPPORTED


def _slots(fields: Fields) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in Fields.__slots__}


def test_cloud_events_in_both_modes(server: SchemaRegistryServer, registry: SchemaRegistry) -> None:
    """Protects events: data in the envelope, in base64, or beside attributes in headers, framed too."""
    event = {"specversion": "1.0", "id": "1", "source": "/plant", "type": "m", "subject": "S7"}
    fields = Fields(**{**_slots(FIELDS), "entity": "@ce.subject"})
    encoded = base64.b64encode(json.dumps(DOCUMENT).encode()).decode()
    reader = records(registry, fields)
    assert shown(read(reader, json.dumps({**event, "data": DOCUMENT}).encode())) == AS_READ
    assert shown(read(reader, json.dumps({**event, "data_base64": encoded}).encode())) == AS_READ
    headers = [(f"ce_{name}", text.encode()) for name, text in event.items()]
    schema = server.register(json.dumps(AVRO))
    assert shown(read(reader, framed(schema.id, avro(RECORD)), headers)) == AS_READ
    assert shown(read(reader, json.dumps(DOCUMENT).encode(), headers)) == AS_READ
    assert read(reader, json.dumps({**event, "specversion": "0.3"}).encode()).rejected[0].reason is Reason.UNSUPPORTED
    assert read(reader, json.dumps(event).encode()).rejected[0].reason is Reason.EMPTY


def test_what_cannot_be_read_says_where_it_is(registry: SchemaRegistry) -> None:
    """Protects whoever has to look: topic, partition, offset, key and the bytes."""
    value = framed(999_999, b"x")
    (rejected,) = read(records(registry), value, key=b"k").rejected
    assert (rejected.topic, rejected.partition, rejected.offset, rejected.key, rejected.raw) == (
        "plant",
        2,
        41,
        b"k",
        value,
    )
    assert rejected.detail.startswith("plant-2 at 41: ")
    (rejected,) = read(records(), value).rejected
    assert "no schema registry is configured" in rejected.detail
    (rejected,) = read(records(), b"\x00\x01").rejected
    assert "00 and 4 bytes" in rejected.detail
    assert read(records(), b" ").rejected[0].reason is Reason.EMPTY


class Known:
    """One schema under every id."""

    def __init__(self, schema: Schema) -> None:
        self.found = schema

    def schema(self, wanted: SchemaId) -> Schema | Refusal:
        return self.found


ITSELF = {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}
NOTHING = {"type": "record", "name": "N", "fields": [{"name": "n", "type": {"type": "array", "items": "null"}}]}


@pytest.mark.parametrize(
    ("schema", "told"), [(ITSELF, "contains itself"), (NOTHING, "take no bytes"), ({"type": "?"}, "Avro")]
)
def test_schemas_that_could_end_the_process_are_refused(schema: dict[str, Any], told: str) -> None:
    """Protects the process: a deeply nested value overruns a stack, and five bytes may be a list without end."""
    reader = records(Known(Schema("AVRO", json.dumps(schema))))
    (rejected,) = read(reader, framed(1, b"\x02" * 1_000_000)).rejected
    assert told in rejected.detail


def test_a_decimal_of_a_megabyte_is_refused() -> None:
    """Protects all sources of the process: Python would think about it for minutes and let nobody else run."""
    length = b"\x80\x89\x7a"  # a million, as Avro writes it
    value = avro({**RECORD, "level": None}).replace(b"\x00", b"\x02" + length + b"\x7f" * 1_000_000, 1)
    (rejected,) = read(records(Known(Schema("AVRO", json.dumps(AVRO)))), framed(1, value)).rejected
    assert "a decimal of 1000000 bytes" in rejected.detail


SCHEMAS = [
    Schema("AVRO", json.dumps(AVRO)),
    Schema("AVRO", '{"type": "map", "values": ["null", "string", {"type": "array", "items": "bytes"}]}'),
    Schema("PROTOBUF", text_of(measured_file()), (("plant/common.proto", text_of(common_file())),)),
    Schema("PROTOBUF", base64.b64encode(struct_pb2.DESCRIPTOR.serialized_pb).decode()),
    Schema("JSON", "{}"),
    Schema("XML", ""),
    Schema("PROTOBUF", "message A {}"),
]
READERS = [records(Known(schema)) for schema in SCHEMAS]


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x01\x02\x02"]))
def test_arbitrary_bytes_never_raise(data: bytes, frame: bytes) -> None:
    """Protects the source from every value there is, framed or not."""
    for reader in READERS:
        outcome = read(reader, frame + data, key=data)
        assert outcome.readings or outcome.rejected or outcome.ignored or data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PARTS = ["schema", "payload", "op", "before", "after", "source", "ts_ms", "specversion", "id", "type", "data"]
PARTS += ["data_base64", "fields", "field", "name", "parameters", "scale"]
CONNECT, DEBEZIUM = "org.apache.kafka.connect.data.", "io.debezium."
WORDS = st.sampled_from([
    "struct", "array", "c", "d", "1.0", f"{CONNECT}Decimal", f"{CONNECT}Date", f"{CONNECT}Timestamp",
    f"{DEBEZIUM}data.VariableScaleDecimal", f"{DEBEZIUM}time.Date", f"{DEBEZIUM}data.Json",
])  # fmt: skip
ENVELOPES = st.recursive(
    JSON | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=6)
    | st.fixed_dictionaries({"schema": inner, "payload": inner}),
    max_leaves=20,
)  # fmt: skip


@given(ENVELOPES)
def test_no_envelope_raises(document: object) -> None:
    """Protects the source from what only looks like an envelope."""
    assert isinstance(unwrap(document), Unwrapped | Refusal)
    read(records(), json.dumps(document).encode())


@given(st.decimals(min_value=-999_999, max_value=999_999, places=3), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_through_avro(level: Decimal, no2: float) -> None:
    """Protects decimals and doubles: what was written is what is read."""
    outcome = read(READERS[0], framed(1, avro({**RECORD, "level": level, "air": {"no2": no2}})))
    assert [r.value for r in outcome.readings] == [float(level), no2]
