"""Replaying the past through each contender: the predictor and the detector of the service, step by step.

What is replayed is bounded: so many newest steps, a seeded sample of entities with their neighbours, and copies of
some of them on which the detector runs: as they were (operators' labels), or with injected faults. A copy sees the
neighbours that its entity sees, and nobody sees a copy.

Legend: E entities, D copies, R = E + D rows, T steps, Th of them held out, C channels, N horizons, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.detection import Detector
from models.manifest import StoredModel
from models.sequences import admit_by_novelty
from pipeline.config_streams import StreamConfig
from pipeline.judging_faults import InjectedFault, plant, spreads
from pipeline.predicting import Predictor

if TYPE_CHECKING:
    from pipeline.history import FrameArrays

MOST_HOLDOUT = 6_000
"""Steps; of a longer one the newest part is judged."""
LEAST_HOLDOUT = 256
"""Steps that are judged in any case, however many channels there are."""
MOST_WARMUP = 18_000
WARMUP_DAYS = 30.0
MOST_CELLS = 3_000_000
"""Entities times steps times channels that are forecast by each contender: about 5 s each."""
MOST_DETECTED_CELLS = 800_000
"""Copies times steps times channels that go through the detector too."""
MOST_FORECASTS = 4_000_000
"""Entities times held-out steps times channels times horizons; bounds the memory."""
MOST_FAULTY, MOST_LABELLED = 24, 12
"""Copies."""
WARM_VALUES = 64
"""Values before the holdout that an entity's channel must have to be judged on."""


@dataclass(frozen=True, slots=True)
class Material:
    """What every contender is shown; the same for all."""

    names: list[str]
    """[R] of the rows; a copy's name is its entity's with a mark that no entity has."""
    entities: int
    """E; the rows after them are copies."""
    base: NDArray[np.intp]
    """[R] the row of the entity."""
    values: NDArray[np.float64]
    """[T, R, C]"""
    learn: NDArray[np.bool_]
    """[T, R, C]"""
    step0: int
    first: int
    """The held-out part begins at this row of ``values``."""
    faults: list[InjectedFault]
    counted: NDArray[np.bool_]
    """[D] one copy of each entity: its openings outside of faults are counted."""
    labelled: dict[str, int]
    """Entity to the copy (0 … D − 1) that is as it was."""

    @property
    def copies(self) -> int:
        """Return D."""
        return len(self.names) - self.entities

    @property
    def holdout(self) -> int:
        """Return Th."""
        return len(self.values) - self.first


@dataclass(slots=True)
class Replay:
    """What one contender said, row t of each array at step ``first + t`` unless it says otherwise."""

    middle: NDArray[np.float64]
    """[E, Th, C, N] forecasts; NaN where nothing was known."""
    spread: NDArray[np.float32]
    """[E, Th, C, N]"""
    spread_before: NDArray[np.float32]
    """[E, C, N] just before the holdout."""
    score: NDArray[np.float32]
    """[D, T] over all steps: raw scores of the copies."""
    emitted: NDArray[np.float32]
    """[D, T] the watch tier."""
    alert: NDArray[np.float32]
    """[D, T] the alert tier."""
    levels: NDArray[np.float32]
    """[E, T, C] scaled levels, empty but for the linear contender: what examples are chosen by."""
    trusted: float = 0.0
    """Mean share of the entities' channels whose forecast the network corrected in the holdout."""
    failure: str | None = None
    """Why the service would have let the network go, such as numbers that are not finite; the replay ends there."""


def gather(
    config: StreamConfig,
    frames: FrameArrays,
    holdout: int,
    models: Sequence[StoredModel],
    labelled: Sequence[str],
    *,
    seed: int,
    max_entities: int,
) -> Material:
    """Return what is replayed: the newest steps of a seeded sample of entities, and the copies.

    Args:
        config: of the stream.
        frames: the whole history.
        holdout: newest steps to be judged on, as ``judged_steps`` bounds them.
        models: whose neighbours come along.
        labelled: entities that operators spoke of, the newest word first.
        seed: of the sample and of the faults.
        max_entities: E at most.
    """
    C, N, step_s = frames.values.shape[2], len(config.horizons), config.step.total_seconds()
    T = min(frames.values.shape[1], holdout + warmup_steps(holdout, step_s, C))
    start = frames.values.shape[1] - T
    first = T - holdout
    values, learn = frames.values[:, start:], frames.learn[:, start:]
    most = min(max_entities, MOST_CELLS // (T * C), MOST_FORECASTS // (holdout * C * N))
    picked = _sample(frames.names, learn, first, models, labelled, max(most, 2), seed)
    names = [frames.names[e] for e in picked]
    rows = values[picked]  # [E, T, C]

    room = max(3, MOST_DETECTED_CELLS // (T * C)) if picked else 0
    known = [names.index(n) for n in dict.fromkeys(labelled) if n in names][: min(MOST_LABELLED, room // 3)]
    faulty = np.resize(np.arange(len(names)), min(MOST_FAULTY, room - len(known)))
    damaged, faults = plant(rows[faulty], first, spreads(rows[faulty, :first]), step_s, seed)
    faults = [InjectedFault(f.copy + len(known), f.kind, f.channel, f.start, f.end) for f in faults]
    base = np.concatenate((np.arange(len(names)), known, faulty)).astype(np.intp)
    copied = base[len(names) :]
    counted = np.zeros(len(copied), np.bool_)
    counted[np.unique(copied, return_index=True)[1]] = True
    return Material(
        names=names + [f"{names[e]}\x00{i}" for i, e in enumerate(copied)],
        entities=len(names),
        base=base,
        values=np.ascontiguousarray(np.concatenate((rows, rows[known], damaged)).transpose(1, 0, 2)),
        learn=np.ascontiguousarray(learn[picked][base].transpose(1, 0, 2)),
        step0=frames.step0 + start,
        first=first,
        faults=faults,
        counted=counted,
        labelled={names[e]: i for i, e in enumerate(known)},
    )


def judged_steps(config: StreamConfig, holdout: int) -> int:
    """Return how many of the ``holdout`` steps are judged: all, unless they or the channels are very many."""
    forecasts = 2 * len(config.channels) * len(config.horizons)  # a step of the fewest entities that are taken
    return min(holdout, MOST_HOLDOUT, max(MOST_FORECASTS // forecasts, LEAST_HOLDOUT))


def warmup_steps(holdout: int, step_s: float, channels: int) -> int:
    """Return how many steps before the holdout are replayed: 30 days or four times the holdout, within bounds."""
    most = max(min(MOST_WARMUP, MOST_CELLS // (2 * channels) - holdout), holdout)
    return min(max(round(WARMUP_DAYS * 86_400.0 / step_s), 4 * holdout), most)


def _sample(
    names: Sequence[str],
    learn: NDArray[np.bool_],
    first: int,
    models: Sequence[StoredModel],
    labelled: Sequence[str],
    most: int,
    seed: int,
) -> list[int]:
    """Return the rows of at most ``most`` entities: some of the labelled, then by lot, each with its neighbours."""
    usable = (learn[:, :first].sum(axis=(1, 2)) >= WARM_VALUES) & learn[:, first:].any(axis=(1, 2))
    if int(usable.sum()) <= most:
        return [int(e) for e in np.flatnonzero(usable)]
    at = {name: e for e, name in enumerate(names)}
    lot = np.random.default_rng([seed, 7]).permutation(np.flatnonzero(usable)).tolist()
    picked: dict[int, None] = {}
    for e in [at[n] for n in labelled if n in at and usable[at[n]]][: most // 2] + lot:
        others = [at[o] for m in models for o in m.manifest.neighbours.get(names[e], ()) if o in at]
        for one in (e, *others):
            if len(picked) < most:
                picked[int(one)] = None
    return sorted(picked)


class _OpenIncidents:
    """Which copies have an incident open, as far as learning needs it: opens by either tier, closes when it calms."""

    def __init__(self, config: StreamConfig, copies: int) -> None:
        self._calm_below, self._calm_steps = config.alerts.clear_level, config.alerts.clear_after
        self._most = max(1, round(config.alerts.max_duration / config.step))
        self.open = np.zeros(copies, np.bool_)
        self._calm = np.zeros(copies, np.int64)
        self._age = np.zeros(copies, np.int64)

    def step(self, score: NDArray[np.float32], speaks: NDArray[np.bool_]) -> None:
        self._calm = np.where(score < self._calm_below, self._calm + 1, 0)
        self._age = np.where(self.open, self._age + 1, 0)
        over = (self._calm >= self._calm_steps) | (self._age >= self._most)
        self.open = (self.open & ~over) | speaks


def replay(
    config: StreamConfig,
    material: Material,
    model: StoredModel | None,
    levels: NDArray[np.float32] | None,
    progress: Callable[[float], None],
) -> Replay:
    """Return what the service would have said with ``model`` (None: the linear forecaster alone).

    The network runs from the first replayed step on, so that its memory is full when the holdout begins; but it has to
    earn its trust there, as after any swap: what it did on steps that it may have learned from counts for nothing.

    Args:
        config: of the stream.
        material: of ``gather``.
        model: the contender.
        levels: of the linear contender's replay, by which examples are chosen; None keeps them and needs no model.
        progress: told the share that is done.
    """
    T, R, C = material.values.shape
    E, D, N = material.entities, material.copies, len(config.horizons)
    step_s, budget = config.step.total_seconds(), config.budget
    predictor = Predictor(R, C, config.horizons, step_s, replay_steps=1)
    detector = Detector(D, C, step_s, budget.events, budget.period_s)
    admit = np.full((R, T), -1, np.int32)
    if model is not None:
        _adopt(predictor, material, model, config)
        if levels is not None:
            admit[:E] = admit_by_novelty(levels, model.weights.sizes.representatives)
    Th = material.holdout
    said = Replay(
        np.full((E, Th, C, N), np.nan),
        np.ones((E, Th, C, N), np.float32),
        np.ones((E, C, N), np.float32),
        score=np.zeros((D, T), np.float32),
        emitted=np.zeros((D, T), np.float32),
        alert=np.zeros((D, T), np.float32),
        levels=np.zeros((E, T if levels is None else 0, C), np.float32),
    )
    incidents = _OpenIncidents(config, D)
    for t in range(T):
        step, values, learn = material.step0 + t, material.values[t], material.learn[t]
        if t == material.first:
            said.spread_before[...] = predictor.forecast(E)[1]
            predictor.start_anew(np.arange(R))
        expected, spread = predictor.expected(R)
        found = detector.detect(
            values[E:], learn[E:], expected[E:].copy(), spread[E:].copy(), step * config.step_us, step, incidents.open
        )
        incidents.step(found.score, (found.alert >= 1.0) | (found.emitted >= 1.0))
        said.score[:, t], said.emitted[:, t], said.alert[:, t] = found.score, found.emitted, found.alert
        admit[E:, t] = found.admit
        with np.errstate(all="ignore"):  # poisoned weights may overflow; that is looked at, not warned of
            predictor.observe(values, learn, step, step * config.step_us, np.ascontiguousarray(admit[:, t]))
        if levels is None:
            said.levels[:, t] = predictor.linear.level_z(E)
        failures = predictor.take_failures()
        if failures:
            said.failure = f"{failures[0].detail}, {T - t} steps before the end"
            return said
        if t >= material.first:
            said.middle[:, t - material.first], said.spread[:, t - material.first] = predictor.forecast(E)
            said.trusted += predictor.trusted_share(E) / Th
        if t % 256 == 255:
            progress((t + 1) / T)
    return said


def _adopt(predictor: Predictor, material: Material, model: StoredModel, config: StreamConfig) -> None:
    """Put the model in charge; copies are known by their entities' names, and have their neighbours."""
    real = material.names[: material.entities]
    ids = model.embedding_ids
    known = {name: ids[real[e]] for name, e in zip(material.names, material.base, strict=True) if real[e] in ids}

    def neighbours_of(_names: Sequence[str]) -> NDArray[np.int32]:
        return model.neighbours_of(real)[material.base]  # [R, K]

    predictor.adopt(model.weights, model.version, material.names, known, neighbours_of, config.model.ring)
