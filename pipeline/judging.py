"""Judging: is the challenger better than the champion, and is that more than luck?

Every contender is replayed as in service over the newest part of the history and looked at only on the held-out newest
steps, which the challenger never saw. It is better only if all of this holds:

* its forecasts' CRPS is smaller than the champion's (the linear forecast's where there is no champion), and the lower
  end of the 95 % interval of the relative difference lies above ``retrain.margin`` (block bootstrap in time);
* the lower end of the same interval against the linear forecast lies above 0, and so does the plain difference from
  River's baseline, on a sample;
* its calibration error is at most 0.02 larger than the champion's, and below 0.15 unless the champion's is larger;
* it does not find fewer injected faults, nor raise more alerts outside of them, than chance explains;
* it does not contradict operators' labels on balance by two or more.

It is refused at once when it says anything that is not finite, was trained for something else or on what it would be
judged on, or when there are too few targets.

What this cannot do: a challenger is tried every day, so of those that are no better than the champion about one in
forty passes the first rule with a margin of 0; the margin makes that rarer, probation catches what harms. The sizes of
faults and the slacks were chosen, not learned. A champion that has seen part of the held-out steps is favoured, which
is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from models.bootstrap import UNKNOWN, Interval, block_length, relative_gain
from models.manifest import StoredModel
from pipeline.config_streams import StreamConfig
from pipeline.durations import format_duration
from pipeline.judging_faults import reckon
from pipeline.judging_fitness import FEWEST_TARGETS, holdout_begins_us, mismatch, unfit
from pipeline.judging_labels import agreement, spans, usable
from pipeline.judging_replay import Material, Replay, gather, judged_steps, replay
from pipeline.judging_rules import LINEAR, Case, Side, percent, rulings
from pipeline.judging_scores import ForecastScore, forecast_score, river_sample, targets_of
from pipeline.labels import Label

if TYPE_CHECKING:
    from pipeline.history import FrameArrays

Tell = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done."""

_QUIET_H = 3.0
"""Hours without an alarm after which another one is a new opening, as in the watch tier."""
_CHAMPION = "the champion"


@dataclass(frozen=True, slots=True)
class ContenderScore:
    """What one contender achieved. Losses are in units of the linear forecast's spread, smaller is better."""

    version: str
    crps: float
    pinball: Mapping[str, float]
    calibration_error: float
    coverage_90: float
    """Share of the targets within the forecast's central 90 %."""
    targets: int
    trusted: float | None = None
    """Mean share of the entities' channels whose forecast the network corrected; None without a network."""
    faults_found: int | None = None
    """By any tier; None where no detector ran behind the forecasts."""
    faults_found_by_alert: int | None = None
    faults_found_by_watch: int | None = None
    false_alerts: int | None = None
    false_watches: int | None = None
    labels_right: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether the challenger takes over, why, and all the figures. Gains are shares of the other's CRPS."""

    better: bool
    reasons: tuple[str, ...]
    """Plain sentences; those that refuse begin with "refused:"."""
    against: str
    """Version of the champion, or "linear"."""
    holdout_steps: int
    """Steps that were judged; never more than were asked for."""
    contenders: Mapping[str, ContenderScore] = field(default_factory=dict)
    """By role: challenger, champion, linear, river. River's figures are of its sample of series."""
    gain: float = 0.0
    gain_low: float = -1.0
    gain_high: float = 1.0
    gain_over_linear: float = 0.0
    gain_over_linear_low: float = -1.0
    gain_over_river: float = 0.0
    blocks: int = 0
    """Of the bootstrap."""
    entities: int = 0
    river_series: int = 0
    faults: int = 0
    labels: int = 0
    seed: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; all numbers are finite."""
        return asdict(self) | {"reasons": list(self.reasons)}


def judge(
    config: StreamConfig,
    frames: FrameArrays,
    holdout_steps: int,
    challenger: StoredModel,
    champion: StoredModel | None,
    labels: Sequence[Label],
    *,
    seed: int,
    progress: Tell = lambda stage, share: None,
    max_entities: int = 256,
) -> Judgement:
    """Return whether ``challenger`` is to take over from ``champion``; the same arguments give the same verdict.

    Cost is bounded whatever the history's size: entities are sampled, and the newest steps taken.

    Args:
        config: of the stream.
        frames: the history, its newest ``holdout_steps`` never seen by the challenger.
        holdout_steps: steps to judge on; of very many (6,000, fewer with very many channels) the newest.
        challenger: who wants to be in charge.
        champion: who is; None: the linear forecast alone.
        labels: what operators said, on this stream.
        seed: of the sample, the faults and the bootstrap.
        progress: told the stage and the share of it that is done.
        max_entities: entities to judge on at most.
    """
    began = time.monotonic()
    holdout = judged_steps(config, holdout_steps)
    trouble = unfit(config, frames, holdout, challenger, champion)
    if trouble is not None:
        against = "linear" if champion is None else champion.version
        return Judgement(False, (f"refused: {trouble}",), against, holdout, seed=seed)
    champion, notes = _comparable(config, frames, holdout, champion)
    known = usable(labels, config)
    models = [m for m in (challenger, champion) if m is not None]
    material = gather(
        config, frames, holdout, models, [label.entity for label in known], seed=seed, max_entities=max_entities
    )
    court = _Court(config, frames, material, challenger, champion, known, seed, progress, notes)
    return court.judgement(began)


def _comparable(
    config: StreamConfig, frames: FrameArrays, holdout: int, champion: StoredModel | None
) -> tuple[StoredModel | None, list[str]]:
    """Return the champion if it can be compared with, and what is to be said about that."""
    if champion is None:
        return None, []
    trouble = mismatch(config, champion)
    if trouble is not None:
        return None, [f"the champion does not fit the stream any more ({trouble}); judged against {LINEAR}"]
    if champion.manifest.data_to_us > holdout_begins_us(config, frames, holdout):
        return champion, ["the champion has learned from part of what it is compared on, which favours it"]
    return champion, []


class _Court:
    """One judging: replays the contenders, compares them, and writes the verdict."""

    def __init__(
        self,
        config: StreamConfig,
        frames: FrameArrays,
        material: Material,
        challenger: StoredModel,
        champion: StoredModel | None,
        labels: Sequence[Label],
        seed: int,
        progress: Tell,
        notes: list[str],
    ) -> None:
        self._config, self._material, self._seed, self._progress = config, material, seed, progress
        self._challenger, self._champion, self._notes = challenger, champion, notes
        self._labels = spans(labels, material, config.step_us)
        self._quiet = max(1, round(_QUIET_H * 3600.0 / config.step.total_seconds()))

    def judgement(self, began: float) -> Judgement:
        """Return the verdict."""
        if self._material.entities == 0:
            return self._refused("no entity has values both before and in the held-out part", began)
        linear = self._replay("linear", None, None)
        challenger = self._replay("challenger", self._challenger, linear)
        if challenger.failure is not None:
            return self._refused(f"it fails in service: {challenger.failure}", began)
        replays = {"challenger": challenger, "linear": linear}
        if self._champion is not None:
            champion = self._replay("champion", self._champion, linear)
            if champion.failure is None:
                replays["champion"] = champion
            else:
                self._notes.append(f"the champion fails in service ({champion.failure}); judged against {LINEAR}")
        targets = targets_of(self._material, linear, self._config.horizons, list(replays.values()))
        count = int(targets.there.sum())
        if count < FEWEST_TARGETS:
            return self._refused(f"{count} targets are too few to judge on; {FEWEST_TARGETS} are needed", began)
        scores = {role: forecast_score(targets, said.middle, said.spread) for role, said in replays.items()}
        sides = {role: self._side(said, scores[role]) for role, said in replays.items()}

        river = river_sample(self._config, self._material, targets, self._seed, self._stage("river"))
        sampled = river.targets(targets)
        scores["river"] = forecast_score(sampled, river.middle[:, :, None], river.spread[:, :, None])
        own = forecast_score(sampled, river.of(challenger.middle), river.of(challenger.spread))  # type: ignore[arg-type]
        over_river = 1.0 - own.crps / scores["river"].crps if scores["river"].crps > 0.0 else 0.0

        other = "champion" if "champion" in replays else "linear"
        block = self._block()
        case = Case(
            challenger=sides["challenger"],
            other=sides[other],
            who=_CHAMPION if other == "champion" else LINEAR,
            gain=self._gain(scores["challenger"], scores[other], block),
            over_linear=self._gain(scores["challenger"], scores["linear"], block),
            over_river=over_river,
            river_series=len(river.entities) if scores["river"].targets else 0,
            margin=self._config.retrain.margin,
            block=format_duration(block * self._config.step),
        )
        found = rulings(case)
        contenders = {
            role: self._summary(role, score, sides.get(role), replays.get(role)) for role, score in scores.items()
        }
        return Judgement(
            better=all(ruling.holds for ruling in found),
            reasons=(*(ruling.sentence for ruling in found), *self._notes, self._basis(count, case, challenger)),
            contenders=contenders,
            gain=case.gain.estimate,
            gain_low=case.gain.low,
            gain_high=case.gain.high,
            gain_over_linear=case.over_linear.estimate,
            gain_over_linear_low=case.over_linear.low,
            gain_over_river=over_river,
            blocks=case.gain.blocks,
            river_series=case.river_series,
            **self._facts(began),
        )

    def _facts(self, began: float) -> dict[str, Any]:
        return {
            "against": "linear" if self._champion is None else self._champion.version,
            "holdout_steps": self._material.holdout,
            "entities": self._material.entities,
            "faults": len(self._material.faults),
            "labels": len(self._labels),
            "seed": self._seed,
            "seconds": round(time.monotonic() - began, 3),
        }

    def _refused(self, why: str, began: float) -> Judgement:
        return Judgement(better=False, reasons=(f"refused: {why}", *self._notes), **self._facts(began))

    def _stage(self, name: str) -> Callable[[float], None]:
        return lambda share: self._progress(name, share)

    def _replay(self, role: str, model: StoredModel | None, linear: Replay | None) -> Replay:
        levels = None if linear is None else linear.levels
        return replay(self._config, self._material, model, levels, self._stage(role))

    def _side(self, said: Replay, score: ForecastScore) -> Side:
        held = slice(self._material.first, None)
        findings = reckon(
            said.alert[:, held], said.emitted[:, held], self._material.faults, self._material.counted, self._quiet
        )
        return Side(score, findings, agreement(said, self._labels))

    def _block(self) -> int:
        per_day = 86_400.0 / self._config.step.total_seconds()
        return block_length(self._material.holdout, per_day, max(self._config.horizons))

    def _gain(self, own: ForecastScore, other: ForecastScore, block: int) -> Interval:
        if other.targets == 0:
            return UNKNOWN
        return relative_gain(own.by_step, other.by_step, block, self._seed)

    def _basis(self, count: int, case: Case, challenger: Replay) -> str:
        """Return what the figures rest on."""
        return (
            f"judged on {count} targets of {self._material.entities} entities in {self._material.holdout} held-out"
            f" steps, {case.gain.blocks} blocks of {case.block}; its network was in use for"
            f" {percent(challenger.trusted)} of the forecasts"
        )

    def _summary(self, role: str, score: ForecastScore, side: Side | None, said: Replay | None) -> ContenderScore:
        model = {"challenger": self._challenger, "champion": self._champion}.get(role)
        figures = ContenderScore(
            model.version if model is not None else role,
            score.crps,
            score.pinball,
            score.calibration_error,
            score.coverage_90,
            score.targets,
        )
        if side is None or said is None:
            return figures
        findings = side.findings
        return replace(
            figures,
            trusted=None if model is None else said.trusted,
            faults_found=int(findings.found.sum()),
            faults_found_by_alert=int(findings.by_alert.sum()),
            faults_found_by_watch=int(findings.by_watch.sum()),
            false_alerts=findings.false_alerts,
            false_watches=findings.false_watches,
            labels_right=int(side.right.sum()),
        )
