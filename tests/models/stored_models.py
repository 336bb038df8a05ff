"""Networks of random weights and manifests for the tests of the registry, without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from models.attention import AttentionProgram
from models.manifest import Manifest
from models.registry import Registry
from models.weights import EMBEDDING, Sizes, Weights

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ENTITIES = ("a", "b", "c", "d")


def weights(seed: int = 0, hidden: int = 8, channels: int = 2, horizons: int = 3, window: int = 6) -> Weights:
    """Return a network of random weights for two channels."""
    rng = np.random.default_rng(seed)
    s = Sizes(
        inputs=5 * channels + 4, channels=channels, horizons=horizons, hidden=hidden, window=window,
        neighbours=2, representatives=1, entities=len(ENTITIES),
    )  # fmt: skip
    H, F, M = hidden, 2 * hidden, s.layout(AttentionProgram()).size

    def normal(*shape: int) -> Any:
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    gates, embedding = normal(s.inputs + EMBEDDING + H + 1, 4 * H), normal(s.entities + 1, EMBEDDING)
    heads = normal(2 * H + 1, F), normal(F + 1, channels * horizons)
    return Weights(s, AttentionProgram(), gates, embedding, normal(H, H), normal(1, M), *heads)


def manifest(**changes: object) -> Manifest:
    """Return a manifest that fits ``weights``."""
    plain = Manifest(
        stream="air",
        channels=("pm25", "no2"),
        units=("ug/m3", "ug/m3"),
        step_us=600_000_000,
        horizons=(1, 6, 36),
        entities=ENTITIES,
        neighbours={"a": ["b", "c"], "b": ["x", "a"]},
        data_from_us=0,
        data_to_us=10**12,
        created=CREATED,
        seed=3,
        report={"gain": 0.05, "worthwhile": True},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def save_days(registry: Registry, days: int, **changes: object) -> list[str]:
    """Save one version a day, from the fourth of March on, and return them."""
    return [
        registry.save(weights(seed=day), manifest(created=CREATED + timedelta(days=day), **changes))
        for day in range(days)
    ]


def change_manifest(path: Path, change: Any, reseal: bool = True) -> None:
    """Change the JSON of a manifest file, and its checksum with it unless told otherwise."""
    document = change(json.loads(path.read_text()))
    if reseal and isinstance(document, dict):
        document.pop("sha256", None)
        plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        document["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    path.write_text(json.dumps(document))
