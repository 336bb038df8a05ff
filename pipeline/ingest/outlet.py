"""What a source is given: it sifts what the source brings, and says when it is durable."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from connectors.codec_json import LONGEST_NAME
from connectors.counter_series import Total
from connectors.errors import ConnectorError, SpoolFull
from connectors.interval_counts import Key
from connectors.reading import CounterReading, Quality, Reading, Rejected
from connectors.source import Site, Stopping
from connectors.spool import Parcel
from connectors.timestamps import EARLIEST_US, LATEST_US
from connectors.units import canonical
from pipeline.ingest.counting import Counting
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.encoding import dead_letters_of, messages_of
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.refusing import refusal_of
from pipeline.ingest.repeats import Known, Marks, Repeats

log = structlog.get_logger("vedette.ingest")

_TRY_AGAIN_S = 5.0
_LOOK_S = 0.2
_LEAVES_AFTER_S = 1.5
"""A source that waits while the process stops: Kafka may just be about to acknowledge."""
_SOUND_CLOCK_US = 1_735_689_600_000_000
"""2025: a wall clock before this was never set, and nothing is held against it."""
_MOST_UNITS = 10_000
_MOST_READINGS = 20_000
"""In one parcel; what a source offers at once beyond that becomes several."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a source's readings go through."""

    topic: str
    dead_letter_topic: str | None = None
    prefix: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    """Channels let through, after renaming; empty: all."""
    max_ahead_us: int = 3_600_000_000
    remember: int = 1_000_000
    counters: tuple[str, ...] = ()
    """Channels, after renaming, whose values are totals that only grow: their increases go on; ``*`` is any text."""
    rates: frozenset[str] = frozenset()
    """Channels whose stream makes rates of totals: those that are not named in ``counters`` keep them."""
    counter_gap_us: int = 86_400_000_000
    """Over a longer time no increase is told."""


@dataclass(slots=True)
class _Sifted:
    kept: list[Reading]
    rejected: list[Rejected]
    marks: Marks
    counts: dict[str, int]
    totals: dict[Key, list[Total]] = field(default_factory=dict)
    """Of the counters that it tells of, in order of time."""
    events: Counter[str] = field(default_factory=Counter)
    newest_us: int | None = None
    parcel: Parcel = field(default_factory=lambda: Parcel("", ()))


class SourceOutlet:
    """The outlet of one source; see ``connectors.source.Outlet``.

    Args:
        source: its name.
        rules: what its readings go through.
        delivering: makes them durable.
        metrics: where to count.
        stop: set when the source is to leave.
        describe: where sites go.
        report: told ``None`` when the peer answers, else why it does not.
        now_us: the wall clock.
        counters: the file in which the totals of counters are kept over restarts; None: they are not.

    Raises:
        Misconfigured: if that file is none of ours, or damaged.
        SpoolUnavailable: if it cannot be read now.
    """

    def __init__(
        self,
        source: str,
        rules: Rules,
        delivering: Delivering,
        metrics: IngestMetrics,
        stop: threading.Event,
        *,
        describe: Callable[[str, Sequence[Site]], None] = lambda source, sites: None,
        report: Callable[[str | None], None] = lambda reason: None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        counters: Path | None = None,
    ) -> None:
        self.source = source
        self._rules = rules
        self._delivering = delivering
        self._metrics = metrics
        self._stop = stop
        self._describe = describe
        self._report = report
        self._now_us = now_us
        self._repeats = Repeats(rules.remember)
        self._counting = Counting(rules.counters, rules.rates, rules.counter_gap_us, counters)
        self._turn = threading.Lock()
        self._units: dict[str, str] = {"": ""}

    @property
    def stopping(self) -> bool:
        """Whether the source is to leave ``run``."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until told to stop; return ``stopping``."""
        return self._stop.wait(max(seconds, 0.0))

    def cursor(self) -> str | None:
        """Return the newest durable cursor."""
        return self._delivering.cursor(self.source)

    def offer(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> Future[None]:
        """Take readings at once; see ``connectors.source.Outlet.offer``."""
        with self._turn:  # from sifting to offering: a repeat is let go only while what it repeats is still known
            sifted = self._sifted(readings, cursor, rejected)
            self._counting.sent(sifted.totals, sifted.events)
            try:
                inner = self._delivering.offer(sifted.parcel)
            except BaseException:
                self._counting.failed(sifted.totals)
                raise
            self._repeats.remember(sifted.marks)
        return self._watched(inner, sifted)

    def deliver(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> None:
        """Take readings and return when they are durable; see ``connectors.source.Outlet.deliver``."""
        starts = range(0, max(len(readings), 1), _MOST_READINGS)
        for start in starts:
            last = start == starts[-1]
            self._deliver(
                readings[start : start + _MOST_READINGS], cursor if last else None, rejected if start == 0 else ()
            )

    def describe(self, sites: Sequence[Site]) -> None:
        """Tell what is known of places."""
        self._describe(self.source, sites)

    def working(self) -> None:
        """Say that the peer answers."""
        self._metrics.source_up(self.source, True)
        self._report(None)

    def failing(self, reason: str) -> None:
        """Say that the peer does not answer as it should."""
        self._metrics.source_up(self.source, False)
        self._report(reason)

    def count(self, event: str, n: int = 1) -> None:
        """Count something that happened."""
        self._metrics.event(self.source, event, n)

    def close(self) -> None:
        """Keep what counters said last; the source has left."""
        with self._turn:
            self._counting.close()

    # ---- inner ----

    def _sifted(self, readings: Sequence[Reading], cursor: str | None, rejected: Sequence[Rejected]) -> _Sifted:
        sifted = self._sift(readings)
        sifted.rejected += rejected
        messages = messages_of(sifted.kept, self._rules.topic, self.source)
        if self._rules.dead_letter_topic is not None:
            messages += dead_letters_of(sifted.rejected, self._rules.dead_letter_topic, self.source)
        sifted.parcel = Parcel(self.source, messages, cursor, len(sifted.kept))
        return sifted

    def _deliver(self, readings: Sequence[Reading], cursor: str | None, rejected: Sequence[Rejected]) -> None:
        while True:
            try:
                self._await(self.offer(readings, cursor=cursor, rejected=rejected))
            except SpoolFull as error:
                if self.wait(error.retry_after_s):
                    raise Stopping from None
            except ConnectorError as error:
                log.warning("readings could not be made durable; will try again", source=self.source, error=str(error))
                if self.wait(_TRY_AGAIN_S):
                    raise Stopping from None
            else:
                return

    def _await(self, durable: Future[None]) -> None:
        """Return when it is done; raise what it failed with, or ``Stopping`` if the process will not wait for it."""
        stopping_s = 0.0
        while True:
            try:
                return durable.result(_LOOK_S)
            except TimeoutError:
                stopping_s += _LOOK_S if self.stopping else 0.0
                if stopping_s > _LEAVES_AFTER_S:
                    raise Stopping from None

    def _watched(self, inner: Future[None], sifted: _Sifted) -> Future[None]:
        """Return a future that is done when ``inner`` is. What has failed may come again, and is counted then."""
        outer: Future[None] = Future()

        def settle(done: Future[None]) -> None:
            error = done.exception()
            if error is None:
                self._counting.arrived(sifted.totals)
                for event, n in sifted.events.items():
                    self.count(event, n)
                self._metrics.sifted(self.source, sifted.counts, sifted.newest_us, self._now_us() / 1e6)
                self._metrics.rejected(self.source, [one.reason for one in sifted.rejected])
                outer.set_result(None)
                return
            with self._turn:
                self._repeats.forget(sifted.marks)
                self._counting.failed(sifted.totals)
            outer.set_exception(error)

        inner.add_done_callback(settle)
        return outer

    def _sift(self, readings: Sequence[Reading]) -> _Sifted:
        now_us = self._now_us()
        latest_us = now_us + self._rules.max_ahead_us if now_us >= _SOUND_CLOCK_US else LATEST_US
        found = _Sifted([], [], {}, {"readings": 0, "repeats": 0, "corrections": 0, "outdated": 0, "left_out": 0})
        wanted = self._wanted(readings)
        sound = self._counting.increases(self._sound(wanted, latest_us, found.rejected), found.totals, found.events)
        known = self._repeats.tell_many(sound, found.marks)
        counts = found.counts
        counts["left_out"] = len(readings) - len(wanted)
        counts["repeats"], counts["outdated"] = known.count(Known.REPEAT), known.count(Known.OUTDATED)
        counts["corrections"] = known.count(Known.CORRECTION)
        if counts["repeats"] or counts["outdated"]:
            sound = [one for one, what in zip(sound, known, strict=True) if what in (Known.NEW, Known.CORRECTION)]
        counts["readings"] = len(sound)
        found.kept = sound
        found.newest_us = max((reading.time_us for reading in sound), default=None)
        return found

    def _wanted(self, readings: Sequence[Reading]) -> list[Reading]:
        """Return the readings of channels that are asked for, as they go on."""
        rename, only, prefix, units = self._rules.rename, self._rules.only, self._rules.prefix, self._units
        wanted: list[Reading] = []
        for given in readings:
            channel = rename.get(given.channel, given.channel) if rename else given.channel
            if only and channel not in only:
                continue
            value = given.value
            as_it_is = value is not None and value == value and units.get(given.unit) == given.unit
            wanted.append(given if as_it_is and not prefix and not rename else self._normalised(given, channel))
        return wanted

    def _sound(self, readings: list[Reading], latest_us: int, rejected: list[Rejected]) -> list[Reading]:
        """Return the readings that can be taken further on, and add the others to ``rejected``."""
        before = len(rejected)
        longest, largest, newest_us = LONGEST_NAME, sys.float_info.max, min(latest_us, LATEST_US - 1)
        for reading in readings:
            value = reading.value
            if not (  # what cannot be refused, told quickly
                0 < len(reading.entity) <= longest
                and 0 < len(reading.channel) <= longest
                and EARLIEST_US <= reading.time_us <= newest_us
                and (value is None or -largest <= value <= largest)
                and reading.result_time_us is None
            ):
                refusal = refusal_of(reading, latest_us)
                if refusal is not None:
                    rejected.append(refusal)
        if len(rejected) == before:
            return readings
        return [reading for reading in readings if refusal_of(reading, latest_us) is None]

    def _normalised(self, given: Reading, channel: str) -> Reading:
        """Return the reading as it goes on; ``given`` stays as it is, for its source may offer it again."""
        unit = self._units.get(given.unit)
        if unit is None:
            unit = canonical(given.unit) or given.unit[:64]
            if len(self._units) < _MOST_UNITS:
                self._units[given.unit] = unit
        value, quality = given.value, given.quality
        if value is None or value != value:
            value = None
            if quality is Quality.UNKNOWN:
                quality = Quality.MISSING
        entity, time_us, result_us = self._rules.prefix + given.entity, given.time_us, given.result_time_us
        if isinstance(given, CounterReading):
            return CounterReading(entity, channel, time_us, value, unit, quality, result_us, since_us=given.since_us)
        return Reading(entity, channel, time_us, value, unit, quality, result_us)
