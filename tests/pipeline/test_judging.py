"""Judging: what is truly better takes over, and nothing else does."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from models.bootstrap import FEWEST_BLOCKS, block_length
from models.manifest import StoredModel
from pipeline.judging import ContenderScore, Judgement, judge
from pipeline.judging_fitness import fewest_steps
from pipeline.labels import LabelKind
from tests.pipeline.judging_parts import HOLDOUT, SHOWN, STEPS, chaos, config, frames, label, stored, trained, untrained

HISTORY = frames(chaos())


@pytest.fixture(scope="module")
def good() -> StoredModel:
    """Return a network that has learned the rule."""
    return trained(chaos()[:, : STEPS - HOLDOUT], "good")


@pytest.fixture(scope="module")
def other_regime() -> StoredModel:
    """Return a network that has learned the opposite rule, as one from before a change has."""
    return trained(20.0 - chaos()[:, : STEPS - HOLDOUT], "old")


@pytest.fixture(scope="module")
def poisoned() -> StoredModel:
    """Return a network that was trained on the values in a random order."""
    values = chaos()[:, : STEPS - HOLDOUT]
    return trained(np.random.default_rng(0).permutation(values, axis=1), "poisoned")


def verdict(challenger: StoredModel, champion: StoredModel | None = None, **changes: object) -> Judgement:
    """Return the judgement on the history of the chaotic map."""
    asked: dict[str, object] = {"labels": [], "seed": 1} | changes
    return judge(config(), HISTORY, HOLDOUT, challenger, champion, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def accepted(good: StoredModel) -> Judgement:
    """Return the judgement on the good one, without a champion."""
    return verdict(good)


def refusals(judgement: Judgement) -> list[str]:
    """Return the sentences that refuse."""
    return [reason for reason in judgement.reasons if reason.startswith("refused:")]


def test_a_truly_better_network_takes_over(accepted: Judgement) -> None:
    """Protects the point of it all: a rule that the linear forecast cannot see is worth a network."""
    assert accepted.better
    assert refusals(accepted) == []
    assert accepted.gain > accepted.gain_low > config().retrain.margin
    assert accepted.gain_over_river > 0.0
    assert accepted.against == "linear"
    assert accepted.faults > 20
    assert set(accepted.contenders) == {"challenger", "linear", "river"}
    assert accepted.contenders["challenger"].targets == accepted.contenders["linear"].targets
    assert "better than the linear forecast's" in accepted.reasons[0]


def test_it_takes_over_from_a_champion_of_another_regime(good: StoredModel, other_regime: StoredModel) -> None:
    """Protects the answer to drift: a champion that has learned what no longer holds is replaced; not by itself."""
    judgement = verdict(good, other_regime)
    assert judgement.better
    assert judgement.against == "old"
    assert "better than the champion's" in judgement.reasons[0]
    assert not verdict(other_regime, good).better


def test_an_equal_challenger_is_refused(good: StoredModel) -> None:
    """Protects from churn: the champion's twin has no margin, and the same version is not judged at all."""
    judgement = verdict(replace(good, version="twin"), good)
    assert not judgement.better
    assert judgement.gain == 0.0
    assert "which does not show a margin of 0.5 %" in refusals(judgement)[0]
    assert "in charge already" in refusals(verdict(good, good))[0]


def test_a_poisoned_history_yields_no_champion(poisoned: StoredModel, good: StoredModel) -> None:
    """Protects from garbage that was learned well: refused against the champion and against the linear forecast."""
    assert refusals(verdict(poisoned))
    judgement = verdict(poisoned, good)
    assert refusals(judgement)
    assert judgement.gain_high < 0.0


@pytest.mark.parametrize("kind", ["scaled", "flipped", "constant", "zero", "untrained"])
def test_bad_contenders_fail(good: StoredModel, kind: str) -> None:
    """Protects the contract of judging: whatever is not better than the linear forecast fails, each in its way."""
    head = good.weights.head_out
    constant = np.zeros_like(head)
    constant[-1] = 2.0
    heads = {"scaled": 30.0 * head, "flipped": -head, "constant": constant, "zero": 0.0 * head}
    weights = replace(good.weights, head_out=heads[kind]) if kind in heads else untrained()
    assert refusals(verdict(stored(weights, kind)))


def test_numbers_that_are_not_finite_are_refused_at_once(good: StoredModel) -> None:
    """Protects the service: weights that overflow are not hidden by the gate that keeps their forecasts out."""
    burst = replace(good.weights, head_out=np.where(good.weights.head_out > 0, np.float32(3e38), np.float32(-3e38)))
    judgement = verdict(stored(burst, "burst"))
    assert not judgement.better
    assert "it fails in service" in judgement.reasons[0]
    assert judgement.contenders == {}
    against = verdict(good, stored(burst, "burst"))
    assert any("the champion fails in service" in reason for reason in against.reasons)
    assert against.better


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"channels": ("y",)}, "its channels are y, the stream's x"),
        ({"horizons": (1, 2)}, "its horizons are 1, 2 steps, the stream's 1, 3"),
        ({"step_us": 60_000_000}, "its step is 1m, the stream's 1h"),
        ({"data_to_us": 2**53}, "trained on the first .* of what it would be judged on"),
    ],
)
def test_what_does_not_fit_is_not_judged(good: StoredModel, changes: dict[str, object], text: str) -> None:
    """Protects from comparing what cannot be compared, and from judging a model on what it has learned by heart."""
    judgement = verdict(replace(good, manifest=replace(good.manifest, **changes)))  # type: ignore[arg-type]
    assert not judgement.better
    assert re.search(text, refusals(judgement)[0])


def test_a_champion_that_does_not_fit_is_no_obstacle(good: StoredModel) -> None:
    """Protects a changed configuration: the linear forecast stands in for a champion of other horizons."""
    judgement = verdict(good, stored(good.weights, "old", horizons=(1, 2)))
    assert judgement.better
    assert judgement.against == "linear"
    assert any("does not fit the stream any more" in reason for reason in judgement.reasons)


def test_too_little_is_refused_with_the_numbers(good: StoredModel) -> None:
    """Protects from verdicts on nothing: too few steps, and too few values in enough steps."""
    early = stored(good.weights, "good", data_to_us=0)
    short = judge(config(), HISTORY, 20, early, None, [], seed=0)
    assert "20 held-out steps of 900 are too few to judge on; 64 are needed" in short.reasons[0]
    assert block_length(fewest_steps(config()), 24.0, 3) * FEWEST_BLOCKS <= fewest_steps(config())
    values = chaos()
    values[:, STEPS - 150 :] = np.nan
    values[0, -50:] = 1.0
    empty = judge(config(), frames(values), 150, early, None, [], seed=0)
    assert "50 held-out values are too few to judge on; 300 are needed" in empty.reasons[0]
    values = chaos()
    values[:, : STEPS - 150] = np.nan
    new = judge(config(), frames(values), 150, early, None, [], seed=0)
    assert "no entity has values both before and in the held-out part" in new.reasons[0]


def test_the_judgement_is_finite_json_and_deterministic(accepted: Judgement, good: StoredModel) -> None:
    """Protects the records: what is written can be read, and the same arguments give the same verdict."""
    told: list[tuple[str, float]] = []
    again = verdict(good, progress=lambda stage, share: told.append((stage, share)))
    written = accepted.to_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert {f.name for f in fields(ContenderScore)} == set(written["contenders"]["river"])
    assert replace(again, seconds=0.0) == replace(accepted, seconds=0.0)
    assert {stage for stage, _ in told} == {"linear", "challenger", "river"}
    assert all(0.0 < share <= 1.0 for _, share in told)


def test_labels_are_counted_where_they_apply(good: StoredModel) -> None:
    """Protects the operators' say: what is found and called true is agreed with, and called a false alarm it is not;
    what is of another stream, kind, time or entity does not count."""
    values = chaos()
    values[1, 1700:1710] += 15.0  # of "north"
    history = frames(values)
    aside = [
        label("north", LabelKind.EXPECTED, 1700, 1709),
        label("north", LabelKind.FALSE_ALARM, 1700, 1709, stream="t"),
        label("north", LabelKind.FALSE_ALARM, 1700, 1709, incident_kind="silence"),
        label("nobody", LabelKind.FALSE_ALARM, 1700, 1709),
        label("north", LabelKind.FALSE_ALARM, SHOWN + 5, SHOWN + 9),
    ]
    for kind, right in ((LabelKind.TRUE, 1), (LabelKind.FALSE_ALARM, 0)):
        labels = [label("north", kind, 1700, 1709), *aside]
        judgement = judge(config(), history, HOLDOUT, good, None, labels, seed=1)
        assert judgement.labels == 1
        assert judgement.contenders["challenger"].labels_right == right
        assert any(f"agrees with {right} of 1 labels" in reason for reason in judgement.reasons)
