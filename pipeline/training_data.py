"""What a training job learns from: frames that fit into memory, without anomalies, their newest part held out.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.training_memory import MemoryNeed
from models.training_options import TooLittleHistoryError
from pipeline.config_streams import StreamConfig
from pipeline.durations import microseconds
from pipeline.history import FrameArrays
from pipeline.judging_fitness import fewest_steps
from pipeline.labels import Label, LabelKind

MARGIN_STEPS = 3
"""On both sides of what a label speaks of: an incident opens after its cause began, and resolves before all is over."""
ALERT_LEVEL = 2
FEWEST_ENTITIES = 64
"""More entities than that give way to a longer history where memory is short; others are forecast as unknown ones."""
FEWEST_VALUES = 2
"""That an entity must have in what is learned from, to be known by name."""


@dataclass(slots=True)
class TrainingData:
    """The history as a job uses it."""

    frames: FrameArrays
    """All of it, also what is held out; what is left out may not be learned from, but stays as input."""
    holdout: int
    """Newest steps that are judged on, and never seen by the training."""
    rows: NDArray[np.intp]
    """Entities that the network learns from."""
    notes: tuple[str, ...]
    """What was left out, in sentences."""

    @property
    def learned(self) -> FrameArrays:
        """Return the older part, of the entities that the network learns from; a view where possible."""
        everyone = len(self.rows) == len(self.frames.names)
        return part(self.frames, None if everyone else self.rows, slice(self.frames.values.shape[1] - self.holdout))


def part(frames: FrameArrays, rows: NDArray[np.intp] | None, steps: slice = slice(None)) -> FrameArrays:
    """Return some entities (None: all) in some steps; a view where all entities stay."""
    which: slice | NDArray[np.intp] = slice(None) if rows is None else rows
    return FrameArrays(
        names=list(frames.names) if rows is None else [frames.names[i] for i in rows],
        step0=frames.step0 + (steps.start or 0),
        values=frames.values[which, steps],
        learn=frames.learn[which, steps],
        score=frames.score[which, steps],
        level=frames.level[which, steps],
    )


def select(
    config: StreamConfig, frames: FrameArrays, labels: Sequence[Label], need: MemoryNeed, budget_bytes: float
) -> TrainingData:
    """Return what a job learns from and is judged on.

    Args:
        config: of the stream.
        frames: the history; not changed.
        labels: what operators said about this stream.
        need: memory that the training takes.
        budget_bytes: memory that there is for it.

    Raises:
        TooLittleHistoryError: if there are fewer steps than ``retrain.least_history``, or too few to hold some out.
    """
    left_out = excluded(frames, labels, config.step_us)  # [E, T]
    frames = replace(frames, learn=frames.learn & ~left_out[:, :, None])
    frames = newest(frames, round(config.retrain.history / config.step))
    notes = [f"{int(left_out.sum())} steps of entities left out: labelled, or an alert was open"] * bool(left_out.any())
    steps, entities = fit(frames, config.retrain.least_history, need, budget_bytes)
    if steps < frames.values.shape[1]:
        notes.append(f"the newest {steps} of {frames.values.shape[1]} steps are used: more would not fit into memory")
        frames = newest(frames, steps)
    T = frames.values.shape[1]
    alive = np.flatnonzero(frames.learn.any(axis=(0, 2)))
    least = config.retrain.least_history
    if len(alive) < least:
        found = f"{len(alive)} steps of {len(frames.names)} entities to learn from"
        cause = f" ({'; '.join(notes)})" if notes else ""
        raise TooLittleHistoryError(f"the history holds {found}{cause}; retrain.least_history asks for {least}")
    holdout = held_out_steps(config, T)
    fewest = fewest_held_out(config)
    if holdout < fewest or T - holdout < fewest:
        raise TooLittleHistoryError(
            f"of {T} steps, {holdout} would be held out; {fewest} and as many others are needed"
        )
    data = TrainingData(frames, holdout, _known(frames, T - holdout), tuple(notes))
    if len(data.rows) > entities:
        notes.append(f"{entities} of {len(data.rows)} entities are learned from: more would not fit into memory")
        data = _fewer(data, entities, {label.entity for label in labels}, tuple(notes))
    if len(data.rows) == 0:
        raise TooLittleHistoryError(f"none of {len(frames.names)} entities has values in the {T - holdout} older steps")
    return data


def fewest_held_out(config: StreamConfig) -> int:
    """Return the steps below which nothing can be judged."""
    return fewest_steps(config)


def held_out_steps(config: StreamConfig, steps: int) -> int:
    """Return how many of so many steps are held out: the configured share up to its longest, or what judging needs."""
    share = min(round(config.retrain.holdout * steps), round(config.retrain.longest_holdout / config.step))
    return min(max(share, fewest_held_out(config)), steps)


def first_us(config: StreamConfig, last_us: int, since_us: int | None) -> int:
    """Return from when on the history is read, up to ``last_us``; times are event time.

    That is as long as is configured; after a drift at ``since_us`` what came since and as much before it, at least
    ``retrain.least_history`` steps: a year of another regime would outweigh the days of the new one.
    """
    length_us = microseconds(config.retrain.history)
    if since_us is not None:
        length_us = min(length_us, max(2 * (last_us - since_us), config.retrain.least_history * config.step_us))
    return last_us - length_us


def excluded(frames: FrameArrays, labels: Sequence[Label], step_us: int) -> NDArray[np.bool_]:
    """Return [E, T] what is not to be learned from.

    That is where an alert was open, unless an operator called it a false alarm, for then it is ordinary; and where an
    operator said that an anomaly was true or that the state was expected, with a margin. An expected state lasts until
    the end that was given for it.
    """
    rows = {name: i for i, name in enumerate(frames.names)}
    out = frames.level >= ALERT_LEVEL
    T = out.shape[1]

    def span(label: Label, margin: int) -> tuple[int, slice]:
        end_us = label.ended_us
        if label.kind is LabelKind.EXPECTED and label.until_us is not None:
            end_us = max(label.until_us, end_us or label.until_us)
        first = -(-label.started_us // step_us) - frames.step0 - margin
        last = T if end_us is None else -(-end_us // step_us) - frames.step0 + margin
        return rows[label.entity], slice(max(0, first), max(0, min(T, last + 1)))

    mine = [label for label in labels if label.entity in rows]
    for label in mine:
        if label.kind is LabelKind.FALSE_ALARM:
            out[span(label, 0)] = False
    for label in mine:
        if label.kind is not LabelKind.FALSE_ALARM:
            out[span(label, MARGIN_STEPS)] = True
    return out


def newest(frames: FrameArrays, steps: int) -> FrameArrays:
    """Return the newest ``steps``, and only entities that have a value in them."""
    cut = part(frames, None, slice(max(0, frames.values.shape[1] - steps), None))
    there = np.flatnonzero(~np.isnan(cut.values).all(axis=(1, 2)))
    return cut if len(there) == len(cut.names) else part(cut, there)


def fit(frames: FrameArrays, least: int, need: MemoryNeed, budget_bytes: float) -> tuple[int, int]:
    """Return how many of the newest steps, and how many entities, a training has memory for.

    Entities go where all of them would leave less than half of the memory for the history, or too short a history.
    """
    E, T, _ = frames.values.shape

    def steps(entities: int) -> int:
        return max(0, min(T, int((budget_bytes / entities - need.per_entity) / need.per_step)))

    entities = max(1, min(E, int(budget_bytes / 2 / need.per_entity)))
    while steps(entities) < min(T, 2 * least) and entities > FEWEST_ENTITIES:
        entities = max(FEWEST_ENTITIES, entities // 2)
    return steps(entities), entities


def _known(frames: FrameArrays, stop: int) -> NDArray[np.intp]:
    """Return the entities with values to learn from before ``stop``; what comes later decides nothing."""
    return np.flatnonzero(frames.learn[:, :stop].sum(axis=(1, 2)) >= FEWEST_VALUES)


def _fewer(data: TrainingData, entities: int, labelled: set[str], notes: tuple[str, ...]) -> TrainingData:
    """Return the data of the ``entities`` with most to learn from, and of the labelled ones, which are judged on."""
    f = data.frames
    counts = f.learn[data.rows, : f.values.shape[1] - data.holdout].sum(axis=(1, 2))
    fullest = np.sort(data.rows[np.argsort(-counts, kind="stable")[:entities]])
    spoken_of = [i for i, name in enumerate(f.names) if name in labelled]
    stay = np.union1d(fullest, np.array(spoken_of, np.intp))
    frames = part(f, stay)
    return TrainingData(frames, data.holdout, np.flatnonzero(np.isin(stay, fullest)), notes)
