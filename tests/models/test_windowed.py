"""The network over windows and its trainer: the references that the benchmarks compare with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.attention_lstm import AttentionLSTM
from models.features import input_width
from models.sequences import Sequences
from models.training_curves import LossCurve, Stopwatch
from models.training_options import TrainingOptions
from models.training_race import RaceOptions, race, train_on_sequences, train_on_windows
from models.weights import Sizes
from models.windowed import forward_windows, recompute_window
from models.windowed_training import WindowedTrainer
from tests.models.networks import network

torch.set_num_threads(1)
OPTIONS = TrainingOptions(
    epochs=4, chunk=16, sequences=4, fewest_updates=0, patience=99, learning_rate=1e-2, missing=0.0, device="cpu"
)


def series(steps: int = 400) -> Sequences:
    """Return two entities whose targets follow from the last two inputs, so that a window knows all."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, steps, input_width(1))).astype(np.float32)
    inputs[:, :, 2] = 1.0
    told = np.tanh(inputs[:, :, 0] - np.roll(inputs[:, :, 0], 1, axis=1))
    targets = told[:, :, None, None].astype(np.float32)
    none = np.full((2, 0), -1, np.int32)
    admit = np.full((2, steps), -1, np.int32)
    return Sequences(("a", "b"), 0, (1,), inputs, targets, np.ones(targets.shape, np.bool_), admit, none)


def small(window: int = 8) -> AttentionLSTM:
    return AttentionLSTM(Sizes(input_width(1), 1, 1, hidden=8, window=window, entities=2))


def trainer(data: Sequences, batch: int = 32) -> WindowedTrainer:
    return WindowedTrainer(small(), data, OPTIONS, batch, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["scaled_dot", "multi_head"])
def test_rerunning_the_window_gives_the_last_step(kind: str) -> None:
    """Protects the benchmarks' reference: it computes the same thing as the network that it is compared with."""
    module = network(kind=kind, heads=3, neighbours=0, representatives=0, entities=0, program=None)
    windows = torch.randn(7, 16, 5)
    with torch.inference_mode():
        whole, _ = module(windows)
    np.testing.assert_allclose(recompute_window(module, windows).numpy(), whole[:, -1].numpy(), atol=1e-5)


def test_windows_give_the_same_gradients_as_the_sequence() -> None:
    """Protects the fairness of the race: both trainers descend on the same function of the same weights."""
    module = network(neighbours=0, representatives=0, program=None)
    windows, entity = torch.randn(5, 16, 5), torch.tensor([0, 1, 2, 3, 4])
    forward_windows(module, windows, entity).square().sum().backward()
    wanted = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    module.zero_grad()
    whole, _ = module(windows, entity=entity)
    whole[:, -1].square().sum().backward()
    for own, reference in zip([p.grad for p in module.parameters() if p.grad is not None], wanted, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-3, atol=1e-5)


def test_a_window_ends_with_its_own_step_and_belongs_to_its_entity() -> None:
    """Protects the reference from being taught with the wrong rows."""
    data = series()
    windows, entity = trainer(data)._windows(torch.from_numpy(data.inputs).flatten(0, 1), torch.tensor([7, 450]))
    np.testing.assert_array_equal(windows[0].numpy(), data.inputs[0, :8])
    np.testing.assert_array_equal(windows[1].numpy(), data.inputs[1, 43:51])
    assert entity.tolist() == [1, 2]


def test_both_trainers_are_judged_on_the_same_targets() -> None:
    """Protects the comparison: the loss of correcting nothing is the same, so the held-out targets are."""
    data = series()
    data.mask[0, 350:360] = False
    windows = train_on_windows(small, data, replace(OPTIONS, epochs=1), 64, 1)
    sequences = train_on_sequences(small, data, replace(OPTIONS, epochs=1))
    assert windows.baseline == pytest.approx(sequences.baseline, rel=1e-5)


def test_both_trainers_learn_what_can_be_learned() -> None:
    """Protects from a race against a cripple: a window that knows all is enough to halve the loss."""
    data = series()
    sequences, windows = race(small, data, RaceOptions(replace(OPTIONS, epochs=30), OPTIONS, batch=32))
    for curve in (windows, sequences):
        assert curve.best < 0.5 * curve.baseline
        assert curve.seconds == sorted(curve.seconds)
        assert curve.targets_per_s > 0.0
    assert windows.updates == 4 * 20  # 312 + 312 windows before the split, in batches of 32
    assert windows.targets == 4 * 624


def test_the_held_out_part_teaches_the_windows_nothing() -> None:
    """Protects the comparison at equal loss: changing the newest fifth changes no weight."""
    data, changed = series(), series()
    changed.inputs[:, 320:] *= -1.0
    changed.targets[:, 319:] *= -3.0
    first, second = small(), small()
    second.load_state_dict(first.state_dict())
    for module, history in ((first, data), (second, changed)):
        torch.manual_seed(0)
        list(WindowedTrainer(module, history, replace(OPTIONS, epochs=1), 32, torch.device("cpu")).points(100))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_windows_are_spoiled_as_sequences_are() -> None:
    """Protects equal terms: each step is spoiled once an epoch, in pieces, and differently in the next."""
    data = series()
    noisy = trainer(data)
    first, second = noisy._spoiled(), noisy._spoiled()
    assert first.shape == (800, input_width(1))
    assert not torch.equal(first, second)
    difference = (first - torch.from_numpy(data.inputs).flatten(0, 1))[:, 0]
    assert float(difference.std()) == pytest.approx(OPTIONS.jitter, rel=0.15)


def test_a_paused_watch_stands_still() -> None:
    """Protects the seconds of training from those of evaluating."""
    now = [10.0]
    watch = Stopwatch(lambda: now[0])
    now[0] = 13.0
    with watch.paused():
        now[0] = 20.0
    now[0] = 21.0
    assert watch() == 4.0


def test_a_curve_without_points_says_so() -> None:
    """Protects reports from 0/0 and from a loss that was never reached."""
    curve = LossCurve(2.0)
    assert (curve.best, curve.targets_per_s, curve.reached(1.0)) == (2.0, 0.0, None)
    assert curve.to_json()["curve"] == []
