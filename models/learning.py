"""Learning a stream's network from its history: sequences, training, weights. What every kind of training shares.

Legend: E entities, T steps, C channels, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.attention import AttentionProgram
from models.attention_lstm import AttentionLSTM, export
from models.features import input_width
from models.sequences import learn_neighbours, prepare
from models.training import train
from models.training_options import Limits, Progress, TrainingOptions, TrainingReport
from models.training_state import Checkpoint, fingerprint
from models.weights import Sizes, Weights


@dataclass(frozen=True, slots=True)
class Architecture:
    """What kind of network a stream has."""

    horizons: tuple[int, ...]
    hidden: int = 32
    window: int = 64
    kind: str = "multi_head"
    heads: int = 4
    examples: int = 16
    dropout: float = 0.2
    program: AttentionProgram = field(default_factory=AttentionProgram)


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained network, ready to stream."""

    weights: Weights
    names: tuple[str, ...]
    """Of the E entities of the history."""
    neighbours: NDArray[np.int32]
    """[E, K] rows of the history that each entity looks at; -1 for none."""
    report: TrainingReport

    @property
    def embedding_ids(self) -> dict[str, int]:
        """Entity to row of the embedding; all others are row 0."""
        return {name: i + 1 for i, name in enumerate(self.names)}

    def neighbour_names(self) -> dict[str, list[str]]:
        """Return each entity's neighbours by name, strongest first."""
        rows = self.neighbours.tolist()
        return {name: [self.names[i] for i in row if i >= 0] for name, row in zip(self.names, rows, strict=True)}

    def neighbours_of(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Return [n, K] positions in ``names`` of each one's neighbours; -1 where one is not there."""
        at = {name: i for i, name in enumerate(names)}
        known = self.neighbour_names()
        rows = np.full((len(names), self.neighbours.shape[1]), -1, np.int32)
        for i, name in enumerate(names):
            others = [at.get(other, -1) for other in known.get(name, ())]
            rows[i, : len(others)] = others
        return rows


def learn(
    values: NDArray[np.float64],
    learnable: NDArray[np.bool_],
    step0: int,
    step_us: int,
    names: Sequence[str],
    architecture: Architecture,
    options: TrainingOptions,
    neighbours: NDArray[np.int32] | None = None,
    k: int = 0,
    progress: Progress | None = None,
    resume: Path | None = None,
    limits: Limits | None = None,
) -> Learned:
    """Train a network on the history [E, T, C] of a stream; the same arguments give the same weights on a CPU.

    Args:
        values: closed frames, NaN where missing.
        learnable: [E, T, C] where a value may be learned from.
        step0: absolute index of the first step.
        step_us: length of a step.
        names: of the E entities.
        architecture: of the network.
        options: of the training.
        neighbours: [E, K] rows that each entity looks at; None: the ``k`` most correlated ones.
        k: how many neighbours to look for.
        progress: called after each epoch.
        resume: folder for the state of the training; one with the same arguments that was interrupted there goes on.
        limits: what may end it early.

    Raises:
        TooLittleHistoryError: if there is too little to learn from.
        TrainingInterrupted: if the limits told it to stop.
        TrainingDivergedError: if no epoch gave a finite loss.
    """
    checkpoint = None
    if resume is not None:
        settings = (step0, step_us, tuple(names), architecture, options, k)
        checkpoint = Checkpoint(resume, fingerprint(settings, (values, learnable, neighbours)))
    if neighbours is None:
        known = round(values.shape[1] * (1.0 - options.validation))  # the newest part is for validation only
        neighbours = learn_neighbours(values[:, :known], k)
    sequences = prepare(
        values, learnable, step0, step_us, architecture.horizons, names, neighbours, architecture.examples
    )
    C = values.shape[2]
    sizes = Sizes(
        inputs=input_width(C),
        channels=C,
        horizons=len(architecture.horizons),
        hidden=architecture.hidden,
        window=architecture.window,
        kind=architecture.kind,
        heads=architecture.heads,
        neighbours=neighbours.shape[1],
        representatives=architecture.examples,
        entities=len(names),
    )
    module, report = train(
        lambda: AttentionLSTM(sizes, architecture.program, architecture.dropout),
        sequences,
        options,
        progress,
        checkpoint=checkpoint,
        limits=limits,
    )
    assert isinstance(module, AttentionLSTM)
    return Learned(export(module), tuple(names), neighbours, report)
