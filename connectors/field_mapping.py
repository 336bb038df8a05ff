"""Which fields of a record mean what: a row of a file or a document of a topic, to readings.

A record is read or refused field by field: without time, entity or quality nothing comes of it, but a bad value leaves
the others as they are. A field that is not there is no reading; one that is empty is known to be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from connectors.codec_json import QUALITY_CODES
from connectors.field_paths import Around, FieldPath, NameWords, text_of
from connectors.json_documents import number_of
from connectors.json_path import ABSENT
from connectors.reading import Quality, Reading, Reason
from connectors.record_times import RecordTimes
from connectors.refusal import Refusal, shortened

TIME = "@time"
"""Around a record: when it was written, in microseconds; for records that hold no time."""
OTHERWISE = "*"
"""Among quality words: all that are not named."""
_QUALITIES = {name: Quality(code) for name, code in QUALITY_CODES.items() if name}

Outcome = tuple[list[Reading], list[Refusal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where what is. Either ``values`` (a field a channel), or ``channel`` and ``value`` (a record a reading)."""

    time: str | None = None
    """None: the time around the record."""
    date: str | None = None
    """Put before the time with a space, where date and time of day are two fields."""
    entity: str | None = None
    fixed_entity: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """Channel to the field with its values."""
    channel: str | None = None
    value: str | None = None
    unit: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    """Channel to the unit of those of its readings that do not tell theirs."""
    missing: Mapping[str, frozenset[float]] = field(default_factory=dict)
    """Channel to the numbers that stand for no value; under ``*`` for all channels."""
    quality: str | None = None
    qualities: Mapping[str, str] = field(default_factory=dict)
    """Channel to the field with its quality, where each has its own."""
    quality_words: Mapping[str, Quality] = field(default_factory=dict)
    """The records' words to qualities; under ``*`` all others. Ours are known."""
    result_time: str | None = None
    each: str | None = None
    """A field with a list: each element is a record; what it does not have is looked for beside the list."""
    decimal_comma: bool = False


class FieldMapping:
    """Reads records by ``Fields``. For one thread.

    Raises:
        ValueError: if the fields do not fit together.
    """

    def __init__(self, fields: Fields, times: RecordTimes, result_times: RecordTimes | None = None) -> None:
        self._times = times
        self._result_times = RecordTimes() if result_times is None else result_times
        if fields.entity is None and not fields.fixed_entity:
            raise ValueError("no entity: name the field that holds it, or one fixed_entity for all records")
        if bool(fields.values) == (fields.channel is not None or fields.value is not None):
            raise ValueError("either a field for each channel, or one for the channel and one for the value")
        if not fields.values and (fields.channel is None or fields.value is None):
            raise ValueError("channel and value belong together: where the name is, and where the number is")
        self._fields = fields
        self._entity = None if fields.entity is None else NameWords(fields.entity, "entity")
        self._channel = None if fields.channel is None else NameWords(fields.channel, "channel")
        self._values = [
            (channel, FieldPath(path), _path(fields.qualities.get(channel))) for channel, path in fields.values.items()
        ]
        self._value, self._unit = _path(fields.value), _path(fields.unit)
        self._time, self._date = _path(fields.time or TIME), _path(fields.date)
        self._quality, self._result_time = _path(fields.quality), _path(fields.result_time)
        self._each = _path(fields.each)
        words = {word.strip().lower(): quality for word, quality in fields.quality_words.items()}
        self._otherwise = words.pop(OTHERWISE, None)
        self._words = {**_QUALITIES, **words}
        everywhere = fields.missing.get(OTHERWISE, frozenset())
        self._missing = {name: numbers | everywhere for name, numbers in fields.missing.items() if name != OTHERWISE}
        self._missing_everywhere = everywhere

    def fields(self) -> list[str]:
        """Return the names of all fields that are looked at, but for those around a record."""
        return [text for text in self._looked_at() if not text.startswith("@")]

    def around(self) -> list[str]:
        """Return the names of what is looked at around a record."""
        return [text for text in self._looked_at() if text.startswith("@")]

    def _looked_at(self) -> list[str]:
        paths = [self._time, self._date, self._value, self._unit, self._quality, self._result_time, self._each]
        paths += [path for words in (self._entity, self._channel) if words is not None for path in words.paths()]
        paths += [path for _, value, quality in self._values for path in (value, quality)]
        return list(dict.fromkeys(path.text for path in paths if path is not None))

    def read(self, record: object, around: Around) -> Outcome:
        """Return a record's readings, and why others of its values are none. Never raises for what is in it."""
        if self._each is None:
            return self._read(record, around)
        elements = self._each.find(record, around)
        if not isinstance(elements, list):
            return [], [Refusal(Reason.MISSING_KEY, f"no list is at {self._each.text!r}")]
        outer = record if isinstance(record, dict) else {}
        readings: list[Reading] = []
        refused: list[Refusal] = []
        for index, element in enumerate(elements):
            whole = {**outer, **element} if isinstance(element, dict) else element
            good, bad = self._read(whole, around)
            readings += good
            refused += [refusal.within(f"{self._each.text}[{index}]") for refusal in bad]
        return readings, refused

    def _read(self, record: object, around: Around) -> Outcome:
        time_us = self._time_of(record, around)
        if isinstance(time_us, Refusal):
            return [], [time_us]
        entity = self._fields.fixed_entity if self._entity is None else self._entity.read(record, around)
        if isinstance(entity, Refusal):
            return [], [entity]
        quality = self._quality_at(self._quality, record, around)
        if isinstance(quality, Refusal):
            return [], [quality]
        result_us = self._result_of(record, around)
        if isinstance(result_us, Refusal):
            return [], [result_us]
        first = Reading(entity, "", time_us, None, "", quality, result_us)
        return self._one(record, around, first) if self._channel is not None else self._many(record, around, first)

    def _one(self, record: object, around: Around, first: Reading) -> Outcome:
        assert self._channel is not None
        assert self._value is not None
        channel = self._channel.read(record, around)
        if isinstance(channel, Refusal):
            return [], [channel]
        unit = None if self._unit is None else text_of(self._unit.find(record, around))
        found = self._value.find(record, around)
        if found is ABSENT:
            return [], [Refusal(Reason.MISSING_KEY, f"no value is at {self._value.text!r}")]
        outcome = self._reading(first, channel, found, first.quality, unit)
        return ([], [outcome]) if isinstance(outcome, Refusal) else ([outcome], [])

    def _many(self, record: object, around: Around, first: Reading) -> Outcome:
        readings: list[Reading] = []
        refused: list[Refusal] = []
        for channel, path, quality_path in self._values:
            found = path.find(record, around)
            if found is ABSENT:  # a record may tell a part of the channels only
                continue
            quality: Quality | Refusal = first.quality
            if quality_path is not None:
                quality = self._quality_at(quality_path, record, around)
            outcome = quality if isinstance(quality, Refusal) else self._reading(first, channel, found, quality)
            if isinstance(outcome, Refusal):
                refused.append(outcome.within(f"field {path.text!r}"))
            else:
                readings.append(outcome)
        if not readings and not refused:
            named = ", ".join(repr(path.text) for _, path, _ in self._values[:5])
            refused.append(Refusal(Reason.MISSING_KEY, f"none of the fields {named} is there"))
        return readings, refused

    def _reading(
        self, first: Reading, channel: str, found: object, quality: Quality, unit: str | None = None
    ) -> Reading | Refusal:
        number = self._number(found)
        if isinstance(number, Refusal):
            return number
        if number in self._missing.get(channel, self._missing_everywhere):
            number = None
        if number is None and quality is Quality.UNKNOWN:
            quality = Quality.MISSING
        unit = unit or self._fields.units.get(channel, "")
        return Reading(first.entity, channel, first.time_us, number, unit, quality, first.result_time_us)

    def _number(self, found: object) -> float | Refusal | None:
        if isinstance(found, Decimal):
            found = float(found) if found.is_finite() else None
        elif isinstance(found, bool):
            return float(found)
        elif isinstance(found, str) and self._fields.decimal_comma:
            found = found.replace(".", "").replace(",", ".") if "," in found else found
        return number_of(found)

    def _time_of(self, record: object, around: Around) -> int | Refusal:
        assert self._time is not None
        found = self._time.find(record, around)
        if found is ABSENT or found is None or found == "":
            return Refusal(Reason.MISSING_KEY, f"no time is at {self._time.text!r}")
        if self._date is not None:
            day = self._date.find(record, around)
            if day is ABSENT or not day:
                return Refusal(Reason.MISSING_KEY, f"no date is at {self._date.text!r}")
            found = f"{day} {found}"
        outcome = self._times.read(found)
        return outcome.within(f"field {self._time.text!r}") if isinstance(outcome, Refusal) else outcome

    def _result_of(self, record: object, around: Around) -> int | Refusal | None:
        if self._result_time is None:
            return None
        found = self._result_time.find(record, around)
        if found is ABSENT or found is None or found == "":
            return None
        outcome = self._result_times.read(found)
        return outcome.within(f"field {self._result_time.text!r}") if isinstance(outcome, Refusal) else outcome

    def _quality_at(self, path: FieldPath | None, record: object, around: Around) -> Quality | Refusal:
        if path is None:
            return Quality.UNKNOWN
        text = text_of(path.find(record, around))
        if not text:
            return Quality.UNKNOWN
        quality = self._words.get(text.lower(), self._otherwise)
        if quality is None:
            allowed = ", ".join(sorted(self._words))
            detail = f"quality {shortened(text)} at {path.text!r}; allowed: {allowed}, and what quality_words name"
            return Refusal(Reason.BAD_QUALITY, detail[:400])
        return quality


def _path(text: str | None) -> FieldPath | None:
    return None if text is None else FieldPath(text)
