"""The forecast: linear until a network has proved better, and no worse than linear for long after that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.attention_lstm import export
from models.features import input_width
from models.weights import Weights
from pipeline.correcting import Correction, Rebuilding, Recent, RecentFrame
from pipeline.predicting import Predictor
from pipeline.probation import Failing
from tests.models.networks import network

N, C, STEPS = 3, 2, 120
NOBODY = np.full(N, -1, np.int32)


def weights(neighbours: int = 0, entities: int = 0) -> Weights:
    """Return a network of random weights, whose corrections are as good as random."""
    module = network(
        inputs=input_width(C), channels=C, horizons=2, window=6, representatives=0,
        neighbours=neighbours, entities=entities,
    )  # fmt: skip
    return export(module)


def series() -> NDArray[np.float64]:
    """Return [T, N, C] values that wander."""
    rng = np.random.default_rng(4)
    return 20.0 + np.cumsum(rng.normal(0.0, 1.0, (STEPS, N, C)), axis=0)


def predictor() -> Predictor:
    """Return a cold predictor."""
    return Predictor(8, C, (1, 3), 60.0, replay_steps=16)


def observe(target: Predictor, values: NDArray[np.float64], first: int = 0) -> None:
    """Show frames to it, from step ``first`` on."""
    for t, frame in enumerate(values, first):
        target.observe(frame, ~np.isnan(frame), 1000 + t, (1000 + t) * 60_000_000, NOBODY)


def test_nothing_is_expected_before_the_first_value() -> None:
    """Protects cold starts: unknown is NaN, with a spread that may be divided by."""
    values, spread = predictor().expected(N)
    assert np.isnan(values).all()
    assert (spread > 0).all()


def test_what_is_expected_is_the_first_horizon_of_the_forecast() -> None:
    """Protects the meaning of "expected": what was said one step before."""
    target = predictor()
    observe(target, series())
    forecast, spread = target.forecast(N)
    values, spreads = target.expected(N)
    assert forecast.shape == (N, C, 2)
    np.testing.assert_array_equal(values, forecast[:, :, 0])
    np.testing.assert_array_equal(spreads, spread[:, :, 0])


def test_a_useless_network_changes_nothing() -> None:
    """Protects the forecast from an untrained or misled network: without trust it is the linear one to the bit."""
    plain, misled = predictor(), predictor()
    misled.adopt(weights(), "v1", ["a", "b", "c"])
    observe(plain, series())
    observe(misled, series())
    assert misled.trusted_share(N) == 0.0
    np.testing.assert_array_equal(misled.forecast(N)[0], plain.forecast(N)[0])
    np.testing.assert_array_equal(misled.forecast(N)[1], plain.forecast(N)[1])


def test_a_trusted_network_that_fails_loses_its_trust() -> None:
    """Protects against a network that has gone stale: it is dropped once the linear forecast is better."""
    target = predictor()
    observe(target, series())
    target.adopt(weights(), "v1", ["a", "b", "c"])
    assert target.champion is not None
    target.champion.trust["error"][...] = 0.1
    observe(target, series()[:1], STEPS)
    assert target.trusted_share(N) == 1.0
    rng = np.random.default_rng(5)
    observe(target, 20.0 + rng.normal(0.0, 1.0, (1_500, N, C)), STEPS + 1)
    assert target.trusted_share(N) == 0.0


def test_adopting_midway_equals_having_watched() -> None:
    """Protects the hand-over: hidden states are rebuilt from the recent frames, and the linear part goes on."""
    late = predictor()
    observe(late, series())
    before = late.state["linear_next"].copy()
    late.adopt(weights(), "v1", ["a", "b", "c"])
    np.testing.assert_array_equal(late.state["linear_next"], before)
    assert late.network is not None
    assert (late.network.state["age"][:N] == 16).all()
    assert late.model_version == "v1"


def test_entities_get_their_embedding_and_neighbours_by_name() -> None:
    """Protects entities whose slots differ from those of the training: names count, new ones are unknown."""
    target = predictor()

    def neighbours_of(names: object) -> NDArray[np.int32]:
        listed = list(names)  # type: ignore[call-overload]
        return np.array([[listed.index("b") if "b" in listed and n == "a" else -1] for n in listed], np.int32)

    target.adopt(weights(1, 2), "v1", ["c"], {"a": 1, "b": 2}, neighbours_of)
    assert target.champion is not None
    target.name_entities(1, ["c", "a"])
    assert target.champion.neighbours[:3, 0].tolist() == [-1, -1, -1]
    target.name_entities(2, ["c", "a", "b"])
    assert target.champion.neighbours[:3, 0].tolist() == [-1, 2, -1]


def test_growing_keeps_what_is_known() -> None:
    """Protects running entities from those that join."""
    small, large = predictor(), predictor()
    for target in (small, large):
        target.adopt(weights(), "v1", ["a", "b", "c"])
        observe(target, series()[:60])
    large.grow(100)
    for target in (small, large):
        observe(target, series()[60:], 60)
    np.testing.assert_array_equal(small.forecast(N)[0], large.forecast(N)[0])


def replayed(correction: float, steps: int = 60, truth: float = 0.5, noise: float = 0.3, rows: int = 4) -> Rebuilding:
    """Return a network that always corrects by ``correction``, brought through frames whose linear forecasts were
    ``truth`` spreads too low."""
    rng = np.random.default_rng(3)
    head = weights()
    out = np.zeros_like(head.head_out)
    out[-1] = correction
    inputs = np.zeros((rows, input_width(C)), np.float32)
    nobody = np.full(rows, -1, np.int32)
    frames = tuple(
        RecentFrame(t, t, inputs, (truth + noise * rng.normal(size=(rows, C))).astype(np.float32), nobody)
        for t in range(1, steps + 1)
    )
    recent = Recent(0, rows, tuple("abcdefgh"[:rows]), frames)
    rebuilding = Rebuilding(Correction(replace(head, head_out=out), "v1", rows), recent)
    rebuilding.take(frames)
    return rebuilding


def usual(rows: int = 4) -> NDArray[np.float32]:
    """Return the linear forecast's mean error of those frames."""
    return np.full((rows, C), 0.52, np.float32)


@pytest.mark.parametrize(("correction", "believed"), [(0.5, True), (0.3, True), (0.0, False), (-0.5, False)])
def test_a_new_network_is_believed_by_what_it_would_have_said(correction: float, believed: bool) -> None:
    """Protects forecasts right after a swap: a good network corrects from its first step on, a bad one does not."""
    rebuilding = replayed(correction)
    rebuilding.seed(usual())
    assert rebuilding.correction.trusted(4).all() == believed
    assert rebuilding.correction.trusted(4).any() == believed


def test_few_comparisons_are_drawn_to_a_handicap() -> None:
    """Protects from belief by luck: the fewer comparisons, the nearer to a network that nothing is known of."""
    ratios = []
    for steps in (8, 12, 20, 60):
        rebuilding = replayed(0.5, steps)
        rebuilding.seed(usual())
        ratios.append(float(rebuilding.correction.ratio(4).mean()))
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(1.02)
    assert ratios[-1] < 0.8


def test_who_has_little_of_its_own_is_judged_by_all() -> None:
    """Protects new entities: where one has no comparisons yet, those of all the others speak for the shared network."""
    rebuilding = replayed(0.5)
    rebuilding.seed(usual(6))
    ratio = rebuilding.correction.ratio(6)
    assert (ratio[4:] < 0.95).all()
    assert ratio[:4].max() < ratio[4:].min()


def test_trust_goes_on_from_where_it_was_seeded() -> None:
    """Protects the first comparison after a swap: it counts like any other, for what was said before is known."""
    target = predictor()
    observe(target, series()[:60])
    target.adopt(weights(), "v1", ["a", "b", "c"])
    assert target.champion is not None
    before = target.champion.trust["error"][:N].copy()
    observe(target, series()[60:61], 60)
    assert (target.champion.trust["error"][:N] != before).all()


def test_a_failing_network_leaves_the_linear_forecast() -> None:
    """Protects every step: the forecast of the step in which a network fails is the linear one, to the bit."""
    plain, failing = predictor(), predictor()
    observe(plain, series()[:40])
    observe(failing, series()[:40])
    failing.adopt(weights(), "v1", ["a", "b", "c"])
    assert failing.champion is not None
    failing.champion.trust["linear"][...] = 100.0
    failing.champion.network.state.arrays["h"] = np.empty((0, 0))
    observe(plain, series()[40:41], 40)
    observe(failing, series()[40:41], 40)
    np.testing.assert_array_equal(failing.forecast(N)[0], plain.forecast(N)[0])
    assert [failure.reason for failure in failing.take_failures()] == [Failing.EXCEPTION]
    assert failing.take_failures() == []
    assert failing.model_version == "linear"


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError("Unable to allocate 1 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8000000000 bytes."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
@pytest.mark.parametrize("role", ["champion", "challenger"])
def test_a_step_without_memory_is_no_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception, role: str
) -> None:
    """Protects a good model from being given up by a machine in need: linear for that step, itself again at the next,
    even if half of the step was done."""
    plain, starved = predictor(), predictor()
    observe(plain, series()[:40])
    observe(starved, series()[:40])
    if role == "champion":
        starved.adopt(weights(), "v1", ["a", "b", "c"])
        correction = starved.champion
    else:
        starved.shadow(Rebuilding(Correction(weights(), "v1", 8), starved.recent))
        correction = starved.challenger
    assert correction is not None
    correction.trust["linear"][...] = 100.0
    observe(plain, series()[40:41], 40)
    observe(starved, series()[40:41], 40)
    network, whole = correction.network, correction.network._step_batch

    def torn(*arguments: Any) -> None:
        whole(*arguments)
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(network, "_step_batch", torn)
        observe(plain, series()[41:43], 41)
        observe(starved, series()[41:43], 41)
    np.testing.assert_array_equal(starved.forecast(N)[0], plain.forecast(N)[0])
    np.testing.assert_array_equal(starved.expected_in_shadow(N)[0], plain.expected(N)[0])
    assert starved.steps_missed == 2
    assert starved.forecast_version == "linear"
    observe(plain, series()[43:60], 43)
    observe(starved, series()[43:60], 43)
    assert starved.take_failures() == []
    assert starved.steps_missed == 2
    assert getattr(starved, role) is correction
    assert correction.network.state["age"][:N].tolist() == [36] * N  # 16 rebuilt, and 20 since
    theirs = starved.forecast(N)[0][:, :, 0] if role == "champion" else starved.expected_in_shadow(N)[0]
    assert np.isfinite(theirs).all()
    assert not np.array_equal(theirs, plain.forecast(N)[0][:, :, 0])


def test_a_forecast_is_explained_by_who_made_it() -> None:
    """Protects explanations around a swap: attention is the old network's until the new one has forecast."""
    target = predictor()
    target.adopt(weights(), "v1", ["a", "b", "c"])
    observe(target, series()[:40])
    rows = np.arange(N)
    before = target.attention(rows)
    assert before is not None
    target.adopt(weights(), "v2", ["a", "b", "c"])
    target.grow(20)
    assert (target.model_version, target.forecast_version) == ("v2", "v1")
    np.testing.assert_array_equal(target.attention(rows), before)
    observe(target, series()[40:41], 40)
    assert target.forecast_version == "v2"
    after = target.attention(rows)
    assert after is not None
    assert not np.array_equal(after, before)


def test_losses_are_in_the_linear_forecasts_spreads() -> None:
    """Protects the comparison that operators see: all roles on one scale, a bad network above the linear forecast."""
    target = predictor()
    observe(target, series()[:60])
    assert target.losses(N).keys() == {"linear"}
    target.adopt(weights(), "v1", ["a", "b", "c"])
    observe(target, series()[60:], 60)
    losses = target.losses(N)
    assert losses["champion"] > losses["linear"] > 0
    assert target.losses(0) == {}
