"""The streaming form against the sequence form, its memory, and its manners."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.attention_lstm import AttentionLSTM, export
from models.streaming import StreamingAttentionLSTM
from tests.models.networks import Run, network

torch.set_num_threads(1)


def stream(
    module: AttentionLSTM, run: Run, ring: Literal["f32", "bf16"] = "f32", start: int = 0, stop: int | None = None
) -> tuple[NDArray[np.float32], StreamingAttentionLSTM]:
    """Step through ``run``; entities join when they are there. Return [B, T, C, N] (NaN before they join)."""
    stop = run.inputs.shape[1] if stop is None else stop
    streaming = StreamingAttentionLSTM(export(module), len(run.inputs), ring)
    return step_through(streaming, run, start, stop), streaming


def step_through(streaming: StreamingAttentionLSTM, run: Run, start: int, stop: int) -> NDArray[np.float32]:
    s = streaming.sizes
    out = np.full((len(run.inputs), stop - start, s.channels, s.horizons), np.nan, np.float32)
    for t in range(start, stop):
        n = int((run.first <= run.step0 + t).sum())
        others, admit = run.neighbours[:n, : s.neighbours], run.admit[:n, t]
        out[:n, t - start] = streaming.step(run.inputs[:n, t], run.step0 + t, others, admit, run.entity[:n])
    return out


@pytest.mark.parametrize("kind", ["scaled_dot", "multi_head"])
@pytest.mark.parametrize("entities", [6, 600])
def test_streaming_equals_the_sequence(kind: str, entities: int) -> None:
    """Protects the serving path: lags, neighbours, examples, missing inputs and late joiners give what was trained."""
    module = network(kind=kind, heads=3)
    run = Run(entities, 260, late=(3, 90))
    wanted, _ = run.through(module, 0, 260)
    got, _ = stream(module, run)
    there = ~np.isnan(got)
    assert there[:-2].all()
    np.testing.assert_allclose(got[there], wanted[there], atol=1e-5)


@pytest.mark.parametrize(("hidden", "window"), [(8, 1), (10, 7), (32, 64), (6, 150)])
def test_streaming_equals_the_sequence_at_any_size(hidden: int, window: int) -> None:
    """Protects the compiled loops' remainders: windows that vectors and tiles do not divide, or more than one tile."""
    module = network(hidden=hidden, window=window, neighbours=0, representatives=0, program=None)
    run = Run(5, 200)
    wanted, _ = run.through(module, 0, 200)
    np.testing.assert_allclose(stream(module, run)[0], wanted, atol=1e-5)


def test_a_half_precision_ring_stays_close() -> None:
    """Protects the small ring: 8 bits of mantissa in the memory cost less than half a percent of the output's size."""
    module = network()
    run = Run(6, 260)
    wanted, _ = run.through(module, 0, 260)
    got, _ = stream(module, run, "bf16")
    assert np.abs(got - wanted).max() < 5e-3 * np.abs(wanted).max()


def test_attention_is_what_the_step_used() -> None:
    """Protects explanations: weights sum to one, ignored lags get none, and they rebuild the forecast."""
    module, run = network(), Run(6, 200, late=(60, 199))
    out, streaming = stream(module, run)
    weights = streaming.attention(np.array([0, 3, 4, 5]))
    positions = streaming.positions()
    assert weights.shape == (4, 1, len(positions))
    np.testing.assert_allclose(weights[:3].sum(axis=2), 1.0, atol=1e-5)
    assert not weights[:, :, 4:6].any()
    lags = [i for i, p in enumerate(positions) if p.kind == "lag"]
    assert weights[0, 0, lags[1]] > 0
    assert weights[2, 0, lags[0]] > 0
    assert weights[2, 0, lags[1]] == 0  # 150 steps back it was not there yet
    w, memory = streaming.weights, np.concatenate([
        streaming.state["ring"][3][:, (run.step0 + 199 - np.arange(1, 17)) % 16].T,
        streaming.state["lags"][3][[streaming._lags_at(run.step0 + 199)[0]]].reshape(2, -1),
        streaming.state["before"][run.neighbours[3]],
        streaming.state["examples"][3],
    ])  # fmt: skip
    features = np.concatenate([streaming.state["h"][3], weights[1, 0] @ memory, [1.0]]) @ w.head_in
    inner = 0.5 * features * (1 + np.tanh(np.sqrt(2 / np.pi) * (features + 0.044715 * features**3)))
    np.testing.assert_allclose(np.append(inner, 1.0) @ w.head_out, out[3, -1].ravel(), atol=1e-4)


def test_attention_before_any_memory_is_zero() -> None:
    """Protects the report: an entity without a past, or without a step, shows nothing instead of failing."""
    module, run = network(), Run(3, 1)
    _, streaming = stream(module, run)
    assert not streaming.attention(np.arange(3)).any()
    assert not StreamingAttentionLSTM(export(module), 3).attention(np.arange(3)).any()


def test_looking_changes_nothing() -> None:
    """Protects purity: asking for the attention does not alter what comes next."""
    module, run = network(), Run(4, 80)
    plain, _ = stream(module, run)
    streaming = StreamingAttentionLSTM(export(module), 4)
    for t in range(80):
        streaming.attention(np.arange(4))
        np.testing.assert_array_equal(step_through(streaming, run, t, t + 1)[:, 0], plain[:, t])


def test_a_checkpointed_row_goes_on_identically_elsewhere() -> None:
    """Protects restarts and moved partitions: state is whole, and per row."""
    module, run = network(neighbours=0), Run(4, 120)
    whole, _ = stream(module, run)
    _, first = stream(module, run, stop=70)
    second = StreamingAttentionLSTM(export(module), 2)
    second.grow(4)
    for name, array in first.state.arrays.items():
        second.state[name][:] = array
    np.testing.assert_array_equal(step_through(second, run, 70, 120), whole[:, 70:])


def test_steps_left_out_stand_still() -> None:
    """Protects against mislabelled memories: after a gap, recent places hold the state from before the gap."""
    module, run = network(neighbours=0), Run(4, 60)
    _, streaming = stream(module, run)
    held = streaming.state["h"].copy()
    last = run.step0 + 59
    streaming.step(run.inputs[:, 0], last + 8, np.zeros((4, 0), np.int32), run.admit[:, 0], run.entity)
    ring = streaming.state["ring"]
    for skipped in range(last, last + 8):
        np.testing.assert_array_equal(ring[:, :, skipped % 16], held)
    assert (streaming.state["age"] == 60 + 7 + 1).all()
    far = streaming.step(run.inputs[:, 1], 10**9, np.zeros((4, 0), np.int32), run.admit[:, 1], run.entity)
    assert np.isfinite(far).all()


def test_time_does_not_go_backwards() -> None:
    """Protects the ring: a step that is not new is refused with both steps named."""
    module, run = network(), Run(4, 5)
    _, streaming = stream(module, run)
    with pytest.raises(ValueError, match="step 1004 does not come after the newest step 1004"):
        streaming.step(run.inputs[:, 0], 1004, run.neighbours, run.admit[:, 0], run.entity)


def test_odd_input_is_survived() -> None:
    """Protects an entity's future: NaN, infinities, unknown ids and neighbours, and no entity at all."""
    module, run = network(), Run(4, 5)
    _, streaming = stream(module, run)
    bad = np.array([[np.nan, np.inf, -np.inf, 1e30, 0.0]] * 4, np.float32)
    out = streaming.step(bad, 2000, np.full((4, 2), 99, np.int32), np.full(4, 7, np.int32), np.full(4, 99, np.int32))
    assert np.isfinite(out).all()
    assert np.isfinite(streaming.attention(np.arange(4))).all()
    nobody = np.zeros((0, 2), np.int32)
    assert streaming.step(bad[:0], 2001, nobody, nobody[:, 0], nobody[:, 0]).shape == (0, 2, 3)


def test_results_are_not_reused() -> None:
    """Protects callers that keep a forecast: the next step does not write into it."""
    module, run = network(), Run(4, 2)
    streaming = StreamingAttentionLSTM(export(module), 4)
    first = streaming.step(run.inputs[:, 0], 1, run.neighbours, run.admit[:, 0], run.entity)
    kept = first.copy()
    streaming.step(run.inputs[:, 1], 2, run.neighbours, run.admit[:, 1], run.entity)
    np.testing.assert_array_equal(first, kept)


def test_wrong_shapes_and_rings_are_named() -> None:
    """Protects the caller: the message says what came and what is wanted."""
    streaming = StreamingAttentionLSTM(export(network()), 4)
    none = np.zeros(4, np.int32)
    with pytest.raises(ValueError, match=r"are \(4, 3\) and \(4, 2\), wanted \(\(4, 5\), \(4, 2\)\)"):
        streaming.step(np.zeros((4, 3), np.float32), 1, np.zeros((4, 2), np.int32), none, none)
    with pytest.raises(ValueError, match="holds f32 or bf16, not 'int8'"):
        StreamingAttentionLSTM(export(network()), 4, "int8")  # type: ignore[arg-type]
