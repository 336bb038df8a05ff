"""Record blocks to reading batches: every rule that a reading can break is checked here, a column at a time.

Legend: n readings of a block. A record is refused or read as a whole: one bad element of a list refuses the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors import codec_cloudevents as cloudevents
from connectors.base import RecordBlock
from connectors.codec_json import LONGEST_NAME, QUALITY_CODES, WireReading
from connectors.codec_senml import SEPARATORS
from connectors.json_scanner import JsonScanner
from connectors.payloads import PayloadReader, Refusals, key_of, refused_by_headers
from connectors.reading import NO_TIME, ReadingBatch, Reason, Rejected, Vocabulary
from connectors.refusal import Refusal, shortened
from connectors.timestamps import TimeParser

KEPT_BYTES = 65_536
"""Of a refused record; what a dead-letter topic can take, and a flood of 5 MB records cannot fill the memory with."""

PART_BYTES = 262_144
"""Decoded at once: what is made of a part stays in the CPU's cache until it is columns. Whole blocks
take 1.4 times as long."""
MOST_RECORDS = 4096

Codes = NDArray[np.int32]


@dataclass(slots=True)
class Draft:
    """The readings of a block on their way into columns; all of length n."""

    readings: list[WireReading]
    record: NDArray[np.int32]
    entities: list[str]
    time_us: NDArray[np.int64]
    result_time_us: NDArray[np.int64]
    quality: NDArray[np.int8]

    def without(self, refusals: Refusals) -> Draft:
        """Return the draft without the readings of refused records."""
        if not refusals:
            return self
        kept = ~np.isin(self.record, np.fromiter(refusals, np.int32, len(refusals)))
        if kept.all():
            return self
        return Draft(
            list(compress(self.readings, kept.tolist())),
            self.record[kept],
            list(compress(self.entities, kept.tolist())),
            self.time_us[kept],
            self.result_time_us[kept],
            self.quality[kept],
        )


class ReadingDecoder:
    """Decodes canonical JSON, SenML packs and CloudEvents, told apart record by record.

    Parts of a block whose records are all plain are scanned by compiled code (``connectors.json_scanner``); the others,
    and what has names that are new, go the way that knows everything.

    Holds the vocabularies that the codes in its batches refer to. Never raises for bad data; the same block always
    gives the same batch. Not for use from two threads at once.

    Args:
        entities, channels, units: names to codes; a full one refuses records with further names.
        max_bytes: larger records are refused unread.
        senml_separators: see ``codec_senml.resolve_pack``.
    """

    def __init__(
        self,
        entities: Vocabulary | None = None,
        channels: Vocabulary | None = None,
        units: Vocabulary | None = None,
        max_bytes: int = 1_048_576,
        senml_separators: str = SEPARATORS,
    ) -> None:
        self.entities = Vocabulary() if entities is None else entities
        self.channels = Vocabulary() if channels is None else channels
        self.units = Vocabulary() if units is None else units
        self._scanner = JsonScanner(self.entities, self.channels, self.units, max_bytes)
        self._payloads = PayloadReader(max_bytes, senml_separators)
        self._times = TimeParser()

    def decode(self, block: RecordBlock) -> ReadingBatch:
        """Return the block's readings as columns, and each record that could not be read in ``rejected``."""
        refusals = refused_by_headers(block)
        scans = not refusals
        parts = [
            (self._scanner.scan(block.values[part], part.start) if scans else None)
            or self._columns(block, part, refusals)
            for part in _parts(block.values)
        ]
        entity, channel, time_us, value, unit, quality, result_time_us, record = (
            column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return ReadingBatch(
            entity,
            channel,
            time_us,
            value,
            unit,
            quality,
            result_time_us,
            record,
            rejected=[_rejected(block, index, refusals[index]) for index in sorted(refusals)],
            topic=block.topic,
            partition=block.partition,
            next_offset=block.next_offset,
        )

    def _columns(self, block: RecordBlock, part: slice, refusals: Refusals) -> tuple[NDArray[Any], ...]:
        """Return the columns of a part of a block in the order of ``ReadingBatch``; fill ``refusals``."""
        readings, record = self._payloads.read(block, part, refusals)
        draft = self._draft(block, readings, record, refusals).without(refusals)
        entity, channel, unit = self._codes(draft, refusals)
        if (entity < 0).any() or (channel < 0).any() or (unit < 0).any():
            draft = draft.without(refusals)
            entity, channel, unit = self._codes(draft, refusals)
        value = np.array([reading.value for reading in draft.readings], np.float64)  # None becomes NaN
        return entity, channel, draft.time_us, value, unit, draft.quality, draft.result_time_us, draft.record

    def _draft(
        self, block: RecordBlock, readings: list[WireReading], record: NDArray[np.int32], refusals: Refusals
    ) -> Draft:
        """Fill the columns that may refuse a record, before any of its names becomes known."""
        return Draft(
            readings,
            record,
            _entities(block, readings, record, refusals),
            self._times_of([reading.time for reading in readings], record, refusals),
            self._result_times(readings, record, refusals),
            _qualities(readings, record, refusals),
        )

    def _times_of(self, texts: Sequence[str], record: NDArray[np.int32], refusals: Refusals) -> NDArray[np.int64]:
        time_us, refused = self._times.parse_many(texts)
        if refused:
            for row in np.flatnonzero(time_us == NO_TIME).tolist():
                refusals.setdefault(int(record[row]), refused[texts[row]])
        return time_us

    def _result_times(
        self, readings: list[WireReading], record: NDArray[np.int32], refusals: Refusals
    ) -> NDArray[np.int64]:
        texts = [reading.result_time for reading in readings]
        result_time_us = np.full(len(texts), NO_TIME, np.int64)
        if texts.count(None) == len(texts):
            return result_time_us
        rows = np.array([row for row, text in enumerate(texts) if text is not None], np.intp)
        result_time_us[rows] = self._times_of([text for text in texts if text is not None], record[rows], refusals)
        return result_time_us

    def _codes(self, draft: Draft, refusals: Refusals) -> tuple[Codes, Codes, Codes]:
        """Return the codes of entity, channel and unit; -1, and the record in ``refusals``, where there is no room."""
        readings = draft.readings
        columns: tuple[tuple[Vocabulary, Sequence[str | None], Reason], ...] = (
            (self.entities, draft.entities, Reason.TOO_MANY_ENTITIES),
            (self.channels, [reading.channel for reading in readings], Reason.UNKNOWN_CHANNEL),
            (self.units, [reading.unit for reading in readings], Reason.UNIT_MISMATCH),
        )
        entity, channel, unit = coded = tuple(_codes(vocabulary, names) for vocabulary, names, _ in columns)
        for codes, (vocabulary, names, reason) in zip(coded, columns, strict=True):
            for row in np.flatnonzero(codes < 0).tolist():
                detail = f"{shortened(names[row])} is one name too many; allowed: {vocabulary.max_size}"
                refusals.setdefault(int(draft.record[row]), Refusal(reason, detail))
        return entity, channel, unit


def _parts(values: Sequence[bytes | None]) -> Iterator[slice]:
    """Yield slices that cover ``values``, each about ``PART_BYTES``; one empty slice when there are none."""
    start = 0
    while True:
        first = values[start] if start < len(values) else None
        step = min(max(PART_BYTES // max(len(first or b""), 1), 1), MOST_RECORDS)
        yield slice(start, start + step)
        start += step
        if start >= len(values):
            return


def _codes(vocabulary: Vocabulary, names: Sequence[str | None]) -> NDArray[np.int32]:
    """Return the codes of ``names``, new names included; None is the empty name; -1 where the vocabulary is full."""
    known = vocabulary.codes
    try:
        return np.fromiter(map(known.get, names), np.int32, len(names))  # type: ignore[arg-type]
    except TypeError:  # a None: a name that is new
        for name in dict.fromkeys(names):  # in order: codes must not depend on hashes
            vocabulary.code(name or "")
    return np.fromiter((known.get(name or "", -1) for name in names), np.int32, len(names))


def _entities(
    block: RecordBlock, readings: list[WireReading], record: NDArray[np.int32], refusals: Refusals
) -> list[str]:
    """Return each reading's entity, taken from its record's key or event where it names none itself."""
    entities = [reading.entity for reading in readings]
    if None in entities:
        for row, entity in enumerate(entities):
            if entity is None:
                found = _entity_of(block, int(record[row]))
                if isinstance(found, Refusal):
                    refusals.setdefault(int(record[row]), found)
                    found = ""
                entities[row] = found
    return entities  # type: ignore[return-value]


def _entity_of(block: RecordBlock, index: int) -> str | Refusal:
    """Return the entity that a record's key, or else its CloudEvents headers, name."""
    key = key_of(block, index)
    if key is None:
        headers = block.headers.get(index, ()) if block.headers else ()
        name = cloudevents.entity_of_headers(headers)
    else:
        try:
            name = bytes(key).decode()
        except UnicodeDecodeError:
            return Refusal(Reason.WRONG_TYPE, f"key {shortened(key[:60])} is no UTF-8, and the reading names no entity")
    if not name:
        return Refusal(Reason.MISSING_KEY, "no `entity`, and the record has no key to take it from")
    if len(name) > LONGEST_NAME:
        detail = f"key {shortened(name)} names the entity; allowed: at most {LONGEST_NAME} characters"
        return Refusal(Reason.WRONG_TYPE, detail)
    return name


def _qualities(readings: list[WireReading], record: NDArray[np.int32], refusals: Refusals) -> NDArray[np.int8]:
    names = [reading.quality for reading in readings]
    try:
        return np.fromiter(map(QUALITY_CODES.get, names), np.int8, len(names))
    except TypeError:
        allowed = ", ".join(name for name in QUALITY_CODES if name)
    for row, name in enumerate(names):
        if name not in QUALITY_CODES:
            detail = f"quality {shortened(name)}; allowed: {allowed}"
            refusals.setdefault(int(record[row]), Refusal(Reason.BAD_QUALITY, detail))
    return np.fromiter((QUALITY_CODES.get(name, -1) for name in names), np.int8, len(names))


def _rejected(block: RecordBlock, index: int, refusal: Refusal) -> Rejected:
    """Return the refusal with its origin; the bytes are shared with the block, cut where they are too many."""
    value = block.values[index] or b""
    detail = refusal.detail
    if len(value) > KEPT_BYTES:
        detail = f"{detail} ({len(value)} bytes, the first {KEPT_BYTES} kept)"
        value = value[:KEPT_BYTES]
    key = block.keys[index] if block.keys is not None else None
    offset = int(block.offsets[index])
    return Rejected(refusal.reason, detail, bytes(value), block.topic, block.partition, offset, key)
