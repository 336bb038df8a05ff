"""Training on sequences: truncated back-propagation with carried state, early stop on the newest part of the history.

The trainer knows no architecture: it is given a function that makes the module, and calls it as
``module(inputs, carry, step0=…, entity=…, neighbours=…, admit=…) -> (corrections, carry)``.

Legend: E entities, T steps, S segments, B = S·E sequences, C channels, N horizons, I inputs, K neighbours.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from models.features import BLOCKS, block
from models.sequences import Sequences

VALIDATION_CHUNK = 256
VALIDATION_BLOCKS = 20  # in which the gain is reckoned, for its standard error
FEWEST_TARGETS = 64  # in the training part, below which nothing can be learned

Progress = Callable[[int, int, float, float, float], None]
"""Called after each epoch: epoch from 1, epochs, training loss, validation loss, loss of correcting nothing."""


class TooLittleHistoryError(ValueError):
    """There is nothing to learn from; the message says how much there is."""


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
    device: str
    seed: int


@dataclass(slots=True)
class _Batch:
    """Sequences side by side, as tensors; row b of the targets belongs to row b of the inputs."""

    inputs: Tensor  # [B, T, I]
    targets: Tensor  # [B, T, C, N]
    mask: Tensor  # [B, T, C, N]
    admit: Tensor  # [B, T]
    neighbours: Tensor | None  # [B, K]
    entity: Tensor  # [B]
    step0: Tensor  # [B]

    def run(self, module: nn.Module, inputs: Tensor, start: int, carry: object) -> tuple[Tensor, object]:
        """Run ``module`` over ``inputs``, which are those of the steps from ``start``, perhaps spoiled."""
        return module(
            inputs,
            carry,
            step0=self.step0 + start,
            entity=self.entity,
            neighbours=self.neighbours,
            admit=self.admit[:, start : start + inputs.shape[1]],
        )


def train(
    make: Callable[[], nn.Module],
    sequences: Sequences,
    options: TrainingOptions,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[nn.Module, TrainingReport]:
    """Return the trained module, in evaluation mode on the CPU, and the report.

    Deterministic on the CPU for a seed and a number of threads. Torch's global generator and thread count are left as
    they were.

    Args:
        make: makes the module from torch's current seed.
        sequences: of the whole history; the newest share is only validated on.
        options: how to train.
        progress: told after every epoch.
        clock: seconds, for the report only.

    Raises:
        TooLittleHistoryError: if there are too few targets before or after the split.
    """
    began = clock()
    device = _device(options.device)
    split = round(sequences.steps * (1.0 - options.validation))
    known = int(sequences.mask[:, : max(0, split - max(sequences.horizons))].sum())
    if known < FEWEST_TARGETS or not sequences.mask[:, split:].any():
        size = f"{sequences.steps} steps of {len(sequences.names)} entities"
        raise TooLittleHistoryError(f"{size} hold {known} targets to learn from")
    with _threads(options.threads), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        module = make().to(device)
        trainer = _Trainer(module, sequences, split, options, device)
        trainer.run(progress)
    seconds = clock() - began
    best = min(range(len(trainer.validation_losses)), key=trainer.validation_losses.__getitem__)
    report = TrainingReport(
        epochs=len(trainer.train_losses),
        best_epoch=best + 1,
        train_losses=tuple(trainer.train_losses),
        validation_losses=tuple(trainer.validation_losses),
        baseline=trainer.baseline,
        gain=1.0 - trainer.validation_losses[best] / max(trainer.baseline, 1e-12),
        worthwhile=trainer.worthwhile,
        targets=known,
        targets_per_s=known * len(trainer.train_losses) / max(seconds, 1e-9),
        seconds=seconds,
        device=device.type,
        seed=options.seed,
    )
    return trainer.best.eval().to("cpu"), report


class _Trainer:
    """One training run; the only one who calls ``train()`` and ``eval()``."""

    def __init__(
        self, module: nn.Module, sequences: Sequences, split: int, options: TrainingOptions, device: torch.device
    ) -> None:
        self.module, self.options, self.device = module, options, device
        self.channels = sequences.channels
        self.average = copy.deepcopy(module).eval()
        self.best = self.average
        lags = int(getattr(getattr(module, "layout", None), "reach", 0))
        self.batch = _segments(sequences, split, options, lags, device)
        warm = min(split, max(2 * lags, 4 * options.chunk))
        self.held_out = _tensors(sequences, slice(split - warm, sequences.steps), device)
        self.held_out.mask[:, :warm] = False
        self.random = np.random.default_rng(options.seed)
        decay = options.weight_decay
        self.optimiser = torch.optim.AdamW(module.parameters(), options.learning_rate, weight_decay=decay)
        self.updates = 0
        self.per_epoch = -(-self.batch.inputs.shape[1] // options.chunk)
        self.epochs = max(options.epochs, min(5 * options.epochs, -(-options.fewest_updates // self.per_epoch)))
        self.patience = options.patience * self.epochs // options.epochs
        self.baseline = 0.0
        self.worthwhile = False
        self.train_losses: list[float] = []
        self.validation_losses: list[float] = []

    def run(self, progress: Progress | None) -> None:
        """Train until the epochs are done or the validation loss stops falling."""
        lowest, since = math.inf, 0
        for epoch in range(self.epochs):
            self.train_losses.append(self._epoch())
            loss, baseline, sure = self._validate()
            self.validation_losses.append(loss)
            self.baseline = baseline
            if progress is not None:
                progress(epoch + 1, self.epochs, self.train_losses[-1], loss, baseline)
            since += 1
            if loss < lowest:
                lowest, since, self.worthwhile = loss, 0, sure
                self.best = copy.deepcopy(self.average)
            if since >= self.patience:
                return

    def _epoch(self) -> float:
        """Go over the training part once, from a random offset; return the mean loss."""
        self.module.train()
        chunk, steps = self.options.chunk, self.batch.inputs.shape[1]
        start = int(self.random.integers(0, min(chunk, max(1, steps - chunk))))
        carry, losses = None, []
        while start < steps:
            stop = min(start + chunk, steps)
            inputs = spoil(self.batch.inputs[:, start:stop], self.channels, self.options)
            corrections, carry = self.batch.run(self.module, inputs, start, carry)
            carry = carry.detach()  # type: ignore[attr-defined]
            mask = self.batch.mask[:, start:stop]
            if bool(mask.any()):  # the mean over nothing is 0/0
                loss = huber_loss(corrections[mask], self.batch.targets[:, start:stop][mask])
                self._update(loss)
                losses.append(float(loss.detach()))
            start = stop
        return float(np.mean(losses)) if losses else math.nan

    def _update(self, loss: Tensor) -> None:
        """Take one step of the optimiser and move the average of the weights."""
        options = self.options
        total = self.epochs * self.per_epoch
        for group in self.optimiser.param_groups:
            group["lr"] = options.learning_rate * schedule(self.updates / total, options.warm_up)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), options.clip)
        self.optimiser.step()
        self.updates += 1
        keep = min(options.averaging, (1 + self.updates) / (10 + self.updates))  # short at first, as after Polyak
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.module.parameters(), strict=True):
                mean.lerp_(new, 1.0 - keep)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float, bool]:
        """Return the loss of the averaged weights, that of correcting nothing, whether the gain is beyond chance."""
        held_out, steps = self.held_out, self.held_out.inputs.shape[1]
        carry: object = None
        ours: list[NDArray[np.float32]] = []
        nothing: list[NDArray[np.float32]] = []
        counts: list[NDArray[np.int64]] = []
        for start in range(0, steps, VALIDATION_CHUNK):
            stop = min(start + VALIDATION_CHUNK, steps)
            corrections, carry = held_out.run(self.average, held_out.inputs[:, start:stop], start, carry)
            mask, targets = held_out.mask[:, start:stop], held_out.targets[:, start:stop]
            for guess, losses in ((corrections, ours), (torch.zeros_like(targets), nothing)):
                losses.append((huber_loss(guess, targets, reduction="none") * mask).sum(dim=(0, 2, 3)).cpu().numpy())
            counts.append(mask.sum(dim=(0, 2, 3)).cpu().numpy())
        return _gain(np.concatenate(ours), np.concatenate(nothing), np.concatenate(counts))


def _gain(
    ours: NDArray[np.float32], nothing: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[float, float, bool]:
    """Return both mean losses, and whether ours is lower by more than the standard error over blocks of time.

    Args:
        ours: [T] summed losses of each step.
        nothing: [T] likewise, without a correction.
        counts: [T] targets of each step.
    """
    total = max(int(counts.sum()), 1)
    there = np.flatnonzero(counts)
    gains = [float((nothing[part] - ours[part]).sum()) for part in np.array_split(there, VALIDATION_BLOCKS)]
    error = float(np.std(gains, ddof=1)) * math.sqrt(VALIDATION_BLOCKS)  # of the sum of the blocks
    return float(ours.sum()) / total, float(nothing.sum()) / total, sum(gains) > error


def schedule(done: float, warm_up: float) -> float:
    """Return the factor on the learning rate after a share ``done`` of the updates: a ramp, then half a cosine.

    >>> [round(schedule(d, 0.15), 2) for d in (0.0, 0.15, 0.575, 1.0)]
    [0.0, 1.0, 0.5, 0.0]
    """
    if done < warm_up:
        return done / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (done - warm_up) / (1.0 - warm_up))))


def spoil(inputs: Tensor, channels: int, options: TrainingOptions) -> Tensor:
    """Return inputs as a bad day would bring them: noise, values missing here and there, channels and neighbours gone.

    Args:
        inputs: [B, T, I], see ``models.features``; not changed.
        channels: C.
        options: how bad.
    """
    B, T, _ = inputs.shape
    own = [inputs[:, :, block(channels, i)] for i in range(BLOCKS)]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=inputs.device)

    there = own[2] * (rand(B, T, channels) >= 2.0 * options.missing * rand(B, 1, 1))
    there = there * (rand(B, 1, channels) >= options.missing / channels)
    near = (rand(B, 1, 1) >= options.missing).to(inputs.dtype)
    level, change = (part + options.jitter * torch.randn_like(part) for part in own[:2])
    rest = inputs[:, :, BLOCKS * channels :]
    return torch.cat([level * there, change * there, there, own[3] * near, own[4] * near, rest], dim=2)


def _segments(sequences: Sequences, split: int, options: TrainingOptions, lags: int, device: torch.device) -> _Batch:
    """Return the training part, cut into segments side by side so that there are enough sequences in parallel.

    Segments begin cold, so they are long enough to reach back over every lag twice.
    """
    E = len(sequences.names)
    wanted = -(-options.sequences // max(E, 1))
    S = max(1, min(wanted, split // max(4 * options.chunk, 2 * lags)))
    length = split // S
    horizon = max(sequences.horizons)
    parts = []
    for i in range(S):
        stop = split - (S - 1 - i) * length
        parts.append(_tensors(sequences, slice(stop - length, stop), device))
    parts[-1].mask[:, max(0, length - horizon) :] = False  # their targets lie in the held-out part
    neighbours = [p.neighbours for p in parts if p.neighbours is not None]
    shifted = [torch.where(n >= 0, n + i * E, -1) for i, n in enumerate(neighbours)]
    return _Batch(
        inputs=torch.cat([p.inputs for p in parts]),
        targets=torch.cat([p.targets for p in parts]),
        mask=torch.cat([p.mask for p in parts]),
        admit=torch.cat([p.admit for p in parts]),
        neighbours=torch.cat(shifted) if shifted else None,
        entity=torch.cat([p.entity for p in parts]),
        step0=torch.cat([p.step0 for p in parts]),
    )


def _tensors(sequences: Sequences, steps: slice, device: torch.device) -> _Batch:
    """Return copies of some steps of all entities; entity e has row e + 1 of the embedding."""
    E = len(sequences.names)

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[:, steps]).copy()).to(device)

    neighbours = torch.from_numpy(sequences.neighbours.astype(np.int64)).to(device)
    return _Batch(
        tensor(sequences.inputs),
        tensor(sequences.targets),
        tensor(sequences.mask),
        tensor(sequences.admit.astype(np.int64)),
        neighbours if neighbours.shape[1] else None,
        torch.arange(1, E + 1, device=device),
        torch.full((E,), sequences.step0 + steps.start, device=device),
    )


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
