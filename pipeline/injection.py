"""What each planted fault does to the values. Every function changes ``site.values`` and says in words what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PPB_PER_UGM3 = {2: 1.913, 3: 1.996}
"""µg/m³ in one ppb at 20 °C and 1013 hPa, by column: NO2 (46.0 g/mol) and O3 (48.0 g/mol) over 24.05 l/mol."""


@dataclass(slots=True)
class Site:
    """Where a fault goes. T steps and C channels of one entity."""

    values: NDArray[np.float64]
    """[T, C], changed in place."""
    clean: NDArray[np.float64]
    """[T, C] what the sensor would have sent."""
    scales: NDArray[np.float64]
    """[C] local scales."""
    columns: list[int]
    """The channels that are hit."""
    step_s: float
    start: int
    """First faulty step."""
    end: int
    """One past the last faulty step."""
    rng: np.random.Generator

    @property
    def length(self) -> int:
        """Return the number of faulty steps."""
        return self.end - self.start

    def hours(self, hours: float) -> int:
        """Return ``hours`` in steps."""
        return round(hours * 3600.0 / self.step_s)


Injection = Callable[[Site], str]
Seek = Callable[[Site], int]


def spike(site: Site) -> str:
    """Add 7 to 10 local scales for a step or a few: a passing lorry, a wasp in the inlet, a flipped bit."""
    size = site.rng.uniform(7.0, 10.0)
    site.values[site.start : site.end, site.columns] += size * site.scales[site.columns]
    return f"up by {size:.1f} local scales for {site.length} steps"


def level_shift(site: Site) -> str:
    """Add 5 to 7 local scales for hours: a dirty lens, a calibration gone wrong."""
    size = site.rng.uniform(5.0, 7.0)
    site.values[site.start : site.end, site.columns] += size * site.scales[site.columns]
    return f"up by {size:.1f} local scales"


def drift(site: Site) -> str:
    """Climb slowly by 7 to 9 local scales over the whole fault, then be repaired."""
    size = site.rng.uniform(7.0, 9.0)
    ramp = np.linspace(0.0, size, site.length + 1)[1:, None]  # [n, 1]
    site.values[site.start : site.end, site.columns] += ramp * site.scales[site.columns]
    return f"creeps up by {size:.1f} local scales, then is repaired"


def stuck(site: Site) -> str:
    """Repeat the last good value exactly."""
    site.values[site.start : site.end, site.columns] = site.clean[site.start - 1, site.columns]
    return "repeats one value"


def noise(site: Site) -> str:
    """Add white noise of 3 to 4 local scales: a loose contact."""
    size = site.rng.uniform(3.0, 4.0)
    shape = (site.length, len(site.columns))
    site.values[site.start : site.end, site.columns] += (
        size * site.rng.standard_normal(shape) * site.scales[site.columns]
    )
    return f"noise of {size:.1f} local scales"


def remove(site: Site) -> str:
    """Send nothing: the whole entity is silent, or one channel is lost."""
    site.values[site.start : site.end, site.columns] = np.nan
    return "nothing arrives"


def unit_mix_up(site: Site) -> str:
    """Convert from ppb what already is µg/m³: the values come out about twice too high."""
    for column in site.columns:
        site.values[site.start : site.end, column] *= _PPB_PER_UGM3[column]
    return "converted from ppb although already in µg/m³"


def clock_shift(site: Site) -> str:
    """Stamp readings 8 hours late: the device runs on another time zone."""
    shift = site.hours(8.0)
    site.values[site.start : site.end] = site.clean[site.start - shift : site.end - shift]
    return "clock 8 hours off"


def limit_episode(site: Site) -> str:
    """Let PM2.5 climb well above 50 µg/m³ over hours, PM10 with it, and fall again: a real episode, no sensor fault."""
    peak = site.rng.uniform(64.0, 78.0)
    rise, fall = site.length * 2 // 5, site.length * 3 // 10
    bell = np.concatenate(
        [
            0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, rise, endpoint=False)),
            np.ones(site.length - rise - fall),
            0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, fall)),
        ]
    )[:, None]  # [n, 1]
    pm25, pm10 = site.columns
    lift = bell * np.maximum(peak - site.clean[site.start : site.end, [pm25]], 0.0)
    site.values[site.start : site.end, [pm25]] += lift
    site.values[site.start : site.end, [pm10]] += 1.12 * lift
    return f"PM2.5 climbs to {peak:.0f} µg/m³"


def crowd(site: Site) -> str:
    """Count six times the people: a match, a demonstration, an evacuation."""
    site.values[site.start : site.end, site.columns] *= 6.0
    return "six times the people"


def road_blocked(site: Site) -> str:
    """Count next to no vehicles by day."""
    site.values[site.start : site.end, site.columns] *= 0.02
    return "hardly a vehicle passes"


def where_largest(site: Site) -> int:
    """Return the step of the following day at which the channel is highest: doubling a zero shows nothing."""
    return site.start + int(np.argmax(site.clean[site.start : site.start + site.hours(24.0), site.columns[0]]))


def where_clock_shows(site: Site) -> int:
    """Return the step of the following day at which a clock 8 hours off makes the largest jump, in local scales."""
    day, shift = site.hours(24.0), site.hours(8.0)
    now = site.clean[site.start : site.start + day]  # [n, C]
    then = site.clean[site.start - shift : site.start - shift + day]
    return site.start + int(np.argmax(np.max(np.abs(now - then) / site.scales, axis=1)))
