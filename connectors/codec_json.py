"""The canonical reading as JSON: one object, or a list of them.

``{"entity": "station-7", "channel": "pm25", "time": "2026-11-21T10:00:00Z", "value": 12.4, "unit": "ug/m3"}``

======== ===================================================== =============================
key      rule                                                  when left out or null
======== ===================================================== =============================
channel  text, 1 to 256 characters                             refused
time     RFC 3339 text with an offset; end of the interval     refused
value    finite number, or null: known to be missing           refused when left out
entity   text, 1 to 256 characters                             the record's key
unit     UCUM code, at most 64 characters                      the channel's configured unit
quality  good, provisional, estimated, suspect, bad, missing   unknown
result_time  as ``time``: when the source last changed it      none
======== ===================================================== =============================

Other keys (``source``, ``id``, …) are allowed and not read on the hot path.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

import msgspec
import numpy as np

from connectors.json_documents import NOT_JSON
from connectors.reading import NO_TIME, Quality, Reading, ReadingBatch, Reason, Vocabulary
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened
from connectors.timestamps import to_text, to_texts

LONGEST_NAME = 256
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
UnitCode = Annotated[str, msgspec.Meta(max_length=64)]


class WireReading(msgspec.Struct, gc=False):
    """One reading as it is on the wire; times are still text. ``gc=False``: it holds no reference cycles."""

    channel: Name
    time: str
    value: float | None
    entity: Name | None = None
    unit: UnitCode | None = ""
    quality: str | None = None
    result_time: str | None = None


Wire = WireReading | list[WireReading]
decode_wire = msgspec.json.Decoder(Wire).decode
"""Bytes to readings; raises what is in ``NOT_JSON``, which ``explain`` turns into a value."""

QUALITY_CODES: dict[str | None, int] = {quality.name.lower(): int(quality) for quality in Quality}
QUALITY_CODES[None] = int(Quality.UNKNOWN)

_PLACE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_NOT_FINITE = re.compile(rb"\b(NaN|Infinity)\b")


def read_wire(raw: bytes) -> list[WireReading] | Refusal:
    """Return the readings in one canonical JSON value, or why there are none."""
    try:
        wire = decode_wire(raw)
    except NOT_JSON as error:
        return explain(raw, error)
    if isinstance(wire, WireReading):
        return [wire]
    return wire or Refusal(Reason.EMPTY, "the list holds no reading; allowed: one object, or a list of at least one")


def explain(raw: bytes, error: Exception) -> Refusal:
    """Return why ``raw`` is no canonical reading, given what ``decode_wire`` raised for it."""
    try:
        document = msgspec.json.decode(raw)  # the typed decoder stops at the first fault: is the rest JSON at all?
    except msgspec.ValidationError as worse:  # a number out of range: nothing else is invalid without a type
        document, error = None, error if "out of range" in str(error) else worse
    except (msgspec.DecodeError, UnicodeDecodeError) as worse:
        return _explain_syntax(raw, str(worse))
    except RecursionError:
        return Refusal(Reason.INVALID_JSON, "nested too deeply; allowed: one flat object, or a list of them")
    message = str(error)
    if "out of range" in message:
        return Refusal(Reason.NOT_FINITE, f"{message}; allowed: a number that a 64-bit float can hold, or null")
    if "missing required field" in message:
        return Refusal(Reason.MISSING_KEY, f"{message}; required: channel, time, value"[:LONGEST_DETAIL])
    hint = "; RFC 3339 text, not a number" if message.endswith("time`") else ""
    return Refusal(Reason.WRONG_TYPE, f"{message}{_value_at(document, message)}{hint}"[:LONGEST_DETAIL])


def _explain_syntax(raw: bytes, message: str) -> Refusal:
    if _NOT_FINITE.search(raw) and _parses_with_constants(raw):
        detail = "NaN and Infinity are no JSON; allowed: a finite number, or null for a missing value"
        return Refusal(Reason.NOT_FINITE, detail)
    start = shortened(raw[:40].decode("utf-8", "replace"))
    return Refusal(Reason.INVALID_JSON, f"{message}; begins {start}"[:LONGEST_DETAIL])


def _parses_with_constants(raw: bytes) -> bool:
    """Return whether ``raw`` would be JSON if NaN and Infinity were: Python's own parser takes them."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def _value_at(value: Any, message: str) -> str:
    """Return ``"; value …"`` for the place in a document that a validation message names; empty when there is none."""
    place = _PLACE.search(message)
    try:
        for key, index in _STEP.findall(place[1] if place else ""):
            value = value[key] if key else value[int(index)]
    except (LookupError, TypeError):
        return ""
    return f"; value {shortened(value)}"


def encode_reading(reading: Reading) -> bytes:
    """Return ``reading`` as canonical JSON; what is left out means its default. NaN is written as null.

    Raises:
        ValueError: if the value is infinite: such a reading would be refused on the way back.
    """
    if reading.value is not None and math.isinf(reading.value):
        raise ValueError(f"value of {reading.entity}/{reading.channel} is infinite; allowed: a finite number or None")
    out: dict[str, object] = {"entity": reading.entity, "channel": reading.channel}
    out["time"] = to_text(reading.time_us)
    out["value"] = reading.value  # msgspec writes NaN as null
    if reading.unit:
        out["unit"] = reading.unit
    if reading.quality != Quality.UNKNOWN:
        out["quality"] = reading.quality.name.lower()
    if reading.result_time_us is not None:
        out["result_time"] = to_text(reading.result_time_us)
    out |= {key: text for key, text in (("source", reading.source), ("id", reading.id)) if text}
    return msgspec.json.encode(out)


def encode_readings(batch: ReadingBatch, entities: Vocabulary, channels: Vocabulary, units: Vocabulary) -> list[bytes]:
    """Return [n] canonical single-object JSON values for a batch; the vocabularies are those of its decoder.

    Raises:
        ValueError: if a value is infinite.
    """
    if np.isinf(batch.value).any():
        raise ValueError("a value is infinite; allowed: finite numbers, NaN for missing")
    heads = _texts(batch.entity, entities, '{{"entity":{},"channel":')
    names = _texts(batch.channel, channels, '{},"time":"')
    tails = _texts(batch.unit, units, ',"unit":{}')
    qualities = [f',"quality":"{quality.name.lower()}"' for quality in Quality]
    values = ["null" if value != value else repr(value) for value in batch.value.tolist()]
    rows = zip(
        [heads[code] for code in batch.entity.tolist()],
        [names[code] for code in batch.channel.tolist()],
        to_texts(batch.time_us),
        values,
        [tails[code] for code in batch.unit.tolist()],
        [qualities[code] for code in batch.quality.tolist()],
        _result_times(batch),
        strict=True,
    )
    return [f'{head}{name}{time}","value":{value}{tail}{quality}{result}}}'.encode()
            for head, name, time, value, tail, quality, result in rows]  # fmt: skip


def _texts(codes: np.ndarray[Any, np.dtype[np.int32]], vocabulary: Vocabulary, form: str) -> dict[int, str]:
    """Return code → JSON text of its name put into ``form``; nothing for an empty name in an optional place."""
    texts: dict[int, str] = {}
    for code in np.unique(codes).tolist():
        name = vocabulary.names[code]
        optional = form.startswith(",")
        texts[code] = "" if optional and not name else form.format(msgspec.json.encode(name).decode())
    return texts


def _result_times(batch: ReadingBatch) -> list[str]:
    absent = batch.result_time_us == NO_TIME
    if absent.all():
        return [""] * len(batch)
    texts = to_texts(np.where(absent, 0, batch.result_time_us))
    return ["" if gone else f',"result_time":"{text}"' for gone, text in zip(absent.tolist(), texts, strict=True)]
