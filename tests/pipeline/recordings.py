"""A recorded run to test reports with: the demo's data, a simple forecaster, incidents where the faults are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.attention import AttentionPosition
from pipeline.demo_data import DemoStream, demo_streams
from pipeline.found import Raised, Reckoning, reckon
from pipeline.incident import AlertMessage, Json, Kind, Phase, Severity, Tier, incident_id
from pipeline.planted import Fault
from pipeline.recording import Recorder

WITNESSES = ("level", "novelty", "innovation")


@dataclass(frozen=True, slots=True)
class StepFrame:
    """A frame as far as a recorder reads it."""

    time_us: int
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepScores:
    """A detection as far as a recorder reads it."""

    score: NDArray[np.float32]
    emitted: NDArray[np.float32]
    witness: NDArray[np.float32]
    share: NDArray[np.float32]
    sign: NDArray[np.int8]


POSITIONS = (
    *(AttentionPosition("recent", lag_steps=lag) for lag in range(1, 49)),
    *(AttentionPosition("lag", lag_steps=lag) for lag in (144, 288, 432, 576, 720, 864, 1008)),
    *(AttentionPosition("neighbour", index=k) for k in range(3)),
    *(AttentionPosition("example", index=k) for k in range(16)),
)


def message(
    stream: str,
    entity: str,
    kind: Kind,
    time_us: int,
    *,
    phase: Phase = Phase.OPENED,
    opened_us: int | None = None,
    tier: Tier = Tier.ALERT,
    score: float | None = 1.6,
    reason: str = "pm25 rose far above what was expected.",
    explanation: dict[str, Json] | None = None,
) -> AlertMessage:
    """Return a message of an incident that opened at ``opened_us`` (default: now)."""
    opened = time_us if opened_us is None else opened_us
    return AlertMessage(
        incident_id=incident_id(stream, entity, kind, opened),
        phase=phase,
        sequence=0 if phase is Phase.OPENED else 1,
        stream=stream,
        entity=entity,
        kind=kind,
        name="",
        site="",
        tier=tier,
        severity=Severity.WARNING,
        time_us=time_us,
        first_step=opened,
        started_us=opened,
        opened_us=opened,
        resolved_us=time_us if phase is Phase.RESOLVED else None,
        score=score,
        alpha=2.3e-4,
        reason=reason,
        explanation=explanation or {},
        model_version="attention-lstm 7c1e",
        flapping=False,
        note="",
        told_us=0,
    )


@dataclass(slots=True)
class Run:
    """A finished synthetic run."""

    recorder: Recorder
    raised: list[Raised] = field(default_factory=list)
    reckoning: Reckoning = field(default_factory=lambda: Reckoning((), (), ()))


def synthetic_run(days: float = 30.0, training_days: float = 6.0, attention: bool = True) -> Run:
    """Return a run over the demo's streams in which every third fault is only watched and every tenth is missed."""
    run = Run(Recorder())
    truths: list[Fault] = []
    for demo in demo_streams(days, training_days):
        series = demo.series
        step_us = round(series.step_s * 1e6)
        run.recorder.describe(
            series.stream,
            series.channels,
            series.units,
            step_us,
            model="attention-lstm 7c1e",
            simulated=series.simulated,
            witnesses=WITNESSES,
        )
        _replay(run, demo, step_us, attention)
        truths += demo.truths
    run.reckoning = reckon(run.raised, truths)
    return run


def _replay(run: Run, demo: DemoStream, step_us: int, attention: bool) -> None:
    series = demo.series
    E, T, C = series.values.shape
    rng = np.random.default_rng(5)
    said: dict[int, list[AlertMessage]] = {}
    level = np.zeros((T, E), np.int8)
    for number, fault in enumerate(demo.truths):
        if number % 10 == 9:
            continue
        e = series.entities.index(fault.entity)
        a, b = np.searchsorted(series.times_us, [fault.start_us, fault.end_us]).tolist()
        a, b = a + 1, min(b + 5, T - 1)
        kind = Kind.ANOMALY if "anomaly" in fault.found_by else Kind(sorted(fault.found_by)[-1])
        tier = Tier.WATCH if number % 3 == 0 else Tier.ALERT
        opened_us = int(series.times_us[a])
        text = f"{fault.channels[0]} left what was expected of it: {fault.note}."
        reason = f"{text} Nothing like it was seen before; the nearest moment differs in {fault.channels[-1]}."
        told = message(
            series.stream,
            fault.entity,
            kind,
            opened_us,
            tier=tier,
            reason=reason,
            explanation={
                "nearest": {"time": "2025-09-03T04:00:00Z", "distance": 7.31, "channel": fault.channels[-1]},
                "witnesses": {"level": 1.2, "novelty": 1.6, "innovation": 0.4},
                "attention": [
                    {"what": "lag", "text": "the same hour yesterday", "weight": 0.21, "time": None},
                    {"what": "recent", "text": "10 min before", "weight": 0.12, "time": None},
                ],
            },
        )
        ended_us = int(series.times_us[b])
        ended = message(
            series.stream, fault.entity, kind, ended_us, phase=Phase.RESOLVED, opened_us=opened_us, tier=tier
        )
        said.setdefault(a, []).append(told)
        said.setdefault(b, []).append(ended)
        level[a:b, e] = int(tier)
        run.raised.append(
            Raised(told.incident_id, series.stream, fault.entity, str(kind), opened_us, tier is Tier.ALERT)
        )
    day = round(86_400e6 / step_us)
    usual = np.nanmedian(series.values, axis=1)  # [E, C]
    for t in range(T):
        values = series.values[:, t]
        before = series.values[:, max(0, t - 1)]
        yesterday = series.values[:, max(0, t - day)]
        expected = np.where(
            np.isnan(before), usual, 0.8 * before + 0.2 * np.where(np.isnan(yesterday), usual, yesterday)
        )
        spread = np.full((E, C), 0.08 * np.abs(usual) + 0.3, np.float32)
        error = np.nan_to_num(values - expected) / spread
        score = np.clip(np.abs(error).max(axis=1) / 6.0, 0.0, 3.0).astype(np.float32)
        share = np.square(error) / np.maximum(np.square(error).sum(axis=1, keepdims=True), 1e-9)
        scores = StepScores(
            score,
            np.where(score >= 1, score, 0).astype(np.float32),
            np.stack([score, score * 0.7, score * 0.3], axis=1),
            share.astype(np.float32),
            np.sign(error).astype(np.int8),
        )
        weights = _weights(rng, E, level[t]) if attention else None
        frame = StepFrame(int(series.times_us[t]), values)
        run.recorder.record(
            series.stream, series.entities, frame, expected, spread, scores, level[t], said.get(t, []), weights,
            POSITIONS if attention else (),
        )  # fmt: skip


def _weights(rng: np.random.Generator, E: int, level: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return [E, 2, M] weights: mostly the newest moments and yesterday; examples while something is wrong."""
    lag = np.array([p.lag_steps or 0 for p in POSITIONS])
    kind = np.array([p.kind for p in POSITIONS])
    logit = np.where(kind == "recent", -lag / 9.0, np.where(kind == "lag", -0.6 - lag / 900.0, -1.8))  # [M]
    both = np.stack([logit, logit + (kind == "neighbour") * 1.5])  # [A, M]
    logits = (
        both + 0.25 * rng.standard_normal((E, *both.shape)) + (level > 0)[:, None, None] * (kind == "example") * 1.7
    )
    weights = np.exp(logits)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
