"""What attention may look at, and how: the kinds by name, the operator's program, the memory's layout. Numpy only.

The memory of step t holds, in this order: the states of the last W steps; the states at the program's seasonal lags;
the neighbours' states of the step before; representative past states ("examples").

A lag of L steps is kept with a stride, so that a week back costs as little as an hour: at step t it points at the state
of step s·⌊(t − L)/s⌋ with s = ⌈L/64⌉, t being the absolute step index.

Legend: A heads, W window, L seasonal lags, K neighbours, R representatives, M = W + L + K + R memory positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LAG_SLOTS = 64
"""A seasonal lag keeps about this many states, however long it is."""

PositionKind = Literal["recent", "lag", "neighbour", "example"]


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """A way to weigh memories, known by its name in the config.

    The place for further kinds: an entry in ``KINDS`` here, a module under the same name in
    ``models.attention_lstm.SCORERS``, and, when its scores are not of the form q(h_t)·h_m, a compiled loop in
    ``models.streaming``.
    """

    name: str
    summary: str
    many_heads: bool
    """Whether more than one head makes sense."""


KINDS = {
    kind.name: kind
    for kind in (
        AttentionKind("scaled_dot", "one head, a free bilinear form of the present and a past state", False),
        AttentionKind("multi_head", "several heads, each with keys and queries of its own in fewer dimensions", True),
    )
}


def heads_of(kind: str, heads: int, hidden: int) -> int:
    """Return the number of heads that ``kind`` uses when ``heads`` are asked for.

    Raises:
        ValueError: if the kind is unknown, or the heads do not divide the hidden size.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown attention kind {kind!r}; known are {', '.join(sorted(KINDS))}")
    if not KINDS[kind].many_heads:
        return 1
    if heads < 1 or hidden % heads:
        raise ValueError(f"{heads} heads do not divide a hidden size of {hidden}")
    return heads


@dataclass(frozen=True, slots=True)
class SeasonalLag:
    """A moment ``steps`` back that joins the memory; looked at ``weight`` times as hard as without the program."""

    steps: int
    weight: float = 1.0

    @property
    def stride(self) -> int:
        """Every so many steps a state is kept."""
        return -(-self.steps // LAG_SLOTS)

    @property
    def slots(self) -> int:
        """States kept: enough that the one looked at is never overwritten before."""
        return -(-self.steps // self.stride) + 1

    @property
    def reach(self) -> int:
        """The furthest back, in steps, that this lag ever points."""
        return self.steps + self.stride - 1

    def back(self, step: int) -> int:
        """Return how many steps before ``step`` the state lies that the lag points at."""
        return step - (step - self.steps) // self.stride * self.stride


@dataclass(frozen=True, slots=True)
class LagWeight:
    """Recent lags ``first`` to ``last`` (1 is the step before) are looked at ``weight`` times as hard."""

    first: int
    last: int
    weight: float


@dataclass(frozen=True, slots=True)
class AttentionProgram:
    """What operators know about where to look. The empty program changes nothing.

    "Look at the same hour yesterday, and twice as hard at the last two hours" on a ten-minute grid:

    >>> AttentionProgram(seasonal=(SeasonalLag(144),), recent=(LagWeight(1, 12, 2.0),)).seasonal[0].stride
    3
    """

    seasonal: tuple[SeasonalLag, ...] = ()
    recent: tuple[LagWeight, ...] = ()
    ignored: tuple[tuple[int, int], ...] = ()
    """Ranges of recent lags, both ends included, that are never looked at."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: if a lag is below 1, a range is empty, or a weight is not a positive finite number.
        """
        for lag in self.seasonal:
            if lag.steps < 1:
                raise ValueError(f"a seasonal lag must be at least 1 step, got {lag.steps}")
        for first, last in [(w.first, w.last) for w in self.recent] + list(self.ignored):
            if not 1 <= first <= last:
                raise ValueError(f"a range of lags must be 1 <= first <= last, got {first} to {last}")
        for weight in [lag.weight for lag in self.seasonal] + [w.weight for w in self.recent]:
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"a weight must be positive and finite, got {weight}; use `ignored` to leave lags out")

    def to_dict(self) -> dict[str, Any]:
        """Return the program as JSON can hold it."""
        return {
            "seasonal": [[lag.steps, lag.weight] for lag in self.seasonal],
            "recent": [[w.first, w.last, w.weight] for w in self.recent],
            "ignored": [list(r) for r in self.ignored],
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Sequence[Sequence[float]]]) -> AttentionProgram:
        """Return the program that ``to_dict`` wrote."""
        return cls(
            tuple(SeasonalLag(int(steps), float(weight)) for steps, weight in raw["seasonal"]),
            tuple(LagWeight(int(first), int(last), float(weight)) for first, last, weight in raw["recent"]),
            tuple((int(first), int(last)) for first, last in raw["ignored"]),
        )


@dataclass(frozen=True, slots=True)
class AttentionPosition:
    """What one memory position is."""

    kind: PositionKind
    lag_steps: int = 0
    """How far back, for ``recent`` and ``lag``; 1 for neighbours, 0 for examples (their age varies)."""
    index: int = 0
    """Which lag, neighbour or example."""


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """Where in the memory what lies."""

    window: int
    program: AttentionProgram
    neighbours: int = 0
    representatives: int = 0

    @property
    def size(self) -> int:
        """M."""
        return self.window + len(self.program.seasonal) + self.neighbours + self.representatives

    @property
    def reach(self) -> int:
        """How many past steps a sequence must hold so that every recent and seasonal position is there."""
        return max([self.window, *(lag.reach for lag in self.program.seasonal)])

    def positions(self) -> list[AttentionPosition]:
        """Return what each of the M positions is, in the memory's order."""
        recent = [AttentionPosition("recent", w, w - 1) for w in range(1, self.window + 1)]
        lags = [AttentionPosition("lag", lag.steps, i) for i, lag in enumerate(self.program.seasonal)]
        neighbours = [AttentionPosition("neighbour", 1, k) for k in range(self.neighbours)]
        examples = [AttentionPosition("example", 0, r) for r in range(self.representatives)]
        return recent + lags + neighbours + examples

    def program_bias(self) -> NDArray[np.float32]:
        """Return [M] what the program adds to the scores: log weights, and -inf where nothing may be looked at.

        Weighing by w adds log w before the softmax, which multiplies the odds of the position by w. Ranges that overlap
        multiply.
        """
        bias = np.zeros(self.size, np.float64)
        for weight in self.program.recent:
            bias[weight.first - 1 : min(weight.last, self.window)] += math.log(weight.weight)
        for i, lag in enumerate(self.program.seasonal):
            bias[self.window + i] = math.log(lag.weight)
        for first, last in self.program.ignored:
            bias[first - 1 : min(last, self.window)] = -np.inf
        return bias.astype(np.float32)
