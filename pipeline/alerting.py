"""Alerting: the life of anomaly incidents, from the detector's two tiers to messages that say why.

A watch opens where the watch tier speaks, an alert where the alert tier does, and a watch may grow into an alert: it
stays the same incident. It ends when the raw score has stayed below a lower level for some steps, so that the jump
back to normal, which looks like a new event, still belongs to it.

Legend: n entities in use, C channels, V witnesses, k rows of a revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from models.wording import moment_text
from pipeline.anomaly_words import AnomalyWords, Explain, Seen, Verdict, leading_channel
from pipeline.casebook import Casebook, Counts, Finding, Moment, StreamFacts
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, Incident, Json, Kind, Phase, Severity, Tier
from pipeline.lifecycle import LifePolicy
from pipeline.lookalikes import Lookalikes

_WORSE = 1.5
"""An open alert is spoken of again when its score has grown by so much since it was last told of."""


@dataclass(frozen=True, slots=True)
class AnomalyPolicy:
    """When anomalies open, are spoken of and end."""

    life: LifePolicy = field(default_factory=lambda: LifePolicy(clear_after=3))
    """One of one by default: the detector's tiers are damped already."""
    clear_level: float = 0.5
    """Scores from here up keep an incident open; the boundary is 1."""
    watches: bool = True
    """Whether watches are told of; if not they are tracked, and told of when they grow into alerts."""
    watch_severity: Severity = Severity.INFO
    alert_severity: Severity = Severity.CRITICAL

    def __post_init__(self) -> None:
        if not 0.0 <= self.clear_level <= 1.0:
            raise ValueError(f"clear_level must lie between 0 and the boundary 1, not {self.clear_level}")


class Alerting:
    """Turns detections into incidents. Costs array operations per step, and objects only where there is news."""

    def __init__(
        self,
        facts: StreamFacts,
        channels: Sequence[str],
        units: Sequence[str],
        witnesses: Sequence[str],
        alpha: float,
        policy: AnomalyPolicy | None = None,
        capacity: int = 64,
        lookalikes: Lookalikes | None = None,
    ) -> None:
        """Make an alerting without incidents.

        Args:
            facts: about the stream.
            channels: names of the C channels.
            units: their UCUM units.
            witnesses: names of the V columns of ``Verdict.witness``.
            alpha: chance per step of a score of 1.0 where nothing is wrong.
            policy: the defaults where None.
            capacity: entity slots to begin with.
            lookalikes: operators' labels at work; none if None.
        """
        self._facts = facts
        self.lookalikes = lookalikes or Lookalikes(len(channels), 0)
        self.policy = policy or AnomalyPolicy()
        self._words = AnomalyWords(channels, units, witnesses, facts.model_version)
        self.state = RowState(capacity)
        self.state.add("tier", (), np.int8)
        self.state.add("evidence_steps", (), np.int32)
        self.state.add("alarmed", (), np.bool_)
        self.state.add("told", (), np.float32)
        least = Tier.WATCH if self.policy.watches else Tier.ALERT
        self._book = Casebook(
            Kind.ANOMALY, ("",), facts, self.policy.life, self.state, alpha=alpha, least_tier=least
        )  # fmt: skip

    @property
    def books(self) -> tuple[Casebook]:
        """The book of its incidents."""
        return (self._book,)

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return self._book.counts

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)

    def open_incident(self, n: int) -> NDArray[np.bool_]:
        """Return [n] where an anomaly is open, also those kept silent; a copy."""
        return self._book.life.open(n)[:, 0].copy()

    def level(self, n: int) -> NDArray[np.int8]:
        """Return [n] the tier of the open anomaly: 0 none, 1 watch, 2 alert; a copy."""
        return self.state["tier"][:n].copy()

    def level_to_learn(self, n: int) -> NDArray[np.int8]:
        """Return [n] the tier as ``level``, 0 where the open anomaly looks like a false alarm: it is ordinary."""
        level = self.level(n)
        for row, _ in self._book.places():
            incident = self._book.get(row)
            if row < n and incident is not None and incident.silenced_by and self.lookalikes.is_ordinary(incident):
                level[row] = 0
        return level

    def open_incidents(self) -> list[Incident]:
        """Return all open anomalies."""
        return self._book.open_incidents()

    def step(
        self,
        frames: Frames,
        verdict: Verdict,
        expected: NDArray[np.float64],
        spread: NDArray[np.float32],
        explain: Explain,
        now_us: int,
    ) -> list[AlertMessage]:
        """Take one step; return what there is to say, endings first.

        Args:
            frames: what came; must not be a revision.
            verdict: how odd that is.
            expected: [n, C] what was forecast for it, NaN where nothing.
            spread: [n, C] of that forecast.
            explain: slot to what the model looked at; called only for entities with news.
            now_us: the wall clock.
        """
        moment = Moment(frames.step, frames.time_us, now_us)
        seen = Seen(frames, verdict, expected, spread, explain)
        bars = self.lookalikes.bars(len(verdict.score), self._facts.entity, frames.time_us)
        speaks, alarms = verdict.emitted >= bars, verdict.alert >= bars
        trigger = speaks | alarms
        evidence = trigger | (verdict.score >= 1)
        # An alarm that rises anew is news even while an old incident is taken for the new normal.
        alarmed = self.state["alarmed"][: len(alarms)]
        fresh = speaks | (alarms & ~alarmed)
        alarmed[...] = alarms
        held = trigger | (verdict.score >= self.policy.clear_level)
        before = self.open_incident(len(evidence))

        def describe(row: int, _lane: int, phase: Phase, incident: Incident | None, note: str) -> Finding:
            return self._describe(seen, row, phase, incident, note)

        messages = self._book.advance(
            moment, evidence[:, None], held[:, None], (frames.count.sum(axis=1) > 0)[:, None], describe,
            trigger=trigger[:, None], fresh=fresh[:, None],
        )  # fmt: skip
        still_open = before & self._book.life.open(len(before))[:, 0]
        grown = alarms & (self.level(len(alarms)) < Tier.ALERT)
        worse = alarms & (verdict.alert >= _WORSE * self.state["told"][: len(alarms)])
        messages += self._news(moment, seen, still_open & (speaks | grown | worse))
        self._follow(evidence)
        return messages

    def revise(self, outdated: Frames, new: Frames, unremarkable: NDArray[np.bool_], now_us: int) -> list[AlertMessage]:
        """Return the corrections that late data brings to incidents that opened at the revised step.

        An incident is withdrawn where the channel that spoke loudest has another value now, the frame as it is now is
        unremarkable, and no other step holds enough evidence.

        Args:
            outdated: what the frame was taken for; ``rows`` says whose.
            new: what it is now, the same rows.
            unremarkable: [k or fewer] for the first of those rows, whether the verdict on ``new`` is harmless.
            now_us: the wall clock.
        """
        assert new.rows is not None
        moment = Moment(new.step, new.time_us, now_us)
        changed = ~((outdated.values == new.values) | (np.isnan(outdated.values) & np.isnan(new.values)))  # [k, C]
        messages: list[AlertMessage] = []
        for i in np.flatnonzero(unremarkable).tolist():
            row = int(new.rows[i])
            incident = self._book.get(row)
            if incident is None or new.time_us not in (incident.started_us, incident.opened_us):
                continue
            enough_elsewhere = self.state["evidence_steps"][row] > self.policy.life.needed
            if changed[i, leading_channel(incident, changed.shape[1])] and not enough_elsewhere:
                reason = f"Late data for {moment_text(new.time_us)} is unremarkable; the alarm is withdrawn."
                messages += self._book.withdraw(moment, row, 0, reason)
                self.state["tier"][row] = 0
        return messages

    def rows_shared(self, slots: NDArray[np.intp]) -> Json:
        """Return the open incidents of ``slots`` for a checkpoint; with ``state`` that is all there is."""
        return self._book.rows_shared(slots)

    def restore_rows_shared(self, slots: NDArray[np.intp], saved: Any) -> None:
        """Take up what ``rows_shared`` gave, in the same order."""
        self._book.restore_rows_shared(np.asarray(slots), saved)

    def clear(self) -> None:
        """Forget all open incidents and say nothing: they live on elsewhere."""
        self._book.clear()
        self.lookalikes.forget_slots()

    # ---- inner ----

    def _news(self, moment: Moment, seen: Seen, rows: NDArray[np.bool_]) -> list[AlertMessage]:
        """Tell of open incidents that reach a new maximum or grow into an alert."""
        messages: list[AlertMessage] = []
        for row in np.flatnonzero(rows).tolist():
            incident = self._book.get(row)
            if incident is not None:
                finding = self._describe(seen, row, Phase.UPDATED, incident, "")
                messages += self._book.update(moment, row, 0, finding, urgent=finding.tier > incident.tier)
        return messages

    def _follow(self, evidence: NDArray[np.bool_]) -> None:
        """Let tiers and counts follow the incidents that are open after this step."""
        n = len(evidence)
        open_ = self._book.life.open(n)[:, 0]
        tier, steps = self.state["tier"][:n], self.state["evidence_steps"][:n]
        tier[~open_] = 0
        self.state["told"][:n][~open_] = 0.0
        gathering = open_ | self._book.life.pending(n)[:, 0]
        steps[...] = np.where(gathering, steps + evidence, 0)

    def _describe(self, seen: Seen, row: int, phase: Phase, incident: Incident | None, note: str) -> Finding:
        if phase is Phase.RESOLVED:
            assert incident is not None
            return Finding(self._words.farewell(seen, incident, note), incident.explanation, note=note)
        n = len(seen.verdict.alert)
        bars = np.broadcast_to(self.lookalikes.bars(n, self._facts.entity, seen.frames.time_us), n)
        alarmed = bool(seen.verdict.alert[row] >= bars[row]) or (incident is not None and incident.tier == Tier.ALERT)
        tier = Tier.ALERT if alarmed else Tier.WATCH
        self.state["tier"][row] = tier
        self.state["told"][row] = max(self.state["told"][row], seen.verdict.alert[row])
        severity = self.policy.alert_severity if alarmed else self.policy.watch_severity
        reason, explanation = self._words.reasons(seen, row)
        context = self._words.context(seen, row)
        return Finding(reason, explanation, float(seen.verdict.score[row]), tier, severity, context=context)
