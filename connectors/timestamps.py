"""RFC 3339 texts to microseconds since 1970 UTC and back; one parser for every codec, so that no two disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.reading import NO_TIME, Reason
from connectors.refusal import Refusal, shortened

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST_US = 0
"""1970: an earlier time is a clock that was never set, or a sign error."""
LATEST_US = (datetime(2200, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
ALLOWED = "allowed: RFC 3339 text with an offset, from 1970 to 2200, as 2026-11-21T10:00:00Z"
LONGEST_TEXT = 64
"""Characters; no RFC 3339 time is longer, and longer ones would make the cache large."""


def to_us(moment: datetime) -> int:
    """Return the microseconds since 1970 UTC of an aware ``moment``; exact.

    >>> to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - EPOCH) // MICROSECOND


def to_text(time_us: int) -> str:
    """Return ``time_us`` as RFC 3339 in UTC, with a fraction only where there is one; from year 1 to 9999.

    >>> to_text(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    return (EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=None).isoformat() + "Z"


def to_texts(time_us: NDArray[np.int64]) -> list[str]:
    """Return RFC 3339 texts for a column; the whole column shares one precision (seconds or microseconds)."""
    unit: Literal["us", "s"] = "us" if np.any(time_us % 1_000_000) else "s"
    distinct, inverse = np.unique(time_us, return_inverse=True)
    texts: list[str] = np.datetime_as_string(distinct.view("datetime64[us]"), unit=unit).tolist()
    return [f"{texts[i]}Z" for i in inverse.tolist()]


def in_range(time_us: int) -> bool:
    """Return whether ``time_us`` may be the time of a reading."""
    return EARLIEST_US <= time_us < LATEST_US


def parse(text: str) -> int | Refusal:
    """Return the microseconds of one RFC 3339 ``text``, or why it is none. Fractions are rounded to microseconds."""
    if len(text) > LONGEST_TEXT:
        return Refusal(Reason.BAD_TIME, f"time {shortened(text)} is no time; {ALLOWED}")
    try:
        moment = msgspec.convert(text, datetime)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return Refusal(Reason.BAD_TIME, f"time {shortened(text)} is no time; {ALLOWED}")
    if moment.tzinfo is None:
        return Refusal(Reason.NAIVE_TIME, f"time {shortened(text)} has no offset from UTC; {ALLOWED}")
    time_us = to_us(moment)
    if not in_range(time_us):
        return Refusal(Reason.BAD_TIME, f"time {shortened(text)} is out of range; {ALLOWED}")
    return time_us


@dataclass(slots=True)
class TimeParser:
    """Parses columns of time texts through a bounded cache: sensors report on a grid, so most texts repeat."""

    max_cached: int = 100_000
    _cache: dict[str, int] = field(default_factory=dict)

    def parse_many(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], dict[str, Refusal]]:
        """Return [n] microseconds, NO_TIME for the texts that are no times, and for those texts why."""
        try:
            return np.fromiter(map(self._cache.get, texts), np.int64, len(texts)), {}
        except TypeError:  # a None: a text that is not in the cache
            refused = self._learn(texts)
        known = self._cache
        return np.fromiter((known.get(text, NO_TIME) for text in texts), np.int64, len(texts)), refused

    def _learn(self, texts: Sequence[str]) -> dict[str, Refusal]:
        distinct = dict.fromkeys(texts)
        if len(self._cache) + len(distinct) > self.max_cached:
            self._cache.clear()
        unknown = [text for text in distinct if text not in self._cache]
        together = _parse_together(unknown)
        if together is not None:
            self._cache.update(zip(unknown, together, strict=True))
            return {}
        outcomes = {text: parse(text) for text in unknown}
        self._cache.update({text: time_us for text, time_us in outcomes.items() if not isinstance(time_us, Refusal)})
        return {text: refusal for text, refusal in outcomes.items() if isinstance(refusal, Refusal)}


def _parse_together(texts: list[str]) -> list[int] | None:
    """Return what ``parse`` gives for each text, four times faster; None when a text may be refused.

    msgspec says whether each is RFC 3339, arrow computes: what both take has one meaning.
    """
    try:
        moments = msgspec.convert(texts, list[datetime])
        stamps = pa.array(texts, pa.string()).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    except (msgspec.ValidationError, ValueError, OverflowError):  # ArrowInvalid is a ValueError: seven digits, or naive
        return None
    if any(moment.tzinfo is None for moment in moments) or stamps.min() < EARLIEST_US or stamps.max() >= LATEST_US:
        return None
    return stamps.tolist()
