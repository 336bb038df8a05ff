"""The history as batches: segments side by side, time first, cut into pieces on the device that trains.

Legend: E entities, T steps, t steps of a piece, S segments, B = S·E sequences, C channels, N horizons, I inputs,
K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.features import BLOCKS, block
from models.sequences import Sequences

RESIDENT_SHARE = 0.5
"""Of a GPU's free memory: history that fits into it lies there; more is copied piece by piece while it computes."""


@dataclass(slots=True)
class Piece:
    """Some steps of all sequences, on the device; row b of the targets belongs to row b of the inputs."""

    start: int
    inputs: Tensor  # [B, t, I]
    targets: Tensor  # [B, t, C, N]
    mask: Tensor  # [B, t, C, N]
    admit: Tensor  # [B, t]

    def tensors(self) -> list[Tensor]:
        """Return all of them."""
        return [getattr(self, field.name) for field in fields(self) if field.name != "start"]


class Batch:
    """Sequences side by side. Large arrays are time first, so that a piece is one stretch of memory."""

    def __init__(
        self, sequences: Sequences, parts: list[slice], device: torch.device, mute: Callable[[int], slice]
    ) -> None:
        """Copy ``parts`` (slices of steps, equally long) of all entities side by side.

        Args:
            sequences: what to take from.
            parts: one per segment; entity e has row e + 1 of the embedding in each.
            device: that computes.
            mute: segment to the steps of it, from its own start, whose targets do not count.
        """
        E, S = len(sequences.names), len(parts)
        self.device = device
        self.steps = parts[0].stop - parts[0].start
        mask = _side_by_side(sequences.mask, parts)
        for i in range(S):
            mask[mute(i), i * E : (i + 1) * E] = False
        self.counts: NDArray[np.int64] = mask.sum(axis=(1, 2, 3), dtype=np.int64)
        """[T] targets of each step; on the CPU, so that nobody waits for a GPU to know them."""
        arrays = [_side_by_side(a, parts) for a in (sequences.inputs, sequences.targets)]
        arrays += [mask, _side_by_side(sequences.admit, parts)]
        self._resident = _fits(sum(a.nbytes for a in arrays), device)
        self._large = [self._keep(torch.from_numpy(a)) for a in arrays]
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" and not self._resident else None
        K = sequences.neighbours.shape[1]
        rows = sequences.neighbours.astype(np.int64)
        shifted = np.concatenate([np.where(rows >= 0, rows + i * E, -1) for i in range(S)])
        self.neighbours = torch.from_numpy(shifted).to(device) if K else None  # [B, K]
        self.entity = torch.arange(1, E + 1, device=device).repeat(S)  # [B]
        starts = np.repeat([sequences.step0 + part.start for part in parts], E)
        self.step0 = torch.from_numpy(starts.astype(np.int64)).to(device)  # [B]

    def __len__(self) -> int:
        """Return B."""
        return len(self.entity)

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """Yield pieces of ``size`` steps from ``start`` to the end, the last one perhaps shorter."""
        starts = range(start, self.steps, size)
        ahead = self._piece(starts[0], size) if len(starts) else None
        for i in range(len(starts)):
            assert ahead is not None
            piece, ahead = ahead, None
            if self._copying is not None:
                now = torch.cuda.current_stream(self.device)
                now.wait_stream(self._copying)
                for tensor in piece.tensors():
                    tensor.record_stream(now)
            if i + 1 < len(starts):
                ahead = self._piece(starts[i + 1], size)
            yield piece

    def run(
        self, forward: Callable[..., tuple[Tensor, object]], piece: Piece, inputs: Tensor, carry: object
    ) -> tuple[Tensor, object]:
        """Run a network over ``piece``, with ``inputs`` which are its own, perhaps spoiled."""
        return forward(
            inputs,
            carry,
            step0=self.step0 + piece.start,
            entity=self.entity,
            neighbours=self.neighbours,
            admit=piece.admit,
        )

    def _piece(self, start: int, size: int) -> Piece:
        with torch.cuda.stream(self._copying):  # a null context without one
            cut = [a[start : start + size].to(self.device, non_blocking=True).transpose(0, 1) for a in self._large]
            return Piece(start, cut[0], cut[1], cut[2], cut[3].long())

    def _keep(self, tensor: Tensor) -> Tensor:
        if self._resident:
            return tensor.to(self.device)
        return tensor.pin_memory()  # only pinned memory is copied while the GPU computes


def _side_by_side(array: NDArray[np.generic], parts: list[slice]) -> NDArray[np.generic]:
    """Return a copy [T, S·E, …] of the parts of [E, T, …]."""
    E, length = array.shape[0], parts[0].stop - parts[0].start
    out = np.empty((length, len(parts) * E, *array.shape[2:]), array.dtype)
    for i, part in enumerate(parts):
        out[:, i * E : (i + 1) * E] = np.swapaxes(array[:, part], 0, 1)
    return out


def _fits(size_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size_bytes <= RESIDENT_SHARE * free


def segments(sequences: Sequences, split: int, wanted: int, least: int, device: torch.device) -> Batch:
    """Return the steps before ``split``, cut into segments so that there are enough sequences in parallel.

    Args:
        sequences: of the whole history.
        split: the first step that is held out; targets that lie in it do not count.
        wanted: sequences, at least, if the history is long enough.
        least: steps of a segment. Segments begin cold, so they should reach back over every lag twice.
        device: that computes.
    """
    S = max(1, min(-(-wanted // max(len(sequences.names), 1)), split // max(least, 1)))
    length = split // S
    parts = [slice(split - (S - i) * length, split - (S - 1 - i) * length) for i in range(S)]
    last = max(0, length - max(sequences.horizons))
    return Batch(sequences, parts, device, lambda i: slice(last if i == S - 1 else length, None))


def held_out(sequences: Sequences, split: int, warm: int, device: torch.device) -> Batch:
    """Return the steps from ``split``, after ``warm`` steps that only warm the state up."""
    return Batch(sequences, [slice(split - warm, sequences.steps)], device, lambda _: slice(0, warm))


def spoil(inputs: Tensor, channels: int, missing: float, jitter: float) -> Tensor:
    """Return inputs as a bad day would bring them: noise, values missing here and there, channels and neighbours gone.

    Args:
        inputs: [B, T, I], see ``models.features``; not changed.
        channels: C.
        missing: mean share of values hidden; and share of sequences in which a whole channel is.
        jitter: standard deviation of the noise on levels and changes.
    """
    B, T, _ = inputs.shape
    own = [inputs[:, :, block(channels, i)] for i in range(BLOCKS)]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=inputs.device)

    there = own[2] * (rand(B, T, channels) >= 2.0 * missing * rand(B, 1, 1))
    there = there * (rand(B, 1, channels) >= missing / channels)
    near = (rand(B, 1, 1) >= missing).to(inputs.dtype)
    level, change = (part + jitter * torch.randn(part.shape, device=part.device) for part in own[:2])
    rest = inputs[:, :, BLOCKS * channels :]
    return torch.cat([level * there, change * there, there, own[3] * near, own[4] * near, rest], dim=2)
