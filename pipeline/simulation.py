"""Simulated air-quality stations and street cameras: invented, but with the structure that real ones have.

Daily and weekly cycles, weather shared between neighbouring stations, channels that depend on each other, counts that
scatter like counts, and the rounding of real instruments. Nothing here was measured; whatever is made from it says so.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

START_US = 1_756_684_800_000_000
"""2025-09-01T00:00:00Z, a Monday, so that the weekly cycle starts on its first day."""

STEP_S = 600.0
_HOUR_S = 3600.0

AIR_CHANNELS = ("pm25", "pm10", "no2", "o3", "temperature", "humidity")
AIR_UNITS = ("ug/m3", "ug/m3", "ug/m3", "ug/m3", "Cel", "%")
AIR_STATIONS = ("harbour", "market", "ring-road", "hillside", "station-square", "river-park")
_STATION_KM = np.array([[0.0, 0.0], [1.4, 0.6], [2.9, 1.8], [4.6, 3.5], [1.9, -1.2], [3.3, -0.7]])
_STATION_TRAFFIC = np.array([0.8, 1.1, 1.7, 0.5, 1.3, 0.7])
_STATION_COARSE = np.array([1.3, 1.0, 1.4, 0.8, 1.1, 0.9])

EVENT_CHANNELS = ("person_count", "vehicle_count")
EVENT_UNITS = ("1", "1")
CAMERAS = ("north-gate", "market-hall", "bridge", "arena")
_CAMERA_KM = np.array([[0.4, 1.1], [1.4, 0.6], [2.2, -0.3], [3.8, 1.5]])
_CAMERA_PEOPLE = np.array([48.0, 85.0, 40.0, 62.0])
_CAMERA_VEHICLES = np.array([110.0, 45.0, 150.0, 75.0])


@dataclass(frozen=True, slots=True)
class Series:
    """What a stream's sensors would have sent, on a regular grid."""

    stream: str
    entities: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    step_s: float
    times_us: NDArray[np.int64]
    """[T] ends of the steps, UTC microseconds."""
    values: NDArray[np.float64]
    """[E, T, C]; NaN where nothing was sent."""
    positions_km: NDArray[np.float64]
    """[E, 2] east and north of the town's centre, for whoever looks for neighbours."""
    simulated: bool = True

    def with_values(self, values: NDArray[np.float64]) -> Series:
        """Return the same series with other values of the same shape."""
        return replace(self, values=values)


def air(days: float = 45.0, seed: int = 0, start_us: int = START_US, step_s: float = STEP_S) -> Series:
    """Return ``days`` of six simulated stations; the same seed gives the same values, bit for bit.

    Without a planted fault PM2.5 stays below 50 µg/m³, PM10 is never below PM2.5 and nothing is missing.
    """
    rng = np.random.default_rng([seed, 1])
    times_us = _grid(days, start_us, step_s)
    E, T = len(AIR_STATIONS), len(times_us)
    hour, day = _calendar(times_us)
    calm = _shared(rng, E, T, step_s, common_h=30.0, local=0.15)  # [E, T] > 0: little wind, pollutants gather
    traffic = _STATION_TRAFFIC[:, None] * _traffic(hour, day)  # [E, T]

    temperature = _temperature(rng, E, hour, step_s)
    humidity = _humidity(rng, temperature, step_s)
    # Sunlight splits NO2 and makes ozone, fresh exhaust eats it: the two mirror each other in every town.
    sun = np.clip(np.sin((hour - 7.0) / 12.0 * np.pi), 0.0, None)
    no2 = np.exp(2.65 + 0.26 * calm + 0.07 * _shared(rng, E, T, step_s, 3.0, 0.6)) * (0.55 + 1.25 * traffic)
    no2 *= 1.0 - 0.4 * sun
    o3 = 58.0 + 1.5 * (temperature - 14.0) + 14.0 * sun - 0.8 * no2 + 3.0 * _shared(rng, E, T, step_s, 18.0, 0.3)
    pm25 = np.exp(2.2 + 0.27 * calm + 0.1 * _shared(rng, E, T, step_s, 8.0, 0.5)) * (0.85 + 0.22 * traffic)
    dry = np.exp(-0.012 * (humidity - 65.0))
    pm10 = pm25 * 1.12 + _STATION_COARSE[:, None] * dry * (4.0 + 2.2 * traffic)

    clean = np.stack([pm25, pm10, no2, o3, temperature, humidity], axis=-1)  # [E, T, C]
    noise = np.array([0.45, 0.7, 0.9, 1.3, 0.12, 0.5])
    values = _reported(clean + noise * rng.standard_normal(clean.shape))
    return Series("air", AIR_STATIONS, AIR_CHANNELS, AIR_UNITS, step_s, times_us, values, _STATION_KM)


def events(days: float = 45.0, seed: int = 0, start_us: int = START_US, step_s: float = STEP_S) -> Series:
    """Return ``days`` of people and vehicles counted by four simulated cameras; whole numbers, nothing missing."""
    rng = np.random.default_rng([seed, 2])
    times_us = _grid(days, start_us, step_s)
    E, T = len(CAMERAS), len(times_us)
    hour, day = _calendar(times_us)
    weather = _shared(rng, E, T, step_s, common_h=10.0, local=0.3)
    people = _CAMERA_PEOPLE[:, None] * _footfall(hour, day) * np.exp(0.09 * weather)
    flow = np.exp(0.05 * _shared(rng, E, T, step_s, 2.0, 0.6) - 0.03 * weather)  # the dry day's walkers drive when wet
    vehicles = _CAMERA_VEHICLES[:, None] * (0.09 + 0.91 * _traffic(hour, day)) * flow
    counts = [_counts(rng, people, dispersion=30.0), _counts(rng, vehicles, dispersion=60.0)]
    values = np.stack(counts, axis=-1)  # [E, T, C]
    return Series("events", CAMERAS, EVENT_CHANNELS, EVENT_UNITS, step_s, times_us, values, _CAMERA_KM)


def _grid(days: float, start_us: int, step_s: float) -> NDArray[np.int64]:
    return start_us + np.arange(1, round(days * 86_400 / step_s) + 1, dtype=np.int64) * round(step_s * 1e6)


def _calendar(times_us: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the hour of the day [T] in [0, 24) and the day of the week [T], 0 = Monday."""
    seconds = times_us // 1_000_000
    return (seconds % 86_400) / _HOUR_S, (seconds // 86_400 + 3) % 7


def _bump(hour: NDArray[np.float64], peak: float, width: float) -> NDArray[np.float64]:
    """Return a bell around ``peak`` o'clock that wraps at midnight."""
    away = (hour - peak + 12.0) % 24.0 - 12.0
    return np.exp(-0.5 * np.square(away / width))


def _by_day(
    day: NDArray[np.int64], workday: NDArray[np.float64], saturday: NDArray[np.float64], sunday: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.where(day < 5, workday, np.where(day == 5, saturday, sunday))


def _traffic(hour: NDArray[np.float64], day: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the traffic [T], about 0.05 at night and 1 in a weekday's rush hour."""
    workday = 0.05 + 0.75 * _bump(hour, 8.0, 1.3) + 0.45 * _bump(hour, 13.0, 3.0) + 0.85 * _bump(hour, 17.5, 1.7)
    weekend = 0.08 + 0.62 * _bump(hour, 14.5, 4.0)
    return _by_day(day, workday, weekend, weekend * 0.85)


def _footfall(hour: NDArray[np.float64], day: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the people about [T] as a share of a weekday's noon; never zero, this is a town's centre."""
    workday = 0.1 + 0.35 * _bump(hour, 8.3, 1.0) + 0.9 * _bump(hour, 12.7, 1.8) + 0.75 * _bump(hour, 18.0, 2.0)
    saturday = 0.14 + 1.15 * _bump(hour, 14.5, 3.4) + 0.3 * _bump(hour, 21.0, 2.0)
    sunday = 0.11 + 0.6 * _bump(hour, 14.0, 3.0)
    return _by_day(day, workday, saturday, sunday)


def _ar1(rng: np.random.Generator, rows: int, T: int, memory_steps: float) -> NDArray[np.float64]:
    """Return ``rows`` stationary AR(1) series of unit variance [rows, T] that forget over ``memory_steps``."""
    keep = np.exp(-1.0 / memory_steps)
    shocks = rng.standard_normal((T, rows))
    shocks[1:] *= np.sqrt(1.0 - keep * keep)
    for t in range(1, T):
        shocks[t] += keep * shocks[t - 1]
    return shocks.T


def _shared(
    rng: np.random.Generator, E: int, T: int, step_s: float, common_h: float, local: float
) -> NDArray[np.float64]:
    """Return a weather-like process [E, T] of unit variance: one part common to the town, ``local`` of it apart.

    It is clipped at ±2.6, because weather has limits and a Gaussian has none.
    """
    memory = common_h * _HOUR_S / step_s
    common, apart = _ar1(rng, 1, T, memory), _ar1(rng, E, T, memory / 3.0)
    return np.clip(np.sqrt(1.0 - local * local) * common + local * apart, -2.6, 2.6)


def _temperature(rng: np.random.Generator, E: int, hour: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    T = len(hour)
    clear = 1.0 + 0.25 * _shared(rng, 1, T, step_s, 36.0, 0.0)  # a clear sky widens the daily swing
    season = -3.0 * np.linspace(0.0, 1.0, T)  # September into October
    swing = 4.6 * clear * np.cos((hour - 15.0) / 24.0 * 2.0 * np.pi)
    site = rng.normal(0.0, 0.5, (E, 1))
    return 16.0 + season + swing + site + 2.2 * _shared(rng, E, T, step_s, 60.0, 0.12)


def _humidity(rng: np.random.Generator, temperature: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """Return relative humidity [E, T] in per cent; it bends towards 100 without touching it, so it never sticks."""
    E, T = temperature.shape
    pressure = 0.9 - 0.14 * (temperature - 14.0) + 0.35 * _shared(rng, E, T, step_s, 24.0, 0.15)
    return 25.0 + 70.0 / (1.0 + np.exp(-pressure))


def _reported(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to the instruments' 0.1 and keep what physics forbids out of the record. [E, T, C] both."""
    floored = values.copy()
    floored[..., :4] = np.maximum(floored[..., :4], 0.3)
    floored[..., 1] = np.maximum(floored[..., 1], floored[..., 0])
    floored[..., 5] = np.clip(floored[..., 5], 5.0, 99.9)
    return np.round(floored, 1)


def _counts(rng: np.random.Generator, mean: NDArray[np.float64], dispersion: float) -> NDArray[np.float64]:
    """Return negative-binomial counts (a Poisson whose rate is itself gamma): variance mean + mean²/dispersion."""
    return rng.poisson(mean * rng.gamma(dispersion, 1.0 / dispersion, mean.shape)).astype(np.float64)
