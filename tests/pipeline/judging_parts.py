"""A small stream with a rule that only a network can see, its history, and networks trained on it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray

from models.attention_lstm import AttentionLSTM, export
from models.features import input_width
from models.learning import Architecture, learn
from models.manifest import Manifest, StoredModel
from models.training_options import TrainingOptions
from models.weights import Sizes, Weights
from pipeline.config import loads
from pipeline.config_streams import StreamConfig
from pipeline.history import FrameArrays
from pipeline.labels import Label, LabelKind

STEP0 = 490_000
NAMES = ["east", "north", "south"]
STEPS, HOLDOUT = 2_000, 400
SHOWN = 1_100
"""The first of the steps that judging is shown; fewer steps, faster tests."""


def config(margin: float = 0.005) -> StreamConfig:
    """Return an hourly stream of one channel."""
    text = (
        "streams: [{name: s, topics: [s], step: 1h, channels: [{name: x}], horizons: [1, 3],"
        f" retrain: {{margin: {margin}}}}}]"
    )
    return loads(text).streams[0]


def chaos(steps: int = STEPS, seed: int = 3, names: int = len(NAMES)) -> NDArray[np.float64]:
    """Return [E, T, 1] values of a chaotic map, z → 1 − 1.9 z²: white noise to linear forecasters, a rule to others."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.0, 1.0, names)
    out = np.empty((names, steps, 1))
    for t in range(steps):
        z = np.clip(1.0 - 1.9 * z * z + rng.normal(0.0, 0.02, names), -1.0, 1.0)
        out[:, t, 0] = 10.0 + 2.0 * z + rng.normal(0.0, 0.1, names)
    return out


def frames(values: NDArray[np.float64], names: list[str] | None = None) -> FrameArrays:
    """Return the history that holds ``values`` [E, STEPS, C] from SHOWN on; what is there may be learned from."""
    values = values[:, SHOWN:]
    E, T, _ = values.shape
    names = names or [*NAMES, *(f"more{i:03d}" for i in range(E))][:E]
    return FrameArrays(
        names, STEP0 + SHOWN, values, np.isfinite(values), np.zeros((E, T), np.float32), np.zeros((E, T), np.int8)
    )


def stored(
    weights: Weights, version: str, names: list[str] | None = None, holdout: int = HOLDOUT, **changes: object
) -> StoredModel:
    """Return ``weights`` as the registry would give them, learned from all before the holdout."""
    stream = config()
    facts: dict[str, object] = {
        "stream": "s",
        "channels": ("x",),
        "units": ("",),
        "step_us": stream.step_us,
        "horizons": stream.horizons,
        "entities": tuple(names or NAMES),
        "neighbours": {},
        "data_from_us": STEP0 * stream.step_us,
        "data_to_us": (STEP0 + STEPS - holdout - 1) * stream.step_us,
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "seed": 0,
    }
    return StoredModel(version, weights, Manifest(**(facts | changes)))  # type: ignore[arg-type]


def trained(values: NDArray[np.float64], version: str, seed: int = 0) -> StoredModel:
    """Return a network that has really learned from ``values`` [E, T, 1]."""
    torch.set_num_threads(1)
    stream = config()
    architecture = Architecture(
        stream.horizons, hidden=16, window=16, kind="scaled_dot", heads=1, examples=4, dropout=0.0
    )
    options = TrainingOptions(epochs=6, seed=seed, device="cpu")
    found = learn(values, np.isfinite(values), STEP0, stream.step_us, NAMES, architecture, options)
    return stored(found.weights, version)


def untrained(names: list[str] | None = None, neighbours: int = 0, size: float = 0.3) -> Weights:
    """Return weights that were never trained and speak up all the same."""
    torch.manual_seed(4)
    names = names or NAMES
    sizes = Sizes(
        input_width(1), 1, 2, hidden=8, window=8, neighbours=neighbours, representatives=2, entities=len(names)
    )
    module = AttentionLSTM(sizes)
    with torch.no_grad():
        module.head_out.weight.normal_(std=size)
    return export(module.eval())


def label(entity: str, kind: LabelKind, first: int, last: int, **changes: object) -> Label:
    """Return an operator's word on an incident from step ``first`` to step ``last`` of ``chaos``."""
    step_us = config().step_us
    facts: dict[str, object] = {
        "id": f"{entity}-{first}",
        "incident_id": f"i-{entity}-{first}",
        "kind": kind,
        "reason": "",
        "until_us": None,
        "author": "ann",
        "created_us": (STEP0 + STEPS) * step_us,
        "stream": "s",
        "entity": entity,
        "incident_kind": "anomaly",
        "started_us": (STEP0 + first) * step_us,
        "ended_us": (STEP0 + last) * step_us,
        "score": 1.2,
        "context": (),
    }
    return Label(**(facts | changes))  # type: ignore[arg-type]
