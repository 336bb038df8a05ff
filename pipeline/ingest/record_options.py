"""What may be said in the configuration of records' fields: rows of files, documents of topics."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from connectors.field_mapping import OTHERWISE, FieldMapping, Fields
from connectors.reading import Quality
from connectors.record_times import RecordTimes
from pipeline.config_fields import Duration, Name, Number, Section

QualityName = Literal["good", "provisional", "estimated", "suspect", "bad", "missing", "unknown"]


def _field_alone(value: Any) -> Any:
    return {"field": value} if isinstance(value, str) else value


class TimeOptions(Section):
    """Where a record's time is, and how it is written."""

    field: Name = Field(examples=["time"])
    date: Name | None = None
    """The field with the date, where ``field`` has the time of day only."""
    format: Name | None = None
    """As strptime takes it, "%d.%m.%Y %H:%M"; none: ISO 8601, or numbers."""
    epoch: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """What numbers count since 1970; ``auto``: told by their size."""
    zone: Name | None = None
    """Of times without an offset, as Europe/Berlin; none: they are refused. Hours that clocks skipped always are."""
    clock_change: Literal["refuse", "earlier", "later"] = "refuse"
    """Of times that were there twice, when clocks went back."""
    shift: Duration = timedelta(0)
    """Added to every time: the length of an interval, where records are named by its beginning."""


class ChannelOptions(Section):
    """One channel of the records. A field's name alone stands for ``{field: NAME}``."""

    field: Name | None = None
    """Where its values are; none only where the records name their channel themselves."""
    unit: str = Field(default="", max_length=64)
    """Of values whose unit the records do not tell."""
    missing: tuple[Number, ...] = ()
    """Numbers that stand for no value, as -999; exactly these."""
    quality: Name | None = None
    """The field with its quality, where each channel has its own."""


AnyChannel = Annotated[ChannelOptions, BeforeValidator(_field_alone)]
AnyTime = Annotated[TimeOptions, BeforeValidator(_field_alone)]


class RecordOptions(Section):
    """Which fields mean what. Either ``channels`` with a field each, or ``channel`` and ``value``."""

    time: AnyTime | None = None
    """None: when the record was written, as its file or topic tells."""
    entity: Name | None = None
    """A field's name, or words around names in braces: ``USGS-{site_no}``, ``{@stem}``."""
    fixed_entity: str = Field(default="", max_length=200)
    channels: dict[Name, AnyChannel] = Field(default_factory=dict)
    channel: Name | None = None
    """The field that names the channel, where a record is one reading."""
    value: Name | None = None
    unit: Name | None = None
    """The field that tells the unit, where a record is one reading."""
    missing: tuple[Number, ...] = ()
    """Numbers that stand for no value in any channel."""
    quality: Name | None = None
    quality_words: dict[Name, QualityName] = Field(default_factory=dict)
    """The records' words for quality, as ``V: good``; ``"*"`` is any other. Ours are known."""
    result_time: Name | None = None
    """The field that tells when the source last changed the record."""
    each: Name | None = None
    """A field with a list whose elements are the records."""
    decimal_comma: bool = False

    def mapping(self, result_time: str | None = None) -> FieldMapping:
        """Return it as connectors take it.

        Args:
            result_time: the field with it where none is configured.

        Raises:
            ValueError: if the fields do not fit together.
        """
        time = self.time
        long = self.channel is not None or self.value is not None
        placed = {name: one.field for name, one in self.channels.items() if one.field is not None}
        if not long and len(placed) < len(self.channels):
            without = ", ".join(name for name in self.channels if name not in placed)
            raise ValueError(f"channels without a field: {without}")
        fields = Fields(
            time=None if time is None else time.field,
            date=None if time is None else time.date,
            entity=self.entity,
            fixed_entity=self.fixed_entity,
            values=placed,
            channel=self.channel,
            value=self.value,
            unit=self.unit,
            units={name: one.unit for name, one in self.channels.items() if one.unit},
            missing={OTHERWISE: frozenset(self.missing)}
            | {name: frozenset(one.missing) for name, one in self.channels.items()},
            quality=self.quality,
            qualities={name: one.quality for name, one in self.channels.items() if one.quality is not None},
            quality_words={word: Quality[name.upper()] for word, name in self.quality_words.items()},
            result_time=self.result_time or result_time,
            each=self.each,
            decimal_comma=self.decimal_comma,
        )
        return FieldMapping(fields, _times(time or TimeOptions(field="-")), _result_times(time))

    @model_validator(mode="after")
    def _fits(self) -> RecordOptions:
        self.mapping()
        return self


def _times(time: TimeOptions) -> RecordTimes:
    return RecordTimes(
        format=time.format,
        epoch=time.epoch,
        zone=time.zone,
        clock_change=time.clock_change,
        shift_us=time.shift // timedelta(microseconds=1),
    )


def _result_times(time: TimeOptions | None) -> RecordTimes:
    return RecordTimes() if time is None else RecordTimes(zone=time.zone, clock_change=time.clock_change)
