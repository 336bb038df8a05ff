"""Readings of one source to Kafka messages: those of an entity together, in the order they came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec
import numpy as np

from connectors.reading import Quality, Reading, Rejected
from connectors.spool import Message
from connectors.timestamps import to_texts
from pipeline.outputs import origin_headers

MOST_IN_ONE = 500
"""Readings in one message: about 100 kB, well below what brokers take by default."""
_QUALITIES = {quality: f',"quality":"{quality.name.lower()}"' for quality in Quality} | {Quality.UNKNOWN: ""}


def messages_of(readings: Sequence[Reading], topic: str, source: str) -> list[Message]:
    """Return canonical JSON messages, keyed by entity: a reading by itself, several of an entity as a list.

    Every reading has an ``id`` that is the same whenever the same reading is encoded again: whoever reads the topic can
    tell a message that was sent twice.
    """
    if not readings:
        return []
    tail = f',"source":{_quoted(source)},"id":"'
    times = to_texts(np.fromiter((reading.time_us for reading in readings), np.int64, len(readings)))
    by_entity: dict[str, list[str]] = {}
    for reading, time in zip(readings, times, strict=True):
        text = f'{_head(reading.entity, reading.channel)}{time}","value":{_number(reading.value)}{_rest(reading)}'
        digest = blake2b(f"{tail}{text}".encode(), digest_size=12).hexdigest()
        by_entity.setdefault(reading.entity, []).append(f'{text}{tail}{digest}"}}')
    return [
        Message(topic, entity, _together(texts[start : start + MOST_IN_ONE]))
        for entity, texts in by_entity.items()
        for start in range(0, len(texts), MOST_IN_ONE)
    ]


def dead_letters_of(rejected: Sequence[Rejected], topic: str, source: str) -> list[Message]:
    """Return a message for each refused record: its bytes as they came, why and where from as headers."""
    return [
        Message(
            topic,
            one.key.decode("utf-8", "replace") if one.key else "",
            one.raw,
            (*origin_headers(one), ("vedette-source", source.encode())),
        )
        for one in rejected
    ]


def _together(texts: list[str]) -> bytes:
    return (texts[0] if len(texts) == 1 else f"[{','.join(texts)}]").encode()


@lru_cache(maxsize=100_000)
def _head(entity: str, channel: str) -> str:
    return f'{{"entity":{_quoted(entity)},"channel":{_quoted(channel)},"time":"'


@lru_cache(maxsize=1_000)
def _unit(unit: str) -> str:
    return f',"unit":{_quoted(unit)}' if unit else ""


def _quoted(text: str) -> str:
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()  # a lone surrogate has no UTF-8


def _number(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else repr(value)


def _rest(reading: Reading) -> str:
    result = ""
    if reading.result_time_us is not None:
        result = f',"result_time":"{to_texts(np.array([reading.result_time_us]))[0]}"'
    return f"{_unit(reading.unit)}{_QUALITIES[reading.quality]}{result}"
