"""What a stream is: its topics, its time grid, its channels and limits, its model and its alert policy.

Everything has a default but the name, the topics, the step and the channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from pipeline.config_fields import (
    BudgetWords,
    Count,
    Cron,
    Duration,
    Glob,
    Name,
    NOfM,
    Number,
    PositiveCount,
    PositiveDuration,
    Section,
    Share,
    Time,
)
from pipeline.durations import Budget, microseconds

AggregatorName = Literal["mean", "sum", "max", "min", "last", "count", "rate"]
_DAY_S = 86_400.0


class LimitConfig(Section):
    """A line that a channel should not cross. Exactly one of ``above`` and ``below``, in the channel's unit."""

    name: Name = Field(examples=["limit"])
    above: Number | None = None
    below: Number | None = None
    clear: Number | None = None
    """The value at which an open incident resolves; none: the limit itself."""
    n_of_m: NOfM = (1, 1)
    forecast: bool = True
    """Warn before the limit is crossed."""
    probability: Share = 0.9
    """How sure the forecast must be to warn."""


class ChannelConfig(Section):
    """One measured property. Readings in another unit are converted where that is exact, and refused elsewhere."""

    name: Name = Field(examples=["pm25"])
    unit: str = ""
    """UCUM code; empty: whatever comes."""
    aggregate: AggregatorName = "mean"
    every: PositiveDuration | None = None
    """How often readings come. With it a step of which too few came is missing; none: one reading is enough."""
    least_coverage: Share | None = None
    """Which share of the readings that a step should have is enough; none: half for ``sum`` and ``count``, which would
    fall with what is missing, and one reading for the others. Needs ``every``."""
    limits: tuple[LimitConfig, ...] = ()
    stuck: bool = True
    """Tell when the value stops moving."""

    @model_validator(mode="after")
    def _coverage_of_something(self) -> ChannelConfig:
        if self.least_coverage is not None and self.every is None:
            raise ValueError("least_coverage is a share of nothing | every: how often readings come, such as 1m")
        if self.every is not None and self.aggregate == "rate":
            raise ValueError("every is of no use to a rate, which knows its time | another aggregate, or no every")
        return self

    def least_readings(self, step: timedelta) -> int:
        """Return of how many readings a step's value is made at least."""
        share = self.least_coverage
        if share is None:
            share = 0.5 if self.aggregate in ("sum", "count") else 0.0
        return 1 if self.every is None else max(1, math.ceil(share * (step / self.every) - 1e-9))


class RecentConfig(Section):
    """Look ``weight`` times as hard at states no older than ``within``."""

    within: PositiveDuration = Field(examples=["2h"])
    weight: Number = Field(gt=0, examples=[2.0])


class AttentionConfig(Section):
    """The attention program: what the model may look back at, and what operators know about where to look."""

    kind: Literal["scaled_dot", "multi_head"] = "scaled_dot"
    heads: PositiveCount = 1
    seasonal_lags: tuple[PositiveDuration, ...] = (timedelta(days=1), timedelta(days=7))
    recent: tuple[RecentConfig, ...] = ()
    examples: Count = Field(default=16, le=256)
    """Representative past states kept per entity."""


class NeighboursConfig(Section):
    """Whose states an entity may look at: named in ``map``, or the ``k`` most correlated ones."""

    k: Count = Field(default=0, le=16)
    map: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)


class TrainConfig(Section):
    """How the attention-LSTM learns."""

    epochs: PositiveCount = 20
    batch: PositiveCount = 16
    """Sequences in parallel, at least; long histories of few entities are cut into so many."""
    sequence: PositiveCount = 32
    """Steps of truncated back-propagation."""
    learning_rate: Number = Field(default=3e-3, gt=0)
    weight_decay: Number = Field(default=1e-4, ge=0)
    dropout: Share = 0.2
    mask: Share = 0.1
    """Share of the values hidden from the network while it learns."""
    jitter: Number = Field(default=0.05, ge=0)
    """Standard deviation of the noise added to the inputs while it learns."""
    validation: Share = 0.2
    """Newest share of the history, held out for the early stop."""
    patience: PositiveCount = 5
    device: Literal["auto", "cpu", "cuda"] = "auto"


class ModelConfig(Section):
    """The attention-LSTM of a stream."""

    hidden: PositiveCount = Field(default=32, le=1024)
    window: PositiveCount = Field(default=64, le=4096)
    """Past states that attention sees."""
    attention: AttentionConfig = Field(default_factory=AttentionConfig)
    neighbours: NeighboursConfig = Field(default_factory=NeighboursConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    ring: Literal["f32", "bf16"] = "f32"
    """How past states are held; bf16 halves their memory."""


class RetrainConfig(Section):
    """When a stream's network is trained anew, and what it must show before it takes over."""

    every: PositiveDuration | None = timedelta(days=1)
    """An interval; null: only by ``cron``, on drift, or when asked. Without a champion it is tried after an hour, then
    after two, four, up to this, or a day."""
    cron: Cron | None = None
    """Five fields, in UTC, such as "0 3 * * *"; used instead of ``every``."""
    jitter: Duration = timedelta(minutes=5)
    """Start up to so much later, at random, so that replicas and streams do not all start at once."""
    on_drift: bool = True
    """Train when scores or forecast errors drift."""
    drift_pause: PositiveDuration = timedelta(days=1)
    """Shortest time between two trainings on account of drift."""
    drift_wait: Duration = timedelta(days=3)
    """How long what comes after a drift is gathered, in event time, before it is trained on: then from that, as much
    before it, and at least ``least_history`` steps."""
    history: PositiveDuration = timedelta(days=365)
    """Newest part of the history that is learned from."""
    least_history: PositiveCount = 1000
    """Fewer steps than this are refused."""
    holdout: Share = 0.15
    """Newest share of the history that the challenger never sees, and is judged on."""
    longest_holdout: PositiveDuration = timedelta(days=14)
    """The share never is more than this, so that a long history does not keep the newest months from being learned."""
    margin: Share = 0.005
    """By how much of the champion's loss the challenger must be better, beyond its uncertainty."""
    shadow: Duration = timedelta(0)
    """How long a challenger that was found better runs beside the champion before it is judged again and takes over."""
    promote: bool = True
    """Whether a challenger that has proven itself takes over by itself; if not, it waits for a person."""
    probation: PositiveDuration = timedelta(days=2)
    """How long a new champion is watched; one that fails within it gives way to its predecessor by itself."""


class FlapConfig(Section):
    """An incident that opens ``times`` within ``within`` is flapping: it is said once and held open."""

    times: PositiveCount = Field(default=4, ge=2)
    within: PositiveDuration = timedelta(hours=6)


class AlertPolicy(Section):
    """When an incident opens, is spoken of, and clears."""

    n_of_m: NOfM = (1, 1)
    clear_level: Share = 0.5
    """Score below which an open incident calms down; the boundary is 1."""
    clear_after: PositiveCount = 3
    """Calm steps until it resolves."""
    cooldown: Duration = timedelta(hours=1)
    """After it resolved, nothing of that kind opens for that entity."""
    max_duration: PositiveDuration = timedelta(days=2)
    """An incident that lasts longer is the new normal and resolves."""
    flap: FlapConfig = Field(default_factory=FlapConfig)
    watches: bool = True
    """Publish the watch tier too."""


class MaintenanceConfig(Section):
    """A time in which nothing is said and nothing is learned."""

    start: Time = Field(examples=["2026-05-04T22:00:00Z"])
    end: Time = Field(examples=["2026-05-05T04:00:00Z"])
    repeat: PositiveDuration | None = None
    """Again after each such period, for ever."""
    entities: tuple[Glob, ...] = ("*",)
    reason: str = ""


class StreamConfig(Section):
    """A family of entities with the same channels, step, model and alert policy."""

    name: Name = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=60, examples=["air"])
    topics: tuple[Name, ...] = Field(min_length=1, examples=[["air"]])
    step: PositiveDuration = Field(examples=["10m"])
    channels: tuple[ChannelConfig, ...] = Field(min_length=1, max_length=256, examples=[[{"name": "pm25"}]])
    grace: Duration = timedelta(seconds=30)
    """How long a step waits for late readings before it closes. At zero the first reading that bears just the step's
    end closes it for the others that do."""
    revise: Duration = timedelta(0)
    """How much later still a late reading re-opens its step; zero: it is counted and dropped."""
    max_ahead: PositiveDuration = timedelta(minutes=10)
    """Readings further in the future are refused, so that one absurd clock cannot close every window."""
    idle_timeout: PositiveDuration = timedelta(minutes=2)
    """A partition that is silent for so long no longer holds back event time."""
    silence_after: PositiveDuration | None = None
    """An entity that is silent for so long is an incident; none: five steps."""
    max_entities: PositiveCount = 100_000
    budget: BudgetWords = Budget(1, 30 * _DAY_S)
    """False alarms, per entity."""
    horizons: tuple[PositiveCount, ...] = Field(default=(1, 3, 6, 12), min_length=1, max_length=16)
    """Steps ahead that are forecast."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    retrain: RetrainConfig = Field(default_factory=RetrainConfig)
    alerts: AlertPolicy = Field(default_factory=AlertPolicy)
    site_of: dict[Glob, Name] = Field(default_factory=dict)
    """Entity name, or a pattern with * and ?, to the site that its incidents are grouped by; the first match counts."""
    maintenance: tuple[MaintenanceConfig, ...] = ()

    @property
    def step_us(self) -> int:
        """The step in microseconds."""
        return microseconds(self.step)

    @property
    def silence(self) -> timedelta:
        """How long an entity may be silent."""
        return self.silence_after if self.silence_after is not None else 5 * self.step

    def fingerprint(self) -> str:
        """Return a short hash of what shapes the state; a checkpoint with another one cannot be used.

        The alert policy, budget, limits and maintenance may change without losing the state.
        """
        fields = {"name", "topics", "step", "grace", "revise", "channels", "horizons", "model"}
        shaping = self.model_dump(mode="json", include=fields)
        for channel in shaping["channels"]:
            del channel["limits"], channel["stuck"], channel["every"], channel["least_coverage"]
        del shaping["model"]["train"]
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]
