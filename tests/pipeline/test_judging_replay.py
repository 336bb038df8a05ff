"""The replay of contenders: causal, bounded, and as in service."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest import StoredModel
from models.sequences import admit_by_novelty
from pipeline import judging_replay
from pipeline.judging_replay import Material, Replay, gather, judged_steps, warmup_steps
from pipeline.judging_scores import TARGET_REACH, forecast_score, targets_of
from pipeline.predicting import Predictor
from tests.pipeline.judging_parts import NAMES, SHOWN, STEP0, chaos, config, frames, stored, untrained

HOLDOUT = 150
EACH = ["north", "south"]


def shown(steps: int = 500) -> NDArray[np.float64]:
    """Return the chaotic map with so many steps shown."""
    return chaos(SHOWN + steps)


def material(
    values: NDArray[np.float64], model: StoredModel | None = None, labelled: list[str] | None = None
) -> Material:
    """Return what is replayed of ``values``."""
    models = [] if model is None else [model]
    return gather(config(), frames(values), HOLDOUT, models, labelled or [], seed=0, max_entities=256)


def network() -> StoredModel:
    """Return a network that looks at neighbours and examples."""
    around = {name: [other for other in NAMES if other != name] for name in NAMES}
    return stored(untrained(neighbours=2), "n", neighbours=around)


def run(part: Material, model: StoredModel | None = None) -> tuple[Replay, Replay]:
    """Return the linear contender's replay and that of ``model``."""
    linear = judging_replay.replay(config(), part, None, None, lambda share: None)
    return linear, judging_replay.replay(config(), part, model, linear.levels, lambda share: None)


def test_the_future_changes_nothing() -> None:
    """Protects causality: whatever comes later, what was forecast and scored before is the same to the bit."""
    part = material(shown(), network())
    values = part.values.copy()
    values[-40:] *= -3.0
    for plain, changed in zip(run(part, network()), run(replace(part, values=values), network()), strict=True):
        np.testing.assert_array_equal(plain.middle[:, :-40], changed.middle[:, :-40])
        np.testing.assert_array_equal(plain.spread[:, :-40], changed.spread[:, :-40])
        for tier in ("score", "emitted", "alert"):
            np.testing.assert_array_equal(getattr(plain, tier)[:, :-40], getattr(changed, tier)[:, :-40])
        assert not np.array_equal(plain.middle, changed.middle)


def test_nobody_sees_a_copy() -> None:
    """Protects the clean forecasts: they are those of a predictor that has only the entities, faults or none."""
    model = network()
    part = material(shown(), model)
    assert part.faults
    linear, said = run(part, model)
    predictor = Predictor(3, 1, config().horizons, 3600.0, replay_steps=1)
    predictor.adopt(model.weights, "n", NAMES, model.embedding_ids, model.neighbours_of)
    admit = admit_by_novelty(linear.levels, 2)
    for t in range(len(part.values)):
        if t == part.first:
            predictor.start_anew(np.arange(3))
        step = part.step0 + t
        predictor.observe(
            part.values[t, :3], part.learn[t, :3], step, step * config().step_us, np.ascontiguousarray(admit[:, t])
        )
        if t >= part.first:
            np.testing.assert_allclose(said.middle[:, t - part.first], predictor.forecast(3)[0], rtol=1e-4)


def test_trust_is_earned_in_the_holdout() -> None:
    """Protects from trust earned on steps that the network learned by heart: the first forecast is the linear one."""
    part = material(shown(), network())
    linear, said = run(part, network())
    np.testing.assert_array_equal(said.middle[:, 0], linear.middle[:, 0])


def test_a_copy_is_its_entity_as_it_was() -> None:
    """Protects labels as evidence: a labelled entity's copy holds its values, a faulty one until the holdout begins."""
    part = material(shown(), labelled=["south", "nobody", "south"])
    assert part.labelled == {"south": 0}
    np.testing.assert_array_equal(part.values[:, 3], part.values[:, part.names.index("south")])
    np.testing.assert_array_equal(part.values[: part.first], part.values[: part.first, part.base])
    np.testing.assert_array_equal(part.learn, part.learn[:, part.base])
    assert all(fault.copy >= 1 for fault in part.faults)
    assert part.counted.sum() == 3
    assert part.step0 == STEP0 + SHOWN


def test_the_sample_is_bounded_and_brings_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the time limit of judging, and stations that are forecast from their neighbours."""
    values = np.concatenate([shown(300)] * 20)
    names = [f"e{i:02d}" for i in range(60)]
    model = stored(
        untrained(names), "n", names, neighbours={name: [names[(i + 30) % 60]] for i, name in enumerate(names)}
    )
    history = frames(values, names)
    picked = [gather(config(), history, 100, [model], ["e07"], seed=seed, max_entities=10) for seed in (0, 0, 1)]
    chosen = [part.names[: part.entities] for part in picked]
    assert chosen[0] == chosen[1] != chosen[2]
    for names_of in chosen:
        assert len(names_of) == 10
        assert "e07" in names_of
        assert {names[(names.index(n) + 30) % 60] for n in names_of} == set(names_of)
    monkeypatch.setattr(judging_replay, "MOST_CELLS", 300 * 5)
    assert gather(config(), history, 100, [], [], seed=0, max_entities=256).entities == 5


def test_what_is_replayed_before_the_holdout_is_bounded() -> None:
    """Protects both ends: a month or four times the holdout where there is so much, and never without end."""
    assert warmup_steps(400, 3600.0, 1) == 1600
    assert warmup_steps(100, 3600.0, 1) == 720
    assert warmup_steps(6_000, 1.0, 1) == judging_replay.MOST_WARMUP
    assert warmup_steps(400, 1.0, 256) < judging_replay.MOST_CELLS / 256 / 2
    assert judged_steps(config(), 300) == 300
    assert judged_steps(config(), 10**6) == judging_replay.MOST_HOLDOUT


def test_entities_that_are_cold_or_gone_are_left_out() -> None:
    """Protects from judging on entities of which nothing was known, or nothing came."""
    values = shown()
    values[0, :-HOLDOUT] = np.nan
    values[1, -HOLDOUT:] = np.nan
    part = material(values)
    assert part.names[: part.entities] == ["south"]


def test_only_what_may_be_learned_and_came_is_a_target() -> None:
    """Protects the score: no labelled, suspect or missing value counts, and none beyond the end."""
    values = shown()
    part = material(values)
    learn = part.learn.copy()
    learn[part.first + 20, 0] = False
    linear, _ = run(part)
    targets = targets_of(replace(part, learn=learn), linear, config().horizons, [])
    missing = np.argwhere(~targets.there[0, :, 0])
    # Row t and horizon h are about step t + h: what was forecast for step 20, and the last steps' forecasts.
    wanted = [[17, 1], [19, 0], *([HOLDOUT - k, 1] for k in (3, 2, 1)), [HOLDOUT - 1, 0]]
    assert sorted(missing.tolist()) == sorted(wanted)
    assert targets.there[1, :-3].all()


def test_one_absurd_value_does_not_decide() -> None:
    """Protects the verdict from a single spike: its loss is bounded by the reach, whoever was how wrong."""
    values = shown()
    values[0, -30] = 1e9
    part = material(values)
    linear, _ = run(part)
    score = forecast_score(targets_of(part, linear, config().horizons, []), linear.middle, linear.spread)
    assert score.by_step.max() < 6 * TARGET_REACH
    assert score.crps == pytest.approx(score.by_step.sum() / score.targets)
