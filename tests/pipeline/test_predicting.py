"""The forecast: linear until a network has proved better, and no worse than linear for long after that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.attention_lstm import export
from models.features import input_width
from models.weights import Weights
from pipeline.predicting import Predictor
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
    target.name_entities(1, ["c", "a"])
    assert target.neighbours[:3, 0].tolist() == [-1, -1, -1]
    target.name_entities(2, ["c", "a", "b"])
    assert target.neighbours[:3, 0].tolist() == [-1, 2, -1]


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
