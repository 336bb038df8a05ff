"""What is known of Frigate from all sides, and what follows: which minutes to tell, and what to ask its database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from connectors.frigate_cursor import Place, place_of, written
from connectors.frigate_database import Findings, Question
from connectors.frigate_manner import Manner
from connectors.frigate_messages import Phase, Review, Sighting
from connectors.frigate_minutes import MinuteReadings, Standing
from connectors.frigate_objects import MINUTE_US, Ledger, Tracked, minute_of
from connectors.frigate_presence import Presence
from connectors.frigate_scene import Scene
from connectors.frigate_silence import Silence
from connectors.frigate_topics import Available, CameraState, ObjectCount, read
from connectors.mqtt_messages import MqttMessage, Publish, Taken
from connectors.reading import Reading, Rejected
from connectors.source import Site

_KEPT_MINUTES = 60
"""Minutes that are told stay correctable for so long."""
_MINUTES_AT_ONCE = 60
_DOUBT_EVERY_US = 15_000_000
"""A count that does not fit is asked about at most so often."""


class FrigateWatch:
    """A ``Consumer`` of Frigate's messages for the connection's thread, and a giver of readings for the source's.

    Args:
        manner: how Frigate is watched.
        cursor: where an earlier life ended.
        count: counts an event.
        now_us: the wall clock.
    """

    def __init__(
        self, manner: Manner, cursor: str | None, count: Callable[[str, int], None], now_us: Callable[[], int]
    ) -> None:
        self.manner = manner
        self._count = count
        self._now_us = now_us
        self._turn = threading.Lock()
        now = now_us()
        place = place_of(cursor)
        self._first_life = place is None
        self.closed = minute_of(now) + 1
        """The first minute that is not told yet as it passes; the one that is has begun without us."""
        self.settled = self._begin(place, now)
        """The first minute that the database was not asked about."""
        self._active_from = place.closed if place is not None else 0
        self.ledger = Ledger(min(self.settled, self.closed))
        for one in place.there if place is not None else ():
            self.ledger.restore(one)
        self.scene = Scene(manner.cameras, manner.labels)
        self.presence = Presence()
        self._minutes = MinuteReadings(self.scene, manner.reviews, retracts=not manner.asks)
        self._whole: dict[int, bool] = {}
        """Told minutes that were watched all the time at all cameras."""
        self._born = self.closed
        self._catching_up = manner.asks
        self._ask = manner.asks
        self._asked_us = now
        self._planned = False
        self._silence = Silence(self.ledger, self.presence, manner.silent_us)

    def _begin(self, place: Place | None, now_us: int) -> int:
        if not self.manner.asks:
            return self.closed
        if place is None:
            return minute_of(now_us - self.manner.history_us)
        return min(max(place.settled, minute_of(now_us - self.manner.reach_us)), minute_of(now_us))

    # ---- the connection's side ----

    def connected(self, publish: Publish, resumed: bool) -> None:
        """See ``Consumer``."""
        with self._turn:
            self.presence.connected(self._now_us())
            self._ask = self.manner.asks
            self._planned = False
            self._silence.connected()

    def disconnected(self) -> None:
        """See ``Consumer``."""
        with self._turn:
            self._missed(self.presence.disconnected())

    def tick(self, connected: bool) -> Taken | None:
        """See ``Consumer``."""
        return None

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        """See ``Consumer``; readings come of minutes, not of messages."""
        rejected: list[Rejected] = []
        with self._turn:
            for message in messages:
                said = read(message, self.manner.prefix)
                if not isinstance(said, Available):  # a will comes from the broker, not from Frigate
                    self.presence.heard(message.received_us)
                match said:
                    case Sighting():
                        self._see(said, message.received_us)
                    case Review():
                        self._review(said)
                    case Available(online):
                        self._missed(self.presence.available(online, message.retained, message.received_us))
                        self._ask = self._ask or (self.manner.asks and online and not message.retained)
                    case CameraState(camera, what, watches):
                        self.scene.look_at(camera)
                        self.presence.camera(camera, what, watches, message.received_us)
                    case ObjectCount(place, label, n) if self.scene.has(place, label):
                        self._silence.compare(place, label, n, message.received_us)
                    case Rejected():
                        rejected.append(said)
        self._count("messages", len(messages))
        return Taken(rejected=rejected)

    def _missed(self, since_us: int | None) -> None:
        """Look again at the minutes that were told as watched, and were not."""
        if since_us is None:
            return
        self._ask = self.manner.asks
        for minute in range(max(minute_of(since_us), self.ledger.first), self.closed):
            self.ledger.changed[minute] = set(self.scene.cameras)

    def _see(self, said: Sighting, now_us: int) -> None:
        if not self.scene.wants(said.camera, said.label):
            return
        if said.phase is Phase.UPDATE and said.id not in self.ledger.objects:
            self._ask = self.manner.asks  # its beginning was missed
        self.scene.see(said)
        self.ledger.see(said, now_us)

    def _review(self, said: Review) -> None:
        if self.manner.reviews and self.scene.wants(said.camera):
            self.scene.look_at(said.camera)
            self.ledger.review(said)

    # ---- the source's side ----

    def due(self) -> Taken | None:
        """Return the readings of minutes that are over, and of told ones of which more is known; None for none."""
        with self._turn:
            now_us = self._now_us()
            self.ledger.now = minute_of(now_us)
            self._look_at_silent(now_us)
            if self._catching_up:
                return None
            readings = self._corrections()
            over = minute_of(now_us - self.manner.grace_us)
            until = min(over, self.closed + _MINUTES_AT_ONCE)
            if until <= self.closed and not readings:
                return None
            while self.closed < until:
                readings += self._told(self.closed)
                self.closed += 1
            self._prune(now_us)
            return Taken(readings, (), self._cursor())

    def question(self) -> Question | None:
        """Return what is to be asked now; None for nothing. ``answer`` or ``unanswered`` follows."""
        with self._turn:
            now_us = self._now_us()
            over = minute_of(now_us - self.manner.grace_us)
            since_us = now_us - self._asked_us
            wanted = (
                self._ask
                or (since_us >= _DOUBT_EVERY_US and self._silence.disagree(now_us))
                or since_us >= self.manner.every_us
                or (self._catching_up and over > self.settled)
            )
            if not self.manner.asks or not wanted:
                return None
            self._ask, self._asked_us = False, now_us
            self.settled = max(self.settled, minute_of(now_us - self.manner.reach_us))
            until = min(over, self.settled + _MINUTES_AT_ONCE)
            return Question(
                self.settled * MINUTE_US,
                max(until, self.settled) * MINUTE_US if until < over else now_us,
                until >= over,
                self._silence.ask_about(now_us),
                not self._planned,
            )

    def unanswered(self) -> None:
        """Take note that the database could not be asked: minutes are told as far as they are known."""
        with self._turn:
            self._catching_up = False
            self._ask = self.manner.asks

    def answer(self, found: Findings) -> Taken:
        """Take what the database knows, and return the readings that come of it."""
        with self._turn:
            now_us = self._now_us()
            self.ledger.now = minute_of(now_us)
            if found.plans is not None:
                self._planned = True
                self.scene.plan(found.plans)
            for said in found.sightings:
                if self.scene.wants(said.camera, said.label):
                    self.scene.see(said)
                    self.ledger.see(said, now_us)
            for review in found.reviews:
                self._review(review)
            self._given_up(self._silence.unknown_to(found, now_us))
            until = self._prove(found)
            readings = [reading for minute in range(self.settled, until) for reading in self._settled(minute)]
            self.settled = max(self.settled, until)
            self._catching_up = self._catching_up and self.settled < self._born
            self._ask = self._ask or not found.question.newest
            if not self._catching_up:  # what has passed before us comes first
                readings += self._corrections()
            self._prune(now_us)
            return Taken(readings, found.rejected, self._cursor())

    # ---- minutes ----

    def _told(self, minute: int) -> list[Reading]:
        """Return the readings of a minute as it has passed."""
        self.ledger.changed.pop(minute, None)
        return self._readings(minute, self.scene.cameras)

    def _settled(self, minute: int) -> list[Reading]:
        """Return the readings of a minute that the database was asked about, unless all of it was known and told."""
        if minute >= self.closed:
            return []
        if self._whole.get(minute):
            return self._readings(minute, self.ledger.changed.pop(minute, ()))
        return self._told(minute)

    def _corrections(self) -> list[Reading]:
        """Return the readings of minutes of which more is known than when they were told."""
        begun = min(self.settled, self.closed) if self.manner.asks else 0
        late = sorted(minute for minute in self.ledger.changed if minute < self.closed)
        readings: list[Reading] = []
        for minute in late:
            cameras = self.ledger.changed.pop(minute)
            if minute in self._whole or minute < begun:
                readings += self._readings(minute, cameras)
        return readings

    def _readings(self, minute: int, cameras: Sequence[str] | set[str]) -> list[Reading]:
        standing = {camera: self.presence.standing(camera, minute) for camera in self.scene.cameras}
        self._whole[minute] = all(one is Standing.WATCHED for one in standing.values())
        tally = self.ledger.tally(minute)
        return self._minutes.make(minute, tally, standing, sorted(cameras), minute >= self._active_from)

    def _prove(self, found: Findings) -> int:
        """Take note of what the database proves; return the minute up to which it does."""
        question = found.question
        until = minute_of(question.until_us - (self.manner.grace_us if question.newest else 0))
        up_since_us = found.up_since_us
        if self._first_life:  # nobody waits for minutes in which Frigate did not run
            self.settled = max(self.settled, until if up_since_us is None else minute_of(up_since_us))
            self._first_life = False
        until = max(until, self.settled)
        if up_since_us is not None:
            for camera in self.scene.cameras:
                if camera not in found.dark:
                    self.presence.prove(camera, max(self.settled * MINUTE_US, up_since_us), until * MINUTE_US)
        return until

    def _look_at_silent(self, now_us: int) -> None:
        silent = self._silence.look(now_us)
        if not self.manner.asks:
            self._given_up(silent)
        elif any(now_us - one.asked_us > self.manner.silent_us for one in silent):
            self._ask = True

    def _given_up(self, lost: Sequence[Tracked]) -> None:
        """Close objects whose end will never be told: they are gone since they were last seen."""
        for one in lost:
            if one.frame_us is None:
                self.ledger.forget(one)
            else:
                self.ledger.end(one, one.frame_us, guessed=True)
        if lost:
            self._count("lost_ends", len(lost))

    def _prune(self, now_us: int) -> None:
        before = min(self.settled, self.closed) if self.manner.asks else self.closed
        before = max(before - _KEPT_MINUTES, minute_of(now_us - self.manner.reach_us) - _KEPT_MINUTES)
        self.ledger.prune(before)
        self._minutes.prune(self.closed - _KEPT_MINUTES)
        for minute in [minute for minute in self._whole if minute < before]:
            del self._whole[minute]
        for what, refused in (("objects_refused", self.ledger), ("series_refused", self.scene)):
            if refused.refused:
                self._count(what, refused.refused)
                refused.refused = 0

    def sites(self) -> list[Site]:
        """Return the cameras and zones that are known, with their channels."""
        with self._turn:
            found: dict[str, dict[str, str]] = {}
            for camera in self.scene.cameras:
                for entity, label in self.scene.of(camera):
                    found.setdefault(entity, {}).update({label: "1", f"{label}.active": "1", f"{label}.dwell": "s"})
            return [Site(entity, entity, channels=channels) for entity, channels in found.items()]

    def _cursor(self) -> str:
        if not self.manner.asks:
            return written(self.closed, self.closed, self.ledger.there_since(self.ledger.now + 1, self.closed + 1))
        return written(self.settled, self.closed, self.ledger.there_since(self.settled, self.settled))
