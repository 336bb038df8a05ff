"""What the alert store takes and gives: incidents, the messages about them, and operators' labels.

Plain values without SQL, so that whoever handles rows need not load a database library. Times are microseconds since
1970 UTC; texts may hold any character, unpaired surrogates and NUL included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PlainJson = Mapping[str, Any]
"""What JSON can hold, every number finite."""


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident as its newest message left it.

    ``reason`` and ``explanation`` are those of the newest message before its end: what it was, not how it went. The
    farewell is among the messages.
    """

    id: str
    """32 hex digits."""
    stream: str
    entity: str
    kind: str
    name: str
    site: str
    tier: int
    """1 watch, 2 alert."""
    severity: str
    phase: str
    """Of the newest message."""
    sequence: int
    """Number of the newest message."""
    first_step: int
    started_us: int
    opened_us: int
    time_us: int
    """End of the step that the newest message is about."""
    told_us: int
    """Wall clock of the newest message."""
    resolved_us: int | None = None
    score: float | None = None
    """The largest so far."""
    alpha: float | None = None
    reason: str = ""
    explanation: PlainJson = field(default_factory=dict)
    context: tuple[float, ...] = ()
    """What it looked like, as the newest message that knew said; empty where none did."""
    model_version: str = ""
    flapping: bool = False
    note: str = ""
    body: str = ""
    """The message itself as JSON, kept beside the incident; empty where an incident is read back."""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message about an incident."""

    incident_id: str
    sequence: int
    phase: str
    time_us: int
    body: str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One operator's word about one incident, with what is known of that incident now."""

    id: str
    incident_id: str
    kind: str
    reason: str
    until_us: int | None
    author: str
    created_us: int
    withdrawn_us: int | None
    """When it was taken back or replaced by another; None: it is the incident's label."""
    silenced: int
    """How many incidents it has kept silent so far."""
    revision: int
    """Grows with every change of any label or of a labelled incident; larger is later."""
    stream: str
    entity: str
    incident_kind: str
    name: str
    started_us: int
    resolved_us: int | None
    score: float | None
    context: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class IncidentQuery:
    """Which incidents are wanted; None and False leave a condition out. Newest first, by ``opened_us``."""

    stream: str | None = None
    entity: str | None = None
    open_only: bool = False
    opened_from_us: int | None = None
    overlaps_us: tuple[int, int] | None = None
    """Those that lived at any time within [first, last]; an open one lives on."""
    limit: int | None = None
    offset: int = 0
    """So many of the newest are left out."""
    kind: str | None = None
    least_tier: int | None = None
    search: str | None = None
    """A part of the entity's name, the site or the reason, in either case, or the beginning of the id."""
    urgent_first: bool = False
    """Order by tier first, the highest first."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Something that somebody did, or tried to."""

    id: str
    time_us: int
    """Wall clock."""
    who: str
    role: str
    action: str
    subject: str
    """What it was about, such as an incident's id, or a stream and a version."""
    detail: str
    """What was asked for, and what came of it, in words."""
    outcome: str
    """"begun" until it is known: who finds that later knows that the process was killed meanwhile."""
