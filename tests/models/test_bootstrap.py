"""The block bootstrap: what is surely better is found, luck is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bootstrap import FEWEST_BLOCKS, UNKNOWN, block_length, fewer_by_chance, relative_gain


def wandering(steps: int, memory: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return [steps] with variance 1 and an autocorrelation of ``memory`` per step."""
    noise = rng.standard_normal(steps) * np.sqrt(1.0 - memory**2)
    out = np.empty(steps)
    out[0] = rng.standard_normal()
    for t in range(1, steps):
        out[t] = memory * out[t - 1] + noise[t]
    return out


def test_a_steady_gain_is_sure() -> None:
    """Protects the reading of the interval: a loss that is 5 % smaller in every block is a gain of 5 %, no more."""
    reference = np.random.default_rng(0).uniform(1.0, 2.0, 400)
    gain = relative_gain(0.95 * reference, reference, 20, seed=0)
    assert gain.estimate == pytest.approx(0.05)
    assert gain.low == pytest.approx(0.05)
    assert gain.high == pytest.approx(0.05)
    assert gain.blocks == 20


def test_a_gain_of_one_day_is_not_sure() -> None:
    """Protects from one lucky day: the whole gain in one block of ten does not stand."""
    reference = np.ones(400)
    loss = reference.copy()
    loss[80:120] = 0.2
    gain = relative_gain(loss, reference, 40, seed=0)
    assert gain.estimate == pytest.approx(0.08)
    assert gain.low <= 0.0


@pytest.mark.parametrize("blocks", [6, 20])
def test_luck_passes_as_seldom_as_promised(blocks: int) -> None:
    """Protects the 95 %: of equal forecasters with losses that hang together about one in forty seems surely better."""
    rng = np.random.default_rng(5)
    block = 24
    trials, passed = 300, 0
    for trial in range(trials):
        reference = 10.0 + wandering(blocks * block, 0.8, rng)
        loss = reference + wandering(blocks * block, 0.8, rng)
        passed += relative_gain(loss, reference, block, seed=trial, draws=300).low > 0.0
    assert passed / trials < 0.055  # 0.025 and three standard errors


def test_few_blocks_say_nothing_or_little() -> None:
    """Protects from short holdouts: below the fewest nothing is said, just above it the interval is wide."""
    rng = np.random.default_rng(1)
    reference = rng.uniform(1.0, 2.0, 240)
    loss = reference * rng.uniform(0.8, 1.1, 240)
    assert relative_gain(loss, reference, 240 // (FEWEST_BLOCKS - 1), seed=0) == UNKNOWN
    few = relative_gain(loss, reference, 240 // FEWEST_BLOCKS, seed=0)
    many = relative_gain(np.tile(loss, 8), np.tile(reference, 8), 240 // FEWEST_BLOCKS, seed=0)
    assert few.high - few.low > 2.0 * (many.high - many.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Protects reproducible verdicts."""
    rng = np.random.default_rng(2)
    reference, loss = rng.uniform(1, 2, 200), rng.uniform(1, 2, 200)
    assert relative_gain(loss, reference, 10, seed=3) == relative_gain(loss, reference, 10, seed=3)
    assert relative_gain(loss, reference, 10, seed=3) != relative_gain(loss, reference, 10, seed=4)


def test_nothing_scored_is_nothing_known() -> None:
    """Protects from 0/0, over all or in a draw."""
    assert relative_gain(np.zeros(100), np.zeros(100), 10, seed=0) == UNKNOWN
    once = np.zeros(100)
    once[50] = 1.0
    assert relative_gain(0.5 * once, once, 10, seed=0) == UNKNOWN


def test_what_is_not_finite_is_refused() -> None:
    """Protects from NaN that compares false and so passes as not worse."""
    with pytest.raises(ValueError, match="finite"):
        relative_gain(np.full(10, np.nan), np.ones(10), 1, seed=0)
    with pytest.raises(ValueError, match="must be"):
        relative_gain(np.ones(9), np.ones(10), 1, seed=0)


def test_blocks_are_days_where_there_are_days() -> None:
    """Protects the blocks' length: a day, a sixth of a short holdout, never shorter than twice the horizon."""
    assert block_length(1500, 144.0, 12) == 144
    assert block_length(300, 1440.0, 3) == 50
    assert block_length(100, 1440.0, 12) == 24


def test_the_sign_test_is_the_binomial_tail() -> None:
    """Protects the comparison of finds: 1 to 7 is no chance, 3 to 5 is; ties alone say nothing."""
    assert fewer_by_chance(1, 7) == pytest.approx(9 / 256)
    assert fewer_by_chance(3, 5) > 0.3
    assert fewer_by_chance(0, 0) == 1.0
