"""Pushed JSON to readings: canonical readings (one, a list, or one a line), SenML packs, CloudEvents around them.

What is bad refuses its own element of a list, or its own line; a SenML pack, whose records lean on each other, is
refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

import msgspec

from connectors import codec_cloudevents as cloudevents
from connectors.codec_json import QUALITY_CODES, WireReading, decode_wire, read_wire
from connectors.codec_senml import looks_like_senml, resolve_pack
from connectors.json_documents import NOT_JSON
from connectors.pushed import PIECE_READINGS, Pushed
from connectors.reading import NO_TIME, Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import TimeParser

_QUALITIES = {name: Quality(code) for name, code in QUALITY_CODES.items()}
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Form(Enum):
    """How a body is laid out."""

    ANY = "any"
    """Found out by looking."""
    LINES = "lines"
    SENML = "senml"
    EVENT = "event"
    EVENTS = "events"


FORMS = {
    "application/x-ndjson": Form.LINES, "application/ndjson": Form.LINES, "application/jsonl": Form.LINES,
    "application/x-jsonlines": Form.LINES, "application/json-lines": Form.LINES,
    "application/senml+json": Form.SENML, "application/cloudevents+json": Form.EVENT,
    "application/cloudevents-batch+json": Form.EVENTS,
    "application/json": Form.ANY, "text/json": Form.ANY, "text/plain": Form.ANY, "": Form.ANY,
    "application/x-www-form-urlencoded": Form.ANY,
}  # fmt: skip
"""Media type to form; curl names the last one for whatever it is given."""


class PushedJson:
    """Reads bodies. Remembers times, a bounded number of them. For one thread."""

    def __init__(self) -> None:
        self._times = TimeParser()

    def read(self, body: bytes, form: Form, now_us: int, entity: str | None = None) -> Iterator[Pushed]:
        """Yield what ``body`` holds, in pieces; elements and lines are counted from 1. Never raises for what is in it.

        Args:
            body: UTF-8.
            form: how it is laid out.
            now_us: what relative times in SenML count from.
            entity: of readings that name none.
        """
        pushed, place = Pushed(), _place(form, body)
        for number, raw, wires in _found(body, form, now_us):
            if isinstance(wires, Refusal):
                pushed.refuse(wires, raw, number, f"{place} {number}" if number else "")
                if pushed.full:
                    yield pushed
                    pushed = Pushed()
                continue
            for start in range(0, len(wires), PIECE_READINGS):
                self._take(wires[start : start + PIECE_READINGS], number + start, raw, entity, pushed)
                if pushed.full:
                    yield pushed
                    pushed = Pushed()
        if not pushed.empty:
            yield pushed

    def _take(self, wires: Sequence[WireReading], number: int, raw: bytes, entity: str | None, pushed: Pushed) -> None:
        times_us, bad_times = self._times.parse_many([wire.time for wire in wires])
        for index, (wire, time_us) in enumerate(zip(wires, times_us.tolist(), strict=True)):
            outcome = self._reading(wire, time_us, bad_times, entity)
            if isinstance(outcome, Refusal):
                text = msgspec.json.encode(wire) if len(wires) > 1 else raw
                pushed.refuse(outcome, text, number + index, f"reading {number + index}")
            else:
                pushed.readings.append(outcome)

    def _reading(
        self, wire: WireReading, time_us: int, bad_times: dict[str, Refusal], entity: str | None
    ) -> Reading | Refusal:
        if time_us == NO_TIME:
            return bad_times[wire.time]
        named = wire.entity or entity
        if named is None:
            return Refusal(Reason.MISSING_KEY, "no `entity`")
        quality = _QUALITIES.get(wire.quality)
        if quality is None:
            allowed = ", ".join(name for name in _QUALITIES if name)
            return Refusal(Reason.BAD_QUALITY, f"quality {shortened(wire.quality)}; allowed: {allowed}")
        result_us = None
        if wire.result_time is not None:
            found, bad = self._times.parse_many([wire.result_time])
            if bad:
                return bad[wire.result_time].within("result_time")
            result_us = int(found[0])
        return Reading(named, wire.channel, time_us, wire.value, wire.unit or "", quality, result_us)


Found = tuple[int, bytes, list[WireReading] | Refusal]
"""Number of the first, bytes, and what they are."""


def _place(form: Form, body: bytes) -> str:
    return "line" if form is Form.LINES or not body.lstrip().startswith(b"[") else "element"


def _found(body: bytes, form: Form, now_us: int) -> Iterator[Found]:
    if form is Form.LINES:
        yield from _lines(body, now_us)
    elif form is Form.SENML:
        yield 0, body, _senml(body, now_us)
    elif form is Form.EVENT:
        yield 0, body, _event(body, now_us)
    elif form is Form.EVENTS:
        yield from _each(body, now_us)
    else:
        yield from _anything(body, now_us)


def _anything(body: bytes, now_us: int) -> Iterator[Found]:
    """Read canonical JSON at once; whatever else it is, element by element."""
    try:
        wire = decode_wire(body)
    except NOT_JSON:
        wire = []
    if wire:
        yield 1, body, wire if isinstance(wire, list) else [wire]
    elif body.lstrip().startswith(b"["):
        yield from _each(body, now_us)
    elif b"\n" in body.strip() and not _is_one_document(body):
        yield from _lines(body, now_us)
    else:
        yield 0, body, _one(body, now_us)


def _each(body: bytes, now_us: int) -> Iterator[Found]:
    try:
        raws = _elements(body)
    except NOT_JSON:
        yield 0, body, read_wire(body)
        return
    first = _document(bytes(raws[0])) if raws else None
    if looks_like_senml([first]):
        yield 0, body, _senml(body, now_us)
        return
    if not raws:
        yield 0, body, Refusal(Reason.EMPTY, "the list holds no reading; allowed: at least one")
    for number, raw in enumerate(raws, 1):
        yield number, bytes(raw), _one(bytes(raw), now_us)


def _lines(body: bytes, now_us: int) -> Iterator[Found]:
    empty = True
    start = number = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line, start = body[start:end], end + 1
        number += 1
        if line.strip():
            empty = False
            yield number, line, _one(line, now_us)
    if empty:
        yield 0, body, Refusal(Reason.EMPTY, "the body holds no reading; allowed: one JSON object a line")


def _one(raw: bytes, now_us: int) -> list[WireReading] | Refusal:
    """Read one JSON value: canonical, a SenML pack, or an event around either."""
    return _event(raw, now_us) if cloudevents.looks_like_event(raw) else _payload(raw, now_us)


def _event(raw: bytes, now_us: int) -> list[WireReading] | Refusal:
    event = cloudevents.unwrap(raw)
    if isinstance(event, Refusal):
        return event
    wires = _payload(event.payload, now_us)
    if isinstance(wires, list):
        for wire in wires:
            wire.entity = wire.entity or event.entity
    return wires


def _payload(raw: bytes, now_us: int) -> list[WireReading] | Refusal:
    if not raw.strip():
        return Refusal(Reason.EMPTY, "the body is empty")
    outcome = read_wire(raw)
    if isinstance(outcome, list) or outcome.reason not in (Reason.MISSING_KEY, Reason.WRONG_TYPE):
        return outcome
    return _senml(raw, now_us) if looks_like_senml(_document(raw)) else outcome


def _senml(raw: bytes, now_us: int) -> list[WireReading] | Refusal:
    document = _document(raw)
    if not isinstance(document, list):
        return Refusal(Reason.INVALID_JSON, "the body is no SenML pack; allowed: a JSON list of records (RFC 8428)")
    return resolve_pack(document, now_us)


def _document(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except NOT_JSON:
        return None


def _is_one_document(body: bytes) -> bool:
    return _document(body) is not None
