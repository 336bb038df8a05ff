"""What a minute becomes as readings: how many objects began, were active at its end, and how long they had stayed.

======================= ==== ===================================================================================
channel                 unit value
======================= ==== ===================================================================================
``person`` (any label)  1    objects that began in the minute
``person.active``       1    objects there at its end that move; parked cars do not
``person.dwell``        s    mean stay of those that left in it; nothing where none did
``review.alert``        1    reviews that began in it; so ``review.detection``. Of cameras only
======================= ==== ===================================================================================

An object counts for its camera, and for each zone (entity ``camera/zone``) that it was ever in, in the minute in which
it began: so a count read from the database later is the same. Zero is told only of minutes in which Frigate and the
camera are known to have watched; otherwise the value is missing. What moved is known of minutes that we listened to.

The result time is the minute's end and, in microseconds, how much is known: 0 for nothing, more for every object. So it
is the same whoever found it and in whichever life, later for a count that grew, and a repeat is known as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from connectors.frigate_objects import Series, Tally, end_of
from connectors.frigate_scene import Scene
from connectors.reading import Quality, Reading

_RETRACTED = 2
"""More is known than with 1, a zero, and less than with 3, one object."""


class Standing(IntEnum):
    """How far the absence of objects at a camera in a minute is believed."""

    UNKNOWN = 0
    """Frigate or the camera was away, or we were and cannot ask."""
    PROVEN = 1
    """We were away; its database was asked, and it ran all the time."""
    WATCHED = 2
    """We were connected, Frigate and the camera were online, all the time."""


class MinuteReadings:
    """Makes readings of tallies; remembers what it told as active in recent minutes, so as to correct that only.

    Args:
        scene: which series there are.
        reviews: whether reviews are counted.
        retracts: whether a count becomes missing when it turns out that nobody watched; else the database corrects it.
    """

    def __init__(self, scene: Scene, reviews: bool, retracts: bool) -> None:
        self._scene = scene
        self._reviews = reviews
        self._retracts = retracts
        self._stood: dict[tuple[int, str], Standing] = {}
        self._told: dict[int, dict[Series, tuple[int | None, int]]] = {}

    def make(
        self, minute: int, tally: Tally, standing: Mapping[str, Standing], cameras: Iterable[str], active: bool
    ) -> list[Reading]:
        """Return the readings of a minute.

        Args:
            standing: of each camera.
            cameras: those whose readings are made.
            active: whether to tell what was active.
        """
        readings: list[Reading] = []
        for camera in cameras:
            known = standing.get(camera, Standing.UNKNOWN)
            before = self._stood.get((minute, camera), Standing.UNKNOWN)
            self._stood[minute, camera] = max(known, before)
            retracted = self._retracts and known < before
            for series in self._scene.of(camera):
                readings += self._of_series(minute, series, tally, known, active, retracted)
            if self._reviews:
                readings += _reviews(minute, camera, tally, known, retracted)
        return readings

    def prune(self, before: int) -> None:
        """Forget minutes before one."""
        for minute in [minute for minute in self._told if minute < before]:
            del self._told[minute]
        for key in [key for key in self._stood if key[0] < before]:
            del self._stood[key]

    def _of_series(
        self, minute: int, series: Series, tally: Tally, known: Standing, active: bool, retracted: bool
    ) -> list[Reading]:
        entity, label = series
        readings = [_counted(entity, label, minute, tally.begun[series], known, retracted)]
        if active:
            readings += self._active(minute, series, tally, known)
        ended = tally.ended.get(series)
        if ended is not None:
            mean_s = ended.lived_us / ended.n / 1e6
            quality = Quality.ESTIMATED if ended.guessed else Quality.GOOD
            readings.append(
                _reading(entity, f"{label}.dwell", minute, mean_s, quality, 2 * ended.n - ended.guessed, "s")
            )
        return readings

    def _active(self, minute: int, series: Series, tally: Tally, known: Standing) -> list[Reading]:
        """Return what was active, if it is not what was told already.

        The database does not know when an object moved: it can only tell that there was none.
        """
        value: int | None = tally.active[series]
        if known is Standing.UNKNOWN or (known is Standing.PROVEN and tally.there[series]):
            value = None
        told = self._told.setdefault(minute, {})
        before = told.get(series)
        if before is not None and value == before[0]:
            return []
        depth = (0 if value is None else int(known)) if before is None else max(int(known), before[1] + 1)
        told[series] = value, depth
        entity, label = series
        quality = Quality.MISSING if value is None else Quality.GOOD
        return [_reading(entity, f"{label}.active", minute, value, quality, depth)]


def _reviews(minute: int, camera: str, tally: Tally, known: Standing, retracted: bool) -> list[Reading]:
    alerts, detections = (tally.reviews[camera, severity] for severity in ("alert", "detection"))
    return [
        _counted(camera, "review.alert", minute, alerts, known, retracted),
        # One that becomes an alert leaves fewer detections, and yet more is known.
        _counted(camera, "review.detection", minute, detections, known, retracted, 2 * alerts + detections),
    ]


def _counted(
    entity: str, channel: str, minute: int, n: int, known: Standing, retracted: bool, found: int | None = None
) -> Reading:
    """Return a count; ``found``: of how many things it says anything, where these are not as many."""
    found = n if found is None else found
    if known is Standing.UNKNOWN and not found:
        return _reading(entity, channel, minute, None, Quality.MISSING, _RETRACTED if retracted else 0)
    quality = Quality.ESTIMATED if known is Standing.UNKNOWN else Quality.GOOD
    return _reading(entity, channel, minute, n, quality, 1 + 2 * found)


def _reading(
    entity: str, channel: str, minute: int, value: float | None, quality: Quality, depth: int, unit: str = "1"
) -> Reading:
    time_us = end_of(minute)
    return Reading(entity, channel, time_us, None if value is None else float(value), unit, quality, time_us + depth)
