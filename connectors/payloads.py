"""Record values to wire readings: each is taken for canonical JSON; what is not is read alone, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors import codec_cloudevents as cloudevents
from connectors.base import RecordBlock
from connectors.codec_json import WireReading, decode_wire, read_wire
from connectors.codec_senml import looks_like_senml, resolve_pack
from connectors.json_documents import NOT_JSON
from connectors.reading import Reason
from connectors.refusal import Refusal

Refusals = dict[int, Refusal]
"""Refused records by index into the block."""


class PayloadReader:
    """Tells canonical JSON, SenML packs and CloudEvents apart, record by record.

    Args:
        max_bytes: larger records are refused unread.
        senml_separators: see ``codec_senml.resolve_pack``.
    """

    def __init__(self, max_bytes: int, senml_separators: str) -> None:
        self._max_bytes = max_bytes
        self._separators = senml_separators

    def read(self, block: RecordBlock, part: slice, refusals: Refusals) -> tuple[list[WireReading], NDArray[np.int32]]:
        """Return the readings of a part of a block, and for each the index of its record in the block.

        Records that cannot be read are added to ``refusals``; those that are in it already are not looked at again.
        """
        wires, failed = self._parse(block.values[part])
        for place in failed:
            index = part.start + place
            if index not in refusals:
                outcome = self._read_alone(block, index)
                if isinstance(outcome, Refusal):
                    refusals[index] = outcome
                else:
                    wires[place] = outcome
        readings, places = _flattened(wires)
        return readings, places + np.int32(part.start)

    def _parse(self, values: Sequence[bytes | None]) -> tuple[list[WireReading | list[WireReading]], list[int]]:
        """Parse each value as canonical JSON; return the outcomes, and the indices where there is none yet."""
        decode, max_bytes = decode_wire, self._max_bytes  # locals: this loop is half of the decoder's time
        wires: list[WireReading | list[WireReading]] = []
        failed: list[int] = []
        add = wires.append
        for value in values:
            try:
                if len(value) <= max_bytes:  # type: ignore[arg-type]
                    wire = decode(value)  # type: ignore[arg-type]
                    if wire:
                        add(wire)
                        continue
            except (*NOT_JSON, TypeError):  # TypeError: a tombstone
                pass
            failed.append(len(wires))
            add([])
        return wires, failed

    def _read_alone(self, block: RecordBlock, index: int) -> list[WireReading] | Refusal:
        """Read a record that is no canonical JSON, or say why it cannot be read."""
        value = block.values[index]
        if value is None:
            return Refusal(Reason.TOMBSTONE, "the record has no value (a tombstone)")
        if len(value) > self._max_bytes:
            return Refusal(Reason.TOO_LARGE, f"{len(value)} bytes; allowed: at most {self._max_bytes}")
        if not value.strip():
            return Refusal(Reason.EMPTY, "the record's value is empty")
        now_us = int(block.timestamps_ms[index]) * 1000
        if not cloudevents.looks_like_event(value):
            return self._read_payload(value, now_us)
        event = cloudevents.unwrap(value)
        if isinstance(event, Refusal):
            return event
        readings = self._read_payload(event.payload, now_us)
        if isinstance(readings, list) and key_of(block, index) is None:
            for reading in readings:
                reading.entity = reading.entity or event.entity
        return readings

    def _read_payload(self, payload: bytes, now_us: int) -> list[WireReading] | Refusal:
        """Read canonical JSON or a SenML pack; relative times in it count from ``now_us``, the record's own time."""
        outcome = read_wire(payload)
        if isinstance(outcome, list) or outcome.reason not in (Reason.MISSING_KEY, Reason.WRONG_TYPE):
            return outcome
        document = msgspec.json.decode(payload)
        if looks_like_senml(document):
            return resolve_pack(document, now_us, self._separators)
        return outcome


def _flattened(wires: list[WireReading | list[WireReading]]) -> tuple[list[WireReading], NDArray[np.int32]]:
    """Return the readings one after the other, and for each the index of the element that it was in."""
    if list not in set(map(type, wires)):
        return wires, np.arange(len(wires), dtype=np.int32)  # type: ignore[return-value]
    readings: list[WireReading] = []
    counts: list[int] = []
    for wire in wires:
        if type(wire) is WireReading:  # the usual one: no list is made for it
            readings.append(wire)
            counts.append(1)
        else:
            readings.extend(wire)  # type: ignore[arg-type]
            counts.append(len(wire))  # type: ignore[arg-type]
    return readings, np.repeat(np.arange(len(wires), dtype=np.int32), counts)


def refused_by_headers(block: RecordBlock) -> Refusals:
    """Return the binary-mode events that cannot be read; a tombstone is called one, whatever its headers."""
    headers: Iterable[tuple[int, cloudevents.Headers]] = block.headers.items() if block.headers else ()
    found = ((index, cloudevents.refuse_headers(pairs)) for index, pairs in headers if block.values[index] is not None)
    return {index: refusal for index, refusal in found if refusal is not None}


def key_of(block: RecordBlock, index: int) -> bytes | None:
    """Return the record's key; None for an empty one."""
    return (block.keys[index] or None) if block.keys is not None else None
