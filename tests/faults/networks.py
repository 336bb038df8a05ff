"""Networks for a stream of two channels, made without torch: some add nothing to the linear forecast, some fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from models.features import input_width
from models.registry import Manifest, Registry
from models.weights import Weights
from tests.models.stored_models import ENTITIES, weights
from tests.pipeline.daemon_parts import CHANNELS, STEP_US

HORIZONS = (1, 3)
CREATED = datetime(2026, 3, 4, tzinfo=UTC)


def idle(seed: int) -> Weights:
    """Return a network that corrects by nothing, so that scores do not tell who is in charge."""
    return constant(seed, 0.0)


def constant(seed: int, correction: float) -> Weights:
    """Return a network that always corrects by so many spreads; by five it is far worse than the linear forecast."""
    made = weights(seed, channels=len(CHANNELS), horizons=len(HORIZONS))
    assert made.sizes.inputs == input_width(len(CHANNELS))
    head = np.zeros_like(made.head_out)
    head[-1] = correction
    return replace(made, head_out=head)


def broken(seed: int) -> Weights:
    """Return a network of finite weights whose corrections are no numbers, from its first step on."""
    made = weights(seed, channels=len(CHANNELS), horizons=len(HORIZONS))
    return replace(made, head_out=np.full_like(made.head_out, 3e38))


def keep(registry: Registry, network: Weights, day: int) -> str:
    """Keep a network of the stream ``air`` as trained on that day; return its version."""
    about = Manifest(
        stream="air", channels=CHANNELS, units=("ug/m3", "ug/m3"), step_us=STEP_US, horizons=HORIZONS,
        entities=ENTITIES, neighbours={}, data_from_us=0, data_to_us=1, created=CREATED + timedelta(days=day), seed=0,
    )  # fmt: skip
    return registry.save(network, about)
