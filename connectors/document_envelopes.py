"""What others put around their records: Kafka Connect's {schema, payload}, Debezium's before and after, CloudEvents.

What is taken off is told apart by its own keys, so one topic may hold several kinds.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from connectors.json_documents import parsed
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened

Headers = Sequence[tuple[str, bytes]]
EVENT_PREFIX = "@ce."
RESULT_TIME = "@result_time"
"""Around a change of a database's row: when it was made, milliseconds since 1970."""
_DEEPEST = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ, _IGNORED = ("c", "r", "u"), ("d", "t", "m")
"""Debezium's operations: create, read by a snapshot, update; delete, truncate, message."""


class Unwrapped(NamedTuple):
    """What is within."""

    document: object
    around: dict[str, object]
    ignored: str = ""
    """Why it is no reading and no mistake either: a word for counting; empty: it is to be read."""


def unwrap(document: object) -> Unwrapped | Refusal:
    """Take off what is around a document: at most a CloudEvent, Connect's envelope and Debezium's, in this order."""
    around: dict[str, object] = {}
    if _is_event(document):
        event = _event(document)  # type: ignore[arg-type]
        if isinstance(event, Refusal):
            return event
        document, around = event
    if isinstance(document, dict) and document.keys() == {"schema", "payload"}:
        document = from_connect(document["schema"], document["payload"])
        if isinstance(document, Refusal):
            return document
        if document is None:
            return Unwrapped(None, around, "tombstones")
    return _change(document, around)


def event_headers(headers: Headers) -> dict[str, object]:
    """Return the attributes of a CloudEvent in binary mode, as they are called around a record; empty without one."""
    found = {name.lower(): content for name, content in headers if content is not None}
    if "ce_specversion" not in found:
        return {}
    return {
        EVENT_PREFIX + name.removeprefix("ce_"): content.decode("utf-8", "replace")
        for name, content in found.items()
        if name.startswith("ce_")
    }


def _is_event(document: object) -> bool:
    return isinstance(document, dict) and {"specversion", "id", "source", "type"} <= document.keys()


def _event(event: dict[str, object]) -> tuple[object, dict[str, object]] | Refusal:
    if event["specversion"] != "1.0":
        detail = f"CloudEvents specversion {shortened(event['specversion'])}; allowed: '1.0'"
        return Refusal(Reason.UNSUPPORTED, detail)
    around: dict[str, object] = {
        EVENT_PREFIX + name: value
        for name, value in event.items()
        if isinstance(value, str | int) and name not in ("data", "data_base64")
    }
    encoded = event.get("data_base64")
    if encoded is None:
        if event.get("data") is None:
            return Refusal(Reason.EMPTY, "the CloudEvent has no data")
        return event["data"], around
    try:
        document = parsed(base64.b64decode(str(encoded), validate=True))
    except (binascii.Error, ValueError):
        return Refusal(Reason.WRONG_TYPE, "data_base64 of the CloudEvent is no base64")
    return document if isinstance(document, Refusal) else (document, around)


def _change(document: object, around: dict[str, object]) -> Unwrapped | Refusal:
    """Take off Debezium's envelope; one that Debezium itself took off may tell that the row was deleted."""
    if not isinstance(document, dict):
        return Unwrapped(document, around)
    if str(document.get("__deleted", "")).lower() == "true":
        return Unwrapped(None, around, "deletes")
    operation = document.get("op")
    if not (isinstance(operation, str) and "after" in document and ("before" in document or "source" in document)):
        return Unwrapped(document, around)
    if operation in _IGNORED:
        return Unwrapped(None, around, "deletes")
    if operation not in _READ or document["after"] is None:
        detail = f"a change {shortened(operation)} of a row without the row after it; allowed: op c, r, u, d, t, m"
        return Refusal(Reason.UNSUPPORTED, detail)
    source = document.get("source")
    for place in (source, document):
        made = place.get("ts_ms") if isinstance(place, dict) else None
        if made is not None and made != 0:
            around[RESULT_TIME] = made
            break
    return Unwrapped(document["after"], around)


def from_connect(schema: object, payload: object) -> object | Refusal:
    """Return the payload of Connect's JSON with its logical types as Python's: decimals, times, dates.

    >>> schema = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}
    >>> from_connect(schema, "MDk=")
    Decimal('123.45')
    """
    try:
        return _converted(schema, payload, 0)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        return Refusal(Reason.WRONG_TYPE, f"the payload is not what its schema says: {error!r}"[:400])


def _converted(schema: object, payload: object, depth: int) -> object:
    if payload is None or not isinstance(schema, dict) or depth > _DEEPEST:
        return payload
    name, kind = schema.get("name"), schema.get("type")
    if isinstance(name, str) and name in _LOGICAL:
        return _LOGICAL[name](schema, payload)
    if kind == "struct" and isinstance(payload, dict):
        fields = schema.get("fields")
        types = {one["field"]: one for one in fields} if isinstance(fields, list) else {}
        return {key: _converted(types.get(key), value, depth + 1) for key, value in payload.items()}
    if kind == "array" and isinstance(payload, list):
        return [_converted(schema.get("items"), value, depth + 1) for value in payload]
    return payload


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 63:
        raise ValueError(f"{shortened(value)} is no 64-bit integer")
    return value


def _decimal(schema: dict[str, object], value: object) -> object:
    parameters = schema.get("parameters")
    scale = int(str(parameters["scale"])) if isinstance(parameters, dict) else 0
    if isinstance(value, str):
        return _scaled(value, scale)
    return value  # decimal.format=NUMERIC


def _variable_decimal(schema: dict[str, object], value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{shortened(value)} is no object")
    return _scaled(str(value["value"]), _number(value["scale"]))


def _scaled(text: str, scale: int) -> Decimal:
    if len(text) > 100 or abs(scale) > 400:
        raise ValueError(f"a decimal of {len(text)} characters and scale {scale}")
    return Decimal(int.from_bytes(base64.b64decode(text, validate=True), "big", signed=True)).scaleb(-scale)


def _milliseconds(schema: dict[str, object], value: object) -> object:
    return _EPOCH + timedelta(milliseconds=_number(value))


def _microseconds(schema: dict[str, object], value: object) -> object:
    return _EPOCH + timedelta(microseconds=_number(value))


def _nanoseconds(schema: dict[str, object], value: object) -> object:
    return _EPOCH + timedelta(microseconds=_number(value) // 1000)


def _days(schema: dict[str, object], value: object) -> object:
    return (_EPOCH + timedelta(days=_number(value))).date()


def _text(schema: dict[str, object], value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


_LOGICAL = {
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "org.apache.kafka.connect.data.Timestamp": _milliseconds,
    "org.apache.kafka.connect.data.Date": _days,
    "io.debezium.time.Timestamp": _milliseconds,
    "io.debezium.time.MicroTimestamp": _microseconds,
    "io.debezium.time.NanoTimestamp": _nanoseconds,
    "io.debezium.time.Date": _days,
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.data.Json": _text,
}
"""Debezium's own times come from columns without a zone, and count as if that were UTC: Debezium's rule."""
