"""Payloads that say themselves what they hold: canonical JSON, SenML packs, and CloudEvents around either."""

from __future__ import annotations

import msgspec

from connectors import codec_cloudevents as cloudevents
from connectors.codec_json import QUALITY_CODES, WireReading, read_wire
from connectors.codec_senml import looks_like_senml, resolve_pack
from connectors.reading import NO_TIME, Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import TimeParser

_QUALITIES = {name: Quality(code) for name, code in QUALITY_CODES.items()}


class SelfDescribed:
    """Reads payloads; remembers a bounded number of times. For one thread."""

    def __init__(self) -> None:
        self._times = TimeParser()

    def read(self, payload: bytes, now_us: int) -> list[Reading] | Refusal:
        """Return the readings, or why it is refused; one bad element refuses the payload. Never raises.

        Args:
            payload: UTF-8.
            now_us: what relative times in SenML count from.

        Returns:
            Readings whose entity is empty where the payload names none.
        """
        wires = _wires(payload, now_us)
        if isinstance(wires, Refusal):
            return wires
        times_us, bad_times = self._times.parse_many([wire.time for wire in wires])
        readings: list[Reading] = []
        for wire, time_us in zip(wires, times_us.tolist(), strict=True):
            reading = bad_times[wire.time] if time_us == NO_TIME else self._reading(wire, time_us)
            if isinstance(reading, Refusal):
                return reading.within(f"reading {len(readings) + 1}") if len(wires) > 1 else reading
            readings.append(reading)
        return readings

    def _reading(self, wire: WireReading, time_us: int) -> Reading | Refusal:
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
        return Reading(wire.entity or "", wire.channel, time_us, wire.value, wire.unit or "", quality, result_us)


def _wires(payload: bytes, now_us: int) -> list[WireReading] | Refusal:
    if not cloudevents.looks_like_event(payload):
        return _plain(payload, now_us)
    event = cloudevents.unwrap(payload)
    if isinstance(event, Refusal):
        return event
    wires = _plain(event.payload, now_us)
    if isinstance(wires, list):
        for wire in wires:
            wire.entity = wire.entity or event.entity
    return wires


def _plain(payload: bytes, now_us: int) -> list[WireReading] | Refusal:
    outcome = read_wire(payload)
    if isinstance(outcome, list) or outcome.reason not in (Reason.MISSING_KEY, Reason.WRONG_TYPE):
        return outcome
    document = msgspec.json.decode(payload)
    return resolve_pack(document, now_us) if looks_like_senml(document) else outcome
