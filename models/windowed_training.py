"""Training on windows, as well as it can be done: what training on sequences is measured against.

Same modules, inputs, targets, loss, optimiser, schedule, average of the weights and spoiling; only here each target
set has a window of its own, which begins cold, and batches are drawn at random from all windows.

Legend: E entities, T steps, W window, B windows of a batch, C channels, N horizons, I inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from models.adamw import AdamW
from models.attention_lstm import AttentionLSTM
from models.sequences import Sequences
from models.training_batches import spoil
from models.training_curves import LossCurve, Stopwatch
from models.training_measure import schedule
from models.training_options import TrainingOptions
from models.windowed import forward_windows

EVALUATION_BATCH = 512


class WindowedTrainer:
    """Trains a network on shuffled windows."""

    def __init__(
        self, module: AttentionLSTM, sequences: Sequences, options: TrainingOptions, batch: int, device: torch.device
    ) -> None:
        """Take a new network.

        Args:
            module: on ``device``; without neighbours, examples and seasonal lags, which no window holds.
            sequences: of the whole history; the newest share is held out, as in ``models.training``.
            options: how to train; ``chunk`` is the length of the pieces that are spoiled, ``sequences`` means nothing.
            batch: windows of an update.
            device: that computes.
        """
        self.module, self.options, self.batch, self.device = module, options, batch, device
        self.average = copy.deepcopy(module).eval()
        self.window = module.sizes.window
        self.channels = sequences.channels
        self.steps = sequences.steps
        self.inputs = torch.from_numpy(sequences.inputs).to(device)  # [E, T, I]
        self.targets = torch.from_numpy(sequences.targets).flatten(0, 1).to(device)  # [E·T, C, N]
        self.mask = torch.from_numpy(sequences.mask).flatten(0, 1).to(device)
        self.learned, self.held_out = (torch.from_numpy(rows).to(device) for rows in self._rows(sequences))
        self.random = np.random.default_rng(options.seed)
        self.optimiser = AdamW(module.parameters(), options.weight_decay)
        self.planned = options.epochs * -(-len(self.learned) // batch)
        targets = self.targets[self.held_out]
        nothing = huber_loss(torch.zeros_like(targets), targets, reduction="none") * self.mask[self.held_out]
        self.held_out_targets = int(self.mask[self.held_out].sum())
        self.curve = LossCurve(float(nothing.double().sum()) / self.held_out_targets)

    def points(self, every: int) -> Iterator[None]:
        """Train for all epochs; pause at each point of the curve: after each ``every`` updates, and at the end.

        The curve counts the seconds of training only: neither those of evaluating nor those of a pause.
        """
        watch = Stopwatch()
        per_window = float(self.mask[self.learned].float().sum()) / len(self.learned)
        for _ in range(self.options.epochs):
            self.module.train()
            spoiled = self._spoiled()
            order = torch.from_numpy(self.random.permutation(len(self.learned))).to(self.device)
            for rows in self.learned[order].split(self.batch):
                self._update(self._loss(spoiled, rows))
                self.curve.targets += round(per_window * len(rows))
                if self.curve.updates % every == 0 or self.curve.updates == self.planned:
                    seconds = self._seconds(watch)
                    with watch.paused():
                        self.curve.add(seconds, self.evaluate())
                        yield
                        self.module.train()

    def _rows(self, sequences: Sequences) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows of [E·T] with targets before the held-out part, and those within it."""
        T = sequences.steps
        split = round(T * (1.0 - self.options.validation))
        there: NDArray[np.bool_] = np.any(sequences.mask, axis=(2, 3))
        there[:, : self.window - 1] = False  # those have no whole window
        before = there.copy()
        before[:, max(0, split - max(sequences.horizons)) :] = False  # their targets lie in the held-out part
        there[:, :split] = False
        return np.flatnonzero(before), np.flatnonzero(there)

    def _spoiled(self) -> Tensor:
        """Return [E·T, I] the history, spoiled in pieces from a random offset, as sequences are."""
        start = int(self.random.integers(0, self.options.chunk))
        cuts = [0, *range(start or self.options.chunk, self.steps, self.options.chunk), self.steps]
        parts = self.inputs.split([b - a for a, b in pairwise(cuts)], dim=1)
        options = self.options
        whole = torch.cat([spoil(part, self.channels, options.missing, options.jitter) for part in parts], dim=1)
        return whole.flatten(0, 1)

    def _windows(self, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, W, I] the windows of ``inputs`` [E·T, I] that end with ``rows``, and [B] rows of the embedding."""
        at = rows[:, None] + torch.arange(1 - self.window, 1, device=self.device)
        windows = inputs.index_select(0, at.flatten()).view(len(rows), self.window, -1)
        return windows, rows // self.steps + 1

    def _loss(self, inputs: Tensor, rows: Tensor) -> Tensor:
        corrections = forward_windows(self.module, *self._windows(inputs, rows))
        mask = self.mask[rows]
        return (huber_loss(corrections, self.targets[rows], reduction="none") * mask).sum() / mask.sum()

    def _update(self, loss: Tensor) -> None:
        options, curve = self.options, self.curve
        rate = options.learning_rate * schedule(curve.updates / self.planned, options.warm_up)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), options.clip, foreach=True)
        self.optimiser.step(rate)
        curve.updates += 1
        keep = min(options.averaging, (1 + curve.updates) / (10 + curve.updates))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.module.parameters()), 1.0 - keep)

    def _seconds(self, watch: Stopwatch) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return watch()

    @torch.inference_mode()
    def evaluate(self) -> float:
        """Return the held-out loss of the averaged weights, each target from its own window."""
        total = 0.0
        inputs = self.inputs.flatten(0, 1)
        for rows in self.held_out.split(EVALUATION_BATCH):
            corrections = forward_windows(self.average, *self._windows(inputs, rows))
            losses = huber_loss(corrections, self.targets[rows], reduction="none") * self.mask[rows]
            total += float(losses.double().sum())
        return total / self.held_out_targets
