"""Answers about sites: which fit, how they are, and what a map of them shows.

Legend: n places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.console.site_box import Box, extent
from pipeline.console.site_index import STATES, Open, Places, SiteIndex
from pipeline.console.site_map import Mark, View, marks
from pipeline.console.site_shapes import SiteDetail, SiteLine, SitePage
from pipeline.console.sources import Sources
from pipeline.console.troubles import BadQuestion, Trouble
from pipeline.incident import rfc3339

MOST_LINES = 200


@dataclass(frozen=True, slots=True)
class SiteQuery:
    """Which sites are wanted; what is empty or None leaves a condition out."""

    search: str = ""
    """A part of the entity or of the name, in either case."""
    state: str = ""
    source: str = ""
    box: Box | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Sheet:
    """How large a map is, and how many marks it takes."""

    width: int
    height: int
    most: int


@dataclass(frozen=True, slots=True)
class Map:
    """What a sheet shows; the worst marks last, to be drawn above the others."""

    view: View
    marks: list[Mark]
    lines: list[SiteLine]
    """Of each mark: the one site, or one of them."""


class _Found:
    """Places that were looked up once, with how they are; lists and maps are made from it."""

    def __init__(
        self,
        places: Places,
        state: NDArray[np.int8],
        of: NDArray[np.int16],
        streams: list[str],
        fit: NDArray[np.intp],
        located: NDArray[np.intp],
    ) -> None:
        self.places, self.state, self.of, self.streams = places, state, of, streams
        self.fit = fit
        """Rows of those that fit the question, in the list's order."""
        self.located = located
        """Rows of those that fit but for the part of the earth, and have coordinates."""

    def line(self, row: int) -> SiteLine:
        """Return a place as a line."""
        place, stream = self.places.rows[row], int(self.of[row])
        return {
            "entity": place.entity, "name": place.name, "source": place.source,
            "latitude": place.latitude, "longitude": place.longitude,
            "state": STATES[int(self.state[row])], "stream": None if stream < 0 else self.streams[stream],
        }  # fmt: skip


class SiteAnswers:
    """Asks the site registry, the newest steps and the alert database. Raises ``Trouble``."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._index = SiteIndex()

    def page(self, query: SiteQuery) -> SitePage:
        """Return the sites that fit, a page of them."""
        return self.maps(query, ())[0]

    def maps(self, query: SiteQuery, sheets: tuple[Sheet, ...]) -> tuple[SitePage, list[Map | None]]:
        """Return the sites that fit, a page of them, and maps of all of them; None where nothing has coordinates."""
        if query.state and query.state not in STATES:
            raise BadQuestion(f"{query.state[:40]!r} is no state; allowed: {', '.join(STATES)}")
        found, counts, troubles = self._found(query)
        limit = min(query.limit, MOST_LINES)
        known = ~np.isnan(found.places.latitude[found.fit])
        page: SitePage = {
            "sites": [found.line(int(row)) for row in found.fit[query.offset : query.offset + limit]],
            "total": len(found.fit), "offset": query.offset, "limit": limit, "counts": counts,
            "located": int(known.sum()), "troubles": troubles,
        }  # fmt: skip
        return page, [_map(found, query.box, sheet) for sheet in sheets]

    def find(self, entity: str) -> SiteDetail | None:
        """Return what is known of an entity's place; None where nothing is."""
        if self._sources.sites is None:
            return None
        with self._sources.asking_store():
            rows = self._sources.sites.sites([entity])
        if not rows:
            return None
        (row,) = rows
        return {
            "entity": row.entity, "name": row.name, "source": row.source, "latitude": row.latitude,
            "longitude": row.longitude, "channels": dict(row.channels),
            "limits": {name: list(pair) for name, pair in row.limits.items()},
            "attributes": dict(row.attributes), "changed": rfc3339(row.changed_us),
        }  # fmt: skip

    def find_beside(self, entity: str, troubles: list[str]) -> SiteDetail | None:
        """Return what is known of an entity's place, for a page that is about something else: trouble is only told."""
        try:
            return self.find(entity)
        except Trouble as error:
            troubles.append(f"its site: {error}")
            return None

    # ---- inner ----

    def _found(self, query: SiteQuery) -> tuple[_Found, dict[str, int], list[str]]:
        troubles: list[str] = []
        places = self._places(troubles)
        streams = list(self._sources.streams)
        state, of = self._index.states(places, self._sources.live, streams, self._open(troubles))
        fit = places.having(query.search, query.source)
        chosen = fit & (state == STATES.index(query.state)) if query.state else fit
        located = np.flatnonzero(chosen & ~np.isnan(places.latitude))
        if query.box is not None:
            inside = query.box.within(places.latitude, places.longitude)
            fit, chosen = fit & inside, chosen & inside
        counts = np.bincount(state[fit], minlength=len(STATES))
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-state[rows], kind="stable")]  # places are by entity already
        found = _Found(places, state, of, streams, rows, located)
        return found, {name: int(counts[i]) for i, name in enumerate(STATES)}, troubles

    def _places(self, troubles: list[str]) -> Places:
        """Return all places; while the database is away those that are known from before."""
        if self._sources.sites is None:
            return Places()
        try:
            with self._sources.asking_store():
                return self._index.read(self._sources.sites)
        except Trouble as error:
            if not self._index.places.rows:
                raise
            troubles.append(f"new sites: {error}")
            return self._index.places

    def _open(self, troubles: list[str]) -> list[Open]:
        try:
            with self._sources.asking_store() as store:
                return [Open(*subject) for subject in store.open_subjects()]
        except Trouble as error:  # the map is worth showing without them
            troubles.append(f"open incidents: {error}")
            return []


def _map(found: _Found, box: Box | None, sheet: Sheet) -> Map | None:
    places, rows = found.places, found.located
    latitude, longitude = places.latitude[rows], places.longitude[rows]
    shown = box or extent(latitude, longitude)
    if shown is None:
        return None
    view = View.over(shown, sheet.width, sheet.height, 0.0 if box is not None else 0.08)
    drawn = marks(view, latitude, longitude, found.state[rows], len(STATES), sheet.most)
    return Map(view, drawn, [found.line(int(rows[mark.site])) for mark in drawn])
