"""How a training is asked for, what may end it, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.training_devices import Compile, Precision

Progress = Callable[[int, int, float, float, float], None]
"""Called after each epoch: epoch from 1, epochs, training loss, validation loss, loss of correcting nothing."""


class TooLittleHistoryError(ValueError):
    """There is nothing to learn from; the message says how much there is."""


class TrainingDivergedError(ArithmeticError):
    """The losses are not finite, and nothing before was worth keeping."""


class TrainingInterrupted(Exception):
    """It was told to stop, and did; its checkpoint, if it has one, is where it goes on."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train; the defaults are the recipe that was measured to work."""

    epochs: int = 20
    chunk: int = 32
    """Steps of truncated back-propagation. Long chunks give too few updates."""
    sequences: int = 16
    """Cut the history into segments until there are at least so many sequences in parallel."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.15
    """Share of the updates in which the learning rate rises; then it falls along a cosine."""
    clip: float = 1.0
    averaging: float = 0.99
    """Of the moving average of the weights, which is what is validated and returned."""
    missing: float = 0.1
    """Mean share of values hidden from the network; and share of sequences in which a whole channel is."""
    jitter: float = 0.05
    """Standard deviation of the noise on levels and changes, in scale units."""
    validation: float = 0.2
    """Newest share of the steps, held out."""
    patience: int = 5
    """Epochs without a better validation loss before stopping."""
    fewest_updates: int = 300
    """A short history is gone over more often, so that there are about so many updates; patience grows alike."""
    threads: int = 1
    """Of torch on the CPU. The steps are small: on a busy machine a second thread makes them ten times slower."""
    seed: int = 0
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: Precision = "auto"
    """Of the forward pass: ``auto`` is bf16 on a GPU that has it, else f32. Validation is always f32."""
    compile: Compile = "auto"
    """``auto`` compiles on a GPU, once the first epoch has shown that the rest is long enough for it to pay."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may end a training before its time; asked before each chunk."""

    seconds: float = math.inf
    """Of training, those before an interruption included; then the best network so far is taken."""
    stop: Callable[[], bool] = lambda: False
    """Whether to write the checkpoint and raise TrainingInterrupted."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What came of it."""

    epochs: int
    """Done."""
    best_epoch: int
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    """Huber, of the averaged weights; one per epoch."""
    baseline: float
    """Validation loss of correcting nothing, that is of the linear forecast alone."""
    gain: float
    """1 - best validation loss / baseline; 0.05 is 5 % better than the linear forecast."""
    worthwhile: bool
    """Whether the gain is positive by more than its standard error; if not, the linear forecast alone is as good."""
    targets: int
    """In the training part."""
    targets_per_s: float
    seconds: float
    """Of training, those before an interruption included."""
    device: str
    seed: int
    stopped: str = ""
    """What ended it early: "time", "diverged"; empty if nothing did but patience."""
    resumed: bool = False
    """Whether it went on from a checkpoint."""
