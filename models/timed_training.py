"""Training on sequences with a stopwatch: the trainer of ``models.training``, and how its held-out loss falls."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.sequences import Sequences
from models.training_curves import LossCurve, Stopwatch
from models.training_devices import device_of, flatten, settled
from models.training_loop import Trainer
from models.training_options import Limits, TrainingOptions


class TimedTrainer(Trainer):
    """Trains as ever, and notes the seconds of training, those of validating left out."""

    def __init__(
        self, module: nn.Module, sequences: Sequences, split: int, options: TrainingOptions, device: torch.device
    ) -> None:
        """Take a new network and start the watch."""
        limits = Limits(math.inf)
        super().__init__(module, sequences, split, options, device, None, limits, Stopwatch())
        self.curve = LossCurve(self.baseline)
        self._watch = Stopwatch()

    def _validate(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = self._watch()
        with self._watch.paused():
            super()._validate()
            self.curve.add(seconds, self.validation_losses[-1])
            self.curve.updates, self.curve.targets = self.updates, self.targets


def train_on_sequences(module: nn.Module, sequences: Sequences, options: TrainingOptions) -> LossCurve:
    """Train ``module`` on sequences; return how its held-out loss fell, a point an epoch.

    Args:
        module: new; trained in place.
        sequences: of the whole history.
        options: how to train.
    """
    device = device_of(options.device)
    split = round(sequences.steps * (1.0 - options.validation))
    with settled(options.threads, device):
        torch.manual_seed(options.seed)
        trainer = TimedTrainer(flatten(module.to(device)), sequences, split, options, device)
        trainer.run(None)
    return trainer.curve
