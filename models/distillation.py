"""A smaller network that learns from the data and from a larger one: fewer hidden numbers, so really faster.

The student is trained by the recipe of every network, but in the training part each target is a mixture of what came
and of what the teacher said: y' = (1 − s)·y + s·teacher(y). For a squared error that equals the mixture of both losses
(Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", for regression); the Huber loss is
squared where most targets lie. The held-out part stays what came, so the student's report is honest.

Legend: E entities, T steps, C channels, N horizons, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.attention_lstm import AttentionLSTM, export
from models.sequences import Sequences
from models.streaming import StreamingAttentionLSTM
from models.training import train
from models.training_options import Progress, TrainingOptions, TrainingReport
from models.weights import Sizes, Weights

TEACHER_SHARE = 0.5
"""s. What the teacher says is less noisy than what came, but it is also wrong in its own way."""


def distil(
    teacher: Weights,
    embedding_ids: Mapping[str, int],
    sequences: Sequences,
    hidden: int,
    options: TrainingOptions,
    dropout: float = 0.2,
    share: float = TEACHER_SHARE,
    progress: Progress | None = None,
) -> tuple[Weights, TrainingReport]:
    """Return a student of ``hidden`` numbers and the report of its training; it knows the entities of ``sequences``.

    Args:
        teacher: the larger network; its window, kind, program and memory stay.
        embedding_ids: entity to row of the teacher's embedding; others are unknown to it.
        sequences: of the history, with as many neighbours and examples as the teacher has.
        hidden: H of the student.
        options: of the training.
        dropout: of its head.
        share: of the teacher in the targets, 0 to 1; 0 trains on the data alone.
        progress: called after each epoch.

    Raises:
        ValueError: if the student is not smaller than its teacher.
        TooLittleHistoryError: if there is too little to learn from.
    """
    if not 0 < hidden < teacher.sizes.hidden:
        raise ValueError(
            f"a student of {hidden} hidden numbers is not smaller than its teacher's {teacher.sizes.hidden}"
        )
    sizes = student_sizes(teacher.sizes, hidden, len(sequences.names))
    split = round(sequences.steps * (1.0 - options.validation))
    taught = replace(sequences, targets=sequences.targets.copy())
    said = corrections(teacher, embedding_ids, sequences, split)
    taught.targets[:, :split] = np.where(
        sequences.mask[:, :split], (1.0 - share) * sequences.targets[:, :split] + share * said, 0.0
    )
    module, report = train(lambda: AttentionLSTM(sizes, teacher.program, dropout), taught, options, progress)
    assert isinstance(module, AttentionLSTM)
    return export(module), report


def student_sizes(teacher: Sizes, hidden: int, entities: int) -> Sizes:
    """Return the teacher's sizes with fewer hidden numbers, and as many heads as divide them.

    >>> student_sizes(Sizes(14, 2, 3, hidden=32, kind="multi_head", heads=4), 6, 5).heads
    3
    """
    heads = max(a for a in range(1, min(teacher.heads, hidden) + 1) if hidden % a == 0)
    return replace(teacher, hidden=hidden, heads=heads, entities=entities)


def corrections(
    teacher: Weights, embedding_ids: Mapping[str, int], sequences: Sequences, steps: int
) -> NDArray[np.float32]:
    """Return [E, steps, C, N] what the teacher says after each step, as it would in service."""
    E = len(sequences.names)
    network = StreamingAttentionLSTM(teacher, E)
    rows = np.array(rows_of(embedding_ids, sequences.names), np.int32)
    out = np.empty((E, steps, *sequences.targets.shape[2:]), np.float32)
    for t in range(steps):
        out[:, t] = network.step(
            np.ascontiguousarray(sequences.inputs[:, t]), sequences.step0 + t, sequences.neighbours,
            np.ascontiguousarray(sequences.admit[:, t]), rows,
        )  # fmt: skip
    return out


def rows_of(embedding_ids: Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Return each entity's row of the embedding; 0 for the unknown."""
    return [embedding_ids.get(name, 0) for name in names]
