r"""InfluxDB's line protocol to readings: ``measurement[,tag=v…] field=v[,field=v…] [timestamp]``.

Written after https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/: backslashes escape comma and
space in measurements, and ``=`` too in keys and tag values; in texts they escape ``"`` and ``\``; before anything else
they stand for themselves. A newline always ends a line. What cannot be read refuses its line; a field that is no number
refuses itself, and the line's others are taken.

======================================= =====================================================================
field                                   becomes
======================================= =====================================================================
``1.5``, ``1e3``                        the value
``3i`` (64 bits), ``3u``                the value
``t T true True TRUE``, ``f F false …`` 1, 0
``"text"``                              refused, or passed over
======================================= =====================================================================

Lines with the measurement ``feinstaub`` are airRohr stations': their fields become channels as in
``connectors.airrohr``.

Lines of the usual kind (no backslash, no quotation mark) take a quick way, which gives what the exact one gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from connectors.airrohr import AirRohr
from connectors.codec_json import LONGEST_NAME
from connectors.label_mapping import LabelMapping
from connectors.line_protocol_grammar import parse_fields, parse_series, parse_value, skip_spaces, up_to_space
from connectors.pushed import Pushed
from connectors.reading import Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import in_range

PRECISIONS: dict[str, tuple[int, int]] = {
    "": (1, 1000), "n": (1, 1000), "ns": (1, 1000), "u": (1, 1), "us": (1, 1), "ms": (1000, 1),
    "s": (1_000_000, 1), "m": (60_000_000, 1), "h": (3_600_000_000, 1),
}  # fmt: skip
"""A unit of timestamps to microseconds, as (times, divided by)."""
LONGEST_LINE = 65_536
"""Characters."""

_PART_BYTES = 262_144
"""Decoded and split at once."""
_MOST_SERIES = 100_000
_MOST_TIMES = 10_000
_MOST_CHANNELS = 1_000
"""Remembered of one series."""
_LARGEST = 1.7976931348623157e308
_STATIONS = "feinstaub"
"""What airRohr stations call their measurement."""

_TIME = re.compile(r"-?\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LineMapping:
    """What the parts of a line become."""

    tags: LabelMapping = field(default_factory=LabelMapping)
    """Of a line without tags the measurement is the entity."""
    channel: Literal["field", "measurement_field"] = "field"
    """A channel's name: the field's, or both with ``_`` between."""
    ignore_text: bool = False
    """Whether fields that are texts are passed over instead of refused."""


class _Series(NamedTuple):
    """What is known of a measurement with its tags."""

    entity: str
    lead: str
    suffix: str
    channels: dict[str, str]
    """Field to channel."""
    station: bool = False
    """Whether it is an airRohr station's; then ``channels`` stays empty."""


class LineProtocol:
    """Reads bodies. Remembers the series that it met, a bounded number of them. For several threads.

    Args:
        mapping: what the parts of a line become.
        stations: reads what airRohr stations say.
    """

    def __init__(self, mapping: LineMapping | None = None, stations: AirRohr | None = None) -> None:
        self._mapping = mapping or LineMapping()
        self.stations = stations or AirRohr()
        self._series: dict[str, _Series] = {}

    def read(self, body: bytes, now_us: int, precision: str = "ns") -> Iterator[Pushed]:
        """Yield what ``body`` holds, in pieces; lines are counted from 1. Never raises for what is in it.

        Args:
            body: UTF-8.
            now_us: the time of lines that name none.
            precision: the unit of timestamps, one of ``PRECISIONS``.
        """
        reading = _Body(self, self._mapping, now_us, precision)
        first = 1
        for part in _parts(body):
            lines = part.decode("utf-8", "surrogateescape").split("\n")
            for start in range(0, len(lines), 2_000):
                reading.take(lines[start : start + 2_000], first + start)
                if reading.pushed.full:
                    yield reading.give()
            first += len(lines)
        if not reading.pushed.empty:
            yield reading.give()

    def series(self, text: str) -> _Series | Refusal:
        """Return what a measurement with its tags means, escapes included."""
        found = self._series.get(text)
        if found is None:
            learned = _learned(text, self._mapping)
            if isinstance(learned, Refusal):
                return learned
            if len(self._series) >= _MOST_SERIES:
                self._series.clear()
            found = self._series[text] = learned
        return found

    @property
    def known(self) -> dict[str, _Series]:
        """Series that were met, by their text."""
        return self._series


class _Body:
    """One body on its way into readings."""

    def __init__(self, protocol: LineProtocol, mapping: LineMapping, now_us: int, precision: str) -> None:
        self.pushed = Pushed()
        self._protocol = protocol
        self._mapping = mapping
        self._now_us = now_us
        self._times_by, self._divided_by = PRECISIONS[precision]
        self._times: dict[str, int] = {}

    def give(self) -> Pushed:
        given, self.pushed = self.pushed, Pushed()
        return given

    def take(self, lines: list[str], first: int) -> None:
        """Read lines; what the quick way cannot read is read by the exact one."""
        readings = self.pushed.readings
        known, add, largest = self._protocol.known, readings.append, _LARGEST
        for number, line in enumerate(lines, first):
            if not line:
                continue
            mark = len(readings)
            try:
                series, fields, *stamp = line.split(" ")
                entity, _, _, channels, _ = known[series]
                time_us = self._quick_time(stamp)
                if len(line) > LONGEST_LINE or not fields.isascii() or '"' in line or "\\" in line:
                    raise ValueError
                for pair in fields.split(","):
                    name, text = pair.split("=")
                    value = float(text)
                    # float() takes more than the protocol does: 1_0, nan, and white space around
                    if not -largest <= value <= largest or "_" in text or not text[0] > " " < text[-1]:
                        raise ValueError
                    add(Reading(entity, channels[name], time_us, value))
            except (ValueError, KeyError):
                del readings[mark:]
                self._take_exactly(line, number)

    def _quick_time(self, stamp: list[str]) -> int:
        """Return the time of a line, given what follows its fields; raises ValueError where the exact way is needed."""
        if not stamp:
            return self._now_us
        (text,) = stamp
        time_us = self._times.get(text)
        if time_us is None:
            found = self._time(text)
            if isinstance(found, Refusal):
                raise ValueError
            time_us = found
        return time_us

    def _take_exactly(self, line: str, number: int) -> None:
        raw = line.encode("utf-8", "surrogateescape")
        try:
            text = raw.decode().rstrip("\r").lstrip(" \t")
        except UnicodeDecodeError as error:
            self._refuse(Refusal(Reason.WRONG_TYPE, f"byte {error.start} is no UTF-8"), raw, number)
            return
        if not text or text.startswith("#"):
            return
        if len(text) > LONGEST_LINE:
            detail = f"{len(text)} characters; allowed: at most {LONGEST_LINE}"
            self._refuse(Refusal(Reason.TOO_LARGE, detail), raw, number)
            return
        refusal = self._point(text, raw, number)
        if refusal is not None:
            self._refuse(refusal, raw, number)

    def _point(self, text: str, raw: bytes, number: int) -> Refusal | None:
        """Read one line; return why it is refused as a whole."""
        head = up_to_space(text)
        series = self._protocol.series(head)
        if isinstance(series, Refusal):
            return series
        parsed = parse_fields(text, skip_spaces(text, len(head)))
        if isinstance(parsed, Refusal):
            return parsed
        fields, end = parsed
        time_us = self._time(text[end:].strip(" "))
        if isinstance(time_us, Refusal):
            return time_us
        found = [(name, self._number(name, written, raw, number)) for name, written in fields]
        values = [(name, value) for name, value in found if value is not None]
        if series.station:
            self._protocol.stations.take(series.entity, time_us, dict(values), self.pushed)
        else:
            for name, value in values:
                self._take_field(series, name, value, time_us, raw, number)
        return None

    def _number(self, name: str, text: str, raw: bytes, number: int) -> float | None:
        """Return the number that a field holds; None where it has been refused, or passed over."""
        value = parse_value(text)
        if isinstance(value, str):
            if self._mapping.ignore_text:
                self.pushed.ignored += 1
                return None
            value = Refusal(Reason.UNSUPPORTED, f"{shortened(value)} is a text; allowed: numbers, true and false")
        if isinstance(value, Refusal):
            self._refuse(value.within(f"field {shortened(name)}"), raw, number)
            return None
        return value

    def _take_field(self, series: _Series, name: str, value: float, time_us: int, raw: bytes, number: int) -> None:
        channel = series.channels.get(name)
        if channel is None:
            channel = f"{series.lead}{name}{series.suffix}"
            if len(channel) > LONGEST_NAME:
                detail = f"its channel {shortened(channel)} is too long; allowed: at most {LONGEST_NAME} characters"
                self._refuse(Refusal(Reason.WRONG_TYPE, detail), raw, number)
                return
            if len(series.channels) < _MOST_CHANNELS:
                series.channels[name] = channel
        self.pushed.readings.append(Reading(series.entity, channel, time_us, value))

    def _time(self, text: str) -> int | Refusal:
        if not text:
            return self._now_us
        if not _TIME.fullmatch(text):
            return Refusal(Reason.BAD_TIME, f"timestamp {shortened(text)}; allowed: a whole number")
        time_us = int(text) * self._times_by // self._divided_by
        if not in_range(time_us):
            detail = f"timestamp {text} is not between 1970 and 2200; is its precision the one that was named?"
            return Refusal(Reason.BAD_TIME, detail)
        if len(self._times) < _MOST_TIMES:
            self._times[text] = time_us
        return time_us

    def _refuse(self, refusal: Refusal, raw: bytes, number: int) -> None:
        self.pushed.refuse(refusal, raw, number, f"line {number}")


def _parts(body: bytes) -> Iterator[bytes]:
    """Yield the body in parts that end where lines do; nothing is copied of a small one."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + _PART_BYTES) if len(body) - start > _PART_BYTES else -1
        if end < 0:
            yield body[start:]
            return
        yield body[start:end]
        start = end + 1


def _learned(text: str, mapping: LineMapping) -> _Series | Refusal:
    """Return what a measurement with its tags means, or why it means nothing."""
    parsed = parse_series(text)
    if isinstance(parsed, Refusal):
        return parsed
    measurement, tags = parsed
    place = mapping.tags.place(tags, measurement)
    if isinstance(place, Refusal):
        return place
    lead = f"{measurement}_" if mapping.channel == "measurement_field" else ""
    return _Series(place.entity, lead, place.suffix, {}, measurement == _STATIONS)
