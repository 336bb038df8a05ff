"""The rules of judging: each holds and fails by itself, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from models.bootstrap import UNKNOWN, Interval
from pipeline.judging_faults import Findings
from pipeline.judging_rules import LINEAR, Case, Side, percent, rulings
from pipeline.judging_scores import ForecastScore


def side(alerts: int = 20, calibration: float = 0.03, false_alerts: int = 1, right: int = 4) -> Side:
    """Return a contender that finds the first ``alerts`` of 40 faults and agrees with the first ``right`` of 5."""
    score = ForecastScore(0.5, {"0.5": 0.3}, calibration, 0.9, 1000, np.ones(100))
    found = np.arange(40) < alerts
    return Side(score, Findings(found, np.zeros(40, np.bool_), false_alerts, 3), np.arange(5) < right)


CASE = Case(
    challenger=side(),
    other=side(),
    who="the champion",
    gain=Interval(0.031, 0.012, 0.049, 10),
    over_linear=Interval(0.08, 0.02, 0.1, 10),
    over_river=0.2,
    river_series=12,
    margin=0.005,
    block="1d",
)


def refused(case: Case) -> list[str]:
    """Return the sentences of the rules that do not hold; each says that it refuses, and only those do."""
    found = rulings(case)
    assert all(ruling.holds != ruling.sentence.startswith("refused: ") for ruling in found)
    return [ruling.sentence for ruling in found if not ruling.holds]


def test_all_rules_hold_and_speak_plainly() -> None:
    """Protects the sentences that an operator reads."""
    assert refused(CASE) == []
    said = [ruling.sentence for ruling in rulings(CASE)]
    assert said[0] == "its forecasts are 3.1 % better than the champion's (95 % between 1.2 % and 4.9 %)"
    assert "it finds 20 of 40 injected faults, the champion 20; as alerts 20, the champion 20" in said
    assert "it agrees with 4 of 5 labels of operators, the champion with 4" in said


BROKEN: dict[str, tuple[Callable[[Case], Case], str]] = {
    "margin": (lambda c: replace(c, gain=Interval(0.03, 0.004, 0.05, 10)), "does not show a margin of 0.5 %"),
    "exactly the margin": (lambda c: replace(c, gain=Interval(0.03, 0.005, 0.05, 10)), "does not show a margin"),
    "worse": (lambda c: replace(c, gain=Interval(-0.03, -0.05, -0.01, 10)), "3.0 % worse than the champion's"),
    "unknown": (lambda c: replace(c, gain=UNKNOWN), "too few blocks of 1d to tell it from the champion"),
    "linear": (lambda c: replace(c, over_linear=Interval(0.01, 0.0, 0.02, 10)), "the linear forecast alone may equal"),
    "river": (lambda c: replace(c, over_river=-0.001), "on 12 sampled series they are 0.1 % worse"),
    "calibration": (lambda c: replace(c, challenger=side(calibration=0.0501)), "5.0 points of a hundred"),
    "bad calibration": (
        lambda c: replace(c, challenger=side(calibration=0.16), other=side(calibration=0.15)),
        "16.0 points of a hundred",
    ),
    "faults": (lambda c: replace(c, challenger=side(alerts=15)), "it finds 15 of 40 injected faults, the champion 20"),
    "false alerts": (
        lambda c: replace(c, challenger=side(false_alerts=9)),
        "it raises 9 alerts, the champion 1, and that is no chance",
    ),
    "labels": (lambda c: replace(c, challenger=side(right=2)), "agrees with 2 of 5 labels"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_refuses_by_itself(rule: str) -> None:
    """Protects every rule: one that never fails would be no rule."""
    break_it, text = BROKEN[rule]
    sentences = refused(break_it(CASE))
    assert len(sentences) == 1
    assert text in sentences[0]


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, challenger=side(calibration=0.16), other=side(calibration=0.2)),
        replace(CASE, challenger=side(alerts=16)),  # four fewer happen by chance
        replace(CASE, challenger=side(false_alerts=4)),
        replace(CASE, challenger=side(right=3)),
        replace(CASE, river_series=0, over_river=0.0),
    ],
    ids=["both badly calibrated", "few faults fewer", "few alerts more", "one label", "no river"],
)
def test_what_may_be_chance_does_not_refuse(case: Case) -> None:
    """Protects better forecasters from rules that look for harm: small differences are none."""
    assert refused(case) == []


def test_without_a_champion_the_linear_forecast_is_the_other() -> None:
    """Protects the first network of a stream: it is measured once against the linear forecast, with the margin."""
    sentences = [ruling.sentence for ruling in rulings(replace(CASE, who=LINEAR))]
    assert sum("better than the linear forecast's" in sentence for sentence in sentences) == 1
    assert len(sentences) == len(rulings(CASE)) - 1


def test_alerts_count_even_where_watches_make_up_for_them() -> None:
    """Protects the alert tier: faults that are only watched now, and were alerts, are lost alerts."""
    quiet = side()
    watched = replace(quiet.findings, by_alert=np.arange(40) < 12, by_watch=np.arange(40) < 20)
    assert "as alerts 12, the champion 20" in refused(replace(CASE, challenger=replace(quiet, findings=watched)))[0]


def test_no_share_is_minus_zero() -> None:
    """Protects the reader from "-0.0 %"."""
    assert percent(-0.0001) == "0.0 %"
