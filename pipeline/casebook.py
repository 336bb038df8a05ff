"""The open incidents of one kind, and the messages that tell of them.

The life cycle decides in arrays; only where something opens, ends or has news does an object come into being here.

Legend: n entities in use, L lanes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from pipeline.incident import (
    AlertMessage,
    Incident,
    Json,
    Kind,
    Phase,
    Severity,
    Tier,
    finite_json,
    incident_id,
)
from pipeline.lifecycle import Bools, Lifecycle, LifePolicy, Transitions
from pipeline.lookalikes import grown
from pipeline.maintenance import Maintenance

NEW_NORMAL = "new normal"
WITHDRAWN = "late data withdrew the evidence"
_SEPARATORS = "/:|"


def site_of(entity: str) -> str:
    """Return the part of the name before its first ``/``, ``:`` or ``|``; the whole name where there is none.

    >>> site_of("harbour/pm-3")
    'harbour'
    """
    cut = min((i for i in map(entity.find, _SEPARATORS) if i > 0), default=len(entity))
    return entity[:cut]


def sites(patterns: Mapping[str, str]) -> Callable[[str], str]:
    """Return the function from entity to site: the first pattern that fits, else the name's own first part."""

    def site(entity: str) -> str:
        for pattern, name in patterns.items():
            if fnmatchcase(entity, pattern):
                return name
        return site_of(entity)

    return site


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What all kinds of incident need to know of the stream that they are about."""

    name: str
    step_us: int
    entity: Callable[[int], str]
    """Slot to name."""
    site: Callable[[str], str] = site_of
    """Entity to what its incidents are grouped by."""
    maintenance: Maintenance = field(default_factory=Maintenance)
    model_version: Callable[[], str] = lambda: ""
    silenced: Callable[[Incident, int, Sequence[float] | None], str] = lambda incident, time_us, block: ""
    """Why operators' labels keep an incident silent at an event time, given its context block now; empty: they do not.
    """


@dataclass(frozen=True, slots=True)
class Moment:
    """The step that is being told of, and the clock on the wall."""

    step: int
    time_us: int
    now_us: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say about one incident now."""

    reason: str
    explanation: Mapping[str, Json] = field(default_factory=dict)
    score: float | None = None
    tier: Tier = Tier.ALERT
    severity: Severity = Severity.WARNING
    note: str = ""
    context: Sequence[float] | None = None
    """The incident's context block now, see ``pipeline.lookalikes``; None: its kind has none."""


Describe: TypeAlias = Callable[[int, int, Phase, Incident | None, str], Finding]
"""Finds words for (row, lane) in a phase; given the open incident (None when it opens only now) and why it ends."""


@dataclass(slots=True)
class Counts:
    """What happened since the start; for metrics."""

    opened: int = 0
    resolved: int = 0
    corrected: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)
    """Messages not sent, by cause: ``maintenance``, ``flapping``, ``tier``, and by operators' labels ``lookalike`` and
    ``expected``; and openings deferred by ``cooldown``."""


class Casebook:
    """Keeps the open incidents of one kind and says each thing once.

    Every incident opens at most once and ends at most once; the sequence numbers of its messages ascend from 0. Its
    per-entity numbers are in ``state``; the incidents themselves are saved by ``rows_shared``.
    """

    def __init__(
        self, kind: Kind, lanes: Sequence[str], facts: StreamFacts, policy: LifePolicy, state: RowState, *,
        alpha: float | None = None, least_tier: Tier = Tier.WATCH, n_of_m: Sequence[tuple[int, int]] | None = None,
        prefix: str = "life_",
    ) -> None:  # fmt: skip
        """Make an empty book.

        Args:
            lanes: names what can go wrong with an entity, ``""`` for just the entity.
            state: the arrays of the life cycle are added to it.
            alpha: chance per step of a score of 1.0 where nothing is wrong, to be told along.
            least_tier: incidents below it are tracked in silence.
            n_of_m: (needed, window) of each lane, where they differ from the policy's.
            prefix: of the names of those arrays.
        """
        self.kind = kind
        self.lanes = tuple(lanes)
        self.facts = facts
        self.life = Lifecycle(state, len(self.lanes), policy, n_of_m, prefix)
        self.alpha = alpha
        self.least_tier = least_tier
        self.counts = Counts()
        self._open: dict[tuple[int, int], Incident] = {}
        self._told_late: set[tuple[int, int]] = set()
        """What was announced at this step though it is open for longer: that message has its news already."""

    def __len__(self) -> int:
        return len(self._open)

    def get(self, row: int, lane: int = 0) -> Incident | None:
        """Return the open incident there, if any."""
        return self._open.get((row, lane))

    def open_incidents(self) -> list[Incident]:
        """Return all open incidents, also those that maintenance keeps silent."""
        return list(self._open.values())

    def places(self) -> list[tuple[int, int]]:
        """Return (row, lane) of all open incidents."""
        return list(self._open)

    def advance(
        self, moment: Moment, evidence: Bools, held: Bools, observed: Bools, describe: Describe, *,
        trigger: Bools | None = None, fresh: Bools | None = None,
    ) -> list[AlertMessage]:  # fmt: skip
        """Take one step; return what there is to say. The arrays are as in ``Lifecycle.advance``."""
        trigger = evidence if trigger is None else trigger
        changes = self.life.advance(moment.step, evidence, trigger, held, observed, fresh)
        self.counts.suppressed["cooldown"] += changes.deferred
        messages = self._end(moment, changes, describe)
        messages += self._announce_late(moment, evidence, trigger, describe)
        messages += self._begin(moment, changes, describe)
        return messages

    def update(self, moment: Moment, row: int, lane: int, finding: Finding, urgent: bool = False) -> list[AlertMessage]:
        """Return the news of an open incident, or nothing while it flaps or is kept silent.

        Args:
            urgent: whether even a flapping incident may say it.
        """
        if (row, lane) in self._told_late:
            return []
        incident = self._open[row, lane]
        _take(incident, finding)
        if not incident.announced and urgent:
            return self._announce(incident, moment, finding)
        if incident.flapping and not urgent:
            return self._suppress("flapping")
        if self._held_back(incident, moment, finding):
            return []
        if not incident.announced:
            return []  # its own announcement comes with the next evidence
        return [self._message(incident, Phase.UPDATED, moment, finding)]

    def withdraw(self, moment: Moment, row: int, lane: int, reason: str) -> list[AlertMessage]:
        """End an open incident because it was none; return the correction if anybody was told."""
        incident = self._open.pop((row, lane))
        self.life.end(row, lane)
        self.counts.corrected += 1
        finding = Finding(reason, incident.explanation, incident.score, note=WITHDRAWN)
        return self._close(incident, Phase.CORRECTED, moment, finding)

    def rows_shared(self, slots: NDArray[np.intp]) -> Json:
        """Return the open incidents of each slot, as JSON can hold them; they can move with the slots' state."""
        by_row: dict[int, list[Json]] = {}
        for (row, lane), incident in self._open.items():
            by_row.setdefault(row, []).append([self.lanes[lane], incident.to_json()])
        return [by_row.get(slot, []) for slot in slots.tolist()]

    def restore_rows_shared(self, slots: NDArray[np.intp], saved: Sequence[Sequence[Any]]) -> None:
        """Take up what ``rows_shared`` gave, in the same order; lanes that are no longer configured are dropped."""
        lanes = {name: i for i, name in enumerate(self.lanes)}
        for row, incidents in zip(slots.tolist(), saved, strict=True):
            for name, data in incidents:
                if name in lanes:
                    self._open[row, lanes[name]] = Incident.from_json(data)

    def clear(self) -> None:
        """Forget all open incidents and say nothing: they live on elsewhere."""
        self._open.clear()

    # ---- inner ----

    def _begin(self, moment: Moment, changes: Transitions, describe: Describe) -> list[AlertMessage]:
        messages: list[AlertMessage] = []
        rows, lanes = changes.opened
        for row, lane, first_step in zip(rows.tolist(), lanes.tolist(), changes.first_step.tolist(), strict=True):
            finding = describe(row, lane, Phase.OPENED, None, "")
            incident = self._new(row, lane, first_step, moment)
            self._open[row, lane] = incident
            _take(incident, finding)
            self.counts.opened += 1
            messages += self._announce(incident, moment, finding)
        return messages

    def _announce_late(self, moment: Moment, evidence: Bools, trigger: Bools, describe: Describe) -> list[AlertMessage]:
        """Tell of incidents that began under maintenance and still have evidence after it, and of those that a label
        kept silent when something triggers that is unlike it, or there is evidence for longer than it silences."""
        messages: list[AlertMessage] = []
        self._told_late.clear()
        for (row, lane), incident in self._open.items():
            if incident.announced or row >= len(evidence) or not evidence[row, lane]:
                continue
            if incident.silenced_by and not trigger[row, lane] and self.facts.silenced(incident, moment.time_us, None):
                continue
            if not self._muted_by(incident, moment):
                finding = describe(row, lane, Phase.OPENED, incident, "")
                _take(incident, finding)
                messages += self._announce(incident, moment, finding)
                if incident.announced:
                    self._told_late.add((row, lane))
        return messages

    def _announce(self, incident: Incident, moment: Moment, finding: Finding) -> list[AlertMessage]:
        if self._held_back(incident, moment, finding):
            return []
        incident.announced = True
        return [self._message(incident, Phase.OPENED, moment, finding)]

    def _end(self, moment: Moment, changes: Transitions, describe: Describe) -> list[AlertMessage]:
        messages: list[AlertMessage] = []
        rows, lanes = changes.ended
        for row, lane, expired in zip(rows.tolist(), lanes.tolist(), changes.expired.tolist(), strict=True):
            incident = self._open.pop((row, lane), None)
            if incident is None:  # its lane's state came with rows whose incidents were not restored
                continue
            finding = describe(row, lane, Phase.RESOLVED, incident, NEW_NORMAL if expired else "")
            self.counts.resolved += 1
            messages += self._close(incident, Phase.RESOLVED, moment, finding)
        return messages

    def _close(self, incident: Incident, phase: Phase, moment: Moment, finding: Finding) -> list[AlertMessage]:
        """Tell of an end even under maintenance: whoever heard of the beginning has to hear it."""
        if not incident.announced:
            return []  # it was counted when there was something to say
        return [self._message(incident, phase, moment, finding)]

    def _new(self, row: int, lane: int, first_step: int, moment: Moment) -> Incident:
        entity, name = self.facts.entity(row), self.lanes[lane]
        return Incident(
            id=incident_id(self.facts.name, entity, self.kind, first_step, name),
            stream=self.facts.name,
            entity=entity,
            kind=self.kind,
            name=name,
            site=self.facts.site(entity),
            tier=Tier.WATCH,
            severity=Severity.INFO,
            first_step=first_step,
            started_us=moment.time_us - (moment.step - first_step) * self.facts.step_us,
            opened_us=moment.time_us,
            flapping=self.life.flapping(row, lane),
        )

    def _muted_by(self, incident: Incident, moment: Moment) -> str:
        """Return why nothing may be said of the incident now; empty where it may."""
        if incident.tier < self.least_tier:
            return "tier"
        begin_us = moment.time_us - self.facts.step_us
        return "maintenance" if self.facts.maintenance.covers(incident.entity, begin_us, moment.time_us) else ""

    def _held_back(self, incident: Incident, moment: Moment, finding: Finding) -> bool:
        """Return whether maintenance, tier or operators' labels forbid to speak, and count it."""
        cause = self._muted_by(incident, moment)
        if not cause:
            before = incident.silenced_by
            cause = self.facts.silenced(incident, moment.time_us, finding.context)
            if cause and before == incident.silenced_by:
                return True  # a label holds back an incident, not each of its messages
        if cause:
            self._suppress(cause)
        return bool(cause)

    def _suppress(self, cause: str) -> list[AlertMessage]:
        self.counts.suppressed[cause] += 1
        return []

    def _message(self, incident: Incident, phase: Phase, moment: Moment, finding: Finding) -> AlertMessage:
        sequence, incident.sequence = incident.sequence, incident.sequence + 1
        ended = phase in (Phase.RESOLVED, Phase.CORRECTED)
        context: Mapping[str, Json] = {"context": incident.context} if incident.context else {}
        explanation = finite_json({**finding.explanation, **context})
        assert isinstance(explanation, Mapping)
        return AlertMessage(
            incident_id=incident.id,
            phase=phase,
            sequence=sequence,
            stream=incident.stream,
            entity=incident.entity,
            kind=incident.kind,
            name=incident.name,
            site=incident.site,
            tier=incident.tier,
            severity=incident.severity,
            time_us=moment.time_us,
            first_step=incident.first_step,
            started_us=incident.started_us,
            opened_us=incident.opened_us,
            resolved_us=moment.time_us if ended else None,
            score=incident.score,
            alpha=self.alpha,
            reason=finding.reason,
            explanation=explanation,
            model_version=self.facts.model_version(),
            flapping=incident.flapping,
            note=finding.note,
            told_us=moment.now_us,
        )


def _take(incident: Incident, finding: Finding) -> None:
    """Let the incident grow by what was found: never to a lower tier or score."""
    incident.reason = finding.reason
    if finding.context is not None:
        incident.context = grown(incident.context, list(finding.context))
    explanation = finite_json(finding.explanation)
    assert isinstance(explanation, Mapping)
    incident.explanation = explanation
    if finding.tier >= incident.tier:
        incident.tier, incident.severity = finding.tier, finding.severity
    if finding.score is not None:
        incident.score = finding.score if incident.score is None else max(incident.score, finding.score)
