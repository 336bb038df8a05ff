"""Readings of one source to Kafka messages: those of an entity together, in the order they came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec
import numpy as np

from connectors.dead_letters import origin_headers
from connectors.kafka_halving import CUT
from connectors.reading import Quality, Reading, Rejected
from connectors.spool import Message
from connectors.timestamps import to_text, to_texts

MOST_IN_ONE = 500
"""Readings in one message: about 100 kB, well below what brokers take by default."""
MOST_BYTES = 500_000
"""Of a message: names may be long, and what was refused of any size; brokers take a megabyte by default."""
_LONGEST_WORD = 2000
_FEW = 50
"""Times that are turned into text one by one; arrays pay only for more."""
_WHOLE = "2026-11-21T10:00:00Z"
_NO_FRACTION = ".000000Z"
_QUALITIES = {quality: f',"quality":"{quality.name.lower()}"' for quality in Quality} | {Quality.UNKNOWN: ""}


def messages_of(readings: Sequence[Reading], topic: str, source: str) -> list[Message]:
    """Return canonical JSON messages, keyed by entity: a reading by itself, several of an entity as a list.

    Every reading has an ``id`` that is the same whenever the same reading is encoded again: whoever reads the topic can
    tell a message that was sent twice.
    """
    if not readings:
        return []
    tail = f',"source":{_quoted(source)},"id":"'
    times = _times([reading.time_us for reading in readings])
    by_entity: dict[str, list[str]] = {}
    for reading, time in zip(readings, times, strict=True):
        text = f'{_head(reading.entity, reading.channel)}{time}","value":{_number(reading.value)}{_rest(reading)}'
        digest = blake2b(f"{tail}{text}".encode(), digest_size=12).hexdigest()
        by_entity.setdefault(reading.entity, []).append(f'{text}{tail}{digest}"}}')
    return [
        Message(topic, _speakable(entity), _together(part))
        for entity, texts in by_entity.items()
        for part in _parts(texts)
    ]


def _times(times_us: Sequence[int]) -> list[str]:
    """Return each time as text that depends on nothing else: a fraction only where it has one, so that ids last."""
    if len(times_us) < _FEW:
        return [to_text(time_us) for time_us in times_us]
    texts = to_texts(np.array(times_us, np.int64))
    if len(texts[0]) == len(_WHOLE):
        return texts
    return [f"{text[: len(_WHOLE) - 1]}Z" if text.endswith(_NO_FRACTION) else text for text in texts]


def dead_letters_of(rejected: Sequence[Rejected], topic: str, source: str) -> list[Message]:
    """Return a message for each refused record: its bytes as they came, why and where from as headers.

    Of what is too large to be a message the beginning is kept, and the header ``vedette-cut`` has its size.
    """
    found = []
    for one in rejected:
        key = one.key[:_LONGEST_WORD].decode("utf-8", "replace") if one.key else ""
        headers = [(name, _short(value)) for name, value in origin_headers(one)]
        if len(one.raw) > MOST_BYTES:
            headers.append((CUT, str(len(one.raw)).encode()))
        found.append(Message(topic, key, one.raw[:MOST_BYTES], (*headers, ("vedette-source", source.encode()))))
    return found


def _short(value: bytes) -> bytes:
    return value if len(value) <= _LONGEST_WORD else value[:_LONGEST_WORD].decode("utf-8", "ignore").encode()


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield runs of readings, each for one message."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and (len(part) >= MOST_IN_ONE or size + len(text) > MOST_BYTES // 4):  # UTF-8: 4 bytes a character
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part


def _together(texts: list[str]) -> bytes:
    return (texts[0] if len(texts) == 1 else f"[{','.join(texts)}]").encode()


@lru_cache(maxsize=100_000)
def _head(entity: str, channel: str) -> str:
    return f'{{"entity":{_quoted(entity)},"channel":{_quoted(channel)},"time":"'


@lru_cache(maxsize=1_000)
def _unit(unit: str) -> str:
    return f',"unit":{_quoted(unit)}' if unit else ""


def _quoted(text: str) -> str:
    return msgspec.json.encode(_speakable(text)).decode()


def _speakable(text: str) -> str:
    """Return what UTF-8 can say of a text: half a surrogate pair, which JSON can spell, is a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _number(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else repr(value)


def _rest(reading: Reading) -> str:
    result = ""
    if reading.result_time_us is not None:
        result = f',"result_time":"{to_text(reading.result_time_us)}"'
    return f"{_unit(reading.unit)}{_QUALITIES[reading.quality]}{result}"
