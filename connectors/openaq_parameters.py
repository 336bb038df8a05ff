"""OpenAQ's parameters and units to channels: one pollutant by mass and by mixing ratio is two channels.

Names and units: openaq-db's table of measurands. The limits are what can be true outdoors, by judgement on that
project's own plausibility limits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

_NAMES = {
    "ozone": "o3",
    "pm2.5": "pm25",
    "relativehumidity": "humidity",
    "rh": "humidity",
    "ambient_temp": "temperature",
}
"""Other names of the same thing; what is not here keeps its own."""

_UNITS = {
    "c": "Cel", "deg_c": "Cel", "f": "[degF]", "deg_f": "[degF]",
    "hpa": "hPa", "mb": "mbar", "pa": "Pa",
    "ppm": "[ppm]", "ppb": "[ppb]", "umol/mol": "[ppm]", "nmol/mol": "[ppb]",
    "particles/cm3": "/cm3", "ug/m3": "ug/m3", "ng/m3": "ng/m3", "mg/m3": "mg/m3",
}  # fmt: skip
"""By their spelling in lower case, with plain micros and digits."""
_PLAIN = str.maketrans({"µ": "u", "μ": "u", "²": "2", "³": "3"})

_CLIMATE_GASES = ("co2", "ch4")
"""Known by their mixing ratio, in ppm; of the others people know both, so that the ratio has a name of its own."""
_LONGEST = 60

LIMITS: dict[str, tuple[float, float]] = {
    "pm1": (0.0, 1000.0),
    "pm25": (0.0, 1000.0),
    "pm4": (0.0, 2000.0),
    "pm10": (0.0, 5000.0),
    "bc": (0.0, 100.0),
    "no2": (0.0, 2000.0),
    "no": (0.0, 3000.0),
    "nox": (0.0, 5000.0),
    "o3": (0.0, 1000.0),
    "so2": (0.0, 5000.0),
    "co": (0.0, 100_000.0),
    "no2_ppb": (0.0, 1000.0),
    "no_ppb": (0.0, 2500.0),
    "nox_ppb": (0.0, 3000.0),
    "o3_ppb": (0.0, 500.0),
    "so2_ppb": (0.0, 2000.0),
    "co_ppb": (0.0, 100_000.0),
    "co2": (300.0, 10_000.0),
    "temperature": (-90.0, 60.0),
    "humidity": (0.0, 100.0),
    "pressure": (500.0, 1100.0),
    "wind_speed": (0.0, 115.0),
    "wind_direction": (0.0, 360.0),
}
_LIMIT_UNITS = {
    "temperature": ("Cel",), "pressure": ("hPa", "mbar"), "bc": ("ug/m3",), "humidity": ("%",), "co2": ("[ppm]",),
    "wind_speed": ("m/s",), "wind_direction": ("deg",),
}  # fmt: skip
"""Others are in ug/m3, or in ppb where the name says so."""

SENTINELS = frozenset((-999.0, -9999.0, -99999.0, -999999.0, -999.9))
"""What loggers write for no value, and what passes through some providers; none can be true of any parameter."""


class Quantity(NamedTuple):
    """What a sensor brings."""

    channel: str
    unit: str
    thousandfold: bool = False
    """Whether values are to be taken times 1000: ppm as ppb."""

    def value(self, reported: float) -> float:
        """Return a value in ``unit``.

        >>> Quantity("no2_ppb", "[ppb]", True).value(0.0291)
        29.1
        """
        # As decimals: as floats it would be 29.099999999999998, another value than the same one reported in ppb.
        return float(Decimal(repr(reported)) * 1000) if self.thousandfold else reported

    @property
    def limits(self) -> tuple[float, float] | None:
        """Return the lowest and highest value that can be true; None where they are not known in this unit."""
        expected = _LIMIT_UNITS.get(self.channel, ("[ppb]",) if self.channel.endswith("_ppb") else ("ug/m3",))
        return LIMITS.get(self.channel) if self.unit in expected else None


def quantity_of(name: str, units: str) -> Quantity:
    """Return what a parameter in its units is to us.

    >>> quantity_of("no2", "µg/m³"), quantity_of("no2", "ppm")
    (Quantity(channel='no2', unit='ug/m3', thousandfold=False), Quantity(channel='no2_ppb', unit='[ppb]', \
thousandfold=True))
    """
    plain = units.strip().translate(_PLAIN)
    unit = _UNITS.get(plain.lower(), plain)
    channel = name.strip().lower()
    channel = _NAMES.get(channel, channel)[:_LONGEST]
    is_ratio = unit in ("[ppm]", "[ppb]")
    if channel in _CLIMATE_GASES:
        return Quantity(channel if is_ratio else f"{channel}_mass", unit)
    if is_ratio:
        return Quantity(f"{channel}_ppb", "[ppb]", unit == "[ppm]")
    return Quantity(channel, unit)
