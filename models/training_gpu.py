"""Training on a device, measured: entity-steps a second, and the share of the time in which the device waits.

The wait is what the kernels of some updates, as the profiler adds them up, leave of the time that as many updates take
without the profiler, which would slow the processor down that launches them.

Legend: E entities, T steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from models.sequences import Sequences
from models.training import train
from models.training_devices import device_of, flatten, settled
from models.training_loop import Place, Trainer
from models.training_options import Limits, TrainingOptions


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """What a training on a device came to."""

    device: str
    entities: int
    steps: int
    """Of each entity, those held out included."""
    epochs: int
    seconds: float
    """Of the whole training, from arrays in memory to the best network."""
    gain: float
    entity_steps_per_s: float
    """Of the updates alone: steps gone over by the seconds of an epoch."""
    waiting_share: float
    """Of an epoch's time in which no kernel ran; on a CPU what Python took."""


def gpu_name() -> str | None:
    """Return the name of the GPU that trainings would use; None if there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def many(sequences: Sequences, entities: int, seed: int = 0) -> Sequences:
    """Return ``entities`` sequences made of those given, each a little different from its model."""
    rng = np.random.default_rng(seed)
    rows = np.arange(entities) % len(sequences.names)
    inputs = sequences.inputs[rows]
    inputs += rng.normal(0.0, 0.05, (entities, 1, inputs.shape[2])).astype(np.float32)
    return replace(
        sequences,
        names=tuple(f"entity-{i}" for i in range(entities)),
        inputs=inputs,
        targets=sequences.targets[rows],
        mask=sequences.mask[rows],
        admit=sequences.admit[rows],
        neighbours=np.full((entities, 0), -1, np.int32),
    )


def measure(make: Callable[[], nn.Module], sequences: Sequences, options: TrainingOptions) -> DeviceFigures:
    """Train once as ``models.training`` does, then measure an epoch of updates.

    Args:
        make: makes the network from torch's current seed.
        sequences: of the whole history.
        options: how to train, and on which device.
    """
    device = device_of(options.device)
    _, report = train(make, sequences, options)
    split = round(sequences.steps * (1.0 - options.validation))
    with settled(options.threads, device):
        torch.manual_seed(options.seed)
        module = flatten(make().to(device))
        trainer = Trainer(module, sequences, split, options, device, None, Limits(), time.perf_counter)
        epoch_s(trainer)  # the first one plans and allocates
        wall_s = min(epoch_s(trainer) for _ in range(2))
        busy_s = kernel_s(lambda: epoch_s(trainer), device)
    steps = len(trainer.batch) * trainer.batch.steps
    return DeviceFigures(
        device=device.type,
        entities=len(sequences.names),
        steps=sequences.steps,
        epochs=report.epochs,
        seconds=report.seconds,
        gain=report.gain,
        entity_steps_per_s=steps / wall_s,
        waiting_share=max(0.0, 1.0 - busy_s / wall_s),
    )


def epoch_s(trainer: Trainer) -> float:
    """Return the seconds that one epoch of updates takes, until the device has done the last."""
    began = time.perf_counter()
    trainer._epoch()
    trainer.place = Place()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - began


def kernel_s(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that the device's own kernels take of ``run``; on a CPU, those of torch's operations."""
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        run()
    events = profiler.key_averages()
    if device.type == "cuda":
        return sum(float(event.self_device_time_total) for event in events) / 1e6
    return sum(float(event.self_cpu_time_total) for event in events) / 1e6
