"""Sources of kind ``mqtt``: whatever speaks MQTT, by mappings from topics and payloads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.source import ReadingSource
from pipeline.config_fields import Name, Number, Section, Size
from pipeline.ingest.broker_options import BrokerOptions
from pipeline.ingest.kind import SourceKind, SourcePlace


class ValueOptions(Section):
    """One kind of value in a payload. Texts may hold ``{names}`` of the topic; those with ``$`` are JSON paths."""

    value: Name | None = Field(default=None, examples=["$.temperature"])
    """Where it is; none: the payload is the value, or canonical JSON, or SenML."""
    entity: Name | None = None
    """None: the topic's ``{entity}``."""
    channel: Name | None = None
    """None: the topic's ``{channel}``. With ``*`` in ``value``, ``{key}`` is what it stood for."""
    unit: str = Field(default="", max_length=500)
    time: Name | None = None
    """The path of the time; none: when the message came."""

    def rule(self) -> ValueRule:
        """Return it as connectors take it."""
        return ValueRule(value=self.value, entity=self.entity, channel=self.channel, unit=self.unit, time=self.time)


class MappingOptions(ValueOptions):
    """How the messages of some topics are read: one kind of value, or a list of ``values``."""

    topic: Name = Field(examples=["sensors/{entity}/{channel}"])
    """``+`` is any level, ``#`` any number of them at the end, ``{name}`` a level, or part of one, with a name."""
    values: tuple[ValueOptions, ...] = ()
    """Each may leave out entity, unit and time that are said for all."""
    epoch: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """What times count that are numbers since 1970; ``auto``: told by their size."""
    time_zone: Name | None = None
    """Of times without an offset, as Europe/Berlin; none: they are refused."""
    missing: tuple[Number, ...] = ()
    """Numbers that stand for no value, as -999."""
    states: dict[Name, Number] = Field(default_factory=dict)
    """Texts that are values, as ``open: 1``; on, off, true and false are known."""

    def mapping(self) -> MappingRule:
        """Return it as connectors take it.

        Raises:
            ValueError: if a topic or a path is none, or they do not fit together.
        """
        given = self.values or (self,)
        values = [
            one.model_copy(
                update={name: getattr(one, name) or getattr(self, name) for name in ("entity", "unit", "time")}
            ).rule()
            for one in given
        ]
        return MappingRule(
            topic=self.topic,
            values=tuple(values),
            epoch=self.epoch,
            time_zone=self.time_zone,
            missing=self.missing,
            states=self.states,
        )

    @model_validator(mode="after")
    def _can_be_read(self) -> MappingOptions:
        if self.values and (self.value is not None or self.channel is not None):
            raise ValueError("value and channel beside values | either one kind of value, or a list of values")
        self.mapping()
        return self


class MqttOptions(BrokerOptions):
    """Which broker, and what its topics mean."""

    kind: Literal["mqtt"]
    mappings: tuple[MappingOptions, ...] = Field(min_length=1, examples=[[{"topic": "sensors/{entity}/{channel}"}]])
    """The first that fits a topic counts."""
    qos: Literal[0, 1] = 1
    retained: Literal["skip", "take"] = "skip"
    """What is done about messages that the broker kept from before we subscribed: they may be old; taken, those
    without a time of their own are suspect."""
    max_payload: Size = 1 << 20
    """Larger messages are refused. A broker that speaks MQTT 5 leaves out what is beyond 16 MiB, or beyond this where
    this is more."""


def _build(options: MqttOptions, place: SourcePlace) -> ReadingSource:
    from connectors.mqtt import MqttSource

    return MqttSource(
        options.broker(),
        [mapping.mapping() for mapping in options.mappings],
        qos=options.qos,
        retained=options.retained == "take",
        most_payload_bytes=options.max_payload,
    )


KIND = SourceKind(MqttOptions, _build, "MQTT topics by mappings: numbers, JSON by paths, canonical JSON, SenML")
