"""Training on sequences: truncated back-propagation with carried state, early stop on the newest part of the history.

The trainer knows no architecture: it is given a function that makes the module, and calls it as
``module(inputs, carry, step0=…, entity=…, neighbours=…, admit=…) -> (corrections, carry)``. The carry is a dataclass of
tensors with ``detach()``; ``module.cold(B)`` makes one for B sequences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from models.sequences import Sequences
from models.training_devices import device_of, flatten, settled
from models.training_loop import Trainer
from models.training_options import (
    Limits,
    Progress,
    TooLittleHistoryError,
    TrainingDivergedError,
    TrainingOptions,
    TrainingReport,
)
from models.training_state import Checkpoint

FEWEST_TARGETS = 64
"""In the training part, below which nothing can be learned."""


def train(
    make: Callable[[], nn.Module],
    sequences: Sequences,
    options: TrainingOptions,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
    checkpoint: Checkpoint | None = None,
    limits: Limits | None = None,
) -> tuple[nn.Module, TrainingReport]:
    """Return the trained module, in evaluation mode on the CPU, and the report.

    Deterministic on the CPU for a seed and a number of threads, also across interruptions. Torch's global generator and
    thread count are left as they were.

    Args:
        make: makes the module from torch's current seed.
        sequences: of the whole history; the newest share is only validated on.
        options: how to train.
        progress: told after every epoch.
        clock: seconds, for the report, the time limit and how often the state is saved.
        checkpoint: where the state is saved, and from where it goes on if there is one of this training.
        limits: what may end it early.

    Raises:
        TooLittleHistoryError: if there are too few targets before or after the split.
        TrainingInterrupted: if the limits told it to stop.
        TrainingDivergedError: if no epoch gave a finite loss.
        MemoryError: if the device has not enough of it.
    """
    split = round(sequences.steps * (1.0 - options.validation))
    known = int(sequences.mask[:, : max(0, split - max(sequences.horizons))].sum())
    if known < FEWEST_TARGETS or not sequences.mask[:, split:].any():
        size = f"{sequences.steps} steps of {len(sequences.names)} entities"
        raise TooLittleHistoryError(f"{size} hold {known} targets to learn from")
    device = device_of(options.device)
    with settled(options.threads, device), _memory_told(device):
        torch.manual_seed(options.seed)
        module = flatten(make().to(device))
        limits = Limits() if limits is None else limits
        trainer = Trainer(module, sequences, split, options, device, checkpoint, limits, clock)
        trainer.run(progress)
    if trainer.best is None:
        raise TrainingDivergedError(f"the loss was not finite within {len(trainer.validation_losses)} epochs")
    return trainer.best.eval().to("cpu"), _report(trainer, known)


@contextmanager
def _memory_told(device: torch.device) -> Iterator[None]:
    """Turn what torch raises for want of memory into MemoryError; on a CPU it is a RuntimeError like any other."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(f"{device.type}: {error}") from error
        raise


def _report(trainer: Trainer, targets: int) -> TrainingReport:
    seconds, best = trainer.seconds, trainer.best_epoch
    return TrainingReport(
        epochs=len(trainer.train_losses),
        best_epoch=best,
        train_losses=tuple(trainer.train_losses),
        validation_losses=tuple(trainer.validation_losses),
        baseline=trainer.baseline,
        gain=1.0 - trainer.validation_losses[best - 1] / max(trainer.baseline, 1e-12),
        worthwhile=trainer.worthwhile,
        targets=targets,
        targets_per_s=targets * len(trainer.train_losses) / max(seconds, 1e-9),
        seconds=seconds,
        device=trainer.device.type,
        seed=trainer.options.seed,
        stopped=trainer.stopped,
        resumed=trainer.resumed,
    )
