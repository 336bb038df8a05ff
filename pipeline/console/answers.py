"""Everything that pages and the API show, as plain values, and everything that people may do.

Any thread may ask; each call may block on the database, the registry or the history, so none belongs into an event
loop. Nothing touches the state of the daemon's loop. What cannot be answered raises ``Trouble`` with the reason.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.alert_store_rows import AuditRow, IncidentQuery
from pipeline.console.entity_answers import EntityAnswers
from pipeline.console.incident_answers import IncidentAnswers
from pipeline.console.model_answers import ModelAnswers
from pipeline.console.series_answers import SeriesAnswers
from pipeline.console.shapes import (
    AuditPage,
    Done,
    EntityDetail,
    EntityPage,
    IncidentDetail,
    IncidentPage,
    Models,
    Overview,
    StreamLine,
    System,
)
from pipeline.console.site_answers import Map, Sheet, SiteAnswers, SiteQuery
from pipeline.console.site_shapes import SitePage
from pipeline.console.sources import Sources
from pipeline.console.system_answers import SystemAnswers
from pipeline.console.troubles import BadQuestion, NotThere, Trouble
from pipeline.incident import rfc3339
from pipeline.label_request import NONE, label_request

MOST_ACTIONS = 200
_LONGEST_DETAIL = 1_000


class Role(StrEnum):
    """What somebody may do."""

    READ = "read"
    ACT = "act"
    """Reading too."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asks."""

    name: str
    role: Role


class Answers:
    """Answers questions and carries out what people ask for; every action is on record before it is begun."""

    def __init__(self, sources: Sources) -> None:
        """Ask ``sources``."""
        self.sources = sources
        series = SeriesAnswers(sources)
        self._sites = SiteAnswers(sources)
        self._incidents = IncidentAnswers(sources, series, self._sites)
        self._entities = EntityAnswers(sources, series, self._incidents, self._sites)
        self._models = ModelAnswers(sources)
        self._system = SystemAnswers(sources, self._incidents)

    # ---- questions ----

    def overview(self, most: int = 50) -> Overview:
        """Return what is wrong now; what cannot be asked is told in ``troubles``."""
        return self._system.overview(most)

    def streams(self) -> list[StreamLine]:
        """Return how each stream is."""
        return self._system.streams()

    def incidents(self, query: IncidentQuery) -> IncidentPage:
        """Return the incidents that fit, a page of them."""
        return self._incidents.page(query)

    def incident(self, incident_id: str) -> IncidentDetail:
        """Return everything known of an incident; the beginning of its id is enough."""
        return self._incidents.detail(incident_id)

    def entities(
        self, stream: str, search: str = "", *, offset: int = 0, limit: int = 50, order: str = "score"
    ) -> EntityPage:
        """Return some of a stream's entities, by score or name."""
        return self._entities.page(stream, search, offset=offset, limit=limit, order=order)

    def entity(self, stream: str, entity: str, from_us: int | None = None, to_us: int | None = None) -> EntityDetail:
        """Return one entity over a time range; without one its newest steps."""
        return self._entities.detail(stream, entity, from_us, to_us)

    def sites(self, query: SiteQuery) -> SitePage:
        """Return the sites that fit, a page of them."""
        return self._sites.page(query)

    def site_maps(self, query: SiteQuery, sheets: tuple[Sheet, ...]) -> tuple[SitePage, list[Map | None]]:
        """Return the sites that fit, a page of them, and maps of all of them."""
        return self._sites.maps(query, sheets)

    def models(self, stream: str) -> Models:
        """Return a stream's models."""
        return self._models.models(stream)

    def system(self) -> System:
        """Return how the daemon itself is."""
        return self._system.system()

    def audit(self, offset: int = 0, limit: int = 50) -> AuditPage:
        """Return what people did, newest first."""
        limit = min(limit, MOST_ACTIONS)
        with self.sources.asking_store() as store:
            rows, total = store.actions(limit, offset), store.count_actions()
        names = ("id", "who", "role", "action", "subject", "detail", "outcome")
        lines: list[Any] = [{n: getattr(row, n) for n in names} | {"time": rfc3339(row.time_us)} for row in rows]
        return {"actions": lines, "total": total, "offset": offset, "limit": limit}

    # ---- actions ----

    def label(self, who: Who, incident_id: str, label: str, reason: str = "", until: str | None = None) -> Done:
        """Label an incident: "true", "false_alarm", "expected" (with a reason and an end) or "none".

        Args:
            who: says so.
            incident_id: the whole id, or its only possible beginning.
            label: which.
            reason: why.
            until: when it ends: a time, or a duration from now such as "7d".
        """
        row = self._incidents.row(incident_id)
        now_us = self.sources.now_us()
        try:
            request = label_request(row.id, label, reason, until or None, who.name, now_us)
        except ValueError as error:
            raise BadQuestion(str(error)) from error

        def say() -> tuple[str, dict[str, Any]]:
            with self.sources.asking_store() as store:
                if not request.apply(store, now_us):
                    raise NotThere(f"incident {row.id} was removed meanwhile")
            words = "has no label any more" if request.kind is None else f"is labelled {request.kind}"
            return f"{row.entity} {words}", {"incident": row.id, "label": str(request.kind or NONE)}

        action = "unlabel" if request.kind is None else "label"
        return self._do(who, action, row.id, f"{label} {reason}".strip(), say)

    def unlabel(self, who: Who, incident_id: str) -> Done:
        """Take an incident's label back."""
        return self.label(who, incident_id, NONE)

    def promote(self, who: Who, stream: str, version: str, reason: str = "") -> Done:
        """Put a version in charge of a stream; "linear" stands for none."""
        do = lambda: self._models.promote(stream, version, reason, who.name)  # noqa: E731
        return self._do(who, "promote", f"{stream} {version}", reason, do)

    def roll_back(self, who: Who, stream: str, to: str | None = None, reason: str = "") -> Done:
        """Give the champion of a stream up, for its predecessor or for ``to``."""
        do = lambda: self._models.roll_back(stream, to, reason, who.name)  # noqa: E731
        return self._do(who, "roll back", f"{stream} {to or 'previous'}", reason, do)

    def train(self, who: Who, stream: str | None = None) -> Done:
        """Ask for a training of a stream, or of all."""
        return self._do(who, "train", stream or "all streams", "", lambda: self._models.train(stream))

    def _do(
        self, who: Who, action: str, subject: str, detail: str, do: Callable[[], tuple[str, dict[str, Any]]]
    ) -> Done:
        """Do something that is on record: before it is begun, and again when it has ended.

        Where it cannot be recorded it is not done; the command line can do all of it.
        """
        row = AuditRow(
            uuid.uuid4().hex, self.sources.now_us(), who.name, str(who.role), action, subject[:_LONGEST_DETAIL],
            detail[:_LONGEST_DETAIL], "begun",
        )  # fmt: skip
        with self.sources.asking_store() as store:
            store.begin_action(row)
        try:
            text, told = do()
        except Trouble as error:
            self._ended(row.id, "failed" if error.status >= 500 else "refused", str(error))
            raise
        except Exception:
            self._ended(row.id, "failed", "an internal error; see the log")
            raise
        self._ended(row.id, "done", f"{detail}: {text}" if detail else text)
        return {"outcome": "done", "text": text, "detail": told}

    def _ended(self, action_id: str, outcome: str, detail: str) -> None:
        try:
            with self.sources.asking_store() as store:
                store.end_action(action_id, outcome, detail[: 2 * _LONGEST_DETAIL])
        except Trouble:
            return  # the record stays at "begun", which says just that
