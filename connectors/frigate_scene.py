"""Which series there are to be counted, so that a minute in which nothing happened is told as zero."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from connectors.frigate_messages import Sighting, name_of

MOST_SERIES = 5000


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """What Frigate is configured to follow at one camera."""

    labels: tuple[str, ...]
    zones: Mapping[str, tuple[str, ...]]
    """Zone to its labels; empty: all of the camera's."""


def plans_of(document: object) -> dict[str, CameraPlan]:
    """Return the enabled cameras in an answer of ``/api/config``; nothing else of it is read. Never raises."""
    cameras = document.get("cameras") if isinstance(document, dict) else None
    plans: dict[str, CameraPlan] = {}
    for name, camera in (cameras if isinstance(cameras, dict) else {}).items():
        if name_of(name) is None or not isinstance(camera, dict) or camera.get("enabled") is False:
            continue
        zones = camera.get("zones")
        plans[name] = CameraPlan(
            _labels(_at(camera, "objects", "track")),
            {
                zone: _labels(_at(of, "objects"))
                for zone, of in (zones if isinstance(zones, dict) else {}).items()
                if name_of(zone) is not None
            },
        )
    return plans


class Scene:
    """The series of all cameras. Bounded.

    Args:
        cameras: those that are looked at; empty: all.
        labels: those that are counted; empty: all.
    """

    def __init__(self, cameras: Collection[str], labels: Collection[str]) -> None:
        self._only_cameras = frozenset(cameras)
        self._only_labels = frozenset(labels)
        self._series: dict[str, dict[str, dict[str, None]]] = {}
        self._n = 0
        self.refused = 0
        """Series that there was no room for."""
        for camera in cameras:
            for label in labels:
                self._add(camera, camera, label)

    @property
    def cameras(self) -> list[str]:
        """Return the cameras that are known."""
        return list(self._series)

    def wants(self, camera: str, label: str | None = None) -> bool:
        """Whether a camera, and a label at it, is looked at."""
        return (not self._only_cameras or camera in self._only_cameras) and (
            label is None or not self._only_labels or label in self._only_labels
        )

    def has(self, camera: str, label: str) -> bool:
        """Whether the series is known."""
        return label in self._series.get(camera, {}).get(camera, {})

    def of(self, camera: str) -> Iterator[tuple[str, str]]:
        """Yield entity and label of each series of a camera, in the order in which they became known."""
        for entity, labels in self._series.get(camera, {}).items():
            for label in labels:
                yield entity, label

    def plan(self, plans: Mapping[str, CameraPlan]) -> None:
        """Take what Frigate is configured to follow."""
        for camera, plan in plans.items():
            for label in plan.labels:
                self._want(camera, camera, label)
            for zone, labels in plan.zones.items():
                for label in labels or plan.labels:
                    self._want(camera, f"{camera}/{zone}", label)

    def see(self, said: Sighting) -> None:
        """Take what is seen: it may be of a camera or zone that is new."""
        self._want(said.camera, said.camera, said.label)
        for zone in said.zones:
            self._want(said.camera, f"{said.camera}/{zone}", said.label)

    def look_at(self, camera: str) -> None:
        """Know a camera, though nothing was seen at it."""
        if self.wants(camera) and self._n < MOST_SERIES:
            self._series.setdefault(camera, {})

    def _want(self, camera: str, entity: str, label: str) -> None:
        if self.wants(camera, label):
            self._add(camera, entity, label)

    def _add(self, camera: str, entity: str, label: str) -> None:
        labels = self._series.get(camera, {}).get(entity, {})
        if label in labels:
            return
        if self._n >= MOST_SERIES:
            self.refused += 1
            return
        self._series.setdefault(camera, {}).setdefault(entity, {})[label] = None
        self._n += 1


def _at(document: object, *names: str) -> object:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _labels(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if name_of(one) is not None) if isinstance(value, list) else ()
