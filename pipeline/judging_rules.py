"""The rules by which a challenger takes over, each with its reason in a sentence.

All must hold. Every rule is one-sided against the challenger: what could not be shown counts against it where it is
about being better, and for it where it is about doing no harm. Legend: F faults, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Interval, fewer_by_chance
from pipeline.judging_faults import Findings
from pipeline.judging_scores import ForecastScore

CALIBRATION_SLACK = 0.02
"""By how much a challenger's calibration error may exceed the other's; measured ones lie between 0.01 and 0.03."""
WORST_CALIBRATION = 0.15
"""A calibration error from here on is refused, unless the other's is larger still."""
CHANCE = 0.05
"""A loss of faults, or a gain of false alerts, that chance gives less often than this is no chance."""
CONTRADICTED_BY = 2
"""Labels that the challenger gets wrong on balance, where the other was right: one score near the boundary may flip."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One rule's outcome."""

    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Side:
    """What the rules look at in one contender."""

    forecasts: ForecastScore
    findings: Findings
    right: NDArray[np.bool_]
    """[L] for each label, whether the contender agrees with the operator."""


@dataclass(frozen=True, slots=True)
class Case:
    """The challenger beside what it wants to replace."""

    challenger: Side
    other: Side
    who: str
    """What the other is called in sentences."""
    gain: Interval
    """Against the other."""
    over_linear: Interval
    over_river: float
    river_series: int
    """Series that River was compared on; 0: none."""
    margin: float
    block: str
    """How long the blocks of the bootstrap are, in words."""


def rulings(case: Case) -> list[Ruling]:
    """Return what each rule says, in the order in which people want to know."""
    found = [_gain(case)]
    if case.who != LINEAR:
        found.append(_over_linear(case))
    return [*found, _over_river(case), _calibration(case), *_faults(case), _false_alerts(case), *_labels(case)]


LINEAR = "the linear forecast"


def _gain(case: Case) -> Ruling:
    gain = case.gain
    if gain.blocks == 0:
        return Ruling(False, f"refused: too few blocks of {case.block} to tell it from {case.who}")
    said = f"its forecasts are {_better(gain.estimate)} than {_possessive(case.who)} ({_between(gain)})"
    if gain.low > case.margin:
        return Ruling(True, said)
    return Ruling(False, f"refused: {said}, which does not show a margin of {percent(case.margin)}")


def _over_linear(case: Case) -> Ruling:
    gain = case.over_linear
    said = f"they are {_better(gain.estimate)} than {_possessive(LINEAR)} ({_between(gain)})"
    if gain.low > 0.0:
        return Ruling(True, said)
    return Ruling(False, f"refused: {said}, which the linear forecast alone may equal")


def _over_river(case: Case) -> Ruling:
    if case.river_series == 0:
        return Ruling(True, "River's baseline could not be compared: no series had both forecasts")
    said = f"on {case.river_series} sampled series they are {_better(case.over_river)} than those of River's baseline"
    return Ruling(case.over_river > 0.0, said if case.over_river > 0.0 else f"refused: {said}")


def _calibration(case: Case) -> Ruling:
    own, other = case.challenger.forecasts.calibration_error, case.other.forecasts.calibration_error
    said = (
        f"its intervals cover {100 * own:.1f} points of a hundred more or less than they promise,"
        f" {_possessive(case.who)} {100 * other:.1f}"
    )
    holds = own <= other + CALIBRATION_SLACK and (own < WORST_CALIBRATION or own < other)
    return Ruling(holds, said if holds else f"refused: {said}")


def _faults(case: Case) -> list[Ruling]:
    own, other = case.challenger.findings, case.other.findings
    total = len(own.found)
    if total == 0:
        return [Ruling(True, "the held-out part is too short for injected faults")]
    lost_any, lost_alerts = _lost(own.found, other.found), _lost(own.by_alert, other.by_alert)
    said = (
        f"it finds {own.found.sum()} of {total} injected faults, {case.who} {other.found.sum()};"
        f" as alerts {own.by_alert.sum()}, {case.who} {other.by_alert.sum()}"
    )
    holds = not (lost_any or lost_alerts)
    return [Ruling(holds, said if holds else f"refused: {said}, and that is no chance")]


def _lost(own: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Return whether finds were lost beyond chance, by the sign test over faults that only one of them found."""
    return fewer_by_chance(int((own & ~other).sum()), int((other & ~own).sum())) < CHANCE


def _false_alerts(case: Case) -> Ruling:
    own, other = case.challenger.findings.false_alerts, case.other.findings.false_alerts
    said = f"outside of them it raises {own} alerts, {case.who} {other}"
    if own > other and fewer_by_chance(other, own) < CHANCE:
        return Ruling(False, f"refused: {said}, and that is no chance")
    return Ruling(True, said)


def _labels(case: Case) -> list[Ruling]:
    own, other = case.challenger.right, case.other.right
    if len(own) == 0:
        return []
    said = f"it agrees with {own.sum()} of {len(own)} labels of operators, {case.who} with {other.sum()}"
    holds = int((other & ~own).sum()) - int((own & ~other).sum()) < CONTRADICTED_BY
    return [Ruling(holds, said if holds else f"refused: {said}")]


def percent(share: float) -> str:
    """Return a share in words.

    >>> percent(0.0312)
    '3.1 %'
    """
    return f"{round(100 * share, 1) + 0.0:.1f} %"  # + 0.0: nobody wants to read "-0.0 %"


def _better(gain: float) -> str:
    return f"{percent(abs(gain))} {'better' if gain >= 0.0 else 'worse'}"


def _between(gain: Interval) -> str:
    return f"95 % between {percent(gain.low)} and {percent(gain.high)}"


def _possessive(who: str) -> str:
    return f"{who}'s"
