"""Readings of counters become what was added to them since the reading before."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from connectors.counter_series import CounterSeries, Total, Totals
from connectors.counter_state import CounterState
from connectors.errors import SpoolUnavailable
from connectors.interval_counts import Key, Outcome
from connectors.reading import CounterReading, Quality, Reading
from pipeline.ingest.channel_patterns import ChannelPatterns

log = structlog.get_logger("vedette.ingest")

MOST_SERIES = 100_000
"""Of one source that are remembered, about 600 bytes each."""
_DAY_US = 86_400_000_000
_NO_TOTAL = (Quality.SUSPECT, Quality.BAD, Quality.MISSING)

FORGOTTEN = "counters_forgotten"
UNUSABLE = "counters_unusable"
"""Totals below zero, or that their source does not trust."""
NOT_KEPT = "counters_not_kept"
"""Times that the file could not be written."""


class Counting:
    """The counters of one source; for one thread at a time, but for ``arrived``.

    What counts on is in memory, and on the disk before the parcel that it comes from is offered: so what comes next
    after kill -9 is held against what may have been delivered. See ``CounterSeries`` for what that means. While the
    disk cannot be written readings go on, and what could not be kept is tried again with the next.

    Args:
        named: channels that are counters.
        rates: channels whose totals go on as they are, though their payloads say that they are counters: their stream
            makes a rate of them.
        longest_us: over a longer time no increase is told.
        state: the file that is to outlast this life; None: nothing does.
        most: series that are remembered.

    Raises:
        Misconfigured: if the file is none of ours, or damaged.
        SpoolUnavailable: if it cannot be read now.
    """

    def __init__(
        self,
        named: Sequence[str] = (),
        rates: Collection[str] = (),
        longest_us: int = _DAY_US,
        state: Path | None = None,
        most: int = MOST_SERIES,
    ) -> None:
        self._named = ChannelPatterns(named)
        self._rates = rates
        self._series = CounterSeries(most, longest_us)
        self._state = None if state is None else CounterState(state)
        if self._state is not None:
            self._series.restore(self._state.read())
        self._arrived: deque[Totals] = deque()
        self._unwritten: set[Key] = set()
        self._unwritten_forgotten: list[int] = []
        self._failing = False

    def increases(self, readings: list[Reading], fresh: dict[Key, list[Total]], events: Counter[str]) -> list[Reading]:
        """Return the readings, those of counters as increases, where they are known; the given ones stay as they are.

        What is no total (below zero, or not trusted by its source) goes on as a missing value, and nothing is held
        against it.

        Args:
            readings: under the names by which they go on.
            fresh: gathers what is to be told to ``sent``.
            events: gathers what else happened.
        """
        if not self._named and CounterReading not in set(map(type, readings)):
            return readings
        counters = [at for at, reading in enumerate(readings) if self._counts(reading)]
        if not counters:
            return readings
        self._note_arrived()
        found: list[Reading | None] = list(readings)
        for at in sorted(counters, key=lambda at: readings[at].time_us):  # some bodies have the newest first
            found[at] = self._increase(readings[at], fresh, events)
        return [reading for reading in found if reading is not None]

    def sent(self, totals: Totals, events: Counter[str]) -> None:
        """The parcel with these is about to be offered."""
        if not totals:
            return
        self._note_arrived()
        forgotten = self._series.sent(totals)
        if forgotten:
            events[FORGOTTEN] += len(forgotten)
        if not self._written(totals, forgotten):
            events[NOT_KEPT] += 1

    def arrived(self, totals: Totals) -> None:
        """The parcel is durable. May be called from any thread."""
        if totals:
            self._arrived.append(totals)

    def failed(self, totals: Totals) -> None:
        """The parcel was not taken: its readings will come again, or are lost."""
        self._note_arrived()
        self._series.failed(totals)

    def close(self) -> None:
        """Keep that nothing is in doubt of what arrived."""
        self._note_arrived()
        self._written(self._series.settled(), [])
        if self._state is not None:
            self._state.close()

    # ---- inner ----

    def _counts(self, reading: Reading) -> bool:
        return self._named(reading.channel) or (type(reading) is CounterReading and reading.channel not in self._rates)

    def _increase(self, reading: Reading, fresh: dict[Key, list[Total]], events: Counter[str]) -> Reading | None:
        value = reading.value
        if value is None or value < 0.0 or reading.quality in _NO_TOTAL:
            if value is not None:
                events[UNUSABLE] += 1
            return _with(reading, None)
        since_us = reading.since_us if isinstance(reading, CounterReading) else None
        total = Total(reading.time_us, float(value), since_us)
        outcome, grown = self._series.tell((reading.entity, reading.channel), total, fresh)
        if outcome is not Outcome.COUNTED:
            events[str(outcome.value)] += 1
        return _with(reading, grown) if outcome in (Outcome.COUNTED, Outcome.RESET) else None

    def _note_arrived(self) -> None:
        while self._arrived:
            self._series.arrived(self._arrived.popleft())

    def _written(self, keys: Collection[Key], forgotten: list[int]) -> bool:
        if self._state is None or not (keys or forgotten or self._unwritten):
            return True
        wanted = self._unwritten.union(keys) if self._unwritten else keys
        try:
            self._state.write(self._series.to_keep(wanted), self._unwritten_forgotten + forgotten)
        except SpoolUnavailable as error:
            self._unwritten.update(keys)
            self._unwritten_forgotten = (self._unwritten_forgotten + forgotten)[-MOST_SERIES:]
            if not self._failing:
                log.error("counters' state is not kept; after a kill some of it counts twice", error=str(error))
            self._failing = True
            return False
        self._unwritten.clear()
        self._unwritten_forgotten.clear()
        self._failing = False
        return True


def _with(reading: Reading, value: float | None) -> Reading:
    quality = reading.quality
    if value is None and quality is Quality.UNKNOWN:
        quality = Quality.MISSING
    return Reading(
        reading.entity, reading.channel, reading.time_us, value, reading.unit, quality, reading.result_time_us
    )
