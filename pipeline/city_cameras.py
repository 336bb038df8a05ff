"""The city's cameras: objects come and go before a simulated Frigate, and all that it saw is counted."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass

from pipeline.city_scene import PLACES, STEP_S, CityScene
from pipeline.frigate_simulation import SimulatedFrigate

CAR, PERSON = "car", "person"
_STAY_S = (4.0, 50.0)
_KEPT_S = 2 * 86_400.0
"""What is older its database has let go."""


@dataclass(frozen=True, slots=True, order=True)
class _Happening:
    at_s: float
    order: int
    camera: str = ""
    label: str = ""
    leaves: str = ""
    """The object that goes; empty for one that comes."""


class CityCameras:
    """Plays a scene step by step. Not for use from two threads at once.

    Args:
        frigate: sees it.
        scene: what there is to see.
        seed: of all chance.
    """

    def __init__(self, frigate: SimulatedFrigate, scene: CityScene, seed: int = 0) -> None:
        self._frigate = frigate
        self._scene = scene
        self._random = random.Random(seed)
        self._coming: list[_Happening] = []
        self._order = 0
        self.seen: Counter[tuple[str, str, int]] = Counter()
        """Objects that began, by camera, label and the end of their minute in microseconds."""

    @property
    def to_hear(self) -> int:
        """How many messages whoever listens to Frigate must have heard by now."""
        return self._frigate.to_hear

    def play(self, step: int) -> None:
        """Let everything happen that happens within a step."""
        scene, frigate = self._scene, self._frigate
        self._spells(step)
        end_s = int(scene.times_us[step]) / 1e6
        for place, camera in enumerate(PLACES):
            for label, n in ((CAR, int(scene.cars[place, step])), (PERSON, int(scene.people[place, step]))):
                for _ in range(n):
                    self._expect(end_s - self._random.uniform(0.001, STEP_S - 0.001), camera, label)
        frigate.heartbeat()
        while self._coming and self._coming[0].at_s < end_s:
            self._happen(heapq.heappop(self._coming))
        frigate.forget(end_s - _KEPT_S)

    def _spells(self, step: int) -> None:
        """Let the camera and the link fail, and come back, as the scene has it."""
        scene, camera = self._scene, PLACES[-1]
        if step in (scene.dark.first, scene.dark.end):
            self._frigate.camera_status(camera, online=step == scene.dark.end)
        if step == scene.cut.first:
            self._frigate.link.cut()
        if step == scene.cut.end:
            self._frigate.link.mend()

    def _expect(self, at_s: float, camera: str, label: str, leaves: str = "") -> None:
        self._order += 1
        heapq.heappush(self._coming, _Happening(at_s, self._order, camera, label, leaves))

    def _happen(self, what: _Happening) -> None:
        if what.leaves:
            self._frigate.end(what.leaves, what.at_s)
            return
        name = self._frigate.begin(what.camera, what.label, what.at_s)
        self.seen[what.camera, what.label, (int(what.at_s) // 60 + 1) * 60_000_000] += 1
        self._expect(what.at_s + self._random.uniform(*_STAY_S), what.camera, what.label, name)
