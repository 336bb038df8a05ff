"""The reading: one measured value, as an object for people and as columns for machines.

Legend: n readings of one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

NO_TIME = np.int64(np.iinfo(np.int64).min)
"""Stands for "no result time" in an int64 column of microseconds."""


class Quality(IntEnum):
    """How far a reading may be trusted. Scored: all but BAD and MISSING; learned from: those, but for SUSPECT."""

    GOOD = 0
    PROVISIONAL = 1
    ESTIMATED = 2
    SUSPECT = 3
    BAD = 4
    MISSING = 5
    UNKNOWN = 6


class Reason(StrEnum):
    """Why a record or a reading was refused; a bounded set, so it may be a metric label."""

    EMPTY = "empty"
    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    INVALID_JSON = "invalid_json"
    WRONG_TYPE = "wrong_type"
    MISSING_KEY = "missing_key"
    NOT_FINITE = "not_finite"
    BAD_TIME = "bad_time"
    NAIVE_TIME = "naive_time"
    BAD_QUALITY = "bad_quality"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNIT_MISMATCH = "unit_mismatch"
    TOO_FAR_AHEAD = "too_far_ahead"
    TOO_MANY_ENTITIES = "too_many_entities"
    UNSUPPORTED = "unsupported"


class Reading(msgspec.Struct, gc=False):
    """One measured value. ``value`` None: known to be missing. ``gc=False``: it holds no reference cycles."""

    entity: str
    channel: str
    time_us: int
    """Microseconds since 1970 UTC; the end of its interval."""
    value: float | None
    unit: str = ""
    """A UCUM code; empty: the channel's configured unit."""
    quality: Quality = Quality.UNKNOWN
    result_time_us: int | None = None
    """When the source made it, or last changed it."""
    source: str = ""
    id: str = ""


class CounterReading(Reading, gc=False):
    """A reading whose payload itself says that its value is a total which only grows until it is reset."""

    since_us: int | None = None
    """When it began to count, where that is told."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that was refused, with the bytes as they came and where they came from."""

    reason: Reason
    detail: str
    raw: bytes
    topic: str = ""
    partition: int = -1
    offset: int = -1
    key: bytes | None = None


class Vocabulary:
    """Names to dense codes 0, 1, 2, … and back. Codes never change once given.

    Bounded: past ``max_size`` names, ``code`` returns -1, so that hostile names cannot fill the memory.
    """

    def __init__(self, names: Iterable[str] = (), max_size: int = 2_000_000) -> None:
        self.names: list[str] = []
        self.codes: dict[str, int] = {}
        self.max_size = max_size
        for name in names:
            self.code(name)

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """Return the code of ``name``, giving it the next free one when it is new; -1 when the vocabulary is full."""
        code = self.codes.get(name)
        if code is None:
            if len(self.names) >= self.max_size:
                return -1
            code = self.codes[name] = len(self.names)
            self.names.append(name)
        return code


def _empty(dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.empty(0, dtype)


@dataclass(slots=True)
class ReadingBatch:
    """Readings of one topic-partition as columns; all arrays have length n.

    ``entity``, ``channel`` and ``unit`` are codes of the vocabularies of the decoder that made the batch.
    """

    entity: NDArray[np.int32]
    channel: NDArray[np.int32]
    time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    """NaN where the reading says that the value is missing; never infinite."""
    unit: NDArray[np.int32]
    quality: NDArray[np.int8]
    result_time_us: NDArray[np.int64]
    """NO_TIME where absent."""
    record: NDArray[np.int32]
    """Index into the RecordBlock (its offset, key and raw value) that each reading came from."""
    rejected: list[Rejected] = field(default_factory=list)
    topic: str = ""
    partition: int = -1
    next_offset: int = -1

    def __len__(self) -> int:
        return len(self.time_us)
