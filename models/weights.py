"""The network's sizes and weights as plain numpy arrays: what training writes and streaming reads, without torch.

Legend: I inputs, D embedding width, V embedding rows, H hidden, A heads, M memory positions, F head width, C channels,
N horizons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.attention import AttentionProgram, MemoryLayout, heads_of
from models.storage_kinds import decode, encode

EMBEDDING = 4
"""D. Wider ones did not pay for sites by the dozen."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides the shapes of all weights, but for the program's lags."""

    inputs: int
    channels: int
    horizons: int
    hidden: int = 32
    window: int = 64
    kind: str = "scaled_dot"
    heads: int = 1
    neighbours: int = 0
    representatives: int = 0
    entities: int = 0
    """Entities known by name; row 0 of the embedding stands for every other one."""

    def __post_init__(self) -> None:
        """Refuse sizes that fit no network: they come from files.

        Raises:
            ValueError: if a size is no whole number or out of its range, the kind is unknown, or the heads do not fit.
        """
        for size in fields(self):
            if size.name != "kind" and type(getattr(self, size.name)) is not int:
                raise ValueError(f"{size.name} must be a whole number, got {getattr(self, size.name)!r}")
        for name in ("inputs", "channels", "horizons", "hidden", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("neighbours", "representatives", "entities"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        object.__setattr__(self, "heads", heads_of(self.kind, self.heads, self.hidden))

    def layout(self, program: AttentionProgram) -> MemoryLayout:
        """Return the memory's layout under ``program``."""
        return MemoryLayout(self.window, program, self.neighbours, self.representatives)


@dataclass(frozen=True, slots=True)
class Weights:
    """Everything that the streaming form needs; float32, finite but for -inf in ``bias``.

    The gates lie side by side as input, forget, candidate, output, with the candidate's columns doubled: then all four
    are one sigmoid, for tanh x = 2σ(2x) − 1. Scaling of the scores is folded into ``query``.
    """

    sizes: Sizes
    program: AttentionProgram
    gates: NDArray[np.float32]
    """[I + D + H + 1, 4H]; the last row is the bias."""
    embedding: NDArray[np.float32]
    """[V, D]."""
    query: NDArray[np.float32]
    """[H, A·H]: q_a = h_t · query_a, score = q_a · h_m + bias."""
    bias: NDArray[np.float32]
    """[A, M], learned and the program's."""
    head_in: NDArray[np.float32]
    """[(1 + A)·H + 1, F]; the last row is the bias."""
    head_out: NDArray[np.float32]
    """[F + 1, C·N]; the last row is the bias."""

    ARRAYS = ("gates", "embedding", "query", "bias", "head_in", "head_out")

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit the sizes: they come from files.

        Raises:
            ValueError: naming the array, its shape and the shape wanted, or that it is not finite.
        """
        for name, wanted in self._shapes().items():
            array = getattr(self, name)
            if array.shape != wanted or array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, wanted float32 {wanted}")
            good = (array < np.inf) if name == "bias" else np.isfinite(array)
            if not good.all():
                raise ValueError(f"{name} holds values that are not finite")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        s = self.sizes
        H, A, F = s.hidden, s.heads, self.head_in.shape[-1]
        return {
            "gates": (s.inputs + EMBEDDING + H + 1, 4 * H),
            "embedding": (s.entities + 1, EMBEDDING),
            "query": (H, A * H),
            "bias": (A, s.layout(self.program).size),
            "head_in": ((1 + A) * H + 1, F),
            "head_out": (F + 1, s.channels * s.horizons),
        }

    def to_arrays(self, kind: str = "f32") -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as ``models.storage_kinds`` stores them.

        Raises:
            ValueError: if the kind is unknown, or cannot hold a value.
        """
        return encode({name: getattr(self, name) for name in self.ARRAYS}, kind)

    def to_dict(self) -> dict[str, Any]:
        """Return sizes and program as JSON can hold them."""
        return {"sizes": asdict(self.sizes), "program": self.program.to_dict()}

    @classmethod
    def from_parts(
        cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], kind: str = "f32"
    ) -> Weights:
        """Return the weights that ``to_dict`` and ``to_arrays`` took apart, in float32 whatever ``kind`` they are of.

        Raises:
            ValueError: if arrays are missing, do not fit, or the description makes no sense.
        """
        arrays = decode(arrays, kind)
        missing = sorted(set(cls.ARRAYS) - set(arrays))
        if missing:
            raise ValueError(f"arrays are missing: {', '.join(missing)}")
        try:
            sizes = Sizes(**description["sizes"])
            program = AttentionProgram.from_dict(description["program"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"the description of the network is damaged: {error}") from error
        return cls(sizes, program, *(arrays[name] for name in cls.ARRAYS))
