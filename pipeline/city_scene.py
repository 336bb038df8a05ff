"""A simulated city: what cameras, air stations and a river gauge see by the half hour, and what is planted.

It is made of the same streets and weather as the demo's other streams. Nothing here was measured.

Legend: P places, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline import simulation
from pipeline.planted import Fault, FaultKind

STREAM = "city"
STEP_S = 1800.0
DAY_STEPS = 48
PLACES = ("market-street", "harbour-road", "bridge-street")
_CAMERAS = (0, 3, 2)
_STATIONS = (1, 0, 2)
"""The places' cameras and air stations among those of ``simulation``."""
_SEEN_SHARE = np.array([0.8, 0.2, 0.15])
"""Of those streets' traffic these cameras see a part: each object is half a dozen messages."""
AIR_CHANNELS = ("pm25", "pm10", "no2", "temperature", "humidity")
GAUGE = "USGS-06904500"

_BLOCKED_H = (7.5, 12.0)
"""From when until when, on the last day, nobody can drive through."""
_STILL_PASSING = 0.05
_MORE_PEOPLE = 1.5
_GATHERING_H = 1.0
"""How long it takes the people to come who cannot drive, or want to see."""
_NO2_WITHOUT_TRAFFIC = 0.35
"""What stays of the NO2 in a street in the rush hour when its traffic is gone: the town's background."""
_MIXING_H = 0.25
"""How long it takes the wind to carry a street's exhaust away."""
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

    def road_blocked(self) -> Fault:
        """Return the truth about the planted event."""
        start_us, end_us = self.span_us(self.blocked)
        return Fault(
            STREAM, PLACES[0], FaultKind.ROAD_BLOCKED, ("car", "person", "no2"), start_us, end_us,
            end_us + round(_EXPLAINED_LATE_H * 3.6e9), frozenset({"anomaly"}),
            note="the road is blocked: vehicles fall to a twentieth, NO2 falls, people come to look",
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
    streets = simulation.events(days, seed, start_us, STEP_S)
    stations = simulation.air(days, seed, start_us, STEP_S)
    counts = rng.binomial(streets.values[list(_CAMERAS)].astype(np.int64), _SEEN_SHARE[:, None, None])  # [P, T, 2]
    wanted = [stations.channels.index(name) for name in AIR_CHANNELS]
    air = stations.values[list(_STATIONS)][:, :, wanted]
    last, before = (days - 1) * DAY_STEPS, (days - 2) * DAY_STEPS
    blocked, dark, cut = _spell(last, _BLOCKED_H), _spell(before, _DARK_H), _spell(before, _CUT_H)
    people, cars = counts[..., 0], counts[..., 1]
    _block(rng, people[0], cars[0], air[0], blocked)
    for seen in (people, cars):
        seen[len(PLACES) - 1, dark.first : dark.end] = 0  # without a picture there is nothing to see
    stage = _stage_ft(rng, len(stations.times_us))
    discharge = np.round(38.0 * (stage - 1.1) ** 1.7)
    return CityScene(
        stations.times_us, cars, people, air, stage, discharge, before, blocked, dark, cut
    )  # fmt: skip


def _beginning_us(days: int, now: datetime) -> int:
    """Return midnight before the first day; the last one is a Wednesday."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight - timedelta(days=(midnight.weekday() - 3) % 7)  # a Thursday begins
    return round((end - timedelta(days=days)).timestamp() * 1e6)


def _spell(first: int, hours: tuple[float, float]) -> Spell:
    begin, end = (first + round(hour * 3600.0 / STEP_S) for hour in hours)
    return Spell(begin, end)


def _block(
    rng: np.random.Generator,
    people: NDArray[np.int64],
    cars: NDArray[np.int64],
    air: NDArray[np.float64],
    spell: Spell,
) -> None:
    """Change one place in place: ``people`` and ``cars`` [T], ``air`` [T, channels]."""
    within = slice(spell.first, spell.end)
    cars[within] = rng.binomial(cars[within], _STILL_PASSING)
    gathered = 1.0 - np.exp(-np.arange(1, spell.end - spell.first + 1) * STEP_S / 3600.0 / _GATHERING_H)  # [n]
    people[within] += rng.poisson(people[within] * (_MORE_PEOPLE - 1.0) * gathered)
    left = np.ones(len(cars))  # [T] share of the traffic's exhaust that is in the air
    for step in range(spell.first, len(left)):
        goal = 0.0 if step in spell else 1.0
        left[step] = goal + (left[step - 1] - goal) * np.exp(-STEP_S / 3600.0 / _MIXING_H)
    no2 = AIR_CHANNELS.index("no2")
    air[:, no2] = np.round(air[:, no2] * (_NO2_WITHOUT_TRAFFIC + (1.0 - _NO2_WITHOUT_TRAFFIC) * left), 1)


def _stage_ft(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Return [T] the height of a river that snow feeds: it swings by the day, and falls a little from day to day."""
    day = np.arange(steps) / DAY_STEPS
    level = 2.4 - 0.02 * day + 0.12 * np.cos(2.0 * np.pi * (day - 0.8))
    return np.round(level + 0.008 * rng.standard_normal(steps), 2)
