"""A simulated city: what cameras, air stations and a river gauge see by the half hour, and what is planted.

Nothing here was measured. The weather and the town's air are those of the demo's other streams, the streets those of
``city_streets``. On the last day the main road is closed for three hours from half past seven, as after an accident in
the rush hour (assumed): hardly a vehicle passes, the exhaust is gone within the hour, and twice the people are about,
who else would drive, or come to see (assumed). Nobody is led past the other two places.

Legend: P places, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline import simulation
from pipeline.city_streets import Streets, streets, with_exhaust
from pipeline.planted import Fault, FaultKind

STREAM = "city"
STEP_S = 1800.0
DAY_STEPS = 48
PLACES = ("market-street", "harbour-road", "bridge-street")
_STATIONS = ("river-park", "harbour", "hillside")
"""Those of ``simulation`` whose air is the town's around each place: they have little traffic of their own."""
AIR_CHANNELS = ("pm25", "pm10", "no2", "temperature", "humidity")
GAUGE = "USGS-06904500"

_BLOCKED_H = (7.5, 10.5)
"""From when until when, on the last day, nobody can drive through."""
_STILL_PASSING = 0.05
_MORE_PEOPLE = 2.0
_GATHERING_H = 1.0
"""How long it takes the people to come."""
_DARK_H = (8.0, 12.0)
_CUT_H = (15.0, 17.0)
"""On the day before: one camera has no picture; later Frigate loses its broker."""
_EXPLAINED_LATE_H = 1.0
_FEWEST_DAYS = 11


@dataclass(frozen=True, slots=True)
class Spell:
    """Steps from ``first`` up to, not including, ``end``."""

    first: int
    end: int

    def __contains__(self, step: int) -> bool:
        return self.first <= step < self.end


@dataclass(frozen=True, slots=True)
class CityScene:
    """All that happens."""

    times_us: NDArray[np.int64]
    """[T] ends of the steps, UTC microseconds."""
    cars: NDArray[np.int64]
    """[P, T] that come by within a step."""
    people: NDArray[np.int64]
    """[P, T]."""
    air: NDArray[np.float64]
    """[P, T, channels], in µg/m³, °C and %."""
    stage_ft: NDArray[np.float64]
    """[T] of the river."""
    discharge_ft3_s: NDArray[np.float64]
    """[T]."""
    training_steps: int
    """The part that a network may learn from; nothing is planted in it."""
    blocked: Spell
    """The road at the first place."""
    dark: Spell
    """The camera at the last place has no picture."""
    cut: Spell
    """Frigate has no link to its broker."""

    @property
    def start_us(self) -> int:
        """When it begins: a step before the first one's end."""
        return int(self.times_us[0]) - round(STEP_S * 1e6)

    @property
    def end_us(self) -> int:
        """The end of the last step."""
        return int(self.times_us[-1])

    def span_us(self, spell: Spell) -> tuple[int, int]:
        """Return the ends of a spell's first and last step."""
        return int(self.times_us[spell.first]), int(self.times_us[spell.end - 1])

    def changes(self, step: int) -> bool:
        """Return whether a camera's picture or Frigate's link goes or comes as this step begins."""
        return step in (self.dark.first, self.dark.end, self.cut.first, self.cut.end)

    def road_blocked(self) -> Fault:
        """Return the truth about the planted event."""
        start_us, end_us = self.span_us(self.blocked)
        return Fault(
            STREAM, PLACES[0], FaultKind.ROAD_BLOCKED, ("car", "person", "no2"), start_us, end_us,
            end_us + round(_EXPLAINED_LATE_H * 3.6e9), frozenset({"anomaly"}),
            note="the road is blocked: vehicles fall to a twentieth, NO2 falls, people come",
        )  # fmt: skip


def city(days: int, seed: int = 0, now: datetime | None = None) -> CityScene:
    """Return ``days`` that end with the newest Wednesday that is over; the road is blocked on the last of them.

    The same seed gives the same days, whatever the date is.

    Raises:
        ValueError: if there are too few days to learn from before something happens.
    """
    if days < _FEWEST_DAYS:
        raise ValueError(f"{days} days are too few: the network learns from the first ones; allowed: {_FEWEST_DAYS}")
    start_us = _beginning_us(days, datetime.now(UTC) if now is None else now)
    rng = np.random.default_rng([seed, 5])
    stations = simulation.air(days, seed, start_us, STEP_S)
    last, before = (days - 1) * DAY_STEPS, (days - 2) * DAY_STEPS
    blocked, dark, cut = _spell(last, _BLOCKED_H), _spell(before, _DARK_H), _spell(before, _CUT_H)
    seen = streets(rng, stations.times_us, STEP_S)
    _block(rng, seen, blocked)
    air = _air(stations, seen.vehicles)
    for counted in (seen.people, seen.vehicles):
        counted[len(PLACES) - 1, dark.first : dark.end] = 0  # without a picture there is nothing to see
    stage = _stage_ft(rng, len(stations.times_us))
    discharge = np.round(38.0 * (stage - 1.1) ** 1.7)
    return CityScene(
        stations.times_us, seen.vehicles, seen.people, air, stage, discharge, before, blocked, dark, cut
    )  # fmt: skip


def _beginning_us(days: int, now: datetime) -> int:
    """Return midnight before the first day; the last one is a Wednesday."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight - timedelta(days=(midnight.weekday() - 3) % 7)  # a Thursday begins
    return round((end - timedelta(days=days)).timestamp() * 1e6)


def _spell(first: int, hours: tuple[float, float]) -> Spell:
    begin, end = (first + round(hour * 3600.0 / STEP_S) for hour in hours)
    return Spell(begin, end)


def _block(rng: np.random.Generator, seen: Streets, spell: Spell) -> None:
    """Let hardly anybody drive on the main road, and more people be there; changes ``seen``."""
    within = slice(spell.first, spell.end)
    seen.vehicles[0, within] = rng.binomial(seen.vehicles[0, within], _STILL_PASSING)
    gathered = 1.0 - np.exp(-np.arange(1, spell.end - spell.first + 1) * STEP_S / 3600.0 / _GATHERING_H)  # [n]
    seen.people[0, within] += rng.poisson(seen.people[0, within] * (_MORE_PEOPLE - 1.0) * gathered)


def _air(stations: simulation.Series, vehicles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [P, T, channels] what is measured beside the streets; to a tenth, as the stations say it."""
    rows = [stations.entities.index(name) for name in _STATIONS]
    air = stations.values[rows][:, :, [stations.channels.index(name) for name in AIR_CHANNELS]]
    no2 = AIR_CHANNELS.index("no2")
    air[..., no2] = np.round(with_exhaust(air[..., no2], vehicles, STEP_S), 1)
    return air


def _stage_ft(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Return [T] the height of a river that snow feeds: it swings by the day, and falls a little from day to day."""
    day = np.arange(steps) / DAY_STEPS
    level = 2.4 - 0.02 * day + 0.12 * np.cos(2.0 * np.pi * (day - 0.8))
    return np.round(level + 0.008 * rng.standard_normal(steps), 2)
