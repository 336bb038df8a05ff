"""What the sensors of airRohr stations measure, by the kind of sensor and the name that it gives its value.

The name alone does not tell: ``P1`` is PM10 of an SDS011, and a count of particles above 1 µm of a PPD42NS. Sources:
opendata-stuttgart's feinstaub-api (``SENSOR_TYPE_CHOICES``) and its airrohr-firmware.
"""

from __future__ import annotations

from typing import NamedTuple

DUST = ("SDS", "PMS", "HPM", "SPS30", "NPM", "NEXTPM", "IPS", "HM3301", "SEN5")
"""Kinds whose P values are masses, by how their names begin."""
COUNTERS = ("PPD", "DSM501")
"""Kinds whose P values are counts."""

_MASSES = {
    "P0": "pm1", "P1": "pm10", "P2": "pm25", "P4": "pm4",
    "P01": "pm0_1", "P03": "pm0_3", "P05": "pm0_5", "P5": "pm5",
}  # fmt: skip
_COUNTS = {"P1": "count_1um", "P2": "count_2_5um", "P10": "count_1um", "P25": "count_2_5um"}
_PLAIN = {
    "temperature": ("temperature", "Cel"),
    "humidity": ("humidity", "%"),
    "pressure": ("pressure", "Pa"),
    "pressure_at_sealevel": ("pressure_sealevel", "Pa"),
    "pressure_sealevel": ("pressure_sealevel", "Pa"),
    "noise_LAeq": ("noise", "dB"),
    "noise_LA_min": ("noise_min", "dB"),
    "noise_LA_max": ("noise_max", "dB"),
    "co2_ppm": ("co2", "[ppm]"),
}
_HOUSEKEEPING = frozenset((
    "samples", "min_micro", "max_micro", "interval", "signal", "altitude", "lat", "lon", "height", "timestamp",
    "hv_pulses", "sample_time_ms", "vo_raw", "voltage",
))  # fmt: skip
_HOUSEKEEPING_BEGINS = ("dur", "ratio")
_INSIDE = ("HECA",)
"""Sensors within a heated chamber: what they measure is not the air outside."""
_LONGEST = 60

LIMITS: dict[str, tuple[float, float]] = {
    "pm1": (0.0, 1999.9),
    "pm25": (0.0, 1999.9),
    "pm10": (0.0, 1999.9),
    "temperature": (-40.0, 85.0),
    "humidity": (0.0, 100.0),
    "pressure": (30_000.0, 110_000.0),
    "noise": (20.0, 140.0),
}
"""The widest ranges of these sensors' data sheets, in the units above."""

_RANKS = ("BME280", "BME680", "SHT3", "HTU21", "DHT", "SCD30", "BMP", "DS18B20", "SDS", "SPS30", "NPM", "PMS", "HPM")


class Measured(NamedTuple):
    """Where a value belongs."""

    channel: str
    unit: str


def measured(sensor: str, name: str) -> Measured | None:
    """Return what ``name`` is of a kind of sensor; None for what says nothing of the surroundings.

    Args:
        sensor: ``SDS011``, ``BME280``; empty where it is not known.
        name: without the sensor's prefix.

    >>> measured("SDS011", "P1"), measured("PPD42NS", "P1")
    (Measured(channel='pm10', unit='ug/m3'), Measured(channel='count_1um', unit='1'))
    """
    kind = sensor.upper()
    if name in _HOUSEKEEPING or name.startswith(_HOUSEKEEPING_BEGINS):
        return None
    if kind.startswith(DUST) and name in _MASSES:
        return Measured(_MASSES[name], "ug/m3")
    if kind.startswith(COUNTERS) and name in _COUNTS:
        return Measured(_COUNTS[name], "1")
    if name in _PLAIN and not kind.startswith(_INSIDE):
        return Measured(*_PLAIN[name])
    own = f"{sensor}_{name}" if sensor and (name in _PLAIN or name[:1] == "P") else name
    return Measured(own.lower()[:_LONGEST], "")


def rank(sensor: str) -> int:
    """Return where a kind of sensor stands among those that measure the same; the lowest has the channel's own name."""
    kind = sensor.upper()
    return next((at for at, begins in enumerate(_RANKS) if kind.startswith(begins)), len(_RANKS))
