"""People and vehicles for the simulated Frigate: they come, cross zones, park and go, at rates that a scenario sets."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from pipeline.frigate_simulation import SimulatedFrigate

Rate = Callable[[str, str, float], float]
"""Camera, label and moment (epoch seconds) to objects a minute."""

_LOOK_AGAIN_S = 10.0
_HEARTBEAT_S = 10.0


class Traffic:
    """Moves objects as time goes by. Not for use from two threads at once.

    Args:
        frigate: sees them.
        rate: how many begin a minute; asked anew after each.
        since: when it begins, epoch seconds.
        stay_s: how long they stay on average.
        parked: share of the objects of label ``car`` that park for a while; parked ones stay for ``parking_s``.
        alerts: share of the objects that make a review, half of them an alert.
        lost_ends: share of the objects whose end is never told.
        seed: of all chance.
    """

    def __init__(
        self,
        frigate: SimulatedFrigate,
        rate: Rate,
        since: float,
        *,
        stay_s: float = 20.0,
        parked: float = 0.02,
        parking_s: float = 1800.0,
        alerts: float = 0.02,
        lost_ends: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._frigate = frigate
        self._rate = rate
        self._stay_s = stay_s
        self._parked = parked
        self._parking_s = parking_s
        self._alerts = alerts
        self._lost_ends = lost_ends
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Callable[[float], None]]] = []
        for camera in frigate.cameras:
            for label in frigate.labels:
                self._expect(camera, label, since)
        self._at(since, self._heartbeat)

    def advance(self, until: float) -> None:
        """Let everything happen that happens before a moment, epoch seconds."""
        while self._coming and self._coming[0][0] < until:
            moment, _, happen = heapq.heappop(self._coming)
            happen(moment)

    def _at(self, moment: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._coming, (moment, next(self._order), happen))

    def _heartbeat(self, moment: float) -> None:
        self._frigate.heartbeat()
        self._at(moment + _HEARTBEAT_S, self._heartbeat)

    def _expect(self, camera: str, label: str, since: float) -> None:
        """Let the next object of a camera and label come; ask again soon while few or none do."""
        rate = self._rate(camera, label, since) / 60.0
        gap_s = self._random.expovariate(rate) if rate > 0.0 else float("inf")
        if gap_s > _LOOK_AGAIN_S:  # without memory: looking again changes nothing but the rate
            self._at(since + _LOOK_AGAIN_S, lambda moment: self._expect(camera, label, moment))
        else:
            self._at(since + gap_s, lambda moment: self._come(camera, label, moment))

    def _come(self, camera: str, label: str, moment: float) -> None:
        self._expect(camera, label, moment)
        chance = self._random
        name = self._frigate.begin(camera, label, moment)
        parks = label == "car" and chance.random() < self._parked
        stay_s = chance.uniform(0.5, 1.5) * (self._parking_s if parks else self._stay_s)
        for part, zone in enumerate(self._frigate.cameras[camera]):
            if chance.random() < 0.6:
                enters_s = chance.uniform(0.1, 0.4) * min(stay_s, self._stay_s) + part
                self._at(moment + min(enters_s, 0.9 * stay_s), self._moving(name, [zone], True))
        if parks:
            self._at(moment + min(self._stay_s, 0.5 * stay_s), self._moving(name, None, False))
        for minute in range(1, int(stay_s // 60.0) + 1):
            self._at(moment + minute * 60.0, lambda now: self._frigate.tell(name, at=now))
        if chance.random() < self._alerts:
            self._at(moment + 1.0, lambda now: self._review(camera, now))
        lost = chance.random() < self._lost_ends
        self._at(moment + stay_s, lambda now: self._frigate.end(name, now, lost=lost))

    def _moving(self, name: str, zones: list[str] | None, active: bool) -> Callable[[float], None]:
        return lambda now: self._frigate.move(name, zones, active, now)

    def _review(self, camera: str, moment: float) -> None:
        name = self._frigate.review(camera, "detection", moment)
        if self._random.random() < 0.5:
            self._at(moment + 5.0, lambda _: self._frigate.escalate(name))
