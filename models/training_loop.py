"""The loop of a training: epochs of chunks, an averaged copy of the weights, and a checkpoint from which it goes on.

All that the rest of a training depends on is in ``Trainer``'s tensors and numbers, so an interrupted one gives the same
weights as one that ran through: bit for bit on a CPU.

Legend: T steps, B sequences.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from models.adamw import AdamW
from models.sequences import Sequences
from models.training_batches import held_out, segments, spoil
from models.training_devices import Forward, autocast, compile_now, flatten
from models.training_measure import is_gain, schedule
from models.training_options import Limits, Progress, TrainingInterrupted, TrainingOptions
from models.training_state import Checkpoint

SAVE_EVERY_S = 60.0
"""Within an epoch; at its end the state is saved anyway."""
VALIDATION_CHUNK = 256
VALIDATION_ROWS = 65_536
"""Sequences × steps at once: what a chunk of thousands of entities needs would not fit beside the history."""


@dataclass(slots=True)
class Place:
    """Where in an epoch a training is."""

    start: int | None = None
    """The next step; None: the epoch has not begun."""
    carry: Any = None
    """The state of the sequences after the step before."""
    losses: Tensor | None = None
    """[] their sum so far, f64, on the device: asking for each would make a GPU wait."""
    chunks: int = 0
    """In the sum."""


class Trainer:
    """One training; the only one who calls ``train()`` and ``eval()``."""

    def __init__(
        self,
        module: nn.Module,
        sequences: Sequences,
        split: int,
        options: TrainingOptions,
        device: torch.device,
        checkpoint: Checkpoint | None,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.module, self.options, self.device = module, options, device
        self.channels = sequences.channels
        self.average = flatten(copy.deepcopy(module).eval())
        self.best: nn.Module | None = None
        reach = int(getattr(getattr(module, "layout", None), "reach", 0))
        self.batch = segments(sequences, split, options.sequences, max(4 * options.chunk, 2 * reach), device)
        self.newest = held_out(sequences, split, min(split, max(2 * reach, 4 * options.chunk)), device)
        self.random = np.random.default_rng(options.seed)
        self.optimiser = AdamW(module.parameters(), options.weight_decay)
        self.forward = Forward(module)
        self.per_epoch = -(-self.batch.steps // options.chunk)
        self.epochs = max(options.epochs, min(5 * options.epochs, -(-options.fewest_updates // self.per_epoch)))
        self.patience = options.patience * self.epochs // options.epochs
        self.checkpoint, self.limits = checkpoint, limits
        self._clock, self._began, self._saved, self._before_s = clock, clock(), clock(), 0.0
        self.updates = 0
        self.targets = 0  # gone over by this process
        self.place = Place()
        self.nothing, self.counts = self._losses(None), self.newest.counts
        self.worthwhile, self.stopped, self.resumed = False, "", False
        self.train_losses: list[float] = []
        self.validation_losses: list[float] = []

    @property
    def baseline(self) -> float:
        """The validation loss of correcting nothing."""
        return float(self.nothing.sum()) / max(int(self.counts.sum()), 1)

    @property
    def seconds(self) -> float:
        """How long it has trained, before interruptions too."""
        return self._before_s + self._clock() - self._began

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation loss, from 1; 0 while there is none."""
        finite = [loss for loss in self.validation_losses if math.isfinite(loss)]
        return self.validation_losses.index(min(finite)) + 1 if finite else 0

    def run(self, progress: Progress | None) -> None:
        """Train until the epochs are done, the validation loss stops falling, or a limit is met.

        Raises:
            TrainingInterrupted: if it was told to stop; the state is in the checkpoint.
        """
        self._resume()
        if self.options.compile == "on":
            self.forward.compile()
        while not self._over():
            began_s, epoch = self.seconds, len(self.train_losses)
            self.train_losses.append(self._epoch())
            self._validate()
            self.place = Place()
            self._save()
            if progress is not None:
                progress(epoch + 1, self.epochs, self.train_losses[-1], self.validation_losses[-1], self.baseline)
            if epoch == 0 and self.options.compile == "auto":
                remaining_s = (self.seconds - began_s) * (self.epochs - 1)
                if compile_now("auto", self.device, remaining_s):
                    self.forward.compile()

    def _over(self) -> bool:
        done = len(self.validation_losses)
        if done and not math.isfinite(self.validation_losses[-1]):
            self.stopped = "diverged"
        elif done and self.seconds >= self.limits.seconds and self.place.start is None:
            self.stopped = "time"
        return bool(self.stopped) or done >= self.epochs or done - self.best_epoch >= self.patience

    def _epoch(self) -> float:
        """Go over the training part, from a random offset or where an interruption was; return the mean loss."""
        self.module.train()
        options, place = self.options, self.place
        if place.start is None:
            free = min(options.chunk, max(1, self.batch.steps - options.chunk))
            place.start = int(self.random.integers(0, free))
            place.losses = torch.zeros((), dtype=torch.float64, device=self.device)
        assert place.losses is not None
        for piece in self.batch.pieces(place.start, options.chunk):
            if self._halted():
                break
            inputs = spoil(piece.inputs, self.channels, options.missing, options.jitter)
            with autocast(options.precision, self.device):
                corrections, carry = self.batch.run(self.forward, piece, inputs, place.carry)
            stop = piece.start + inputs.shape[1]
            targets = int(self.batch.counts[piece.start : stop].sum())
            if targets:  # the mean over nothing is 0/0
                losses = huber_loss(corrections.float(), piece.targets, reduction="none") * piece.mask
                loss = losses.sum() / targets
                self._update(loss)
                self.targets += targets
                place.losses += loss.detach()
                place.chunks += 1
            place.carry, place.start = carry.detach(), stop  # type: ignore[attr-defined]
        return float(place.losses) / place.chunks if place.chunks else math.nan

    def _halted(self) -> bool:
        """Return whether the epoch ends here; save the state now and then."""
        if self.limits.stop():
            self._save()
            raise TrainingInterrupted(f"stopped in epoch {len(self.train_losses) + 1} of {self.epochs}")
        if self._clock() - self._saved >= SAVE_EVERY_S:
            self._save()
        if self.seconds >= self.limits.seconds and self.updates:
            self.stopped = "time"
        return bool(self.stopped)

    def _update(self, loss: Tensor) -> None:
        """Take one step of the optimiser and move the average of the weights."""
        options = self.options
        rate = options.learning_rate * schedule(self.updates / (self.epochs * self.per_epoch), options.warm_up)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), options.clip, foreach=True)
        self.optimiser.step(rate)
        self.updates += 1
        keep = min(options.averaging, (1 + self.updates) / (10 + self.updates))  # short at first, as after Polyak
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.module.parameters()), 1.0 - keep)

    def _validate(self) -> None:
        """Note the loss of the averaged weights, and keep them if they are the best so far."""
        ours = self._losses(self.average)
        self.validation_losses.append(float(ours.sum()) / max(int(self.counts.sum()), 1))
        if self.best_epoch == len(self.validation_losses):
            self.worthwhile = is_gain(ours, self.nothing, self.counts)
            self.best = copy.deepcopy(self.average)

    @torch.inference_mode()
    def _losses(self, module: nn.Module | None) -> Any:
        """Return [T] the summed losses of the held-out steps, by ``module`` or by correcting nothing."""
        carry: object = None
        losses: list[Tensor] = []
        chunk = max(1, min(VALIDATION_CHUNK, VALIDATION_ROWS // len(self.newest)))
        for piece in self.newest.pieces(0, chunk):
            corrections = torch.zeros_like(piece.targets)
            if module is not None:
                corrections, carry = self.newest.run(module, piece, piece.inputs, carry)
            loss = huber_loss(corrections, piece.targets, reduction="none") * piece.mask
            losses.append(loss.sum(dim=(0, 2, 3)))
        return torch.cat(losses).cpu().numpy()

    # ---- the checkpoint ----

    def _save(self) -> None:
        self._saved = self._clock()
        if self.checkpoint is None:
            return
        tensors = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        if self.best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.state_dict().items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.tensors().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        if self.place.losses is not None:
            tensors["place.losses"] = self.place.losses
        if self.place.carry is not None:
            carry = self.place.carry
            tensors |= {f"carry.{field.name}": getattr(carry, field.name) for field in fields(carry)}
        numbers = {
            "seconds": self.seconds,
            "updates": self.updates,
            "start": self.place.start,
            "chunks": self.place.chunks,
            "random": self.random.bit_generator.state,
            "worthwhile": self.worthwhile,
            "train_losses": self.train_losses,
            "validation_losses": self.validation_losses,
        }
        self.checkpoint.write(tensors, numbers)

    def _resume(self) -> None:
        found = self.checkpoint.read() if self.checkpoint is not None else None
        if found is None or not self._is_ours(found[0]):
            return
        tensors, numbers = found

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.module.load_state_dict(part("module."))
        self.average.load_state_dict(part("average."))
        if best := part("best."):
            self.best = copy.deepcopy(self.average)
            self.best.load_state_dict(best)
        self.optimiser.load(part("optimiser."))
        self.random.bit_generator.state = numbers["random"]
        self.place = Place(numbers["start"], None, tensors.get("place.losses"), numbers["chunks"])
        if self.place.losses is not None:
            self.place.losses = self.place.losses.to(self.device)
        if carry := part("carry."):
            cold: Any = self.module.cold(len(self.batch))
            self.place.carry = replace(cold, **{name: tensor.to(self.device) for name, tensor in carry.items()})
        self._before_s, self.updates = float(numbers["seconds"]), int(numbers["updates"])
        self.worthwhile = bool(numbers["worthwhile"])
        self.train_losses = list(numbers["train_losses"])
        self.validation_losses = list(numbers["validation_losses"])
        self.resumed = True
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    def _is_ours(self, tensors: dict[str, Tensor]) -> bool:
        """Return whether the weights in there fit: a newer version of the network may have other shapes."""
        wanted = {f"{who}.{n}": t.shape for who in ("module", "average") for n, t in self.module.state_dict().items()}
        there = {name: t.shape for name, t in tensors.items() if name.startswith(("module.", "average."))}
        return there == wanted
