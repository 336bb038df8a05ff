"""Smaller weights: what they take on the disk, and how fast their network steps.

bf16 and int8 make files smaller, not steps faster: the streaming network computes in float32 whatever its weights were
stored in. Only a smaller H is faster; see ``models.distillation``.

Legend: E entities, I inputs, H hidden, K neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from safetensors.numpy import save

from models.streaming import StreamingAttentionLSTM
from models.weights import Weights

SPEED_ENTITIES = 512
SPEED_STEPS = 5
SPEED_ROUNDS = 40
"""Many and short: some of them fall between whatever else the machine does."""


def stored(weights: Weights, kind: str) -> Weights:
    """Return the weights as they are after having been stored as ``kind``.

    Raises:
        ValueError: if the kind is unknown, or cannot hold a value.
    """
    return Weights.from_parts(weights.to_dict(), weights.to_arrays(kind), kind)


def stored_bytes(weights: Weights, kind: str) -> int:
    """Return the bytes of the weights' file when stored as ``kind``."""
    return len(save(weights.to_arrays(kind)))


def step_rates(
    networks: Sequence[Weights],
    entities: int = SPEED_ENTITIES,
    steps: int = SPEED_STEPS,
    rounds: int = SPEED_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the entity-steps per second of each network: the best of many rounds in which each has its turn.

    So what else the machine does meanwhile disturbs as little as can be; still, the ratios are what counts.
    """
    runs = [_Run(weights, entities) for weights in networks]
    for run in runs:
        run.go(steps)  # compiles, and fills the memories
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, taken in zip(runs, seconds, strict=True):
            began = clock()
            run.go(steps)
            taken.append(clock() - began)
    return [entities * steps / max(min(taken), 1e-9) for taken in seconds]


class _Run:
    """A network that steps on random inputs."""

    def __init__(self, weights: Weights, entities: int) -> None:
        rng, sizes = np.random.default_rng(0), weights.sizes
        self._network = StreamingAttentionLSTM(weights, entities)
        self._inputs = rng.standard_normal((entities, sizes.inputs)).astype(np.float32)
        self._neighbours = rng.integers(0, entities, (entities, sizes.neighbours)).astype(np.int32)
        self._admit = np.full(entities, -1, np.int32)
        self._rows = np.zeros(entities, np.int32)
        self._step = 0

    def go(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self._network.step(self._inputs, self._step, self._neighbours, self._admit, self._rows)
            self._step += 1
