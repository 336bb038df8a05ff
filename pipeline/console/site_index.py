"""All places in memory, and how each of them is now: maps and lists are made from it without asking for every site.

Legend: n places, m entities of a stream's newest step.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from connectors.site_rows import Place
from pipeline.live import Live

STATES = ("unknown", "ok", "silent", "watch", "alert")
"""From the mildest to the worst. unknown: no stream measures it now."""
UNKNOWN, OK, SILENT, WATCH, ALERT = range(5)
_SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Open:
    """What is open about an entity."""

    stream: str
    entity: str
    kind: str
    tier: int
    """1 watch, 2 alert."""


class Registry(Protocol):
    """What is asked of a site registry."""

    def places(self, after_revision: int = 0) -> tuple[int, list[Place]]:
        """Return the newest revision and what changed; see ``connectors.site_store.SiteStore.places``."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places as columns, by entity; nobody changes them."""

    rows: tuple[Place, ...] = ()
    folded: tuple[str, ...] = ()
    """Entity and name in lower case, for searching."""
    latitude: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """[n] degrees; NaN where unknown."""
    longitude: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    at: dict[str, int] = field(default_factory=dict)
    """Entity to row."""

    @classmethod
    def of(cls, places: Iterable[Place]) -> Places:
        """Return places as columns."""
        rows = tuple(sorted(places, key=lambda place: place.entity))
        folded = tuple(f"{place.entity}\n{place.name}".casefold() for place in rows)
        return cls(
            rows, folded,
            np.array([np.nan if p.latitude is None else p.latitude for p in rows], np.float64),
            np.array([np.nan if p.longitude is None else p.longitude for p in rows], np.float64),
            {place.entity: row for row, place in enumerate(rows)},
        )  # fmt: skip

    def having(self, search: str, source: str) -> NDArray[np.bool_]:
        """Return [n] whether ``search`` is in the entity or the name, in either case, and ``source`` told of it."""
        found = np.ones(len(self.rows), np.bool_)
        if search:
            wanted = search.casefold()
            found &= np.fromiter((wanted in text for text in self.folded), np.bool_, len(self.rows))
        if source:
            found &= np.fromiter((place.source == source for place in self.rows), np.bool_, len(self.rows))
        return found


class SiteIndex:
    """Follows a registry. Any thread may ask; one at a time reads what changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revision = 0
        self._places = Places()
        self._measured: dict[str, tuple[Places, Sequence[str], int, NDArray[np.intp]]] = {}

    @property
    def places(self) -> Places:
        """Return what was read last."""
        return self._places

    def read(self, registry: Registry) -> Places:
        """Read what changed since, and return all places; costs one small question where nothing changed."""
        with self._lock:
            revision, changed = registry.places(self._revision)
            if revision < self._revision:  # another database lies there now
                self._places = Places()
                revision, changed = registry.places(0)
            if changed:
                known = {place.entity: place for place in self._places.rows}
                self._places = Places.of((known | {place.entity: place for place in changed}).values())
            elif revision == 0:
                self._places = Places()
            self._revision = revision
            return self._places

    def states(
        self, places: Places, live: Live, streams: Sequence[str], opened: Iterable[Open]
    ) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
        """Return how each place is, and which stream measures it.

        Args:
            places: of which.
            live: the newest steps.
            streams: by name; where several measure a place the one where it is worst is told.
            opened: what is open.

        Returns:
            [n] index into ``STATES``, and [n] index into ``streams``, -1 where none measures it.
        """
        state = np.full(len(places.rows), UNKNOWN, np.int8)
        of = np.full(len(places.rows), -1, np.int16)
        for number, stream in enumerate(streams):
            step = live.newest(stream)
            if step is None:
                continue
            rows = self._rows(stream, places, step.names, step.n)
            here = rows >= 0
            now = np.full(len(rows), UNKNOWN, np.int8)
            # Levels are 0, 1 and 2: none, watch, alert.
            now[here] = np.array([OK, WATCH, ALERT], np.int8)[step.level[rows[here]]]
            worse = here & ((of < 0) | (now > state))
            state[worse], of[worse] = now[worse], number
        numbers = {stream: number for number, stream in enumerate(streams)}
        for each in opened:
            row = places.at.get(each.entity)
            how = SILENT if each.kind == _SILENCE else ALERT if each.tier >= 2 else WATCH
            if row is not None and (how > state[row] or of[row] < 0):
                state[row], of[row] = max(how, int(state[row])), numbers.get(each.stream, -1)
        return state, of

    def _rows(self, stream: str, places: Places, names: Sequence[str], m: int) -> NDArray[np.intp]:
        """Return [n] the row of each place in a stream's steps, -1 where it has none; remembered while both stay."""
        known = self._measured.get(stream)
        if known is not None and known[0] is places and known[1] is names and known[2] == m:
            return known[3]
        row_of = {names[row]: row for row in range(m)}
        rows = np.fromiter((row_of.get(place.entity, -1) for place in places.rows), np.intp, len(places.rows))
        self._measured[stream] = places, names, m, rows
        return rows
