"""A simulated city's streets: how many vehicles and people pass by the half hour, and the NO2 of its exhaust.

Nothing here was measured; where a figure comes from:

======================= ============================================================================================
main road, rush hour    400 vehicles an hour in one direction: half of what a busy high street can take. The Design
                        Manual for Roads and Bridges (TA 79/99, table 2, UAP4) has 750 to 1140 for 6.1 to 7.3 m.
the other two roads     60 vehicles an hour: side streets, assumed
course of a day         two rush hours on weekdays, one hump at weekends; the busiest hour has 9 to 10 % of a weekday,
                        as is customary for urban roads
scatter of vehicles     Poisson; the mean drifts by 5 %, so rarely by more than 10 %. Thomas, Weijermars and van Berkum,
                        "Variations in urban traffic volumes", EJTIR 8(3), 2008, found both in a Dutch town.
scatter of people       groups and weather: negative binomial, the mean drifts by 9 %; assumed, as the demo's other
                        cameras have it
NO2 of the exhaust      40 % of what is in the main road's air in the rush hour. A closed Oxford Street had 20 % less
                        on a Sunday (London Air Quality Network, 2016-11-08), Marylebone Road and Oxford Street 48 and
                        47 % less in the lockdown of 2020 (Mayor of London), a street of the London Marathon 89 % less.
how fast it is gone     15 minutes; assumed: what a street holds leaves it within the hour
======================= ============================================================================================

Legend: P places, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RUSH_HOUR = np.array([400.0, 60.0, 60.0])
"""[P] vehicles an hour that come by in a weekday's rush hour."""
_NOON = np.array([80.0, 24.0, 12.0])
"""[P] people an hour on a weekday at noon; assumed."""
_VEHICLES_DRIFT, _PEOPLE_DRIFT = 0.05, 0.09
_DRIFT_H = 10.0
"""How long weather and occasions keep traffic above or below its usual; assumed."""
_PEOPLE_DISPERSION = 30.0
_EXHAUST_SHARE = 0.4
_MIXING_H = 0.25
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Streets:
    """What passes by."""

    vehicles: NDArray[np.int64]
    """[P, T] within each step."""
    people: NDArray[np.int64]
    """[P, T]."""


def streets(rng: np.random.Generator, times_us: NDArray[np.int64], step_s: float) -> Streets:
    """Return what passes three places within the steps that end at ``times_us`` [T]; the first is the main road."""
    middle_us = times_us - round(step_s * 5e5)
    hour, weekday = (middle_us % (24 * _HOUR_US)) / _HOUR_US, (middle_us // (24 * _HOUR_US) + 3) % 7  # day 0: Thursday
    steps_per_hour = 3600.0 / step_s
    P, T = len(_RUSH_HOUR), len(times_us)
    driving = _RUSH_HOUR[:, None] / steps_per_hour * _traffic(hour, weekday)  # [P, T]
    walking = _NOON[:, None] / steps_per_hour * _footfall(hour, weekday)
    driving *= np.exp(_VEHICLES_DRIFT * _drift(rng, P, T, _DRIFT_H * steps_per_hour))
    walking *= np.exp(_PEOPLE_DRIFT * _drift(rng, P, T, _DRIFT_H * steps_per_hour))
    walking *= rng.gamma(_PEOPLE_DISPERSION, 1.0 / _PEOPLE_DISPERSION, walking.shape)
    return Streets(rng.poisson(driving), rng.poisson(walking))


def with_exhaust(no2: NDArray[np.float64], vehicles: NDArray[np.int64], step_s: float) -> NDArray[np.float64]:
    """Return the NO2 [P, T] in streets with ``vehicles`` [P, T] a step, where the town around them has ``no2``.

    A calm gathers the street's exhaust as it gathers the town's, so it is a multiple of it.
    """
    rush = _RUSH_HOUR[0] * step_s / 3600.0
    of_rush = _EXHAUST_SHARE / (1.0 - _EXHAUST_SHARE) * vehicles / rush  # [P, T] of the town's NO2
    keep = np.exp(-step_s / 3600.0 / _MIXING_H)
    held = of_rush[:, 0].copy()
    total = np.empty(no2.shape)
    for t in range(no2.shape[1]):
        held = keep * held + (1.0 - keep) * of_rush[:, t]
        total[:, t] = no2[:, t] * (1.0 + held)
    return total


def _traffic(hour: NDArray[np.float64], weekday: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the traffic [T] as a share of a weekday's rush hour; 0 = Monday."""
    workday = 0.06 + 0.78 * _hump(hour, 8.0, 1.3) + 0.48 * _hump(hour, 13.0, 3.0) + 0.8 * _hump(hour, 17.5, 1.7)
    weekend = 0.08 + 0.6 * _hump(hour, 14.5, 4.0)
    return np.where(weekday < 5, workday, np.where(weekday == 5, weekend, 0.85 * weekend))


def _footfall(hour: NDArray[np.float64], weekday: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the people about [T] as a share of a weekday's noon; 0 = Monday."""
    workday = 0.1 + 0.35 * _hump(hour, 8.3, 1.0) + 0.85 * _hump(hour, 12.7, 1.8) + 0.75 * _hump(hour, 18.0, 2.0)
    saturday = 0.14 + 1.1 * _hump(hour, 14.5, 3.4) + 0.3 * _hump(hour, 21.0, 2.0)
    sunday = 0.11 + 0.6 * _hump(hour, 14.0, 3.0)
    return np.where(weekday < 5, workday, np.where(weekday == 5, saturday, sunday))


def _hump(hour: NDArray[np.float64], peak: float, width: float) -> NDArray[np.float64]:
    """Return a bell around ``peak`` o'clock that wraps at midnight."""
    away = (hour - peak + 12.0) % 24.0 - 12.0
    return np.exp(-0.5 * np.square(away / width))


def _drift(rng: np.random.Generator, P: int, T: int, memory_steps: float) -> NDArray[np.float64]:
    """Return [P, T] of unit variance that forgets over ``memory_steps``; half of it is the whole town's."""
    keep = np.exp(-1.0 / memory_steps)
    parts = rng.standard_normal((1 + P, T))
    parts[:, 1:] *= np.sqrt(1.0 - keep * keep)
    for t in range(1, T):
        parts[:, t] += keep * parts[:, t - 1]
    return np.sqrt(0.5) * (parts[0] + parts[1:])
