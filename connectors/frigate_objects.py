"""Which objects there are and were, by the minutes in which they began and ended; each id once, whoever told of it.

Legend: minute m is the time from m to m + 1 minutes since 1970; its end is the time of its readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from connectors.frigate_messages import Phase, Review, Sighting

MINUTE_US = 60_000_000
MOST_OBJECTS = 100_000
"""Known at a time, about 1 kB each."""
_MOST_STATES = 64
_MOST_MINUTES = 1440
"""Of an object's life that are corrected when it is learned of late."""

Series = tuple[str, str]
"""Entity (camera, or camera/zone) and label."""
State = tuple[int, bool | None, tuple[str, ...]]
"""From which frame on, whether it moved, and the zones it was in."""


def minute_of(time_us: int) -> int:
    """Return the minute that a time lies in."""
    return time_us // MINUTE_US


def end_of(minute: int) -> int:
    """Return the end of a minute, microseconds."""
    return (minute + 1) * MINUTE_US


@dataclass(slots=True)
class Tracked:
    """An object that Frigate follows, or has followed."""

    id: str
    camera: str
    label: str
    start_us: int
    zones: tuple[str, ...] = ()
    """In which it has ever been."""
    end_us: int | None = None
    guessed: bool = False
    """Its end was never told: it is when it was last seen."""
    counted: bool = False
    heard_us: int = 0
    """By our clock, when a message was last about it."""
    asked_us: int = 0
    """By our clock, when the database was last asked about it."""
    states: list[State] = field(default_factory=list)

    @property
    def frame_us(self) -> int | None:
        """The newest frame that is known of it."""
        return self.states[-1][0] if self.states else None

    def entities(self, zones: Iterable[str]) -> list[str]:
        """Return its camera, and those zones of it."""
        return [self.camera, *(f"{self.camera}/{zone}" for zone in zones)]

    def state_at(self, time_us: int) -> State | None:
        """Return the newest state not after a time; of earlier times the first; None if nothing is known."""
        known = None
        for state in self.states:
            if known is not None and state[0] > time_us:
                break
            known = state
        return known

    def learn(self, state: State) -> None:
        """Take a state; only what differs is kept, and of the last frame its time."""
        if self.states and state[0] < self.states[-1][0]:
            return
        if len(self.states) > 1 and self.states[-1][1:] == state[1:] == self.states[-2][1:]:
            self.states[-1] = state
        else:
            self.states.append(state)
            del self.states[1 : max(len(self.states) - _MOST_STATES, 1)]


@dataclass(slots=True)
class Ended:
    """Objects of one series whose end lies in a minute."""

    n: int = 0
    guessed: int = 0
    lived_us: int = 0
    """Together; a whole number, so that the order of summing is no matter."""


@dataclass(slots=True)
class Tally:
    """What is known of one minute."""

    begun: Counter[Series] = field(default_factory=Counter)
    there: Counter[Series] = field(default_factory=Counter)
    """At its end; in a zone: those that were ever in it."""
    active: Counter[Series] = field(default_factory=Counter)
    """At its end, as far as was heard."""
    ended: dict[Series, Ended] = field(default_factory=dict)
    reviews: Counter[Series] = field(default_factory=Counter)
    """By camera and severity."""


class Ledger:
    """Objects and reviews of the minutes that are kept. Bounded; not for use from two threads at once.

    Args:
        first: the first minute in which what begins is counted.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.now = first
        """The minute that is."""
        self.changed: dict[int, set[str]] = {}
        """Minutes to the cameras of which something new is known; for the reader to empty."""
        self.refused = 0
        """Objects that there was no room for."""
        self.objects: dict[str, Tracked] = {}
        self.open: dict[str, Tracked] = {}
        self._begun: dict[int, set[str]] = {}
        self._ended: dict[int, set[str]] = {}
        self._across: dict[int, set[str]] = {}
        """Minutes to the objects, ended since, that were there at its end."""
        self._reviews: dict[str, Review] = {}
        self._reviewed: dict[int, set[str]] = {}

    # ---- what is told ----

    def see(self, said: Sighting, now_us: int) -> None:
        """Take what is said of an object. Only a beginning, an end and the database count it, whatever the order."""
        one = self.objects.get(said.id)
        if one is None:
            one = self._made(said, now_us)
            if one is None:
                return
        if said.phase is not Phase.ROW:
            one.heard_us = now_us
        if said.phase is not Phase.UPDATE and not one.counted:
            self._count(one)
        self._learn_zones(one, said.zones)
        if one.end_us is not None:
            return
        if said.frame_us is not None:
            one.learn((said.frame_us, said.active, said.current_zones))
        if said.end_us is not None:
            self.end(one, said.end_us)

    def end(self, one: Tracked, end_us: int, guessed: bool = False) -> None:
        """Take note that an object is gone since ``end_us``."""
        one.end_us, one.guessed = max(end_us, one.start_us), guessed
        self.open.pop(one.id, None)
        minute = minute_of(one.end_us)
        self._ended.setdefault(minute, set()).add(one.id)
        for crossed in range(max(minute_of(one.start_us), self.first), (one.end_us - 1) // MINUTE_US):
            self._across.setdefault(crossed, set()).add(one.id)
        self._change(one, minute, self.now)

    def forget(self, one: Tracked) -> None:
        """Know an open object no more: nobody can tell when it went."""
        self.open.pop(one.id, None)
        if not one.counted:
            self.objects.pop(one.id, None)

    def review(self, said: Review) -> None:
        """Take a review; each counts once, under the gravest severity that was told."""
        known = self._reviews.get(said.id)
        if known is not None and (known.severity == said.severity or known.severity == "alert"):
            return
        minute = minute_of(said.start_us if known is None else known.start_us)
        if minute < self.first or (known is None and len(self._reviews) >= MOST_OBJECTS):
            return
        self._reviews[said.id] = said
        self._reviewed.setdefault(minute, set()).add(said.id)
        self.changed.setdefault(minute, set()).add(said.camera)

    def restore(self, one: Tracked) -> None:
        """Take an object that an earlier life knew, and counted where it began before the first minute."""
        one.counted = minute_of(one.start_us) < self.first
        self.objects[one.id] = self.open[one.id] = one

    # ---- what is asked ----

    def tally(self, minute: int) -> Tally:
        """Return what is known of a minute."""
        found = Tally()
        for one in self._named(self._begun, minute):
            found.begun.update((entity, one.label) for entity in one.entities(one.zones))
        for one in self._named(self._ended, minute):
            assert one.end_us is not None
            for entity in one.entities(one.zones):
                ended = found.ended.setdefault((entity, one.label), Ended())
                ended.n += 1
                ended.guessed += one.guessed
                ended.lived_us += one.end_us - one.start_us
        at_us = end_of(minute)
        for one in (*self._named(self._across, minute), *self.open.values()):
            if one.start_us < at_us:
                found.there.update((entity, one.label) for entity in one.entities(one.zones))
                found.active.update((entity, one.label) for entity in _active_in(one, at_us))
        for name in self._reviewed.get(minute, ()):
            review = self._reviews[name]
            found.reviews[review.camera, review.severity] += 1
        return found

    def there_since(self, minute: int, begun_before: int) -> list[Tracked]:
        """Return the objects that began before one minute, and were there in another or later."""
        ended = (one for at in self._ended if at >= minute for one in self._named(self._ended, at))
        found = [one for one in (*self.open.values(), *ended) if one.counted]
        return [one for one in found if minute_of(one.start_us) < begun_before]

    def open_of(self, camera: str, label: str) -> int:
        """Return how many objects of a camera are there now."""
        return sum(one.camera == camera and one.label == label for one in self.open.values())

    def prune(self, before: int) -> None:
        """Forget minutes before one, and the objects that ended in them."""
        for minute in [minute for minute in self._ended if minute < before]:
            for name in self._ended.pop(minute):
                self.objects.pop(name, None)
        for minute in [minute for minute in self._reviewed if minute < before]:
            for name in self._reviewed.pop(minute):
                self._reviews.pop(name, None)
        for index in (self._begun, self._across, self.changed):
            for minute in [minute for minute in index if minute < before]:
                del index[minute]
        self.first = max(self.first, before)

    # ---- inner ----

    def _made(self, said: Sighting, now_us: int) -> Tracked | None:
        if said.end_us is not None and minute_of(said.end_us) < self.first:
            return None  # all of it was before our time
        if len(self.objects) >= MOST_OBJECTS:
            self.refused += 1
            return None
        one = Tracked(said.id, said.camera, said.label, said.start_us, heard_us=now_us)
        self.objects[one.id] = self.open[one.id] = one
        return one

    def _count(self, one: Tracked) -> None:
        one.counted = True
        minute = minute_of(one.start_us)
        if minute >= self.first:
            self._begun.setdefault(minute, set()).add(one.id)
            self._change(one, minute, self.now)

    def _learn_zones(self, one: Tracked, zones: tuple[str, ...]) -> None:
        new = tuple(zone for zone in zones if zone not in one.zones)
        if not new:
            return
        one.zones += new
        for time_us in (one.start_us, one.end_us):
            if time_us is not None:
                self._change(one, minute_of(time_us), minute_of(time_us))

    def _change(self, one: Tracked, since: int, until: int) -> None:
        """Note minutes as changed, both included."""
        for minute in range(max(since, self.first, until - _MOST_MINUTES), until + 1):
            self.changed.setdefault(minute, set()).add(one.camera)

    def _named(self, index: dict[int, set[str]], minute: int) -> Iterator[Tracked]:
        return (self.objects[name] for name in index.get(minute, ()) if name in self.objects)


def _active_in(one: Tracked, at_us: int) -> list[str]:
    """Return the entities in which an object counts as active at a time; what was never heard of counts."""
    state = one.state_at(at_us)
    if state is None:
        return one.entities(one.zones)
    _, active, zones = state
    return [] if active is False else one.entities(zones)
