"""What was added to counters from one reading to the next: their totals become increases.

A counter's total rises until it is reset, and then begins at 0 again. For two readings of one series, in order of time:

- the total has risen, or stayed: the increase is the difference;
- it fell, or says that it began after the reading before: it was reset, and the increase is the new total. What came
  between the reading before and the reset nobody knows (as PromQL's ``increase``, without its extrapolation);
- there is none before, it is too long ago, or the counter says that it begins just now: a start, and no increase;
- it is not newer than what is known: nothing. So no reading counts twice, and neither does a correction.

An increase depends on the two totals alone. Made again after a crash, it is the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

from connectors.interval_counts import Key, Outcome

_MOST_DOUBTFUL = 20_000
"""Totals of one series that are kept beside the certain one: as many as a parcel may have."""


class Total(NamedTuple):
    """What a counter said."""

    time_us: int
    value: float
    since_us: int | None = None
    """When it began to count, where it says so."""


Totals = Mapping[Key, Sequence[Total]]
"""What one parcel tells of its series, in order of time."""


class Kept(NamedTuple):
    """What is to be known of a series after a restart."""

    number: int
    """Of the series, as long as it is remembered."""
    key: Key
    certain: Total | None
    """The newest that is durable."""
    doubtful: tuple[Total, ...]
    """Newer ones, in order of time: perhaps durable, perhaps not."""


class _Series:
    __slots__ = ("certain", "doubtful", "flying", "kept_doubt", "number")

    def __init__(self, number: int, certain: Total | None = None, doubtful: tuple[Total, ...] = ()) -> None:
        self.number = number
        self.certain = certain
        self.doubtful = doubtful
        """Of a former life, which ended before it knew; in order of time."""
        self.flying: tuple[Sequence[Total], ...] = ()
        """On their way, by parcel, in order."""
        self.kept_doubt = bool(doubtful)
        """Whether on the disk some are doubtful."""

    @property
    def newest(self) -> Total | None:
        """The newest total of this life, or that was durable in a former one."""
        return self.flying[-1][-1] if self.flying else self.certain

    def before(self, time_us: int, newest: Total | None) -> Total | None:
        """Return the newest total before ``time_us``, ``newest`` being that of this life."""
        at = bisect_left(self.doubtful, (time_us,))
        if at and (newest is None or newest.time_us < self.doubtful[at - 1].time_us):
            return self.doubtful[at - 1]
        return newest


class CounterSeries:
    """The totals of many counters; for one thread at a time, bounded.

    ``tell`` changes nothing but ``fresh``, in which the totals of one parcel are gathered. Then ``sent`` says that the
    parcel is on its way, and later ``arrived`` or ``failed`` what became of it. What was on its way when a former life
    ended is doubtful: a reading that comes again is held against what was before it, a newer one against the doubtful
    total, as though that had arrived. A peer that sends again until it is answered thereby loses nothing, and nothing
    counts twice: what arrived and comes again gives the same increase of the same time, which is known as a repeat.

    Args:
        most: series that are remembered; beyond it those that were not heard of for the longest time are forgotten.
        longest_us: from one reading to the next; after a longer time it is a start.
    """

    def __init__(self, most: int, longest_us: int) -> None:
        self._most = most
        self._longest_us = longest_us
        self._series: dict[Key, _Series] = {}
        """Heard of last at the end."""
        self._next = 1

    def __len__(self) -> int:
        return len(self._series)

    def restore(self, kept: Iterable[Kept]) -> None:
        """Know what a former life knew."""
        for one in sorted(kept, key=_heard_us):
            self._series[one.key] = _Series(one.number, one.certain, one.doubtful)
            self._next = max(self._next, one.number + 1)

    def tell(self, key: Key, total: Total, fresh: dict[Key, list[Total]]) -> tuple[Outcome, float]:
        """Return what a reading of a counter is, and by how much the total grew; 0 where that is not known."""
        series, told = self._series.get(key), fresh.get(key)
        before = None if told is None else told[-1]
        if series is not None:
            if before is None:
                before = series.newest
            if series.doubtful:
                before = series.before(total.time_us, before)
        if before is not None and total.time_us <= before.time_us:
            return Outcome.OLD, 0.0
        if told is None:
            fresh[key] = [total]
        else:
            told.append(total)
        if before is None or total.time_us - before.time_us > self._longest_us:
            return Outcome.FIRST, 0.0
        return increase(before, total)

    def sent(self, totals: Totals) -> list[int]:
        """A parcel is about to be offered; return the numbers of series that were forgotten to make room."""
        for key, told in totals.items():
            series = self._series.pop(key, None)
            if series is None:
                series = _Series(self._next)
                self._next += 1
            series.flying += (told,)
            self._series[key] = series
        return list(self._forgotten()) if len(self._series) > self._most else []

    def arrived(self, totals: Totals) -> None:
        """A parcel is durable, and with it all that were sent before it."""
        for key, told in totals.items():
            series = self._series.get(key)
            if series is not None:
                series.flying = tuple(one for one in series.flying if one is not told)
                if series.certain is None or series.certain.time_us < told[-1].time_us:
                    series.certain = told[-1]
                if series.doubtful:
                    series.doubtful = series.doubtful[bisect_left(series.doubtful, (told[-1].time_us + 1,)) :]

    def failed(self, totals: Totals) -> None:
        """A parcel was not taken, and nothing that was sent after it will be."""
        for key, told in totals.items():
            series = self._series.get(key)
            if series is not None:
                series.flying = tuple(one for one in series.flying if one is not told)

    def to_keep(self, keys: Iterable[Key]) -> Iterator[Kept]:
        """Yield what is to be known of some series, were this life to end now."""
        for key in keys:
            series = self._series.get(key)
            if series is None:
                continue
            certain, doubtful = series.certain, series.doubtful
            if series.flying:
                doubtful += tuple(chain.from_iterable(series.flying))
                if series.doubtful:  # they come again, at least some
                    doubtful = tuple({total.time_us: total for total in sorted(doubtful, key=_time_us)}.values())
            if len(doubtful) > _MOST_DOUBTFUL:  # what came before these may count too little, and never twice
                certain, doubtful = doubtful[-_MOST_DOUBTFUL - 1], doubtful[-_MOST_DOUBTFUL:]
            series.kept_doubt = bool(doubtful)
            yield Kept(series.number, key, certain, doubtful)

    def settled(self) -> list[Key]:
        """Return the series of which all is known, while on the disk some is in doubt."""
        return [k for k, s in self._series.items() if s.kept_doubt and not s.flying and not s.doubtful]

    def _forgotten(self) -> Iterator[int]:
        """Forget the series that were heard of longest ago, but for those on their way; yield their numbers."""
        idle = (key for key, series in self._series.items() if not series.flying)
        for key in list(islice(idle, len(self._series) - self._most)):
            yield self._series.pop(key).number


def _heard_us(kept: Kept) -> int:
    newest = kept.doubtful[-1] if kept.doubtful else kept.certain
    return 0 if newest is None else newest.time_us


def _time_us(total: Total) -> int:
    return total.time_us


def increase(before: Total, now: Total) -> tuple[Outcome, float]:
    """Return by how much a counter grew between two readings of which ``now`` is the later one.

    A counter that says that it began just now, and so spans no time, does not know what came before: OTLP's data model
    has such points after gaps. A sender that says so of every point means nothing by it.

    >>> increase(Total(0, 5.0), Total(60, 8.0)), increase(Total(0, 5.0), Total(60, 3.0))
    ((<Outcome.COUNTED: 'counted'>, 3.0), (<Outcome.RESET: 'counter_resets'>, 3.0))
    """
    anew = now.since_us is not None and now.since_us != before.since_us and now.since_us >= before.time_us
    if anew and now.since_us == now.time_us:
        if before.since_us != before.time_us:
            return Outcome.FIRST, 0.0
        anew = False
    if anew or now.value < before.value:
        return Outcome.RESET, now.value
    return Outcome.COUNTED, now.value - before.value
