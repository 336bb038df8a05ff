"""What an MQTT message means: its topic by a template, its payload by paths, or by what it shows itself to be.

A payload without configured paths may be a plain number or state, canonical JSON, a SenML pack, a CloudEvent around
either, or an object ``{"value": 21.5, "time": …, "unit": …}`` whose rest the topic tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectors.codec_json import LONGEST_NAME
from connectors.json_documents import number_of, parsed
from connectors.json_path import ABSENT, JsonPath, Keys, compiled
from connectors.mqtt_messages import MqttMessage
from connectors.mqtt_topics import TopicTemplate, template
from connectors.payload_times import EpochUnit, PayloadTimes
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.self_described import SelfDescribed

STATES: Mapping[str, float] = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}
_NAMES = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_KEY = "key"
"""The name of what the last star of a value's path stands for."""

Outcome = tuple[list[Reading], list[Refusal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRule:
    """One kind of value in a payload. Texts may hold ``{names}`` of the topic, and ``{key}``; ``$…`` is a path."""

    value: str | None = None
    """Its path; None: the payload is the value, or says itself what it holds."""
    entity: str | None = None
    """None: the topic's ``{entity}``."""
    channel: str | None = None
    """None: the topic's ``{channel}``."""
    unit: str = ""
    time: str | None = None
    """Its path; None: when the message came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingRule:
    """How the messages of some topics are read.

    Raises:
        ValueError: if a template or a path is none, or they do not fit together.
    """

    topic: str
    values: tuple[ValueRule, ...] = (ValueRule(),)
    epoch: EpochUnit = "auto"
    time_zone: str | None = None
    missing: tuple[float, ...] = ()
    """Numbers that stand for no value."""
    states: Mapping[str, float] = field(default_factory=dict)
    """Texts, in small letters, to numbers; beside on, off, true and false."""

    def __post_init__(self) -> None:
        TopicMapping(self)


Words = str | JsonPath | None


@dataclass(frozen=True, slots=True)
class Bound:
    """A value rule on one topic."""

    value: JsonPath | None
    entity: Words
    channel: Words
    unit: Words
    time: JsonPath | None


class TopicMapping:
    """Reads the messages of the topics that fit one rule. Remembers a bounded number of times.

    Raises:
        ValueError: as ``MappingRule``.
    """

    def __init__(self, rule: MappingRule) -> None:
        self.template: TopicTemplate = template(rule.topic)
        self._times = PayloadTimes(rule.epoch, rule.time_zone)
        self._missing = frozenset(rule.missing)
        self._states = {**STATES, **{text.strip().lower(): number for text, number in rule.states.items()}}
        self._described = SelfDescribed()
        if not rule.values:
            raise ValueError(f"{rule.topic!r} maps no value; name at least one")
        self._rules = [_compiled(one, self.template) for one in rule.values]
        if len(self._rules) > 1 and any(one.value is None for one in self._rules):
            raise ValueError(f"{rule.topic!r} maps several values; each needs a path to it, such as $.temperature")

    def bind(self, topic: str) -> list[Bound] | None:
        """Return what the rules mean on a topic; None when it does not fit."""
        names = self.template.match(topic)
        if names is None:
            return None
        return [
            Bound(
                one.value, _filled(one.entity, names), _filled(one.channel, names), _filled(one.unit, names), one.time
            )
            for one in self._rules
        ]

    def read(self, message: MqttMessage, bound: Sequence[Bound]) -> Outcome:
        """Return the readings of one message, and why others of its values are none. Never raises for what is in it."""
        first = bound[0]
        if first.value is None:
            return self._read_whole(message, first)
        document = parsed(message.payload)
        if isinstance(document, Refusal):
            return [], [document]
        readings: list[Reading] = []
        refused: list[Refusal] = []
        absent = True
        for one in bound:
            assert one.value is not None
            for keys, value in one.value.find(document):
                absent = False
                outcome = self._reading(value, document, keys, one, message)
                if isinstance(outcome, Refusal):
                    refused.append(outcome)
                else:
                    readings.append(outcome)
        if absent:
            paths = ", ".join(one.value.text for one in bound if one.value is not None)
            refused.append(Refusal(Reason.MISSING_KEY, f"nothing is at {paths}"))
        return readings, refused

    def _read_whole(self, message: MqttMessage, bound: Bound) -> Outcome:
        """Read a payload that is a value, or says itself what it holds."""
        payload = message.payload.strip()
        if payload[:1] not in (b"{", b"["):
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                begins = shortened(payload[:40])
                return [], [Refusal(Reason.WRONG_TYPE, f"neither text nor JSON; it begins {begins}")]
            if not text:
                return [], [Refusal(Reason.EMPTY, "the payload is empty")]
            return _split(self._reading(text, None, (), bound, message))
        found = self._described.read(payload, message.received_us)
        if isinstance(found, Refusal):
            return _split(self._plain_object(payload, bound, message) or found)
        readings: list[Reading] = []
        for reading in found:
            entity = reading.entity or (bound.entity if isinstance(bound.entity, str) else "")
            if not entity:
                return [], [Refusal(Reason.MISSING_KEY, "neither the payload nor the topic names the entity")]
            reading.entity = entity
            readings.append(reading)
        return readings, []

    def _plain_object(self, payload: bytes, bound: Bound, message: MqttMessage) -> Reading | Refusal | None:
        """Read ``{"value": …}``, with what else it says; None when it is none."""
        document = parsed(payload)
        if not isinstance(document, dict) or "value" not in document:
            return None
        reading = self._reading(document["value"], document, (), bound, message)
        if isinstance(reading, Refusal):
            return reading
        time = next((document[name] for name in ("time", "timestamp") if name in document), None)
        if time is not None and bound.time is None:
            time_us = self._times.read(time)
            if isinstance(time_us, Refusal):
                return time_us
            reading.time_us = time_us
        unit = document.get("unit")
        if isinstance(unit, str) and not reading.unit:
            reading.unit = unit
        return reading

    def _reading(
        self, value: object, document: object, keys: Keys, bound: Bound, message: MqttMessage
    ) -> Reading | Refusal:
        number = self._number(value)
        if isinstance(number, Refusal):
            return number
        entity = _name(bound.entity, document, keys, "entity")
        if isinstance(entity, Refusal):
            return entity
        channel = _name(bound.channel, document, keys, "channel")
        if isinstance(channel, Refusal):
            return channel
        time_us = message.received_us if bound.time is None else self._time(bound.time, document, keys)
        if isinstance(time_us, Refusal):
            return time_us
        unit = bound.unit
        if isinstance(unit, JsonPath):
            found = unit.follow(document, keys)
            unit = found if isinstance(found, str) else ""
        quality = Quality.MISSING if number is None else Quality.UNKNOWN
        return Reading(entity, channel, time_us, number, unit or "", quality)

    def _time(self, path: JsonPath, document: object, keys: Keys) -> int | Refusal:
        found = path.follow(document, keys)
        return Refusal(Reason.MISSING_KEY, f"no time is at {path.text}") if found is ABSENT else self._times.read(found)

    def _number(self, value: object) -> float | Refusal | None:
        if isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            state = self._states.get(value.strip().lower())
            if state is not None:
                return state
        number = number_of(value)
        return None if number in self._missing else number


def _split(outcome: Reading | Refusal) -> Outcome:
    return ([], [outcome]) if isinstance(outcome, Refusal) else ([outcome], [])


def _name(words: Words, document: object, keys: Keys, what: str) -> str | Refusal:
    """Return an entity or a channel."""
    if isinstance(words, JsonPath):
        found = words.follow(document, keys)
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            return Refusal(Reason.MISSING_KEY, f"no {what} is at {words.text}")
        name = str(found) if isinstance(found, str) or abs(found) < 10**18 else ""
    elif words is None:
        return Refusal(Reason.MISSING_KEY, f"neither the topic nor the mapping names the {what}")
    else:
        name = words.replace("{key}", str(keys[-1])) if keys and "{key}" in words else words
    if not 0 < len(name) <= LONGEST_NAME:
        return Refusal(Reason.WRONG_TYPE, f"{what} {shortened(name)}; allowed: 1 to {LONGEST_NAME} characters")
    return name


def _compiled(rule: ValueRule, topic: TopicTemplate) -> Bound:
    """Return a rule with its paths compiled; the names of the topic are still to be filled in.

    Raises:
        ValueError: if something does not fit.
    """
    value = None if rule.value is None else compiled(rule.value)
    entity, channel = rule.entity, rule.channel
    if entity is None and "entity" in topic.names:
        entity = "{entity}"
    if channel is None and "channel" in topic.names:
        channel = "{channel}"
    where = f"{topic.text!r}{f', {rule.value}' if rule.value else ''}"
    if value is not None:
        for what, text in (("entity", entity), ("channel", channel)):
            if not text:
                raise ValueError(f"{where}: no {what}; write it, or {{{what}}} into the topic")
    words = {
        what: _words(text, what, value, topic, where)
        for what, text in (("entity", entity), ("channel", channel), ("unit", rule.unit))
    }
    time = None if rule.time is None else _words(rule.time, "time", value, topic, where)
    if time is not None and not isinstance(time, JsonPath):
        raise ValueError(f"{where}: time {rule.time!r} is no path, such as $.time")
    return Bound(value, words["entity"], words["channel"], words["unit"], time)


def _words(text: str | None, what: str, value: JsonPath | None, topic: TopicTemplate, where: str) -> Words:
    if text is None:
        return None
    if text.startswith("$"):
        path = compiled(text)
        if value is None:
            raise ValueError(f"{where}: {what} {text} needs a path to the value too")
        if path.trunk != value.trunk[: len(path.trunk)]:
            raise ValueError(f"{where}: {what} {text} has its * elsewhere than {value.text}")
        return path
    for name in _NAMES.findall(text):
        if name == _KEY and value is not None and value.stars:
            continue
        if name not in topic.names:
            known = ", ".join(f"{{{one}}}" for one in topic.names) or "none"
            raise ValueError(f"{where}: {what} {text!r} names {{{name}}}; names of the topic: {known}")
    return text


def _filled(words: Words, names: Mapping[str, str]) -> Words:
    if not isinstance(words, str):
        return words
    return _NAMES.sub(lambda match: names.get(match[1], match[0]), words)
