"""A race of two trainers on the same history: sequences against windows, by turns, each with a stopwatch of its own.

By turns, because a machine is seldom quiet: whatever slows it down slows both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from models.attention_lstm import AttentionLSTM
from models.sequences import Sequences
from models.training_curves import LossCurve, Stopwatch
from models.training_devices import device_of, flatten, settled
from models.training_loop import Trainer
from models.training_options import Limits, TrainingOptions
from models.windowed_training import WindowedTrainer


class TimedTrainer(Trainer):
    """Trains on sequences as ever, and notes the seconds of training, those of validating left out."""

    def __init__(
        self, module: nn.Module, sequences: Sequences, split: int, options: TrainingOptions, device: torch.device
    ) -> None:
        """Take a new network and start the watch."""
        limits = Limits(math.inf)
        super().__init__(module, sequences, split, options, device, None, limits, Stopwatch())
        self.curve = LossCurve(self.baseline)
        self.watch = Stopwatch()

    def _validate(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = self.watch()
        with self.watch.paused():
            super()._validate()
            self.curve.add(seconds, self.validation_losses[-1])
            self.curve.updates, self.curve.targets = self.updates, self.targets


@dataclass(frozen=True, slots=True)
class RaceOptions:
    """How each of the two trains; the recipe is the same but for what the way of training decides."""

    sequences: TrainingOptions
    windows: TrainingOptions
    batch: int = 128
    """Windows of an update."""
    points: int = 24
    """Of the windows' curve, about."""


def race(
    make: Callable[[], AttentionLSTM],
    history: Sequences,
    options: RaceOptions,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[LossCurve, LossCurve]:
    """Train twice from the same first weights; return the curves of sequences and of windows.

    Args:
        make: makes the network from torch's current seed; without neighbours, examples and seasonal lags.
        history: of the stream; the newest share is held out for both.
        options: of both.
        say: told now and then how far it is.
    """
    device = device_of(options.sequences.device)
    with settled(options.sequences.threads, device):
        torch.manual_seed(options.sequences.seed)
        slow = WindowedTrainer(make().to(device), history, options.windows, options.batch, device)
        turns = slow.points(max(1, slow.planned // options.points))
        torch.manual_seed(options.sequences.seed)
        fast = _sequences(make, history, options.sequences, device)
        fast.run(lambda epoch, epochs, *_: _turn(fast, slow, turns, epoch / epochs, say))
        for _ in turns:
            say(_standing(fast, slow))
    return fast.curve, slow.curve


def train_on_sequences(make: Callable[[], AttentionLSTM], history: Sequences, options: TrainingOptions) -> LossCurve:
    """Train on sequences alone; return how the held-out loss fell, a point an epoch."""
    device = device_of(options.device)
    with settled(options.threads, device):
        torch.manual_seed(options.seed)
        trainer = _sequences(make, history, options, device)
        trainer.run(None)
    return trainer.curve


def train_on_windows(
    make: Callable[[], AttentionLSTM], history: Sequences, options: TrainingOptions, batch: int, points: int
) -> LossCurve:
    """Train on windows alone; return how the held-out loss fell, with about so many points."""
    device = device_of(options.device)
    with settled(options.threads, device):
        torch.manual_seed(options.seed)
        trainer = WindowedTrainer(make().to(device), history, options, batch, device)
        for _ in trainer.points(max(1, trainer.planned // points)):
            pass
    return trainer.curve


def _sequences(
    make: Callable[[], AttentionLSTM], history: Sequences, options: TrainingOptions, device: torch.device
) -> TimedTrainer:
    split = round(history.steps * (1.0 - options.validation))
    return TimedTrainer(flatten(make().to(device)), history, split, options, device)


def _turn(
    fast: TimedTrainer, slow: WindowedTrainer, turns: Iterator[None], done: float, say: Callable[[str], None]
) -> None:
    """Let the windows catch up with the share of its epochs that the other has done."""
    with fast.watch.paused():
        while slow.curve.updates < done * slow.planned and next(turns, slow) is None:
            say(_standing(fast, slow))


def _standing(fast: TimedTrainer, slow: WindowedTrainer) -> str:
    ours, theirs = (
        f"{c.losses[-1] / c.baseline:.4f} after {c.seconds[-1]:.1f} s" if c.losses else "-"
        for c in (fast.curve, slow.curve)
    )
    return f"of the loss without a network: sequences {ours}, windows {theirs}"
