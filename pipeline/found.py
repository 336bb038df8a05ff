"""Which of the known faults were found, and which incidents were about nothing: the demo's reckoning.

Nothing here is seen by the monitor; it compares afterwards what was said with what was planted or documented.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.incident import WHOLE_STREAM
from pipeline.planted import Fault

_HOUR_US = 3_600_000_000
ECHO_H = 12.0
"""An incident this long after a fault is its echo, not false: the return to normal looks like a new event."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An incident as far as the reckoning needs it."""

    id: str
    stream: str
    entity: str
    kind: str
    opened_us: int
    alert: bool
    """True when it reached the alert tier, False when it stayed a watch."""
    told_us: tuple[int, ...] = ()
    """When it was spoken of again because it had grown: to an alert, or to a new maximum."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one fault."""

    fault: Fault
    by: Raised | None
    """The first incident that counts, None when the fault was missed."""

    @property
    def found(self) -> bool:
        """Return True when an incident of a kind that counts opened in time."""
        return self.by is not None

    @property
    def delay_s(self) -> float | None:
        """Return the seconds from the first faulty step to the incident, None when missed."""
        if self.by is None:
            return None
        in_time = [t for t in (self.by.opened_us, *self.by.told_us) if t >= self.fault.start_us]
        return (min(in_time) - self.fault.start_us) / 1e6


@dataclass(frozen=True, slots=True)
class Reckoning:
    """All verdicts, and the incidents that no fault explains."""

    verdicts: tuple[Verdict, ...]
    false_alerts: tuple[Raised, ...]
    false_watches: tuple[Raised, ...]

    @property
    def found(self) -> int:
        """Return the number of faults found."""
        return sum(verdict.found for verdict in self.verdicts)

    @property
    def missed_kinds(self) -> set[str]:
        """Return the fault kinds of which not one was found."""
        found = {str(v.fault.kind) for v in self.verdicts if v.found}
        return {str(v.fault.kind) for v in self.verdicts} - found

    def of_stream(self, stream: str) -> Reckoning:
        """Return the part that is about ``stream``."""
        return Reckoning(
            tuple(v for v in self.verdicts if v.fault.stream == stream),
            tuple(i for i in self.false_alerts if i.stream == stream),
            tuple(i for i in self.false_watches if i.stream == stream),
        )


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """False alerts against what was promised."""

    false_alerts: int
    promised: float
    """The false alerts that the budget allows for all entities over the whole time."""

    @property
    def ratio(self) -> float:
        """Return realised over promised; the promise is kept up to 2."""
        if self.promised > 0.0:
            return self.false_alerts / self.promised
        return 0.0 if self.false_alerts == 0 else float("inf")


def reckon(raised: Iterable[Raised], faults: Sequence[Fault], echo_h: float = ECHO_H) -> Reckoning:
    """Match incidents with faults of the same stream and entity; one about a whole stream is about each entity.

    A fault is found by the first incident of a kind that counts, opened between its start and the end of its
    tolerance. One that was open already when the fault began
    counts when it said in that time that it had grown. An incident
    is false when it opened neither during a fault nor within ``echo_h`` after one, whatever its kind. An incident of a
    kind that does not count for the fault it fell into is neither a find nor false.
    """
    incidents = sorted(raised, key=lambda i: (i.opened_us, i.id))
    verdicts = tuple(Verdict(fault, _first_find(fault, incidents)) for fault in faults)
    false = [i for i in incidents if not any(_explains(fault, i, echo_h) for fault in faults)]
    return Reckoning(verdicts, tuple(i for i in false if i.alert), tuple(i for i in false if not i.alert))


def budget_use(false_alerts: int, budget: float, period_s: float, entities: int, observed_s: float) -> BudgetUse:
    """Compare ``false_alerts`` with a budget of ``budget`` per entity and ``period_s``, over ``observed_s`` seconds.

    Example:
        >>> budget_use(3, budget=1.0, period_s=30 * 86_400, entities=6, observed_s=45 * 86_400).promised
        9.0
    """
    return BudgetUse(false_alerts, budget * entities * observed_s / period_s)


def _same_place(fault: Fault, incident: Raised) -> bool:
    return fault.stream == incident.stream and incident.entity in (fault.entity, WHOLE_STREAM)


def _first_find(fault: Fault, incidents: Sequence[Raised]) -> Raised | None:
    for incident in incidents:
        if not _same_place(fault, incident) or incident.kind not in fault.found_by:
            continue
        moments = (incident.opened_us, *incident.told_us)
        if any(fault.start_us <= moment <= fault.until_us for moment in moments):
            return incident
    return None


def _explains(fault: Fault, incident: Raised, echo_h: float) -> bool:
    latest_us = max(fault.until_us, fault.end_us + round(echo_h * _HOUR_US))
    return _same_place(fault, incident) and fault.start_us <= incident.opened_us <= latest_us
