"""The alert store's questions, and its rows between SQL and our values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Row, Select, func, or_, select

from connectors.alert_store_rows import IncidentQuery, IncidentRow, LabelRow
from connectors.alert_store_tables import WITHDRAWAL, incidents, labels

INCIDENT_FIELDS = tuple(f.name for f in fields(IncidentRow) if f.name != "body")
"""What lies in the table of incidents; the body is a message's."""


def incident_values(row: IncidentRow) -> dict[str, Any]:
    """Return the row's columns in the table of incidents."""
    values = {name: getattr(row, name) for name in INCIDENT_FIELDS}
    return values | {"context": list(row.context)}


def message_values(row: IncidentRow) -> dict[str, Any]:
    """Return the row's columns in the table of messages."""
    return {name: getattr(row, name) for name in ("sequence", "phase", "time_us", "body")} | {"incident_id": row.id}


def incident_of(row: Row[Any]) -> IncidentRow:
    """Return a row of the table of incidents as ours."""
    values = dict(row._mapping)
    return IncidentRow(**values | {"context": tuple(values["context"])})


def incident_select(query: IncidentQuery) -> Select[Any]:
    """Return the question for the incidents that fit, newest first."""
    c = incidents.c
    first = (c.tier.desc(),) if query.urgent_first else ()
    chosen = select(incidents).order_by(*first, c.opened_us.desc(), c.id).limit(query.limit).offset(query.offset)
    return _narrowed(chosen, query)


def incident_count(query: IncidentQuery) -> Select[Any]:
    """Return the question for how many incidents fit, whatever its limit and offset."""
    return _narrowed(select(func.count()).select_from(incidents), query)


def _narrowed(chosen: Select[Any], query: IncidentQuery) -> Select[Any]:
    c = incidents.c
    if query.stream is not None:
        chosen = chosen.where(c.stream == query.stream)
    if query.entity is not None:
        chosen = chosen.where(c.entity == query.entity)
    if query.open_only:
        chosen = chosen.where(c.resolved_us.is_(None))
    if query.opened_from_us is not None:
        chosen = chosen.where(c.opened_us >= query.opened_from_us)
    if query.overlaps_us is not None:
        first_us, last_us = query.overlaps_us
        chosen = chosen.where(c.started_us <= last_us, or_(c.resolved_us.is_(None), c.resolved_us >= first_us))
    if query.kind is not None:
        chosen = chosen.where(c.kind == query.kind)
    if query.least_tier is not None:
        chosen = chosen.where(c.tier >= query.least_tier)
    if query.search is not None:
        anywhere = [column.icontains(query.search, autoescape=True) for column in (c.entity, c.site, c.reason)]
        chosen = chosen.where(or_(c.id.startswith(query.search.lower(), autoescape=True), *anywhere))
    return chosen


def label_select() -> Select[Any]:
    """Return the question for labels with what is known of their incidents."""
    c = incidents.c
    incident = (
        c.stream,
        c.entity,
        c.kind.label("incident_kind"),
        c.name,
        c.started_us,
        c.resolved_us,
        c.score,
        c.context,
    )
    own = [column for column in labels.c if column.name != "withdrawn_by"]
    joined = select(*own, *incident).join(incidents, c.id == labels.c.incident_id)
    return joined.where(labels.c.kind != WITHDRAWAL)


def label_of(row: Row[Any]) -> LabelRow:
    """Return a row of ``label_select`` as ours."""
    values = dict(row._mapping)
    return LabelRow(**values | {"context": tuple(values["context"])})
