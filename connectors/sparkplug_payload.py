"""Sparkplug B payloads (Eclipse Sparkplug 3.0, chapter 6): bytes to metrics and back.

Field numbers and data types are those of the specification's appendix; only what readings need is described.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from connectors.protobuf_messages import message_classes
from connectors.reading import Quality, Reason
from connectors.refusal import LONGEST_DETAIL, Refusal

MESSAGES = message_classes(
    "vedette.sparkplug",
    {
        "Payload": {
            "timestamp": (1, "uint64?"), "metrics": (2, "Metric*"), "seq": (3, "uint64?"), "uuid": (4, "string?"),
            "body": (5, "bytes?"),
        },
        "Metric": {
            "name": (1, "string?"), "alias": (2, "uint64?"), "timestamp": (3, "uint64?"), "datatype": (4, "uint32?"),
            "is_historical": (5, "bool?"), "is_transient": (6, "bool?"), "is_null": (7, "bool?"),
            "properties": (9, "PropertySet"), "int_value": (10, "uint32"), "long_value": (11, "uint64"),
            "float_value": (12, "float"), "double_value": (13, "double"), "boolean_value": (14, "bool"),
            "string_value": (15, "string"), "bytes_value": (16, "bytes"), "dataset_value": (17, "Anything"),
            "template_value": (18, "Anything"),
        },
        "PropertySet": {"keys": (1, "string*"), "values": (2, "PropertyValue*")},
        "PropertyValue": {
            "type": (1, "uint32?"), "is_null": (2, "bool?"), "int_value": (3, "uint32"), "long_value": (4, "uint64"),
            "float_value": (5, "float"), "double_value": (6, "double"), "boolean_value": (7, "bool"),
            "string_value": (8, "string"),
        },
        "Anything": {},
    },
    {
        "Metric.value": (
            "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value", "bytes_value",
            "dataset_value", "template_value",
        ),
        "PropertyValue.value": (
            "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value",
        ),
    },
)  # fmt: skip

INT8, INT16, INT32, INT64 = 1, 2, 3, 4
UINT8, UINT16, UINT32, UINT64 = 5, 6, 7, 8
FLOAT, DOUBLE, BOOLEAN = 9, 10, 11
SIGNED_BITS = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
"""Signed integers travel in unsigned fields, as two's complement."""
_NUMERIC = frozenset(range(INT8, BOOLEAN + 1))
_QUALITIES = {0: Quality.BAD, 192: Quality.GOOD, 500: Quality.MISSING}
"""Property Quality (6.4.13): bad, good, stale; what is stale is no measurement of now."""
_UNIT_KEYS = ("engunit", "unit", "units", "engineering units", "engineeringunits")
"""Properties, in small letters, by which edge nodes tell units; the specification fixes none."""
_COMPRESSED = "SPBV1.0_COMPRESSED"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a payload."""

    name: str | None
    alias: int | None = None
    time_ms: int | None = None
    datatype: int | None = None
    """None: that of the birth."""
    value: float | None = None
    """As it travels (see ``number``); None: is_null, NaN, or no number."""
    measures: bool = True
    """False for values that are no numbers: texts, bytes, data sets, templates."""
    quality: Quality = Quality.UNKNOWN
    unit: str = ""
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """What one message holds."""

    time_ms: int | None
    seq: int | None
    metrics: Sequence[Metric]


def decode(raw: bytes) -> Payload | Refusal:
    """Return the payload in ``raw``, or why there is none. Never raises."""
    try:
        message = MESSAGES["Payload"].FromString(raw)
        metrics = [_metric(one) for one in message.metrics]
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Refusal(Reason.WRONG_TYPE, f"no Sparkplug B payload: {error}"[:LONGEST_DETAIL])
    if message.uuid == _COMPRESSED:
        return Refusal(Reason.UNSUPPORTED, "the payload is compressed; allowed: payloads as they are")
    time_ms = message.timestamp if message.HasField("timestamp") else None
    return Payload(time_ms, message.seq if message.HasField("seq") else None, metrics)


def number(value: float, datatype: int | None) -> float:
    """Return a metric's value as its data type means it.

    >>> number(255, INT8), number(4294967295, INT8), number(255, UINT8), number(2**64 - 2, INT64)
    (-1.0, -1.0, 255.0, -2.0)
    """
    bits = SIGNED_BITS.get(datatype or 0)
    if bits is None or not isinstance(value, int):
        return float(value)
    low = value & ((1 << bits) - 1)
    return float(low - (1 << bits) if low >> (bits - 1) else low)


def is_numeric(datatype: int | None) -> bool:
    """Return whether values of this type are measurements; unknown types may be."""
    return datatype is None or datatype == 0 or datatype in _NUMERIC


def _metric(one: Any) -> Metric:
    which = one.WhichOneof("value")
    value: float | None = None
    measures = True
    if which in ("int_value", "long_value", "float_value", "double_value", "boolean_value"):
        given = getattr(one, which)
        if not one.is_null and math.isfinite(given):  # NaN is a sensor's own way to say that it has none
            value = int(given) if which == "boolean_value" else given
    elif which is not None:
        measures = False
    quality, unit = _properties(one.properties) if one.HasField("properties") else (Quality.UNKNOWN, "")
    return Metric(
        one.name if one.HasField("name") and one.name else None,
        one.alias if one.HasField("alias") else None,
        one.timestamp if one.HasField("timestamp") else None,
        one.datatype if one.HasField("datatype") else None,
        value,
        measures,
        quality,
        unit,
        one.is_historical,
    )


def _properties(properties: Any) -> tuple[Quality, str]:
    quality, unit = Quality.UNKNOWN, ""
    for key, value in zip(properties.keys, properties.values, strict=False):
        name, which = key.strip().lower(), value.WhichOneof("value")
        if which is None or value.is_null:
            continue
        if name == "quality" and which in ("int_value", "long_value"):
            quality = _QUALITIES.get(getattr(value, which), Quality.UNKNOWN)
        elif name in _UNIT_KEYS and which == "string_value":
            unit = value.string_value[:64]
    return quality, unit


def rebirth_command(time_ms: int) -> bytes:
    """Return the payload of an NCMD that asks an edge node for its births (6.4.18, Node Control/Rebirth).

    Raises:
        ValueError: if the time cannot be written.
    """
    try:
        payload = MESSAGES["Payload"](timestamp=time_ms)
        payload.metrics.add(name="Node Control/Rebirth", timestamp=time_ms, datatype=BOOLEAN, boolean_value=True)
        return bytes(payload.SerializeToString())
    except EncodeError as error:
        raise ValueError(str(error)) from error
