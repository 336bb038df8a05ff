"""The city's stations: they live through the scene as fast as others can follow, and set everybody's clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pipeline.city_air import CityAir
from pipeline.city_cameras import CityCameras
from pipeline.city_ingest import AHEAD_S, AIR, CAMERAS, GRACE_S, RIVER, RIVER_AHEAD_S, SOURCES, WANTED, CityIngest
from pipeline.city_river import CityRiver
from pipeline.city_scene import STEP_S, CityScene
from pipeline.city_topics import CityTopics
from pipeline.ingest.told_clock import ToldClock

_AHEAD_RECORDS = 600
"""Never be further ahead of the daemon: the embedded broker keeps 5 MB a partition and forgets what is older."""
_LOOK_S = 0.005
_HEARD = f'vedette_ingest_source_events_total{{event="messages",source="{CAMERAS}"}}'
_PATIENCE_S = 180.0


class StationsStuck(Exception):
    """What the stations sent does not come onto the topics; the text says what is missing."""


class CityStations(threading.Thread):
    """Plays the scene once, and then waits until all of it is on the topics.

    Args:
        scene: what happens.
        clock: set to a step's end when all that happened before it has been said.
        cameras: over MQTT.
        air: pushes.
        river: is polled.
        ingest: brings it all.
        topics: where it is to arrive.
        handled: how many records the daemon has read.
    """

    def __init__(
        self,
        scene: CityScene,
        clock: ToldClock,
        cameras: CityCameras,
        air: CityAir,
        river: CityRiver,
        ingest: CityIngest,
        topics: CityTopics,
        handled: Callable[[], int],
    ) -> None:
        super().__init__(name="stations", daemon=True)
        self._scene = scene
        self._clock = clock
        self._cameras = cameras
        self._air = air
        self._river = river
        self._ingest = ingest
        self._topics = topics
        self._handled = handled
        self._leave = threading.Event()
        self.steps = 0
        """That are over."""
        self.error: Exception | None = None

    def run(self) -> None:
        """Send everything; an error is kept for whoever waits."""
        try:
            times_us = self._scene.times_us.tolist()
            for step, time_us in enumerate(times_us):
                if self._scene.changes(step):
                    self._await(self._listened, "has not listened to the cameras")
                self._cameras.play(step)
                if self._scene.changes(step):
                    # Else it would take what it hears late for what has just happened, by a clock that went on.
                    self._await(self._listened, "has not listened to the cameras")
                if step == self._scene.cut.end:
                    # A matter of seconds, in which this clock would go on by hours.
                    self._await(self._caught_up, "does not fetch what passed while Frigate's link was cut")
                if step > 0:
                    self._air.push(step - 1)
                self._clock.set(time_us)
                self._await(self._followed, "does not follow the stations")
                self.steps = step + 1
            self._air.push(len(times_us) - 1)
            self._clock.set(self._scene.end_us + round((GRACE_S + 1.0) * 1e6))
            self._await(self._all_there, "has not brought all that was sent")
        except Exception as error:  # a thread cannot raise to its starter
            self.error = error

    def close(self) -> None:
        """Stop."""
        self._leave.set()
        if self.ident is not None:
            self.join()

    def _followed(self) -> bool:
        now_us, of = self._clock.now_us(), self._topics.of
        for source in SOURCES:
            ahead_s = RIVER_AHEAD_S if source == RIVER else AHEAD_S
            if now_us - max(of[source].newest_us, self._scene.start_us) >= (ahead_s - STEP_S) * 1e6:
                return False
        return self._topics.records - self._handled() < _AHEAD_RECORDS

    def _listened(self) -> bool:
        return self._ingest.metric(_HEARD) >= self._cameras.to_hear

    def _caught_up(self) -> bool:
        """Return whether all minutes that should be told by now are, as the cameras saw them."""
        until_us, known = self._clock.now_us() - round(GRACE_S * 1e6), self._topics.of[CAMERAS].readings
        return all(known.get(key, (0, None))[1] == n for key, n in self._cameras.seen.items() if key[2] <= until_us)

    def _all_there(self) -> bool:
        of = self._topics.of
        return (
            of[CAMERAS].newest_us >= self._scene.end_us
            and len(of[AIR].readings) >= sum(self._air.pushed[channel] for channel in WANTED)
            and len(of[RIVER].readings) >= self._river.measured
            and self._handled() >= self._topics.records
        )

    def _await(self, reached: Callable[[], bool], otherwise: str) -> None:
        """Return when a condition holds; raise what stands in its way."""
        handled, deadline_s = self._handled(), time.monotonic() + _PATIENCE_S
        while not reached() and not self._leave.wait(_LOOK_S):
            self._ingest.check()
            if self._topics.error is not None:
                raise self._topics.error
            if self._handled() != handled:  # the daemon may be training
                handled, deadline_s = self._handled(), time.monotonic() + _PATIENCE_S
            if time.monotonic() > deadline_s:
                counts = {source: len(found.readings) for source, found in self._topics.of.items()}
                raise StationsStuck(f"vedette ingest {otherwise}; on the topics there are {counts} readings")
