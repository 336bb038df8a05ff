"""From history to what the network learns from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import block, calendar
from models.linear import LinearForecaster
from models.sequences import COLD_STEPS, Sequences, admit_by_novelty, learn_neighbours, prepare

STEP_US = 600_000_000
STEP0 = 5_000


def walks(entities: int = 3, steps: int = 200, channels: int = 2, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((entities, steps, channels)).cumsum(axis=1)


def prepared(values: NDArray[np.float64], learn: NDArray[np.bool_] | None = None, slots: int = 4) -> Sequences:
    learn = ~np.isnan(values) if learn is None else learn
    names = [f"e{i}" for i in range(len(values))]
    neighbours = np.array([[1], [2], [0]], np.int32)[: len(values)]
    return prepare(values, learn, STEP0, STEP_US, (1, 3), names, neighbours, slots)


def test_targets_are_the_linear_forecasters_errors_in_its_spreads() -> None:
    """Protects what the network learns: exactly what the live predictor will ask of it, times known spreads."""
    values = walks()
    sequences = prepared(values)
    linear = LinearForecaster(3, 2, (1, 3), 600.0)
    for t in range(150):
        linear.update(values[:, t].copy(), np.ones((3, 2), np.bool_))
    for i, h in enumerate((1, 3)):
        wanted = (values[:, 149 + h] - linear.forecast(3)[:, :, i]) / linear.spread(3)[:, :, i]
        np.testing.assert_allclose(sequences.targets[:, 149, :, i], np.clip(wanted, -6, 6), rtol=1e-5)
    np.testing.assert_array_equal(sequences.inputs[:, 149, block(2, 0)], linear.level_z(3))
    np.testing.assert_allclose(sequences.inputs[0, 149, -4:], calendar((STEP0 + 149) * STEP_US), rtol=1e-6)
    assert sequences.mask[:, COLD_STEPS:-3].all()
    assert not sequences.mask[:, :COLD_STEPS].any()


def test_the_future_does_not_reach_back() -> None:
    """Protects causality: nothing up to a step depends on anything after its targets, at any horizon."""
    values = walks()
    changed = values.copy()
    changed[:, 120:] = 1e3 * walks(seed=9)[:, 120:]
    a, b = prepared(values), prepared(changed)
    np.testing.assert_array_equal(a.inputs[:, :120], b.inputs[:, :120])
    np.testing.assert_array_equal(a.admit[:, :120], b.admit[:, :120])
    np.testing.assert_array_equal(a.targets[:, :117], b.targets[:, :117])


def test_missing_and_doubtful_values_are_no_targets() -> None:
    """Protects learning: a value that is missing or not to be learned from is never what the network should hit."""
    values = walks()
    learn = np.ones(values.shape, np.bool_)
    values[0, 100, 0], learn[1, 110, 1] = np.nan, False
    sequences = prepared(values, learn)
    assert not sequences.mask[0, 99, 0, 0]
    assert not sequences.mask[0, 97, 0, 1]
    assert not sequences.mask[1, 109, 1, 0]
    assert sequences.mask[1, 109, 0, 0]
    assert not sequences.inputs[0, 100, block(2, 2)][0]


@pytest.mark.parametrize("value", [np.nan, 0.0, 1e300, 1e-300])
def test_odd_series_give_finite_sequences(value: float) -> None:
    """Protects training from poison: constant, huge, tiny and absent channels."""
    values = walks()
    values[:, :, 1] = value
    sequences = prepared(values)
    assert np.isfinite(sequences.inputs).all()
    assert np.isfinite(sequences.targets).all()


def test_examples_are_spread_over_what_was_seen() -> None:
    """Protects the memory of examples: a repeated state is kept once, a new one gets the next slot, the oldest goes."""
    levels = np.array([0.0, 0.1, 5.0, 0.0, 5.0, -5.0, 10.0], np.float32).reshape(1, -1, 1)
    np.testing.assert_array_equal(admit_by_novelty(levels, 3)[0], [0, -1, 1, -1, -1, 2, 0])
    assert (admit_by_novelty(levels, 0) == -1).all()


def test_neighbours_are_those_that_move_together() -> None:
    """Protects neighbours: shared movements count, a shared season alone does not, strangers are left out."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((2, 400)).cumsum(axis=1)
    values = np.stack([shared[i % 2] + 0.1 * rng.standard_normal(400) for i in range(4)])[:, :, None]
    values[1, rng.random(400) < 0.2] = np.nan
    np.testing.assert_array_equal(learn_neighbours(values, 1)[:, 0], [2, 3, 0, 1])
    assert learn_neighbours(values, 5).shape == (4, 5)
    assert (learn_neighbours(values, 5)[:, 3:] == -1).all()


@pytest.mark.parametrize("values", [np.zeros((3, 100, 2)), np.full((3, 100, 2), np.nan), np.full((3, 100, 2), 1e308)])
def test_who_never_moves_has_no_neighbours(values: NDArray[np.float64]) -> None:
    """Protects against division by zero and overflow in correlations."""
    assert (learn_neighbours(values, 2) == -1).all()
    assert learn_neighbours(values[:1], 2).shape == (1, 2)


def test_shapes_that_do_not_fit_are_named() -> None:
    """Protects the caller."""
    with pytest.raises(ValueError, match=r"\(3, 200, 2\), learn \(3, 200, 1\) and 3 names do not fit"):
        prepared(walks(), np.ones((3, 200, 1), np.bool_))
