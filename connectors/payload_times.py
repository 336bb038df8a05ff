"""Times as devices write them: RFC 3339, the same without an offset, and numbers since 1970 in any unit."""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from connectors.reading import Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import ALLOWED, LONGEST_TEXT, in_range, parse, to_us

EpochUnit = Literal["auto", "s", "ms", "us", "ns"]
_US_IN: dict[str, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_BELOW = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (math.inf, "ns"))
"""Each unit for the numbers that mean 1973 to 5138 in it."""
_MOST_KNOWN = 50_000


class PayloadTimes:
    """Reads times; remembers a bounded number of texts, since sensors report on a grid.

    Args:
        epoch: what numbers count; ``auto``: what gives a time between 1973 and 5138.
        zone: IANA name of the zone of texts without an offset; None: they are refused.

    Raises:
        ValueError: if there is no such zone.
    """

    def __init__(self, epoch: EpochUnit = "auto", zone: str | None = None) -> None:
        self._epoch = epoch
        self._zone = None if zone is None else zone_of(zone)
        self._known: dict[str, int] = {}

    def read(self, value: object) -> int | Refusal:
        """Return microseconds since 1970 UTC, or why ``value`` is no time. Never raises.

        >>> PayloadTimes().read(1795190400123), PayloadTimes(zone="Europe/Berlin").read("2026-11-20 17:00:00")
        (1795190400123000, 1795190400000000)
        """
        if isinstance(value, str):
            known = self._known.get(value)
            return self._learn(value) if known is None else known
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Refusal(Reason.BAD_TIME, f"time {shortened(value)} is no time; {ALLOWED}")
        return self._of_number(value)

    def _learn(self, text: str) -> int | Refusal:
        time_us = self._of_text(text)
        if isinstance(time_us, int):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[text] = time_us
        return time_us

    def _of_text(self, text: str) -> int | Refusal:
        outcome = parse(text)
        if isinstance(outcome, int) or len(text) > LONGEST_TEXT:
            return outcome
        stripped = text.strip()
        try:
            return self._of_number(float(stripped) if "." in stripped or "e" in stripped else int(stripped))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(stripped)
        except ValueError:
            return outcome
        if moment.tzinfo is None:
            return self._of_naive(moment, text)
        return _checked(to_us(moment), text)

    def _of_naive(self, moment: datetime, text: str) -> int | Refusal:
        if self._zone is None:
            detail = f"time {shortened(text)} has no offset from UTC, and no time zone is configured; {ALLOWED}"
            return Refusal(Reason.NAIVE_TIME, detail)
        try:
            aware = moment.replace(tzinfo=self._zone)
            early, late = aware.utcoffset(), aware.replace(fold=1).utcoffset()
            if early != late:
                detail = f"time {shortened(text)} is ambiguous or skipped where clocks change in {self._zone}"
                return Refusal(Reason.BAD_TIME, detail)
            return _checked(to_us(aware.astimezone(UTC)), text)
        except OverflowError:  # within a day of year 1 or 9999
            return Refusal(Reason.BAD_TIME, f"time {shortened(text)} is out of range; {ALLOWED}")

    def _of_number(self, number: float) -> int | Refusal:
        if isinstance(number, float) and not math.isfinite(number):
            return Refusal(Reason.BAD_TIME, f"time {number} is no time; {ALLOWED}")
        if abs(number) >= 1e20:
            return Refusal(Reason.BAD_TIME, f"time {shortened(number)} is out of range; {ALLOWED}")
        unit: str = self._epoch
        if unit == "auto":
            unit = next(name for most, name in _BELOW if abs(number) < most)
        if isinstance(number, int):  # exact: nanoseconds since 1970 are more than a float holds
            time_us = number // 1000 if unit == "ns" else number * round(_US_IN[unit])
        else:
            time_us = round(number * _US_IN[unit])
        return _checked(time_us, number)


def zone_of(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        ValueError: if there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name!r} is no time zone; allowed: IANA names such as Europe/Berlin") from error


def _checked(time_us: int, shown: object) -> int | Refusal:
    if in_range(time_us):
        return time_us
    return Refusal(Reason.BAD_TIME, f"time {shortened(shown)} is out of range; {ALLOWED}")
