"""The sequence form: chunks, causality, cold start, the window reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from models.attention import AttentionProgram
from models.attention_lstm import AttentionLSTM, Dropout
from models.weights import Sizes
from tests.models.networks import Run, network

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["scaled_dot", "multi_head"])
@pytest.mark.parametrize("cuts", [(0, 1, 2, 50, 200), (0, 64, 130, 200)])
def test_chunks_give_what_one_go_gives(kind: str, cuts: tuple[int, ...]) -> None:
    """Protects truncated back-propagation: the carry holds all that the past contributes, at any cut."""
    module = network(kind=kind, heads=3)
    run = Run(6, 200, late=(3, 90))
    whole, _ = run.through(module, 0, 200)
    carry, parts = None, []
    for start, stop in pairwise(cuts):
        part, carry = run.through(module, start, stop, carry)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_the_future_changes_nothing() -> None:
    """Protects causality: an output depends on inputs up to its own step only."""
    module, run = network(), Run(6, 100)
    before, _ = run.through(module, 0, 100)
    run.inputs[:, 60:] += 1.0
    run.admit[:, 60:] = 0
    after, _ = run.through(module, 0, 100)
    np.testing.assert_allclose(after[:, :60], before[:, :60], atol=1e-6)
    assert np.abs(after[:, 60:] - before[:, 60:]).max() > 0.01


def test_without_memory_the_context_is_zero_not_nan() -> None:
    """Protects the very first step, when nothing can be attended to, in values and in gradients."""
    module = network()
    inputs = torch.zeros(2, 1, 5)
    out, _ = module(inputs, neighbours=torch.zeros(2, 2, dtype=torch.long), admit=torch.zeros(2, 1, dtype=torch.long))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_a_program_that_ignores_everything_is_survived() -> None:
    """Protects against NaN when the operator's program leaves nothing to look at."""
    module = network(AttentionProgram(ignored=((1, 16),)), neighbours=0, representatives=0)
    out, _ = Run(3, 40).through(module, 0, 40)
    assert np.isfinite(out).all()


def test_an_untrained_network_corrects_nothing() -> None:
    """Protects the linear forecast: a network earns its influence, it does not start with one."""
    torch.manual_seed(0)
    module = AttentionLSTM(Sizes(5, 2, 3)).eval()
    out, _ = module(torch.randn(3, 10, 5))
    assert out.shape == (3, 10, 2, 3)
    assert not out.any()


def test_missing_neighbours_are_named() -> None:
    """Protects the trainer: a network with neighbours does not run silently without them."""
    with pytest.raises(ValueError, match="has 2 neighbours an entity, but none were given"):
        network()(torch.zeros(2, 3, 5), admit=torch.zeros(2, 3, dtype=torch.long))


def test_dropout_keeps_the_mean_and_the_share() -> None:
    """Protects the quick dropout: it drops as many as asked, keeps the expectation, and nothing in evaluation."""
    torch.manual_seed(0)
    dropout, ones = Dropout(0.2), torch.ones(200, 500)
    dropped = dropout(ones)
    assert torch.unique(dropped).tolist() == [0.0, 1.25]
    assert float((dropped == 0.0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.equal(dropout.eval()(ones), ones)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_the_band_gives_each_row_its_own_lags(rows: int) -> None:
    """Protects the shifted copies: row r finds the bias of lag W + r - j at key j, and nothing beside the band."""
    module = network()
    band = module._band(rows)
    window = module.sizes.window
    wanted = module.bias + module.program_bias
    for r in range(rows):
        for j in range(window + rows - 1):
            lag = window + r - j
            there = 1 <= lag <= window
            bias = wanted[:, lag - 1].clamp(min=-1e30) if there else torch.full((len(wanted),), -1e30)
            assert torch.equal(band[:, r, j], bias)
