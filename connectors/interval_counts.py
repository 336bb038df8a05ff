"""Counts per interval from counters that only ever rise, until they are reset: cameras' line and area counters.

A count belongs to the interval in which the counter said it; late ones to the interval that is open. Zeros are told
only while they are known: connected for the whole interval, and the device heard not long ago.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import Enum

import msgspec

from connectors.reading import Quality, Reading
from connectors.timestamps import EPOCH, to_us

Key = tuple[str, str]
"""Entity and channel."""

MOST_COUNTERS = 2_000
_GRACE_US = 5_000_000
"""How long an interval stays open after its end, for what is on the way."""
_MOST_ZEROS = 120
"""Intervals that are filled at once, after a pause of this process."""


class Outcome(Enum):
    """What became of a report."""

    COUNTED = "counted"
    FIRST = "counters_new"
    """Nothing to compare it with."""
    RESET = "counter_resets"
    """The counter began anew; what it says was counted since."""
    OLD = "counters_outdated"
    """Not newer than what is known."""
    FULL = "counters_too_many"


class Counter(msgspec.Struct, array_like=True):
    """One counter; written into the cursor, so that counting goes on after a restart."""

    total: float
    time_us: int
    """Of the newest report."""
    since_us: int | None
    """When it began to count, where it says so."""
    heard_us: int
    open_us: int
    """End of the interval that is open."""
    count: float = 0.0
    estimated: bool = False


class _State(msgspec.Struct):
    counters: list[tuple[str, str, Counter]]
    filters: list[str] = []


@dataclass(frozen=True, slots=True)
class DailyResets:
    """When counters are reset each day, by the clock on the wall of their site."""

    times: tuple[time, ...] = ()
    zone: tzinfo = UTC

    def any_between(self, after_us: int, until_us: int) -> bool:
        """Return whether a reset lies in (after, until]; for spans of more than two days there is one."""
        if not self.times or until_us <= after_us:
            return False
        if until_us - after_us > 2 * 86_400_000_000:
            return True
        day = (EPOCH + timedelta(microseconds=after_us)).astimezone(self.zone).date() - timedelta(days=1)
        moments = (
            to_us(datetime.combine(day + timedelta(days=ahead), at, self.zone).astimezone(UTC))
            for ahead in range(5)
            for at in self.times
        )
        return any(after_us < moment <= until_us for moment in moments)


class IntervalCounts:
    """Turns reports of counters into counts per interval; for one thread, bounded.

    Args:
        interval_us: of the counts; a divisor of a day gives intervals that begin at midnight UTC.
        alive_us: how long after a counter's last report its silence means zero.
        resets: for counters that do not say when they began.
    """

    def __init__(self, interval_us: int, alive_us: int, resets: DailyResets = DailyResets()) -> None:
        self._interval_us = interval_us
        self._alive_us = alive_us
        self._resets = resets
        self._counters: dict[Key, Counter] = {}
        self._since_us: int | None = None
        self._doubtful: set[Key] = set()

    # ---- the connection ----

    def connected(self, now_us: int) -> None:
        """Silence means something from here on."""
        self._since_us = now_us

    def disconnected(self) -> None:
        """Reports may be missed from here on: the next one of each counter may tell of a longer time."""
        self._since_us = None
        self._doubtful = set(self._counters)

    # ---- reports ----

    def total(
        self, key: Key, total: float, time_us: int, now_us: int, since_us: int | None = None, whole: bool = False
    ) -> tuple[Outcome, list[Reading]]:
        """Take a report of a counter; return what became of it, and the intervals that it closes.

        Args:
            key: the counter.
            total: what it counted since it began.
            time_us: when it said so.
            now_us: the wall clock.
            since_us: when it began, where it says so.
            whole: whether no report can have been missed since the last one.
        """
        known = self._counters.get(key)
        if known is None:
            if len(self._counters) >= MOST_COUNTERS:
                return Outcome.FULL, []
            self._counters[key] = Counter(total, time_us, since_us, now_us, self._end_of(time_us))
            return Outcome.FIRST, []
        known.heard_us = max(known.heard_us, now_us)
        if time_us < known.time_us or (time_us == known.time_us and total <= known.total):
            return Outcome.OLD, []
        reset = total < known.total or self._began_anew(known, time_us, since_us)
        delta = total if reset else total - known.total
        closed = list(self._reach(key, known, time_us))
        self._count(key, known, delta, time_us, whole)
        known.total, known.time_us = total, time_us
        known.since_us = since_us if since_us is not None else known.since_us
        return (Outcome.RESET if reset else Outcome.COUNTED), closed

    def once(self, key: Key, time_us: int, now_us: int) -> tuple[Outcome, list[Reading]]:
        """Take note that something happened once; the source tells each time, and no total."""
        known = self._counters.get(key)
        if known is None:
            if len(self._counters) >= MOST_COUNTERS:
                return Outcome.FULL, []
            known = self._counters[key] = Counter(0.0, time_us, None, now_us, self._end_of(time_us))
        elif time_us < known.time_us or time_us == known.time_us:
            return Outcome.OLD, []
        known.heard_us = max(known.heard_us, now_us)
        closed = list(self._reach(key, known, time_us))
        known.count += 1
        known.time_us = time_us
        return Outcome.COUNTED, closed

    def forget(self, key: Key) -> None:
        """The counter is no more."""
        self._counters.pop(key, None)
        self._doubtful.discard(key)

    def heard(self, entity: str, now_us: int) -> None:
        """The device lives, though it has nothing to count."""
        for (owner, _), counter in self._counters.items():
            if owner == entity:
                counter.heard_us = max(counter.heard_us, now_us)

    # ---- time ----

    def close(self, now_us: int) -> list[Reading]:
        """Return the counts of intervals that are over."""
        closed: list[Reading] = []
        for key, counter in self._counters.items():
            filled = 0
            while counter.open_us + _GRACE_US <= now_us:
                alive = counter.open_us - counter.heard_us <= self._alive_us
                connected = self._since_us is not None and self._since_us <= counter.open_us - self._interval_us
                if counter.count or (alive and connected and filled < _MOST_ZEROS):
                    closed.append(self._closed(key, counter))
                    filled += 1
                    self._open_next(counter)
                else:
                    unknown_until_us = self._end_of(now_us - _GRACE_US)
                    if alive and self._since_us is not None and filled < _MOST_ZEROS:
                        first_whole_us = (-(-self._since_us // self._interval_us) + 1) * self._interval_us
                        unknown_until_us = min(unknown_until_us, first_whole_us)
                    self._open_next(counter, max(unknown_until_us, counter.open_us + self._interval_us))
        return closed

    # ---- the cursor ----

    def cursor(self, filters: Sequence[str] = ()) -> str:
        """Return all that has to survive a restart; beside it the ``filters`` that are subscribed to."""
        counters = [(entity, channel, counter) for (entity, channel), counter in self._counters.items()]
        return msgspec.json.encode(_State(counters, list(filters))).decode()

    def restore(self, cursor: str | None) -> None:
        """Go on where a former life stood; a cursor that is none of ours counts as none."""
        try:
            state = msgspec.json.decode(cursor or "", type=_State)
        except msgspec.DecodeError:
            return
        self._counters = {(entity, channel): counter for entity, channel, counter in state.counters}
        self._doubtful = set(self._counters)

    # ---- inner ----

    def _began_anew(self, known: Counter, time_us: int, since_us: int | None) -> bool:
        if since_us is not None and known.since_us is not None:
            return since_us > known.since_us
        return self._resets.any_between(known.time_us, time_us)

    def _count(self, key: Key, known: Counter, delta: float, time_us: int, whole: bool) -> None:
        """Add what was counted since the last report; a longer time's count, of which this interval has its share."""
        gap_us = time_us - known.time_us
        if key in self._doubtful:
            self._doubtful.discard(key)
            if not whole and gap_us > self._interval_us:
                delta *= self._interval_us / gap_us
                known.estimated = True
        known.count += delta

    def _reach(self, key: Key, counter: Counter, time_us: int) -> Iterator[Reading]:
        """Close the open interval if ``time_us`` is behind it."""
        end_us = self._end_of(time_us)
        if end_us > counter.open_us:
            if counter.count or (self._since_us or end_us) <= counter.open_us - self._interval_us:
                yield self._closed(key, counter)
            self._open_next(counter, end_us)

    def _closed(self, key: Key, counter: Counter) -> Reading:
        partial = self._since_us is None or self._since_us > counter.open_us - self._interval_us
        quality = Quality.ESTIMATED if counter.estimated or partial else Quality.UNKNOWN
        return Reading(*key, counter.open_us, counter.count, "1", quality)

    def _open_next(self, counter: Counter, end_us: int | None = None) -> None:
        counter.open_us = counter.open_us + self._interval_us if end_us is None else end_us
        counter.count, counter.estimated = 0.0, False

    def _end_of(self, time_us: int) -> int:
        return (time_us // self._interval_us + 1) * self._interval_us


def times_of(texts: Sequence[str]) -> tuple[time, ...]:
    """Return times of day written as ``HH:MM``.

    Raises:
        ValueError: if one is none.
    """
    try:
        return tuple(time.fromisoformat(text) for text in texts)
    except ValueError:
        raise ValueError(f"{', '.join(texts)}: no times of day; allowed: HH:MM, as 00:00") from None
