"""Training on sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.features import block, input_width
from models.training import train
from models.training_batches import segments, spoil
from models.training_measure import schedule
from models.training_options import TooLittleHistoryError
from tests.models.trainings import OPTIONS, maker, same, sequences, trained


def test_what_can_be_learned_is_learned_and_reported() -> None:
    """Protects training as a whole: the loss falls below the linear forecast's, and the report says by how much."""
    module, report = trained(sequences(), epochs=12)
    assert not module.training
    assert report.worthwhile
    assert report.gain > 0.3
    assert report.gain == pytest.approx(1.0 - min(report.validation_losses) / report.baseline)
    assert report.train_losses[-1] < report.train_losses[0]
    assert report.validation_losses[report.best_epoch - 1] == min(report.validation_losses)


def test_noise_is_not_worthwhile() -> None:
    """Protects the linear forecast: a network that found nothing says so instead of taking over."""
    _, report = trained(sequences(signal=0.0))
    assert not report.worthwhile
    assert report.gain < 0.02


def test_the_same_seed_gives_the_same_weights() -> None:
    """Protects reproducible runs, whatever was drawn before, and leaves the caller's generator and threads alone."""
    data = sequences(300)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    first, _ = trained(data, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    second, _ = trained(data, epochs=2)
    other, _ = trained(data, epochs=2, seed=7)
    assert same(first, second)
    assert not same(first, other)


def test_the_held_out_part_teaches_nothing() -> None:
    """Protects the early stop's honesty: changing the newest fifth changes no weight that training makes."""
    data, changed = sequences(), sequences()
    changed.inputs[:, 480:] *= -1.0
    changed.targets[:, 479:] *= -3.0  # the target of step 479 already lies in the held-out part
    first, _ = trained(data, epochs=1)
    second, _ = trained(changed, epochs=1)
    assert same(first, second)


def test_training_stops_when_it_gets_no_better() -> None:
    """Protects the hours of the night: patience ends a run that only fits noise."""
    told: list[tuple[int, int]] = []
    _, report = train(
        maker(), sequences(signal=0.0), replace(OPTIONS, epochs=40, patience=3), lambda e, n, *_: told.append((e, n))
    )
    assert report.epochs == report.best_epoch + 3 < 40
    assert told == [(e + 1, 40) for e in range(report.epochs)]


def test_a_short_history_is_gone_over_more_often() -> None:
    """Protects small streams: epochs are as many as give the fewest updates, five times as many at most."""
    planned: list[int] = []
    options = replace(OPTIONS, epochs=2, patience=1, fewest_updates=60)
    train(maker(), sequences(signal=0.0), options, lambda _epoch, epochs, *_: planned.append(epochs))
    assert planned[0] == 4  # 480 steps in 2 segments of 240, 15 chunks each: 4 epochs make 60 updates


def test_too_little_history_is_refused_with_its_size() -> None:
    """Protects the first night: no network rather than one made of nothing; no 0/0."""
    nothing = sequences()
    nothing.mask[:] = False
    with pytest.raises(TooLittleHistoryError, match="600 steps of 2 entities hold 0 targets to learn from"):
        trained(nothing)
    with pytest.raises(TooLittleHistoryError, match="10 steps"):
        trained(sequences(10))


def test_chunks_without_targets_are_survived() -> None:
    """Protects against 0/0 where a sensor was silent for longer than a chunk."""
    data = sequences()
    data.mask[:, 100:200] = False
    module, _ = trained(data, epochs=1)
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_segments_are_pieces_of_the_history_with_their_own_neighbours() -> None:
    """Protects the parallel segments: each row is a stretch of its entity, its neighbour is of the same stretch."""
    data = sequences()
    batch = segments(data, 480, 4, 64, torch.device("cpu"))
    whole = next(batch.pieces(0, 240))
    assert whole.inputs.shape == (4, 240, input_width(1))
    assert batch.step0.tolist() == [100, 100, 340, 340]
    assert batch.neighbours is not None
    assert batch.neighbours.tolist() == [[1], [0], [3], [2]]
    np.testing.assert_array_equal(whole.inputs[3].numpy(), data.inputs[1, 240:480])
    assert whole.mask[:2].all()
    assert not whole.mask[2:, -1].any()
    assert batch.counts.tolist() == whole.mask.sum(dim=(0, 2, 3)).tolist()


def test_segments_reach_over_the_longest_lag() -> None:
    """Protects the seasonal memory: a history is not cut so short that its lag never has a state to look at."""
    batch = segments(sequences(), 480, 4, 400, torch.device("cpu"))
    assert (len(batch), batch.steps) == (2, 480)


def test_spoiling_hides_values_consistently() -> None:
    """Protects the augmentation: hidden values are 0 in level, change and mask, the calendar stays."""
    torch.manual_seed(0)
    inputs = torch.ones(64, 50, input_width(2))
    spoiled = spoil(inputs, 2, 0.3, 0.1)
    assert bool((inputs == 1.0).all())
    hidden = spoiled[:, :, block(2, 2)] == 0.0
    assert 0.2 < float(hidden.float().mean()) < 0.6
    assert not spoiled[:, :, block(2, 0)][hidden].any()
    assert not spoiled[:, :, block(2, 1)][hidden].any()
    assert float(spoiled[:, :, block(2, 0)][~hidden].std()) == pytest.approx(0.1, rel=0.2)
    assert bool((spoiled[:, :, -4:] == 1.0).all())
    assert bool(hidden.all(dim=1).any())  # somewhere a whole channel is gone
    plain = spoil(inputs, 2, 0.0, 0.0)
    assert torch.equal(plain, inputs)


def test_the_schedule_begins_and_ends_at_zero() -> None:
    """Protects the learning rate: never negative, at its height once, even past the end."""
    rates = [schedule(d / 100, 0.15) for d in range(120)]
    assert min(rates) >= 0.0
    assert max(rates) == 1.0
    assert rates[0] == rates[100] == rates[119] == 0.0
