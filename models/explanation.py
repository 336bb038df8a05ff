"""From numbers to plain words: why a frame is odd, and what the model looked at.

Pure. Names of channels, units and entities come from outside: they are cleaned, shortened and never used as a format.

Legend: A heads, M memory positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.wording import channel_text, clean, duration_text, lag_text, moment_text, number_text, unit_text

# Of the Student-t distribution with 4 degrees of freedom, scaled so that its mean |error| is that of the forecaster:
# spread = √(π/2)·mean |error|, mean |t₄| = 1, and the central 95 % of t₄ lie within ±2.7764. Errors of sensors have
# longer tails than the normal distribution's, whose 95 % would be ±1.96 spreads.
BAND_SPREADS = 2.7764 * math.sqrt(2.0 / math.pi)
BAND_COVERAGE = 0.95

_LEAST_SHARE = 0.05
_LEAST_ATTENTION = 0.15
_RECENT_MASS = 2.0 / 3.0


@dataclass(frozen=True, slots=True)
class ChannelEvidence:
    """One channel at the step in question; NaN where a number is not known."""

    name: str
    unit: str
    observed: float
    expected: float
    lower: float
    upper: float
    share: float
    """Of the evidence, 0 to 1."""
    sign: int
    """+1 above what was expected, -1 below, 0 unknown."""


@dataclass(frozen=True, slots=True)
class AttentionMoment:
    """A past moment, neighbour or example that the model looked at."""

    kind: str
    """``recent``, ``lag``, ``neighbour`` or ``example``."""
    text: str
    time_us: int | None
    """None where the moment is not known (a representative state without a time)."""
    weight: float
    """Share of the attention, the mean over heads."""
    lag_s: float = math.nan


@dataclass(frozen=True, slots=True)
class NearestMoment:
    """The remembered moment most like this one."""

    time_us: int
    distance: float
    channel: str
    """The channel that differs most from it; empty if unknown."""


@dataclass(frozen=True, slots=True)
class AttentionSummary:
    """What the model and its memory say about one entity at one step."""

    moments: tuple[AttentionMoment, ...] = ()
    """All positions, in the memory's order."""
    nearest: NearestMoment | None = None

    def strongest(self, most: int = 8) -> list[AttentionMoment]:
        """Return the moments with the largest weights, largest first."""
        known = [m for m in self.moments if math.isfinite(m.weight) and m.weight > 0]
        return sorted(known, key=lambda m: -m.weight)[:most]


class Position(Protocol):
    """What a memory position is: see ``models.attention``."""

    @property
    def kind(self) -> str:
        """``recent``, ``lag``, ``neighbour`` or ``example``."""

    @property
    def lag_steps(self) -> int:
        """Steps back in time, for ``recent`` and ``lag``."""

    @property
    def index(self) -> int:
        """Which neighbour or example."""


@dataclass(frozen=True, slots=True)
class MemoryNames:
    """What the neighbours and examples in a memory are called."""

    neighbours: Sequence[str] = ()
    example_times_us: Sequence[int | None] = field(default=())


def summarise_attention(
    weights: NDArray[np.floating],
    positions: Sequence[Position],
    time_us: int,
    step_s: float,
    names: MemoryNames | None = None,
    nearest: NearestMoment | None = None,
) -> AttentionSummary:
    """Return in words what attention weights point at.

    Args:
        weights: [A, M] or [M], of one entity; NaN counts as nothing.
        positions: what each of the M positions is.
        time_us: end of the step that the attention belongs to.
        step_s: seconds of a step.
        names: of neighbours and examples, where known.
        nearest: the remembered moment most like this one.
    """
    mean = np.nan_to_num(np.asarray(weights, np.float64).reshape(-1, len(positions)).mean(axis=0))  # [M]
    names = names or MemoryNames()
    moments = [_moment(p, float(w), time_us, step_s, names) for p, w in zip(positions, mean, strict=True)]
    return AttentionSummary(tuple(moments), nearest)


def _moment(position: Position, weight: float, time_us: int, step_s: float, names: MemoryNames) -> AttentionMoment:
    kind = str(position.kind)
    if kind in ("recent", "lag"):
        lag_s = position.lag_steps * step_s
        return AttentionMoment(kind, lag_text(lag_s), time_us - round(lag_s * 1e6), weight, lag_s)
    if kind == "neighbour":
        known = 0 <= position.index < len(names.neighbours)
        text = clean(names.neighbours[position.index]) if known else f"neighbour {position.index + 1}"
        return AttentionMoment(kind, text, time_us, weight)
    times = names.example_times_us
    example_us = times[position.index] if 0 <= position.index < len(times) else None
    text = f"example {position.index + 1}" if example_us is None else moment_text(example_us, time_us)
    return AttentionMoment(kind, text, example_us, weight)


def explain(
    channels: Sequence[ChannelEvidence], attention: AttentionSummary | None, time_us: int, witness: str = ""
) -> str:
    """Return the reasons in plain words; never empty, never raises for any numbers or names.

    Args:
        channels: the entity's channels in their order.
        attention: what the model looked at, None where there is no model yet.
        time_us: end of the step, to leave out the year of moments in the same one.
        witness: name of the witness with the largest score, empty if unknown.

    >>> explain([ChannelEvidence("pm25", "ug/m3", 182.0, 59.0, 41.0, 77.0, 1.0, 1)], None, 0)
    'PM2.5 is 182 µg/m³, expected 41 to 77.'
    """
    if not channels:
        return "The pattern of this step is unusual."
    lead = max(channels, key=lambda c: (_finite_or(c.share, 0.0), _deviation(c)))
    sentences = [_lead_clause(lead, witness) + _company(lead, channels) + "."]
    if attention is not None:
        sentences += [s for s in (_nearest(attention.nearest, time_us), _looked_at(attention.moments)) if s]
    return " ".join(sentences)


def _lead_clause(lead: ChannelEvidence, witness: str) -> str:
    name, unit = channel_text(lead.name), unit_text(lead.unit)
    if math.isnan(lead.observed):
        return f"{name} is missing"
    value = f"{name} is {number_text(lead.observed)}{unit}"
    if math.isnan(lead.lower) or math.isnan(lead.upper):
        return f"{value}; there is no forecast for it yet"
    band = f"{number_text(lead.lower)} to {number_text(lead.upper)}"
    if not lead.lower <= lead.observed <= lead.upper:
        return f"{value}, expected {band}"
    why = {"level": "has left its usual level", "novelty": "was never seen like this before"}
    return f"{value}, within its expected {band}, but {why.get(witness, 'is unusual for what came before')}"


def _company(lead: ChannelEvidence, channels: Sequence[ChannelEvidence]) -> str:
    """Return what other channels did, those with the largest shares, by direction."""
    others = [c for c in channels if c is not lead and _finite_or(c.share, 0.0) >= _LEAST_SHARE]
    others = sorted(others, key=lambda c: -c.share)[:3]
    verbs = {1: "rose", -1: "fell", 0: "changed"}
    clauses = []
    for sign in (lead.sign, *(s for s in (1, -1, 0) if s != lead.sign)):
        group = [c for c in others if c.sign == sign]
        if group:
            together = " with it" if sign == lead.sign != 0 else ""
            shares = ", ".join(f"{c.share * 100:.0f} %" for c in group)
            clauses.append(f"{_join([channel_text(c.name) for c in group])} {verbs.get(sign, 'changed')}{together} "
                           f"(share {shares})")  # fmt: skip
    return "; " + ", ".join(clauses) if clauses else ""


def _nearest(nearest: NearestMoment | None, time_us: int) -> str:
    if nearest is None:
        return ""
    differs = f"; it differs most in {channel_text(nearest.channel)}" if nearest.channel else ""
    return f"The nearest moment on record was {moment_text(nearest.time_us, time_us)}{differs}."


def _looked_at(moments: Sequence[AttentionMoment]) -> str:
    total = sum(m.weight for m in moments if math.isfinite(m.weight))
    if not total > 0:
        return ""
    groups: dict[str, float] = {}
    recent = [m for m in moments if m.kind == "recent" and math.isfinite(m.weight)]
    if recent:
        groups[_recent_text(recent)] = sum(m.weight for m in recent)
    for m in moments:
        if m.kind != "recent" and math.isfinite(m.weight):
            text = {"neighbour": "its neighbours", "example": "similar moments on record"}.get(m.kind, m.text)
            groups[text] = groups.get(text, 0.0) + m.weight
    strongest = sorted(groups.items(), key=lambda item: -item[1])[:3]
    named = [text for text, weight in strongest if weight >= _LEAST_ATTENTION * total] or [strongest[0][0]]
    return f"The model looked mainly at {_join(named)}."


def _recent_text(recent: Sequence[AttentionMoment]) -> str:
    """Return the shortest span up to now that holds two thirds of what recent moments got."""
    by_lag = sorted(recent, key=lambda m: m.lag_s)
    total, mass = sum(m.weight for m in by_lag), 0.0
    for m in by_lag:
        mass += m.weight
        if mass >= _RECENT_MASS * total:
            return f"the last {duration_text(m.lag_s)}"
    return "the last moments"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _finite_or(value: float, default: float) -> float:
    return value if math.isfinite(value) else default


def _deviation(channel: ChannelEvidence) -> float:
    """Return how many half-bands the value lies from its expectation; 0 where unknown."""
    half = (channel.upper - channel.lower) / 2
    away = abs(channel.observed - channel.expected)
    return _finite_or(away / half, 0.0) if half > 0 else 0.0
