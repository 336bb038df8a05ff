"""Where a life of the Frigate source ended: up to which minute all is told, and which objects were there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.frigate_messages import MOST_ZONES, moment_us, name_of
from connectors.frigate_objects import MINUTE_US, Tracked
from connectors.json_documents import parsed
from connectors.timestamps import parse, to_text

_MOST_THERE = 300
"""Objects in a cursor, about 80 bytes each; those that came last, for the others are mostly parked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on."""

    settled: int
    """The first minute that the database was not asked about."""
    closed: int
    """The first minute that was not told."""
    there: tuple[Tracked, ...] = ()
    """Objects that began before the settled minute and were there since; others the database finds by their time."""


def written(settled: int, closed: int, there: Iterable[Tracked]) -> str:
    """Return a place as a cursor."""
    rows = [[one.id, one.camera, one.label, one.start_us, list(one.zones)] for one in there]
    document = {"settled": to_text(settled * MINUTE_US), "closed": to_text(closed * MINUTE_US)}
    return json.dumps({**document, "there": rows[-_MOST_THERE:]}, separators=(",", ":"))


def place_of(cursor: str | None) -> Place | None:
    """Return the place in a cursor; None if it holds none."""
    document = None if cursor is None else parsed(cursor.encode())
    if not isinstance(document, dict):
        return None
    settled_us, closed_us = (parse(str(document.get(name))) for name in ("settled", "closed"))
    if not isinstance(settled_us, int) or not isinstance(closed_us, int):
        return None
    rows = document.get("there")
    found = [_tracked(row) for row in (rows if isinstance(rows, list) else [])[:_MOST_THERE]]
    return Place(settled_us // MINUTE_US, closed_us // MINUTE_US, tuple(one for one in found if one is not None))


def _tracked(row: object) -> Tracked | None:
    match row:
        case [str(identity), str(camera), str(label), int(start_us), list(zones)]:
            if name_of(camera) is None or name_of(label) is None or moment_us(start_us / 1e6) is None:
                return None
            names = tuple(zone for zone in zones[:MOST_ZONES] if name_of(zone) is not None)
            return Tracked(identity, camera, label, start_us, names)
    return None
