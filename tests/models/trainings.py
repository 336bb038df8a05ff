"""Small trainings for the tests: something to learn, and a process that is killed while it learns."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch

from models.attention import AttentionProgram, SeasonalLag
from models.attention_lstm import AttentionLSTM
from models.features import input_width
from models.sequences import Sequences
from models.training import train
from models.training_options import Limits, TrainingOptions, TrainingReport
from models.training_state import Checkpoint
from models.weights import Sizes

OPTIONS = TrainingOptions(epochs=6, chunk=16, sequences=4, fewest_updates=0)


def sequences(steps: int = 600, entities: int = 2, signal: float = 1.0, seed: int = 0) -> Sequences:
    """Return inputs of noise and targets of which ``signal`` of the size follows from the last two inputs."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((entities, steps, input_width(1))).astype(np.float32)
    inputs[:, :, 2] = 1.0
    told = np.tanh(inputs[:, :, 0] - np.roll(inputs[:, :, 0], 1, axis=1))
    noise = rng.standard_normal((entities, steps))
    targets = (signal * told + (1.0 - signal) * noise)[:, :, None, None].astype(np.float32)
    admit = np.where(rng.random((entities, steps)) < 0.05, rng.integers(0, 2, (entities, steps)), -1).astype(np.int32)
    names = tuple(f"e{i}" for i in range(entities))
    neighbours = np.array([[1], [0]], np.int32)[:entities]
    return Sequences(names, 100, (1,), inputs, targets, np.ones(targets.shape, np.bool_), admit, neighbours)


def maker(entities: int = 2) -> Callable[[], AttentionLSTM]:
    sizes = Sizes(input_width(1), 1, 1, hidden=8, window=8, neighbours=1, representatives=2, entities=entities)
    return lambda: AttentionLSTM(sizes, AttentionProgram((SeasonalLag(12),)))


def trained(data: Sequences, **changes: object) -> tuple[torch.nn.Module, TrainingReport]:
    return train(maker(len(data.names)), data, replace(OPTIONS, **changes))  # type: ignore[arg-type]


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return copies of all parameters."""
    return [p.detach().clone() for p in module.parameters()]


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Return whether two networks are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def minutes() -> Callable[[], float]:
    """Return a clock that moves on a minute whenever it is asked."""
    ticks = count()
    return lambda: 60.0 * next(ticks)


def train_until_killed(folder: Path, chunks: int) -> None:
    """Save the state before every chunk, and die after so many, without a word."""
    asked = count()

    def stop() -> bool:
        if next(asked) == chunks:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    options = replace(OPTIONS, epochs=4)
    train(
        maker(), sequences(200), options, clock=minutes(), checkpoint=Checkpoint(folder, "k"), limits=Limits(stop=stop)
    )


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
