"""A stream over a registry with a watch that looks when it is told to, and networks to put in charge of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.attention_lstm import export
from models.detection import Detection
from models.features import input_width
from models.registry import Decision, Manifest, Registry, RegistryError
from models.weights import Weights
from pipeline.build import build_stream
from pipeline.frames import Frames
from pipeline.incident import AlertMessage
from pipeline.metrics import Metrics
from pipeline.preparing import Terms
from pipeline.stream import Stream
from pipeline.swapping import ModelWatch
from tests.models.networks import network
from tests.pipeline.daemon_parts import START_STEP, STEP_US, WARMUP_STEPS, name_of, stream_config

C = 2
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TERMS = Terms(STEP_US, (1, 3), "f32", probation=timedelta(days=2))


def untrained(seed: int = 0, neighbours: int = 0) -> Weights:
    """Return a network of random weights, whose corrections are large and worth nothing."""
    module = network(
        seed=seed, inputs=input_width(C), channels=C, horizons=2, window=6, neighbours=neighbours, representatives=0,
        entities=0,
    )  # fmt: skip
    return export(module)


def constant(correction: float) -> Weights:
    """Return a network that always corrects by so many spreads."""
    weights = untrained()
    head = np.zeros_like(weights.head_out)
    head[-1] = correction
    return replace(weights, head_out=head)


def broken() -> Weights:
    """Return a network of finite weights whose corrections overflow."""
    weights = untrained()
    return replace(weights, head_out=np.full_like(weights.head_out, 3e38))


class Shelf(Registry):
    """A registry that can be away."""

    away = False

    def champion_version(self, stream: str) -> str | None:
        if self.away:
            raise RegistryError("nobody answers")
        return super().champion_version(stream)

    def decisions(self, stream: str) -> list[Decision]:
        if self.away:
            raise RegistryError("nobody answers")
        return super().decisions(stream)


@dataclass
class Seen:
    """What a stream said, step by step."""

    detections: list[Detection] = field(default_factory=list)
    expected: list[NDArray[np.float64]] = field(default_factory=list)
    messages: list[AlertMessage] = field(default_factory=list)

    def incidents(self) -> list[dict[str, Any]]:
        """Return the messages without the version of the model, and moments of attention without their weights.

        Weights differ in the fifth digit where states were rebuilt from fewer frames than there ever were.
        """
        fields = [f for f in AlertMessage.__dataclass_fields__ if f not in ("model_version", "explanation")]
        said = []
        for message in self.messages:
            why: dict[str, Any] = dict(message.explanation)
            why.pop("model_version", None)
            why["attention"] = [moment["text"] for moment in why.get("attention", ())]
            said.append({f: getattr(message, f) for f in fields} | {"explanation": why})
        return said


class Service:
    """One replica: a stream, its watch, and what became of it."""

    def __init__(self, registry: Registry, warmup_steps: int = WARMUP_STEPS, terms: Terms = TERMS) -> None:
        self.registry = registry
        self.metrics = Metrics()
        self.now = NOW
        self.stream: Stream = build_stream(stream_config(), warmup_steps=warmup_steps)
        self.watch = ModelWatch(registry, self.metrics.models, now=lambda: self.now)
        self.watch.add(self.stream, terms)
        self.seen = Seen()
        self.step = START_STEP
        self.look_each_step = False

    @property
    def version(self) -> str:
        """Who is in charge."""
        return self.stream.predictor.model_version

    def feed(self, values: NDArray[np.float64]) -> None:
        """Take steps of [T, E, C] values the whole way."""
        known = len(self.stream.entities)
        self.stream.add_entities([name_of(e) for e in range(known, values.shape[1])])
        for frame in values:
            self.step += 1
            count = np.isfinite(frame).astype(np.int32)
            frames = Frames(self.step, self.step * STEP_US, frame, count > 0, count)
            expected, detection, messages = self.stream.process(frames, frames.time_us)
            self.seen.expected.append(expected.values)
            self.seen.detections.append(detection)
            self.seen.messages += messages
            if self.look_each_step:
                self.watch.look()
            self.watch.turn(self.stream)

    def look_and_turn(self) -> None:
        """Let the watch look, then the loop come to a step boundary."""
        self.watch.look()
        self.watch.turn(self.stream)

    def value(self, metric: str, **labels: str) -> float | None:
        """Return a metric of the stream; None where it has no series."""
        return self.metrics.registry.get_sample_value(f"vedette_{metric}", {"stream": "air", **labels})


def save(registry: Registry, weights: Weights, day: int = 0, **changes: object) -> str:
    """Keep a network as of day ``day``; return its version."""
    plain = Manifest(
        stream="air", channels=("pm25", "no2"), units=("ug/m3", "ug/m3"), step_us=STEP_US, horizons=(1, 3),
        entities=(), neighbours={}, data_from_us=0, data_to_us=1, created=NOW + timedelta(days=day), seed=0,
    )  # fmt: skip
    return registry.save(weights, replace(plain, **changes))  # type: ignore[arg-type]


def shelf(folder: Path, *networks: Weights) -> tuple[Shelf, list[str]]:
    """Return a registry that holds ``networks``, the first one in charge, and their versions."""
    registry = Shelf(folder, now=lambda: NOW)
    versions = [save(registry, weights, day) for day, weights in enumerate(networks)]
    registry.promote("air", versions[0])
    return registry, versions


def same(left: Detection, right: Detection) -> None:
    """Raise AssertionError unless two detections are the same to the bit."""
    for name in Detection.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
