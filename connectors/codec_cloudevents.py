"""CloudEvents 1.0 around canonical readings: the JSON envelope, and Kafka's binary mode (attributes as headers).

Only the data is read: an event's own time says when it was made, not when the value held. The entity is the reading's
own, else the record's key, else the event's ``partitionkey``, else its ``subject``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec

from connectors.reading import Reason
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened

VERSION = "1.0"
HEADER_PREFIX = "ce_"  # CloudEvents Kafka protocol binding, section 3.2.3
Headers = Sequence[tuple[str, bytes]]


class Envelope(msgspec.Struct, gc=False):
    """A structured event; attributes that change nothing here are not read."""

    specversion: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    data_base64: str | None = None
    datacontenttype: str | None = None
    subject: str | None = None
    partitionkey: str | None = None


class EventData(msgspec.Struct, frozen=True):
    """What an event carries: JSON bytes, and the entity that its attributes name (None when they name none)."""

    payload: bytes
    entity: str | None


_decode = msgspec.json.Decoder(Envelope).decode


def looks_like_event(raw: bytes) -> bool:
    """Return whether ``raw`` may be a structured event; a cheap test that can only err towards True."""
    return b'"specversion"' in raw


def unwrap(raw: bytes) -> EventData | Refusal:
    """Return the data of a structured event, or why there is none."""
    try:
        event = _decode(raw)
    except RecursionError:
        return Refusal(Reason.INVALID_JSON, "nested too deeply; allowed: one event around flat readings")
    except msgspec.ValidationError as error:
        reason = Reason.MISSING_KEY if "missing required" in str(error) else Reason.WRONG_TYPE
        return Refusal(reason, f"CloudEvent: {error}"[:LONGEST_DETAIL])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refusal(Reason.INVALID_JSON, f"CloudEvent: {error}"[:LONGEST_DETAIL])
    refusal = _refuse(event.specversion, event.datacontenttype)
    if refusal is not None:
        return refusal
    payload = bytes(event.data) if event.data_base64 is None else _from_base64(event.data_base64)
    if isinstance(payload, Refusal):
        return payload
    if payload.strip() in (b"", b"null"):
        return Refusal(Reason.EMPTY, "the CloudEvent has no data")
    return EventData(payload, event.partitionkey or event.subject or None)


def refuse_headers(headers: Headers) -> Refusal | None:
    """Return why a record with these headers cannot be read; None when it can, or is no event in binary mode."""
    attributes = _attributes(headers)
    version = attributes.get("ce_specversion")
    if version is None:
        return None
    return _refuse(version, attributes.get("content-type"))


def entity_of_headers(headers: Headers) -> str | None:
    """Return the entity that a binary-mode event's attributes name, if any."""
    attributes = _attributes(headers)
    if "ce_specversion" not in attributes:
        return None
    return attributes.get("ce_partitionkey") or attributes.get("ce_subject") or None


def _attributes(headers: Headers) -> dict[str, str]:
    wanted = ((name.lower(), value) for name, value in headers if value is not None)
    return {
        name: value.decode("utf-8", "replace")
        for name, value in wanted
        if name.startswith(HEADER_PREFIX) or name == "content-type"
    }


def _refuse(version: str, content_type: str | None) -> Refusal | None:
    if version != VERSION:
        return Refusal(Reason.UNSUPPORTED, f"CloudEvents specversion {shortened(version)}; allowed: {VERSION!r}")
    if content_type is not None and not _is_json(content_type):
        return Refusal(Reason.UNSUPPORTED, f"content type {shortened(content_type)}; allowed: JSON")
    return None


def _is_json(content_type: str) -> bool:
    media = content_type.split(";", 1)[0].strip().lower()
    return media.endswith(("/json", "+json")) or not media


def _from_base64(text: str) -> bytes | Refusal:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Refusal(Reason.WRONG_TYPE, f"data_base64 {shortened(text)} is no base64")
