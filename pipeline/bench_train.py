"""Training measured: sequences against windows in one race, scoring beside a training, and a GPU where there is one.

The streams are simulated and seeded. Both trainers have the same network, inputs, targets, loss, optimiser, schedule,
average of the weights, noise, threads and held-out targets, and each the batch and the learning rate that served it
best. Seconds are those of training: what evaluating takes counts for neither.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.features import input_width
from models.sequences import Sequences, learn_neighbours, prepare
from models.training_options import TrainingOptions
from models.weights import Sizes
from pipeline.simulation import Series, air, events

HORIZONS = (1, 6)
_YEAR_DAYS = 365.0
_HOUR_S = 3600.0
_NEIGHBOURS = 3
_SHARES = (0.5, 0.75, 0.9, 1.0)
"""Of the windows' gain, at which the times are compared."""
_SCORED_ENTITIES = 500
_SCORED_STEPS = 12
_GPU_ENTITIES = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs between the trainers and the streams, chosen beforehand by the held-out loss."""

    stream: str
    seed: int
    epochs: int
    """Of sequences."""
    window_epochs: int
    """More of them overfit air."""
    learning_rate: float = 2e-2
    """Of sequences, of 0.003, 0.006, 0.01, 0.02, 0.03 and 0.04."""
    window_rate: float = 1e-2
    """Of windows, of 0.001, 0.003, 0.006, 0.01, 0.02 and 0.04."""
    side_by_side: int = 96
    """Sequences of an update; each is 32 steps of it."""
    batch: int = 128
    """Windows of an update: 64 to 512 were tried; more are slower each, for they leave a core's cache."""


RECIPES = (Recipe("air", 0, 20, 2), Recipe("air", 1, 20, 2), Recipe("events", 0, 40, 4), Recipe("events", 1, 40, 4))


def bench_train(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the races, the pace of scoring beside a training, and the GPU's figures; see ``vedette bench``.

    ``targets_ratio`` and ``time_ratio`` are the lowest of all races; a ``time_ratio`` of None means that sequences did
    not reach the windows' best loss in one of them.
    """
    from pipeline.bench_beside import beside

    load_before = _load_average()
    races = [run_race(recipe, args.hidden, args.window, say) for recipe in RECIPES]
    pace = beside(args.entities or _SCORED_ENTITIES, _SCORED_STEPS, 2 * args.rounds, train_without_end, say)
    gpu, reason = bench_gpu(args.hidden, args.window, say)
    times = [race["time_ratio"] for race in races]
    return {
        "targets_ratio": min(race["targets_ratio"] for race in races),
        "time_ratio": None if None in times else min(times),
        "beside_ratio": pace["ratio"],
        "races": races,
        "beside": pace,
        "gpu": gpu,
        "gpu_reason": reason,
        "threads": TrainingOptions().threads,
        "load_average": [load_before, _load_average()],
    }


def history(stream: str, seed: int, days: float = _YEAR_DAYS) -> Sequences:
    """Return ``days`` of a simulated stream in hours, as training sees them."""
    series: Series = {"air": air, "events": events}[stream](days, seed, step_s=_HOUR_S)
    learnable = np.ones(series.values.shape, np.bool_)
    step_us = round(_HOUR_S * 1e6)
    past = series.values[:, : round(series.values.shape[1] * (1.0 - TrainingOptions().validation))]
    neighbours = learn_neighbours(past, _NEIGHBOURS)
    first = int(series.times_us[0] // step_us)
    return prepare(series.values, learnable, first, step_us, HORIZONS, series.entities, neighbours)


def sizes_of(sequences: Sequences, hidden: int, window: int) -> Sizes:
    """Return a network that windows can train too: it attends to the last ``window`` states and to nothing else."""
    C = sequences.channels
    return Sizes(input_width(C), C, len(HORIZONS), hidden=hidden, window=window, entities=len(sequences.names))


def run_race(
    recipe: Recipe, hidden: int, window: int, say: Callable[[str], None], days: float = _YEAR_DAYS
) -> dict[str, Any]:
    """Train on sequences and on windows by turns; return both curves and how they compare at equal loss."""
    from models.attention_lstm import AttentionLSTM
    from models.training_race import RaceOptions, race

    sequences = history(recipe.stream, recipe.seed, days)
    sizes = sizes_of(sequences, hidden, window)
    E, T = len(sequences.names), sequences.steps
    say(f"train: {recipe.stream}, seed {recipe.seed}: {E} entities, {T} steps")
    ours = TrainingOptions(
        epochs=recipe.epochs,
        patience=recipe.epochs,
        fewest_updates=0,
        sequences=recipe.side_by_side,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        device="cpu",
    )
    theirs = TrainingOptions(
        epochs=recipe.window_epochs, learning_rate=recipe.window_rate, seed=recipe.seed, device="cpu"
    )
    fast, slow = race(lambda: AttentionLSTM(sizes), sequences, RaceOptions(ours, theirs, recipe.batch), say)
    best = fast.reached(slow.best), slow.reached(slow.best)
    return {
        "stream": recipe.stream,
        "seed": recipe.seed,
        "entities": E,
        "steps": T,
        "targets_of_a_step": sequences.channels * len(HORIZONS),
        "hidden": hidden,
        "window": window,
        "targets_ratio": _ratio(fast.targets_per_s, slow.targets_per_s),
        "equal_loss": round(slow.best, 5),
        "seconds_to_equal_loss": {"sequences": _rounded(best[0]), "windows": _rounded(best[1])},
        "time_ratio": _ratio(best[1], best[0]),
        "time_ratio_by_share_of_gain": {
            str(share): _ratio(slow.reached(loss), fast.reached(loss))
            for share in _SHARES
            for loss in [slow.baseline - share * (slow.baseline - slow.best)]
        },
        "windows_seconds_to_best_of_sequences": _rounded(slow.reached(fast.best)),
        "baseline_loss": round(slow.baseline, 5),
        "sequences": {
            "side_by_side": recipe.side_by_side,
            "chunk": ours.chunk,
            "epochs": ours.epochs,
            "learning_rate": ours.learning_rate,
        }
        | fast.to_json(),
        "windows": {"batch": recipe.batch, "epochs": theirs.epochs, "learning_rate": theirs.learning_rate}
        | slow.to_json(),
    }


def train_without_end(begun: Callable[[], None]) -> None:
    """Train on a simulated stream again and again, as a job does; call ``begun`` after the first epoch."""
    from models.attention_lstm import AttentionLSTM
    from models.training import train

    sequences = history("air", 0)
    sizes = sizes_of(sequences, 32, 64)
    while True:
        train(lambda: AttentionLSTM(sizes), sequences, TrainingOptions(device="cpu"), lambda *_: begun())


def bench_gpu(hidden: int, window: int, say: Callable[[str], None]) -> tuple[dict[str, Any] | None, str]:
    """Return the figures of a year of 1,000 entities in hours on the GPU and "", or None and why there are none."""
    from models.attention_lstm import AttentionLSTM
    from models.training_gpu import gpu_name, many, measure

    name = gpu_name()
    if name is None:
        return None, "torch finds no CUDA device here"
    say(f"gpu: {_GPU_ENTITIES} entities on {name}")
    sequences = many(history("air", 0), _GPU_ENTITIES)
    sizes = sizes_of(sequences, hidden, window)
    figures = measure(lambda: AttentionLSTM(sizes), sequences, TrainingOptions(device="cuda"))
    return {
        "name": name,
        "entities": figures.entities,
        "steps": figures.steps,
        "epochs": figures.epochs,
        "seconds": round(figures.seconds, 2),
        "gain": round(figures.gain, 4),
        "entity_steps_per_s": round(figures.entity_steps_per_s),
        "waiting_share": round(figures.waiting_share, 3),
    }, ""


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 1) if above is not None and below else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
