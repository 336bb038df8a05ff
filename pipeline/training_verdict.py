"""What becomes of a trained version: judged against who is in charge, then promoted, put in shadow, kept or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Any

import structlog

from models.registry import (
    LINEAR,
    Action,
    ChampionChangedError,
    Decision,
    Registry,
    RegistryError,
    StoredModel,
)
from pipeline.config_streams import StreamConfig
from pipeline.durations import format_duration
from pipeline.history import FrameArrays
from pipeline.judging import Judgement, judge
from pipeline.labels import Label

log = structlog.get_logger("vedette.training_job")

IN_CHARGE = ("it is in charge already",)
"""Why nothing is decided."""
_OVERDUE = timedelta(days=1)
"""Beyond its time in shadow, after which a challenger that was not judged again gives way."""
JOB = "job"
"""In a decision's evidence, beside the judgement: the job that made it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and why."""

    action: Action
    reasons: tuple[str, ...]
    judgement: Judgement | None = None


@dataclass(slots=True)
class Hearing:
    """A version's hearing: who it is, against whom, and what it is judged on."""

    config: StreamConfig
    registry: Registry
    version: str
    frames: FrameArrays
    holdout: int
    labels: Sequence[Label]
    promote: bool
    """Whether it may take charge, or run in shadow, if it is better."""
    seed: int
    now: Callable[[], datetime]
    job: str = ""
    """Whose hearing it is; kept with the decision, so that a later attempt of the job knows its own."""

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.config.name

    def settled(self) -> Verdict | None:
        """Return what was decided before, by an earlier attempt of this job or by a person; None if nothing was.

        What an attempt has put on record and was killed before it was carried out counts for nothing.
        """
        in_charge = self.version == self.registry.champion_version(self.stream)
        in_shadow = self.version == self.registry.challenger_version(self.stream)
        so = {Action.PROMOTED: in_charge, Action.SHADOWED: in_shadow, Action.REFUSED: not (in_charge or in_shadow)}
        decided = self._decided()
        if decided is not None and so.get(decided.action, not in_charge):
            return Verdict(decided.action, decided.reasons)
        return Verdict(Action.PROMOTED, IN_CHARGE) if in_charge else None

    def _decided(self) -> Decision | None:
        """Return what an earlier attempt of this job decided, the newest first."""
        if not self.job:
            return None
        mine = (d for d in reversed(self.registry.decisions(self.stream)) if d.evidence.get(JOB) == self.job)
        return next((decision for decision in mine if decision.version == self.version), None)

    def judge(self, progress: Callable[[str, float], None]) -> tuple[Judgement, str | EllipsisType | None]:
        """Return the judgement, and who was in charge then (Ellipsis: it could not be read).

        Raises:
            RegistryError: if the version itself cannot be loaded.
        """
        challenger = self.registry.load(self.stream, self.version)
        champion, against = self._champion()
        judgement = judge(
            self.config, self.frames, self.holdout, challenger, champion, self.labels, seed=self.seed, progress=progress
        )
        return judgement, against

    def decide(self, judgement: Judgement, against: str | EllipsisType | None) -> Verdict:
        """Do what the judgement means, and record it with its reasons; return what was done.

        Raises:
            RegistryError: if the registry cannot be written.
        """
        action, why = self._action(judgement)
        reasons = (*why, *judgement.reasons)
        self.registry.challenger_version(self.stream)
        if (damage := self.registry.challenger_damage(self.stream)) is not None:
            log.warning("nobody counts as in shadow: the pointer is damaged", stream=self.stream, error=damage)
            reasons = (*reasons, f"nobody counted as in shadow: {damage}")
        if action in (Action.PROMOTED, Action.SHADOWED):
            decision = self._decision(action, reasons, judgement, against)
            try:
                if action is Action.PROMOTED:
                    self.registry.promote(self.stream, self.version, decision, only_if=against)
                else:
                    self.registry.shadow(self.stream, self.version, decision)
            except RegistryError as error:
                if not isinstance(error, ChampionChangedError) and self.version not in self._barred():
                    raise
                action = Action.KEPT if isinstance(error, ChampionChangedError) else Action.REFUSED
                reasons = (str(error), *reasons)
            else:
                return Verdict(action, reasons, judgement)
        decision = self._decision(action, reasons, judgement, against)
        if action is Action.REFUSED and self.version == self.registry.challenger_version(self.stream):
            self.registry.dismiss(self.stream, decision)
        else:
            self.registry.record(self.stream, decision)
        return Verdict(action, reasons, judgement)

    def _action(self, judgement: Judgement) -> tuple[Action, tuple[str, ...]]:
        if not judgement.better:
            return Action.REFUSED, ()
        if not self.promote:
            return Action.KEPT, ("it waits for a person: vedette models promote",)
        shadow = self.config.retrain.shadow
        since = None
        if self.version == self.registry.challenger_version(self.stream):
            since = self.registry.challenger_since(self.stream)
        if shadow == timedelta(0) or (since is not None and self.now() - since >= shadow):
            return Action.PROMOTED, ()
        if since is not None:
            return Action.KEPT, (f"it stays in shadow until {since + shadow:%Y-%m-%d %H:%M} UTC",)
        other = self._in_shadow()
        if other is not None:
            return Action.KEPT, (f"{other} runs in shadow and is judged first",)
        return Action.SHADOWED, (f"it runs in shadow for {format_duration(shadow)}",)

    def _in_shadow(self) -> str | None:
        """Return who runs in shadow and is soon to be judged again; None if nobody can be, or it is long overdue.

        Whoever gave way to each newer one would never come to the end of its time where training is more frequent.
        """
        other, since = self.registry.challenger_version(self.stream), self.registry.challenger_since(self.stream)
        if other is None or since is None:
            return None
        shadow = self.config.retrain.shadow
        if self.now() - since >= shadow + max(shadow, _OVERDUE):
            return None
        try:
            return self.registry.load(self.stream, other).version
        except RegistryError:
            return None

    def _champion(self) -> tuple[StoredModel | None, str | EllipsisType | None]:
        """Return who is in charge; one that is damaged is nobody, for then the linear forecast is in charge."""
        version: str | EllipsisType | None = ...
        try:
            version = self.registry.champion_version(self.stream)
            return (None if version in (None, LINEAR) else self.registry.load(self.stream, str(version))), version
        except RegistryError as error:
            log.warning("the champion cannot be loaded; judging without it", stream=self.stream, error=str(error))
            return None, version

    def _barred(self) -> dict[str, str]:
        return self.registry.barred(self.stream)

    def _decision(
        self, action: Action, reasons: tuple[str, ...], judgement: Judgement, against: str | EllipsisType | None
    ) -> Decision:
        before = against if isinstance(against, str) else None
        evidence: dict[str, Any] = judgement.to_json() | {JOB: self.job}
        return Decision(self.now(), action, self.version, before, reasons, evidence, "job")
