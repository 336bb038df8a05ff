"""Prometheus remote-write 1.0 to readings: ``WriteRequest`` in a snappy block.

Written after https://prometheus.io/docs/specs/prw/remote_write_spec/. A series' labels make its entity and channel
(``connectors.label_mapping``); values are kept as they are, counters as counters. A stale marker ends a series and is
no value; any other NaN is a missing value; infinities are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import snappy
from google.protobuf.message import DecodeError

from connectors.codec_json import LONGEST_NAME
from connectors.label_mapping import LabelMapping
from connectors.protobuf_messages import message_classes
from connectors.pushed import PIECE_READINGS, Pushed
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import in_range

DEFAULT_LABELS = LabelMapping(("instance",), ("job",))
NAME = "__name__"
STALE = struct.pack("<Q", 0x7FF0_0000_0000_0002)
"""The NaN that says that a series has ended."""

MESSAGES = message_classes(
    "prometheus",
    {
        "TimeSeries": {"labels": (1, "Label*"), "samples": (2, "Sample*"), "histograms": (4, "Histogram*")},
        "Label": {"name": (1, "string"), "value": (2, "string")},
        "Sample": {"value": (1, "double"), "timestamp": (2, "int64")},
        "Histogram": {"timestamp": (15, "int64")},
    },
)
TimeSeries = MESSAGES["TimeSeries"]

_MOST_SERIES = 200_000
_MOST_TIMES = 10_000
_TIMESERIES = 0x0A  # field 1, length-delimited
_LARGEST = 1.7976931348623157e308
_WITH_VALUE = b"\x12\x10\x09"
"""How one sample of 16 bytes that begins with its value is led in; 18 bytes to the series' end, for today's times."""
_WITHOUT_VALUE = b"\x12\x07\x10"
"""A sample whose value is 0, which is not written; 9 bytes to the end."""

Known = tuple[str, str]
"""Entity and channel of a series."""


class BodyTooLarge(Exception):
    """A block would take more memory than allowed. ``needed`` and ``most`` are bytes."""

    def __init__(self, needed: int, most: int) -> None:
        super().__init__(f"the body would be {needed} bytes without compression; allowed: at most {most}")
        self.needed, self.most = needed, most


def decompressed(block: bytes, most: int) -> bytes | Refusal:
    """Return what a snappy block holds, or why it is none.

    Raises:
        BodyTooLarge: if it says that it holds more than ``most`` bytes; nothing was allocated.
    """
    told = _varint(block, 0)
    if told is None:
        return Refusal(Reason.WRONG_TYPE, "the body is no snappy block: it has no length")
    if told[0] > most:
        raise BodyTooLarge(told[0], most)
    try:
        return bytes(snappy.uncompress(block))
    except snappy.UncompressError as error:
        return Refusal(Reason.WRONG_TYPE, f"the body is no snappy block: {str(error) or 'damaged'}"[:200])


class RemoteWrite:
    """Reads write requests. Remembers the series that it met, a bounded number of them. For several threads.

    Args:
        labels: what makes entity and channel.
    """

    def __init__(self, labels: LabelMapping = DEFAULT_LABELS) -> None:
        self._labels = labels
        self._known: dict[bytes, Known] = {}
        """A series' labels as they are on the wire, whole fields of it, to what they mean."""

    def read(self, body: bytes) -> Iterator[Pushed]:
        """Yield what a ``WriteRequest`` holds, in pieces; series are counted from 1. Never raises for what is in it."""
        reading = _Request(self._known, self._labels)
        at, number = 0, 0
        while at < len(body):
            series = reading.next_field(body, at, number + 1)
            if series is None:
                break
            raw, at = series
            if raw is not None:
                number += 1
                if not reading.take_known(raw):
                    for _ in reading.take(raw, number):
                        yield reading.give()
                elif len(reading.pushed.readings) >= PIECE_READINGS:
                    yield reading.give()
        if not reading.pushed.empty:
            yield reading.give()


class _Request:
    """One request on its way into readings."""

    def __init__(self, known: dict[bytes, Known], labels: LabelMapping) -> None:
        self.pushed = Pushed()
        self._known = known
        self._labels = labels
        self._times: dict[bytes, int] = {}

    def give(self) -> Pushed:
        given, self.pushed = self.pushed, Pushed()
        return given

    def next_field(self, body: bytes, at: int, number: int) -> tuple[bytes | None, int] | None:
        """Return the series at ``at`` (None for another field) and where the next field is; None for a broken one."""
        found = _end_of_field(body, at)
        if found is None:
            detail = f"byte {at} of {len(body)} begins no field of a WriteRequest; what stood before it was read"
            self.pushed.refuse(Refusal(Reason.WRONG_TYPE, detail), body[at : at + 200], number, f"series {number}")
            return None
        start, end = found
        return (body[start:end] if body[at] == _TIMESERIES else None), end

    def take_known(self, raw: bytes) -> bool:
        """Read a series with known labels and one sample, by a look at its end; return whether it is such a one."""
        if raw[-18:-15] == _WITH_VALUE:
            known = self._known.get(raw[:-18])
            if known is not None and raw[-7] == 0x10:
                value = _DOUBLE(raw, len(raw) - 15)[0]
                time_us = self._times.get(raw[-6:]) or self._time(raw[-6:])
                if time_us is not None and -_LARGEST <= value <= _LARGEST:
                    self.pushed.readings.append(Reading(known[0], known[1], time_us, value))
                    return True
        elif raw[-9:-6] == _WITHOUT_VALUE:
            known = self._known.get(raw[:-9])
            if known is not None:
                time_us = self._times.get(raw[-6:]) or self._time(raw[-6:])
                if time_us is not None:
                    self.pushed.readings.append(Reading(known[0], known[1], time_us, 0.0))
                    return True
        return False

    def _time(self, raw: bytes) -> int | None:
        """Return the time that a varint of just these bytes says; None where it is not one, or out of range."""
        told = _varint(raw, 0)
        if told is None or told[1] != len(raw) or not in_range(told[0] * 1000):
            return None
        if len(self._times) < _MOST_TIMES:
            self._times[raw] = told[0] * 1000
        return told[0] * 1000

    def take(self, raw: bytes, number: int) -> Iterator[None]:
        """Read any series, field by field; stops at each point where the piece is full."""
        place = f"series {number}"
        try:
            series = TimeSeries.FromString(raw)
            labels = {label.name: label.value for label in series.labels}
        except (DecodeError, UnicodeDecodeError) as error:
            self.pushed.refuse(Refusal(Reason.WRONG_TYPE, f"no TimeSeries: {error}"), raw, number, place)
            if self.pushed.full:
                yield
            return
        known = _means(labels, self._labels)
        if isinstance(known, Refusal):
            self.pushed.refuse(known, raw, number, place)
            if self.pushed.full:
                yield
            return
        self._remember(raw, series, known)
        for sample in series.samples:
            self._take_sample(sample.value, sample.timestamp, known, raw, number)
            if self.pushed.full:
                yield
        if series.histograms:
            detail = f"{shortened(known[1])} is a native histogram; allowed: floats (classic histograms are)"
            self.pushed.refuse(Refusal(Reason.UNSUPPORTED, detail), raw, number, place)

    def _take_sample(self, value: float, time_ms: int, known: Known, raw: bytes, number: int) -> None:
        entity, channel = known
        refusal = None
        if not in_range(time_ms * 1000):
            refusal = Refusal(Reason.BAD_TIME, f"{shortened(channel)}: {time_ms} ms is not between 1970 and 2200")
        elif value != value:
            if struct.pack("<d", value) == STALE:
                self.pushed.ignored += 1
            else:
                self.pushed.readings.append(Reading(entity, channel, time_ms * 1000, None, quality=Quality.MISSING))
        elif not -_LARGEST <= value <= _LARGEST:
            refusal = Refusal(Reason.NOT_FINITE, f"{shortened(channel)} of {shortened(entity)} is infinite")
        else:
            self.pushed.readings.append(Reading(entity, channel, time_ms * 1000, value))
        if refusal is not None:
            self.pushed.refuse(refusal, raw, number, f"series {number}")

    def _remember(self, raw: bytes, series: Any, known: Known) -> None:
        """Learn the labels' bytes, where all of them stand before the only sample, as Prometheus writes them."""
        sample = _WITH_VALUE if raw[-18:-15] == _WITH_VALUE else _WITHOUT_VALUE
        lead = raw[: -18 if sample is _WITH_VALUE else -9]
        if len(series.samples) != 1 or not lead:
            return
        try:
            alone = TimeSeries.FromString(lead)
        except DecodeError:
            return
        if list(alone.labels) != list(series.labels) or alone.samples or alone.histograms:
            return
        if len(self._known) >= _MOST_SERIES:
            self._known.clear()
        self._known[lead] = known


def _means(labels: dict[str, str], mapping: LabelMapping) -> Known | Refusal:
    """Return entity and channel of a series."""
    name = labels.pop(NAME, "")
    if not name:
        return Refusal(Reason.MISSING_KEY, f"no label {NAME}, which is its channel")
    place = mapping.place(labels, name)
    if isinstance(place, Refusal):
        return place.within(shortened(name))
    channel = place.channel(name)
    if len(channel) > LONGEST_NAME:
        detail = f"its channel {shortened(channel)} has {len(channel)} characters; allowed: at most {LONGEST_NAME}"
        return Refusal(Reason.WRONG_TYPE, f"{detail}; labels can be ignored by the configuration")
    return place.entity, channel


_DOUBLE = struct.Struct("<d").unpack_from


def _varint(raw: bytes, at: int) -> tuple[int, int] | None:
    """Return the varint at ``at`` and where it ends; None where there is none."""
    number = shift = 0
    for end in range(at, min(at + 10, len(raw))):
        byte = raw[end]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, end + 1
        shift += 7
    return None


def _end_of_field(raw: bytes, at: int) -> tuple[int, int] | None:
    """Return where the content of the field at ``at`` begins and ends; None where it is broken."""
    if raw[at] == _TIMESERIES and at + 1 < len(raw) and raw[at + 1] < 0x80:  # the usual one
        start, end = at + 2, at + 2 + raw[at + 1]
        return (start, end) if end <= len(raw) else None
    tag = _varint(raw, at)
    if tag is None or not tag[0] >> 3:
        return None
    kind, start = tag[0] & 7, tag[1]
    if kind == 0:
        number = _varint(raw, start)
        end = -1 if number is None else number[1]
    elif kind == 2:
        length = _varint(raw, start)
        start, end = (length[1], length[1] + length[0]) if length else (start, -1)
    else:
        end = start + {1: 8, 5: 4}.get(kind, -1 - start)
    return (start, end) if start <= end <= len(raw) else None
