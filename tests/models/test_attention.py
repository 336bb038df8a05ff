"""The attention program and the memory's layout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.attention import KINDS, AttentionProgram, LagWeight, MemoryLayout, SeasonalLag, heads_of
from models.attention_scorers import SCORERS


@given(st.integers(1, 5000), st.integers(0, 10**9))
def test_a_lag_points_at_a_kept_state_no_nearer_than_itself(steps: int, now: int) -> None:
    """Protects the strided lag: it never points nearer than asked, never past its reach, always at a kept step."""
    lag = SeasonalLag(steps)
    back = lag.back(now)
    assert steps <= back <= lag.reach
    assert (now - back) % lag.stride == 0
    assert lag.slots <= 66


@given(st.integers(1, 5000), st.integers(0, 10**6))
def test_a_lags_state_is_not_overwritten_before_it_is_read(steps: int, now: int) -> None:
    """Protects the slot count: everything kept between the state read and now has a slot of its own."""
    lag = SeasonalLag(steps)
    kept = range((now - lag.back(now)) // lag.stride, now // lag.stride + 1)
    assert len({k % lag.slots for k in kept}) == len(kept)


def test_weights_multiply_the_odds_and_ignored_lags_get_nothing() -> None:
    """Protects the meaning of "twice as hard": log 2 is added, ranges that overlap multiply, ignoring wins."""
    program = AttentionProgram((SeasonalLag(24, 3.0),), (LagWeight(1, 2, 2.0), LagWeight(2, 9, 4.0)), ((3, 3),))
    bias = MemoryLayout(4, program, neighbours=1, representatives=1).program_bias()
    wanted = [math.log(2), math.log(8), -math.inf, math.log(4), math.log(3), 0.0, 0.0]
    np.testing.assert_allclose(bias, wanted, rtol=1e-6)


def test_positions_name_each_memory_in_order() -> None:
    """Protects explanations: each weight is shown with the moment it belongs to."""
    layout = MemoryLayout(2, AttentionProgram((SeasonalLag(144),)), neighbours=1, representatives=1)
    positions = [(p.kind, p.lag_steps, p.index) for p in layout.positions()]
    assert positions == [("recent", 1, 0), ("recent", 2, 1), ("lag", 144, 0), ("neighbour", 1, 0), ("example", 0, 0)]
    assert len(positions) == layout.size


def test_a_program_survives_json() -> None:
    """Protects the manifest: what is written is what is read."""
    program = AttentionProgram((SeasonalLag(144, 2.0), SeasonalLag(1008)), (LagWeight(1, 12, 2.0),), ((5, 6),))
    assert AttentionProgram.from_dict(program.to_dict()) == program


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda: AttentionProgram((SeasonalLag(0),)), "at least 1 step, got 0"),
        (lambda: AttentionProgram(recent=(LagWeight(3, 2, 1.0),)), "got 3 to 2"),
        (lambda: AttentionProgram(recent=(LagWeight(1, 2, 0.0),)), "positive and finite, got 0.0"),
        (lambda: AttentionProgram(ignored=((0, 2),)), "got 0 to 2"),
    ],
)
def test_a_program_that_cannot_be_meant_is_refused(program: object, message: str) -> None:
    """Protects the operator: the message says what was given and what is allowed."""
    assert callable(program)
    with pytest.raises(ValueError, match=message):
        program()


def test_heads_fit_the_kind() -> None:
    """Protects sizes: one head for the kind that has one, a divisor of H for the other, a clear refusal else."""
    assert heads_of("scaled_dot", 4, 32) == 1
    assert heads_of("multi_head", 4, 32) == 4
    with pytest.raises(ValueError, match="3 heads do not divide a hidden size of 32"):
        heads_of("multi_head", 3, 32)
    with pytest.raises(ValueError, match="unknown attention kind 'gated'; known are multi_head, scaled_dot"):
        heads_of("gated", 1, 32)


def test_every_kind_can_be_trained() -> None:
    """Protects the registry: a kind without its torch module could be configured but not run."""
    assert set(SCORERS) == set(KINDS)
