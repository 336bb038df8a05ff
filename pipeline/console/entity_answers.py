"""Answers about entities: a list that is searched and paged here, and one entity over any time range.

Legend: n entities of a step, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.alert_store_rows import IncidentQuery
from pipeline.console.incident_answers import IncidentAnswers
from pipeline.console.series_answers import SeriesAnswers, finite, forecast_of
from pipeline.console.shapes import EntityDetail, EntityLine, EntityPage, IncidentLine
from pipeline.console.site_answers import SiteAnswers
from pipeline.console.sources import Sources
from pipeline.console.troubles import BadQuestion, NotThere, Trouble
from pipeline.incident import rfc3339
from pipeline.live import LiveStep

MOST_LINES = 200
_LONGEST_US = 400 * 86_400_000_000
_LATEST_US = 253_402_300_799_999_999
"""The end of the year 9999."""
_DEFAULT_STEPS = 288
_MOST_INCIDENTS = 100


class EntityAnswers:
    """Asks the newest steps, the history and the alert database. Raises ``Trouble``."""

    def __init__(self, sources: Sources, series: SeriesAnswers, incidents: IncidentAnswers, sites: SiteAnswers) -> None:
        self._sources = sources
        self._series = series
        self._incidents = incidents
        self._sites = sites
        self._folded: dict[str, tuple[Sequence[str], list[str]]] = {}
        """Stream to its list of names, which only grows, and those names in lower case."""

    def page(
        self, stream: str, search: str = "", *, offset: int = 0, limit: int = 50, order: str = "score"
    ) -> EntityPage:
        """Return some of a stream's entities.

        Args:
            stream: its name.
            search: a part of the name, in either case; empty: all.
            offset: so many of the first are left out.
            limit: at most so many.
            order: "score" (the highest first, open incidents before all) or "name".
        """
        shown = self._sources.stream(stream)
        if order not in ("score", "name"):
            raise BadQuestion(f"{order[:40]!r} is no order; allowed: score, name")
        limit = min(limit, MOST_LINES)
        step = self._sources.live.newest(stream)
        lines: list[EntityLine] = []
        total = 0
        if step is not None:
            rows = self._found(step, search)
            total = len(rows)
            lines = [_line(step, row) for row in _ordered(step, rows, order)[offset : offset + limit]]
        return {
            "stream": stream,
            "channels": list(shown.channels),
            "units": list(shown.units),
            "time": None if step is None else rfc3339(step.time_us),
            "entities": lines,
            "total": total,
            "offset": offset,
            "limit": limit,
        }

    def detail(self, stream: str, entity: str, from_us: int | None = None, to_us: int | None = None) -> EntityDetail:
        """Return an entity within [from_us, to_us); without them its newest 288 steps."""
        shown = self._sources.stream(stream)
        step, row = self._sources.live.newest(stream), self._sources.live.row(stream, entity)
        newest_us = self._sources.now_us() if step is None else step.time_us
        to_us = newest_us + shown.step_us if to_us is None else to_us
        from_us = to_us - _DEFAULT_STEPS * shown.step_us if from_us is None else from_us
        if not 0 <= from_us < to_us <= _LATEST_US:
            raise BadQuestion("the time range is empty or beyond the years 1970 to 9999: from has to be before to")
        if to_us - from_us > _LONGEST_US:
            raise BadQuestion("the time range is longer than 400 days")
        series = self._series.series(shown, entity, from_us, to_us)
        trouble: list[str] = []
        incidents: list[IncidentLine] = []
        try:
            query = IncidentQuery(stream, entity, overlaps_us=(from_us, to_us), limit=_MOST_INCIDENTS)
            incidents = self._incidents.page(query)["incidents"]
        except Trouble as error:  # the series is worth showing without them
            trouble.append(f"incidents: {error}")
        site = self._sites.find_beside(entity, trouble)
        nothing = row is None and site is None and not series["times_us"] and not incidents
        if nothing and not trouble and series["trouble"] is None:
            raise NotThere(f"nothing is known of {entity[:80]!r} in stream {stream} in that time")
        forecast = None
        if step is not None and row is not None:
            forecast = forecast_of(step, row, step.forecast_spread, shown.step_us)
        return {
            "stream": stream,
            "entity": entity,
            "known": row is not None,
            "now": None if step is None or row is None else _line(step, row),
            "series": series,
            "forecast": forecast,
            "limits": self._series.limits(shown),
            "incidents": incidents,
            "site": site,
            "trouble": trouble,
        }

    def _found(self, step: LiveStep, search: str) -> NDArray[np.intp]:
        """Return the rows whose name has ``search`` in it."""
        if not search:
            return np.arange(step.n)
        names, folded = self._folded.get(step.stream, ((), []))
        if names is not step.names or len(folded) < step.n:  # another list: rows were given anew
            folded = [step.names[i].casefold() for i in range(step.n)]
            self._folded[step.stream] = step.names, folded
        wanted = search.casefold()
        return np.array([i for i in range(step.n) if wanted in folded[i]], np.intp)


def _ordered(step: LiveStep, rows: NDArray[np.intp], order: str) -> list[int]:
    if order == "name":
        ordered: list[int] = sorted(rows.tolist(), key=lambda row: step.names[row])
        return ordered
    score, level = np.nan_to_num(step.score[rows]), step.level[rows]
    ranked: list[int] = rows[np.lexsort((rows, -score, -level))].tolist()
    return ranked


def _line(step: LiveStep, row: int) -> EntityLine:
    return {
        "entity": step.names[row],
        "score": finite(step.score[row : row + 1])[0],
        "level": int(step.level[row]),
        "warming": bool(step.warming[row]),
        "values": finite(step.values[row]),
    }
