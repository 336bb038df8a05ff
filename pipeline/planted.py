"""Planted faults: what goes wrong with real sensors, put into a series at known places, with the truth on record.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline import injection
from pipeline.simulation import Series

_HOUR_US = 3_600_000_000
PM25_LIMIT = 50.0
"""The limit on PM2.5 that the demo watches, µg/m³ over a step; the simulated air stays below it by itself."""


class FaultKind(StrEnum):
    """What was planted, or what the publisher of a series says about it (DOCUMENTED)."""

    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    STUCK = "stuck"
    NOISE = "noise"
    GAP = "gap"
    LOST_CHANNEL = "lost_channel"
    UNIT_MIX_UP = "unit_mix_up"
    CLOCK_SHIFT = "clock_shift"
    LIMIT = "limit"
    CROWD = "crowd"
    ROAD_BLOCKED = "road_blocked"
    FROZEN = "frozen"
    DOCUMENTED = "documented"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and what counts as finding it. Never shown to the monitor."""

    stream: str
    entity: str
    kind: FaultKind
    channels: tuple[str, ...]
    start_us: int
    """Time of the first faulty step."""
    end_us: int
    """Time of the last faulty step."""
    until_us: int
    """An incident opened from ``start_us`` up to here counts as finding the fault."""
    found_by: frozenset[str]
    """The incident kinds that count."""
    magnitude: float = 0.0
    """Largest change it made, in local scales (``local_scales``); 0 where it only removed values."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of fault is drawn."""

    kind: FaultKind
    inject: injection.Injection
    channels: tuple[tuple[str, ...], ...]
    """The groups of channels of which one is hit; an empty group means all of the entity's channels."""
    hours: tuple[float, float]
    """Shortest and longest duration; 0 means a single step."""
    found_by: frozenset[str]
    starts: tuple[float, float] = (0.0, 24.0)
    """Hours of the day (UTC) in which it may begin: a blocked road at 3 in the morning is no fault."""
    tolerance_h: float = 1.0
    count: int = 1
    seek: injection.Seek | None = field(default=None)
    """Chooses the start among the steps of the following day, for faults that only show at some hours."""


_SEEN = frozenset({"anomaly"})
_EXTREME = _SEEN | {"limit", "forecast_limit"}
_HELD = frozenset({"stuck", "anomaly"})
_POLLUTANTS = (("pm25",), ("pm10",), ("no2",), ("o3",))

AIR_PLAN = (
    Recipe(FaultKind.SPIKE, injection.spike, _POLLUTANTS, (0.0, 0.5), _EXTREME, count=3),
    Recipe(FaultKind.LEVEL_SHIFT, injection.level_shift, (*_POLLUTANTS, ("temperature",)), (12.0, 30.0), _EXTREME,
           count=2),
    Recipe(FaultKind.DRIFT, injection.drift, (("pm25",), ("no2",)), (36.0, 60.0), _EXTREME),
    Recipe(FaultKind.STUCK, injection.stuck, (("o3",), ("no2",), ("humidity",)), (9.0, 16.0), _HELD,
           starts=(5.0, 9.0), count=2),
    Recipe(FaultKind.NOISE, injection.noise, _POLLUTANTS, (3.0, 8.0), _EXTREME, count=2),
    Recipe(FaultKind.GAP, injection.remove, ((),), (4.0, 10.0), frozenset({"silence"}), count=2),
    Recipe(FaultKind.LOST_CHANNEL, injection.remove, (*_POLLUTANTS, ("humidity",)), (10.0, 24.0),
           frozenset({"silence", "data_quality"})),
    Recipe(FaultKind.UNIT_MIX_UP, injection.unit_mix_up, (("no2",), ("o3",)), (24.0, 48.0), _EXTREME, count=2,
           seek=injection.where_largest),
    Recipe(FaultKind.CLOCK_SHIFT, injection.clock_shift, ((),), (12.0, 24.0), _EXTREME | {"data_quality"},
           seek=injection.where_clock_shows),
    Recipe(FaultKind.LIMIT, injection.limit_episode, (("pm25", "pm10"),), (12.0, 18.0), _EXTREME, count=2),
)  # fmt: skip
EVENT_PLAN = (
    Recipe(FaultKind.CROWD, injection.crowd, (("person_count",),), (2.0, 4.0), _SEEN, starts=(9.0, 17.0), count=2),
    Recipe(FaultKind.ROAD_BLOCKED, injection.road_blocked, (("vehicle_count",),), (3.0, 6.0), _SEEN | {"stuck"},
           starts=(7.0, 13.0), count=2),
    Recipe(FaultKind.FROZEN, injection.stuck, ((),), (6.0, 10.0), _HELD, starts=(7.0, 11.0), count=2),
    Recipe(FaultKind.SPIKE, injection.spike, (("person_count",), ("vehicle_count",)), (0.0, 0.5), _SEEN),
    Recipe(FaultKind.GAP, injection.remove, ((),), (4.0, 10.0), frozenset({"silence"})),
)  # fmt: skip


def plant(
    series: Series, plan: Sequence[Recipe], first_step: int, seed: int = 0, apart_h: float = 30.0
) -> tuple[Series, list[Fault]]:
    """Return ``series`` with the faults of ``plan`` in it, and their truths in order of time.

    The input is not changed. No fault begins before ``first_step`` (the training part stays clean); on one entity at
    least ``apart_h`` lie between two faults and after the last one. The same seed plants the same faults.

    Raises:
        ValueError: if the plan does not fit behind ``first_step``.
    """
    rng = np.random.default_rng([seed, 3, len(series.stream)])
    values = series.values.copy()  # [E, T, C]
    scales = local_scales(series)  # [E, C]
    faults: list[Fault] = []
    for e, recipes in enumerate(_shares(rng, plan, len(series.entities))):
        for recipe, start, length in _places(rng, recipes, series, first_step, apart_h):
            faults.append(_plant_one(rng, recipe, series, values, scales, e, start, length))
    return series.with_values(values), sorted(faults, key=lambda f: (f.start_us, f.entity))


def local_scales(series: Series) -> NDArray[np.float64]:
    """Return [E, C] how far each channel commonly lies from its usual value at that time of day.

    1.4826 times the median absolute deviation from the median of the same time of day, over all of ``series``.
    """
    per_day = round(86_400 / series.step_s)
    days = series.values.shape[1] // per_day
    E, _, C = series.values.shape
    daily = series.values[:, : days * per_day].reshape(E, days, per_day, C)
    away = daily - np.nanmedian(daily, axis=1, keepdims=True)
    scale: NDArray[np.float64] = 1.4826 * np.nanmedian(np.abs(away), axis=(1, 2))
    return np.maximum(scale, 1e-9)


def _shares(rng: np.random.Generator, plan: Sequence[Recipe], entities: int) -> list[list[Recipe]]:
    """Deal the plan's faults out like cards, so that no entity gets more than one above another."""
    deck = [recipe for recipe in plan for _ in range(recipe.count)]
    hands: list[list[Recipe]] = [[] for _ in range(entities)]
    for turn, card in enumerate(rng.permutation(len(deck))):
        hands[turn % entities].append(deck[card])
    return hands


def _places(
    rng: np.random.Generator, recipes: Sequence[Recipe], series: Series, first_step: int, apart_h: float
) -> list[tuple[Recipe, int, int]]:
    """Return (recipe, earliest start, length in steps) of each of an entity's faults, in order of time.

    Each gets its length, a day of slack to find its hour in, and the distance to the next; the rest of the time is
    spread at random between them.
    """
    hour = 3600.0 / series.step_s
    lengths = [max(1, round(rng.uniform(*recipe.hours) * hour)) for recipe in recipes]
    taken = [length + round((24.0 + apart_h) * hour) for length in lengths]
    free = series.values.shape[1] - first_step - sum(taken)
    if free < 0:
        msg = f"{len(recipes)} faults need {sum(taken)} steps, but only {sum(taken) + free} follow step {first_step}"
        raise ValueError(msg)
    offsets = np.sort(rng.integers(0, free + 1, len(recipes)))
    before = np.cumsum([0, *taken[:-1]])
    return [
        (recipe, first_step + int(offset + used), length)
        for recipe, offset, used, length in zip(recipes, offsets, before, lengths, strict=True)
    ]


def _plant_one(
    rng: np.random.Generator,
    recipe: Recipe,
    series: Series,
    values: NDArray[np.float64],
    scales: NDArray[np.float64],
    e: int,
    earliest: int,
    length: int,
) -> Fault:
    """Change ``values`` [E, T, C] of entity ``e`` in place and return the truth about it."""
    group = recipe.channels[rng.integers(len(recipe.channels))] or series.channels
    columns = [series.channels.index(name) for name in group]
    start = _first_at(series, earliest, recipe.starts)
    site = injection.Site(values[e], series.values[e], scales[e], columns, series.step_s, start, start + length, rng)
    if recipe.seek is not None:
        start = recipe.seek(site)
        site.start, site.end = start, start + length
    note = recipe.inject(site)
    _as_reported(values[e, start : site.end], series)
    change = np.abs(values[e, start : site.end] - series.values[e, start : site.end])[:, columns] / scales[e, columns]
    end_us = int(series.times_us[site.end - 1])
    return Fault(
        series.stream,
        series.entities[e],
        recipe.kind,
        group,
        int(series.times_us[start]),
        end_us,
        end_us + round(recipe.tolerance_h * _HOUR_US),
        recipe.found_by,
        float(np.max(np.nan_to_num(change))),
        note,
    )


def _first_at(series: Series, earliest: int, starts: tuple[float, float]) -> int:
    """Return the first step from ``earliest`` on whose hour of the day lies in ``starts``; it is less than a day on."""
    per_day = round(86_400 / series.step_s)
    hours = (series.times_us[earliest : earliest + per_day] // 1_000_000 % 86_400) / 3600.0
    return earliest + int(np.argmax((hours >= starts[0]) & (hours < starts[1])))


def _as_reported(values: NDArray[np.float64], series: Series) -> None:
    """Round and bound ``values`` [n, C] in place, as the instruments would: even a broken one prints its own format."""
    for c, unit in enumerate(series.units):
        values[:, c] = np.round(values[:, c], 0 if unit == "1" else 1)
        if unit != "Cel":
            values[:, c] = np.clip(values[:, c], 0.0, 100.0 if unit == "%" else None)
