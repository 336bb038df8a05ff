"""Kafka records that others wrote, to readings: framing, codec, envelopes and a mapping of fields, in this order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from connectors.codec_avro import AvroDecoder, ValueDecoder
from connectors.codec_protobuf import ProtobufDecoder
from connectors.document_envelopes import event_headers, unwrap
from connectors.field_mapping import TIME, FieldMapping
from connectors.json_documents import parsed
from connectors.reading import Reading, Reason, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened
from connectors.schema_framing import KEY_HEADER, VALUE_HEADER, SchemaId, is_framed, unframe
from connectors.schema_registry import Schema

Headers = Sequence[tuple[str, bytes]]
_KEPT = 65_536
"""Bytes of a refused record that are kept."""


class Schemas(Protocol):
    """Knows schemas by id."""

    def schema(self, wanted: SchemaId) -> Schema | Refusal:
        """Return a schema, or a refusal if there is none; SourceUnavailable if that cannot be told now."""


class ForeignRecord(NamedTuple):
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Outcome(NamedTuple):
    """What comes of a record."""

    readings: list[Reading]
    rejected: list[Rejected]
    ignored: str = ""
    """Why nothing comes of it though nothing is wrong: ``tombstones``, ``deletes``; empty otherwise."""


class JsonDecoder:
    """Reads values that are JSON; a schema adds nothing to what they say."""

    def read(self, value: bytes, steps: bytes | None) -> object | Refusal:
        """See ``ValueDecoder.read``."""
        return parsed(value)


_MOST_DECODERS = 1000
_DECODERS: Mapping[str, Callable[[Schema], ValueDecoder]] = {"AVRO": AvroDecoder, "PROTOBUF": ProtobufDecoder}


class ForeignRecords:
    """Reads records. For one thread.

    Args:
        mapping: from their fields to readings.
        schemas: knows the schemas of framed values; None: framed values are refused.
        envelopes: whether Connect's, Debezium's and CloudEvents' envelopes are taken off.
    """

    def __init__(self, mapping: FieldMapping, schemas: Schemas | None = None, *, envelopes: bool = True) -> None:
        self._mapping = mapping
        self._schemas = schemas
        self._envelopes = envelopes
        self._decoders: dict[SchemaId, ValueDecoder | Refusal] = {}
        self._json: ValueDecoder = JsonDecoder()
        self._reads_keys = any(name.startswith("@key") for name in mapping.around())

    def read(self, record: ForeignRecord) -> Outcome:
        """Return what comes of a record. Never raises for what is in it.

        Raises:
            SourceUnavailable: if its schema cannot be asked for now; read it again.
        """
        if record.value is None:
            return Outcome([], [], "tombstones")
        document = self._document(record.value, record.headers, VALUE_HEADER)
        if isinstance(document, Refusal):
            return self._refused(record, document)
        around = self._around(record)
        if self._envelopes:
            unwrapped = unwrap(document)
            if isinstance(unwrapped, Refusal):
                return self._refused(record, unwrapped)
            if unwrapped.ignored:
                return Outcome([], [], unwrapped.ignored)
            document = unwrapped.document
            around |= unwrapped.around
        if isinstance(document, list):
            return self._read_all(record, document, around)
        readings, refused = self._mapping.read(_fields(document), around)
        return Outcome(readings, [self._rejected(record, refusal) for refusal in refused])

    def _read_all(self, record: ForeignRecord, documents: list[object], around: dict[str, object]) -> Outcome:
        readings: list[Reading] = []
        rejected: list[Rejected] = []
        for index, document in enumerate(documents):
            good, bad = self._mapping.read(_fields(document), around)
            readings += good
            rejected += [self._rejected(record, refusal.within(f"element {index}")) for refusal in bad]
        if not documents:
            return self._refused(record, Refusal(Reason.EMPTY, "the list holds no record"))
        return Outcome(readings, rejected)

    def _document(self, data: bytes, headers: Headers, header: str) -> object | Refusal:
        if not is_framed(data, headers, header):
            if not data.strip():
                return Refusal(Reason.EMPTY, "the value is empty")
            plain = parsed(data)
            if isinstance(plain, Refusal):
                return plain.within("neither framed for a schema registry, nor JSON")
            return plain
        framed = unframe(data, headers, header)
        if isinstance(framed, Refusal):
            return framed
        plain_json = self._schemas is None and framed.value[:1] in (b"{", b"[")  # a schema would add nothing
        decoder = self._json if plain_json else self._decoder(framed.schema)
        if isinstance(decoder, Refusal):
            return decoder
        document = decoder.read(framed.value, framed.steps)
        return document.within(f"schema {framed.schema}") if isinstance(document, Refusal) else document

    def _decoder(self, wanted: SchemaId) -> ValueDecoder | Refusal:
        if wanted in self._decoders:
            return self._decoders[wanted]
        if self._schemas is None:
            return Refusal(Reason.UNSUPPORTED, f"written with schema {wanted}, and no schema registry is configured")
        schema = self._schemas.schema(wanted)
        if isinstance(schema, Refusal):
            return schema  # not kept here: the registry may know it later
        decoder: ValueDecoder | Refusal = self._json
        if schema.type != "JSON":
            kind = _DECODERS.get(schema.type)
            try:
                if kind is None:
                    raise ValueError(f"its type is {shortened(schema.type)}; allowed: AVRO, JSON, PROTOBUF")
                decoder = kind(schema)
            except ValueError as error:
                decoder = Refusal(Reason.UNSUPPORTED, f"schema {wanted}: {error}"[:LONGEST_DETAIL])
        if len(self._decoders) >= _MOST_DECODERS:
            self._decoders.clear()
        self._decoders[wanted] = decoder
        return decoder

    def _around(self, record: ForeignRecord) -> dict[str, object]:
        around: dict[str, object] = {
            "@topic": record.topic,
            "@partition": record.partition,
            "@offset": record.offset,
            TIME: record.timestamp_ms * 1000,
        }
        for name, content in record.headers:
            if content is not None:
                around[f"@header.{name}"] = content.decode("utf-8", "replace")
        around |= event_headers(record.headers)
        if self._reads_keys and record.key is not None:
            around |= self._of_key(record.key, record.headers)
        return around

    def _of_key(self, key: bytes, headers: Headers) -> dict[str, object]:
        """Return what a key says: as text, or as a document whose fields are called ``@key.NAME``."""
        document: object = None
        if is_framed(key, headers, KEY_HEADER) or key[:1] == b"{":
            document = self._document(key, headers, KEY_HEADER)
            unwrapped = unwrap(document) if self._envelopes else None
            if unwrapped is not None and not isinstance(unwrapped, Refusal):
                document = unwrapped.document
        if isinstance(document, dict):
            return {f"@key.{name}": value for name, value in document.items()}
        if isinstance(document, str | int):
            return {"@key": document}
        return {"@key": key.decode("utf-8", "replace")}

    def _refused(self, record: ForeignRecord, refusal: Refusal) -> Outcome:
        return Outcome([], [self._rejected(record, refusal)])

    @staticmethod
    def _rejected(record: ForeignRecord, refusal: Refusal) -> Rejected:
        where = f"{record.topic}-{record.partition} at {record.offset}: {refusal.detail}"[:LONGEST_DETAIL]
        raw = (record.value or b"")[:_KEPT]
        return Rejected(refusal.reason, where, raw, record.topic, record.partition, record.offset, record.key)


def _fields(document: object) -> object:
    """Return a document with fields; a bare number or text is the field ``value`` of one."""
    return document if isinstance(document, dict) else {"value": document}
