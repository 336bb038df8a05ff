"""What operators say about incidents, as every part of the pipeline takes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LabelKind(StrEnum):
    """What an operator says about an incident."""

    TRUE = "true"
    FALSE_ALARM = "false_alarm"
    EXPECTED = "expected"
    """It was real, known and no reason to speak: works, a fair, a fire brigade's exercise. Has a reason and an end."""


@dataclass(frozen=True, slots=True)
class Label:
    """One operator's word about one incident. Times are microseconds since 1970 UTC."""

    id: str
    incident_id: str
    kind: LabelKind
    reason: str
    until_us: int | None
    """When an expected state, or the silence for look-alikes, ends; None: the configured time after ``created_us``."""
    author: str
    created_us: int
    stream: str
    """This and what follows are the incident's, so that a label can be used without looking the incident up."""
    entity: str
    incident_kind: str
    started_us: int
    """The incident's first evidence, event time."""
    ended_us: int | None
    """When it resolved, event time; None while it is open."""
    score: float | None
    name: str = ""
    """The channel or limit that the incident was about; empty where it was about the entity."""
    context: tuple[float, ...] = ()
    """What the incident looked like when it was largest; empty where it was not recorded."""
