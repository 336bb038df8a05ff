"""Times in the fields of records: texts in any layout, numbers since 1970, and what Avro or Parquet call a timestamp.

A time without an offset is in the configured zone. Where clocks change there: an hour that never was is refused; an
hour that was twice is refused too, unless it was said which of the two is meant.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

from connectors.payload_times import EpochUnit, PayloadTimes, zone_of
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import ALLOWED, LONGEST_TEXT, in_range, to_us

ClockChange = Literal["refuse", "earlier", "later"]
_MIDNIGHT = re.compile(r"(?<!\d)24(?=:?00(?::?00)?(?!\d))")
"""The end of a day, as air quality networks write it; Python knows only the beginning of the next."""
_MOST_KNOWN = 50_000


class RecordTimes:
    """Reads times; remembers a bounded number of texts. For one thread.

    Args:
        format: of texts, as ``strptime`` takes it; None: ISO 8601, or a number.
        epoch: what numbers count from 1970 on; ``auto``: told by their size.
        zone: IANA name of the zone of times without an offset; None: they are refused.
        clock_change: what is done about times that were there twice.
        shift_us: added to every time: where records are named by the beginning of their interval, its length.

    Raises:
        ValueError: if there is no such zone.
    """

    def __init__(
        self,
        *,
        format: str | None = None,  # noqa: A002
        epoch: EpochUnit = "auto",
        zone: str | None = None,
        clock_change: ClockChange = "refuse",
        shift_us: int = 0,
    ) -> None:
        self._format = format
        self._zone: tzinfo | None = None if zone is None else zone_of(zone)
        self._clock_change = clock_change
        self._shift_us = shift_us
        self._plain = PayloadTimes(epoch)
        self._known: dict[str, int] = {}

    def read(self, value: object) -> int | Refusal:
        """Return microseconds since 1970 UTC, or why ``value`` is no time. Never raises.

        >>> RecordTimes(format="%d.%m.%Y %H:%M", zone="Europe/Berlin").read("20.11.2026 24:00")
        1795215600000000
        """
        if isinstance(value, str):
            known = self._known.get(value)
            return self._learn(value) if known is None else known
        return self._shifted(self._of(value), value)

    def _learn(self, text: str) -> int | Refusal:
        time_us = self._shifted(self._of_text(text), text)
        if isinstance(time_us, int):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[text] = time_us
        return time_us

    def _shifted(self, outcome: int | Refusal, shown: object) -> int | Refusal:
        if isinstance(outcome, Refusal) or not self._shift_us:
            return outcome
        return _checked(outcome + self._shift_us, shown)

    def _of(self, value: object) -> int | Refusal:
        if isinstance(value, datetime):
            return self._of_moment(value, value.isoformat())
        if isinstance(value, date):
            return self._of_moment(datetime(value.year, value.month, value.day), value.isoformat())  # noqa: DTZ001
        return self._plain.read(value)

    def _of_text(self, text: str) -> int | Refusal:
        stripped = text.strip()
        if len(stripped) > LONGEST_TEXT:
            return self._refused(text, "is no time")
        moment = self._moment(stripped)
        if moment is not None:
            return self._of_moment(moment, text)
        if self._format is not None:
            return self._refused(text, f"is not written as {self._format}")
        return self._plain.read(text)

    def _moment(self, text: str) -> datetime | None:
        """Return the moment that a text writes, the end of a day as the next one's beginning; None when it is none."""
        moment = self._parsed(text)
        if moment is None and _MIDNIGHT.search(text) is not None:
            moment = self._parsed(_MIDNIGHT.sub("00", text, count=1))
            try:
                return None if moment is None else moment + timedelta(days=1)
            except OverflowError:
                return None
        return moment

    def _parsed(self, text: str) -> datetime | None:
        try:
            if self._format is not None:
                return datetime.strptime(text, self._format)  # noqa: DTZ007
            return None if text.isdecimal() else datetime.fromisoformat(text)  # 20261120 may be a number
        except (ValueError, OverflowError):
            return None

    def _of_moment(self, moment: datetime, text: str) -> int | Refusal:
        try:
            if moment.tzinfo is not None:
                return _checked(to_us(moment), text)
            if self._zone is None:
                return Refusal(
                    Reason.NAIVE_TIME,
                    f"time {shortened(text)} has no offset from UTC, and no time zone is configured; {ALLOWED}",
                )
            return self._of_naive(moment, text, self._zone)
        except OverflowError:  # within a day of year 1 or 9999
            return self._refused(text, "is out of range")

    def _of_naive(self, moment: datetime, text: str, zone: tzinfo) -> int | Refusal:
        first, second = moment.replace(tzinfo=zone), moment.replace(tzinfo=zone, fold=1)
        early, late = to_us(first.astimezone(UTC)), to_us(second.astimezone(UTC))
        if early > late:
            return self._refused(text, f"never was in {zone}: clocks went forward")
        if early < late and self._clock_change == "refuse":
            return self._refused(text, f"was twice in {zone}: clocks went back; say which is meant, or write offsets")
        return _checked(late if self._clock_change == "later" else early, text)

    @staticmethod
    def _refused(text: str, why: str) -> Refusal:
        return Refusal(Reason.BAD_TIME, f"time {shortened(text)} {why}")


def _checked(time_us: int, shown: object) -> int | Refusal:
    if in_range(time_us):
        return time_us
    return Refusal(Reason.BAD_TIME, f"time {shortened(shown)} is out of range; {ALLOWED}")
