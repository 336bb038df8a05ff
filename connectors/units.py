"""Units as UCUM codes, and the affine conversions between those that measure the same thing.

The table is our own: UCUM parsers disagree on ``[pH]`` and on annotations, and read ``[cft_i]/s`` as *centi*foot. Mass
concentration (ug/m3) and mixing ratio ([ppb]) do not convert: that needs temperature and pressure. Neither do ``1`` and
``%``: a count is not a share, and a factor of 100 applied in silence would be worse than a refusal.
"""

from __future__ import annotations

import difflib
import math
from fractions import Fraction
from typing import NamedTuple


class Scale(NamedTuple):
    """``base = factor · value + offset`` in the base unit of ``dimension``."""

    dimension: str
    factor: float
    offset: float = 0.0


INCH = 0.0254  # m, exact since 1959
FOOT = 0.3048  # m, exact
GALLON = 231 * INCH**3  # m³, US liquid
DEGREE_F = 5 / 9  # K

UNITS: dict[str, Scale] = {
    # plain numbers, and shares of a whole
    "1": Scale("number", 1),
    "%": Scale("share", 1),
    "[pH]": Scale("acidity", 1),
    # mass concentration, kg/m³
    "kg/m3": Scale("mass concentration", 1),
    "g/m3": Scale("mass concentration", 1e-3),
    "mg/m3": Scale("mass concentration", 1e-6),
    "ug/m3": Scale("mass concentration", 1e-9),
    "ng/m3": Scale("mass concentration", 1e-12),
    "g/L": Scale("mass concentration", 1),
    "mg/L": Scale("mass concentration", 1e-3),
    "ug/L": Scale("mass concentration", 1e-6),
    # mixing ratio
    "[ppth]": Scale("mixing ratio", 1e-3),
    "[ppm]": Scale("mixing ratio", 1e-6),
    "[ppb]": Scale("mixing ratio", 1e-9),
    "[pptr]": Scale("mixing ratio", 1e-12),
    # number concentration, 1/m³
    "/m3": Scale("number concentration", 1),
    "/L": Scale("number concentration", 1e3),
    "/dL": Scale("number concentration", 1e4),
    "/cm3": Scale("number concentration", 1e6),
    # flow, m³/s
    "m3/s": Scale("flow", 1),
    "m3/h": Scale("flow", 1 / 3600),
    "m3/d": Scale("flow", 1 / 86_400),
    "ML/d": Scale("flow", 1e3 / 86_400),
    "L/s": Scale("flow", 1e-3),
    "L/min": Scale("flow", 1e-3 / 60),
    "[ft_i]3/s": Scale("flow", FOOT**3),
    "[gal_us]/min": Scale("flow", GALLON / 60),
    # volume, m³
    "m3": Scale("volume", 1),
    "L": Scale("volume", 1e-3),
    # length, m
    "m": Scale("length", 1),
    "mm": Scale("length", 1e-3),
    "cm": Scale("length", 1e-2),
    "km": Scale("length", 1e3),
    "[in_i]": Scale("length", INCH),
    "[ft_i]": Scale("length", FOOT),
    # speed, m/s; also rain rates
    "m/s": Scale("speed", 1),
    "km/h": Scale("speed", 1 / 3.6),
    "cm/s": Scale("speed", 1e-2),
    "mm/h": Scale("speed", 1e-3 / 3600),
    "[in_i]/h": Scale("speed", INCH / 3600),
    "[ft_i]/s": Scale("speed", FOOT),
    "[mi_i]/h": Scale("speed", 5280 * FOOT / 3600),
    "[kn_i]": Scale("speed", 1852 / 3600),
    # temperature, K
    "K": Scale("temperature", 1),
    "Cel": Scale("temperature", 1, 273.15),
    "[degF]": Scale("temperature", DEGREE_F, 273.15 - 32 * DEGREE_F),
    # pressure, Pa
    "Pa": Scale("pressure", 1),
    "hPa": Scale("pressure", 100),
    "kPa": Scale("pressure", 1e3),
    "mbar": Scale("pressure", 100),
    "bar": Scale("pressure", 1e5),
    "mm[Hg]": Scale("pressure", 133.322387415),
    "[in_i'Hg]": Scale("pressure", 3386.388640341),
    "[psi]": Scale("pressure", 6894.757293168361),
    # electricity
    "S/m": Scale("conductivity", 1),
    "mS/m": Scale("conductivity", 1e-3),
    "mS/cm": Scale("conductivity", 0.1),
    "uS/cm": Scale("conductivity", 1e-4),
    "V": Scale("voltage", 1),
    "mV": Scale("voltage", 1e-3),
    "A": Scale("current", 1),
    "mA": Scale("current", 1e-3),
    "W": Scale("power", 1),
    "kW": Scale("power", 1e3),
    "J": Scale("energy", 1),
    "W.h": Scale("energy", 3.6e3),
    "kW.h": Scale("energy", 3.6e6),
    "Hz": Scale("frequency", 1),
    # time, s
    "s": Scale("time", 1),
    "ms": Scale("time", 1e-3),
    "min": Scale("time", 60),
    "h": Scale("time", 3600),
    # light, sound, angle, mass
    "lx": Scale("illuminance", 1),
    "W/m2": Scale("irradiance", 1),
    "dB": Scale("level", 1),
    "dB[SPL]": Scale("sound level", 1),
    "deg": Scale("angle", math.pi / 180),
    "rad": Scale("angle", 1),
    "kg": Scale("mass", 1),
    "g": Scale("mass", 1e-3),
}

_PLAIN = str.maketrans({"µ": "u", "μ": "u", "²": "2", "³": "3", "^": None, "·": ".", " ": None})
"""Both Unicode micros, superscripts and carets are one thing written in many ways."""

ALIASES: dict[str, str] = {
    "°C": "Cel", "℃": "Cel", "degC": "Cel", "deg_C": "Cel", "deg_c": "Cel", "celsius": "Cel", "Celsius": "Cel",
    "°F": "[degF]", "℉": "[degF]", "degF": "[degF]", "deg_F": "[degF]", "deg_f": "[degF]", "fahrenheit": "[degF]",
    "Fahrenheit": "[degF]", "kelvin": "K", "hpa": "hPa", "mb": "mbar", "inHg": "[in_i'Hg]",
    "PPB": "[ppb]", "PPM": "[ppm]", "UG/M3": "ug/m3", "umol/mol": "[ppm]", "nmol/mol": "[ppb]",
    "particles/cm3": "/cm3", "#/cm3": "/cm3", "1/cm3": "/cm3", "/dl": "/dL", "/l": "/L",
    "ppb": "[ppb]", "ppm": "[ppm]", "ppbv": "[ppb]", "ppmv": "[ppm]", "[ppbv]": "[ppb]",
    "percent": "%", "%RH": "%", "pH": "[pH]",
    "count": "1", "counts": "1", "{count}": "1", "ratio": "1", "unitless": "1", "dimensionless": "1",
    "ft": "[ft_i]", "feet": "[ft_i]", "in": "[in_i]", "inch": "[in_i]",
    "ft3/s": "[ft_i]3/s", "cfs": "[ft_i]3/s", "[cft_i]/s": "[ft_i]3/s", "gpm": "[gal_us]/min",
    "ft/s": "[ft_i]/s", "ft/sec": "[ft_i]/s", "in/h": "[in_i]/h", "Ml/d": "ML/d", "Ml/day": "ML/d", "ML/day": "ML/d",
    "uS/cm@25C": "uS/cm", "m3_s": "m3/s", "l_s": "L/s", "cumec": "m3/s", "m3s-1": "m3/s", "m3.s-1": "m3/s",
    "l": "L", "l/s": "L/s", "l/min": "L/min",
    "mg/l": "mg/L", "ug/l": "ug/L", "g/l": "g/L", "ugm-3": "ug/m3", "ug.m-3": "ug/m3", "mcg/m3": "ug/m3",
    "mph": "[mi_i]/h", "kn": "[kn_i]", "kt": "[kn_i]", "kts": "[kn_i]", "Knots": "[kn_i]", "knots": "[kn_i]",
    "kph": "km/h", "kmh": "km/h", "m.s-1": "m/s",
    "mmHg": "mm[Hg]", "psi": "[psi]", "Wh": "W.h", "kWh": "kW.h", "sec": "s", "hr": "h", "lux": "lx",
    "°": "deg", "degree": "deg", "degrees": "deg", "dBSPL": "dB[SPL]",
}  # fmt: skip
"""Other spellings, after superscripts and micros are made plain. ``[cft_i]/s`` is what its writer meant, not UCUM.

Left out because they mean two things: ``C`` (coulomb), ``ph`` (phot), ``ppt`` (thousand or trillion), ``dBA``, ``ms-1``
(per millisecond, or metres per second with its space lost), ``FNU`` and ``NTU`` (no scale leads from one to the other).
"""


def canonical(unit: str) -> str | None:
    """Return the table's code for ``unit`` as people write it, or None when it is not known.

    >>> canonical("µg/m³"), canonical("°C"), canonical("furlong")
    ('ug/m3', 'Cel', None)
    """
    if unit in UNITS:
        return unit
    plain = ALIASES.get(unit, unit).translate(_PLAIN)
    plain = ALIASES.get(plain, plain)
    return plain if plain in UNITS else None


def conversion(from_unit: str, to_unit: str) -> tuple[float, float] | None:
    """Return (factor, offset) with ``to = factor · from + offset``, or None when there is no such conversion.

    A reading without a unit ("") is in the unit it is asked for. Units outside the table convert to themselves only.

    >>> conversion("Cel", "K")
    (1.0, 273.15)
    >>> conversion("[ppb]", "ug/m3") is None
    True
    """
    if not from_unit or from_unit == to_unit:
        return 1.0, 0.0
    source, target = canonical(from_unit), canonical(to_unit)
    if source is None or target is None:
        return None
    if source == target:
        return 1.0, 0.0
    old, new = UNITS[source], UNITS[target]
    if old.dimension != new.dimension:
        return None
    return _ratio(old.factor, new.factor), _ratio(old.offset - new.offset, new.factor)


def _ratio(numerator: float, denominator: float) -> float:
    """Divide as decimals: mg/L to ug/m3 is 1e6, and not 1000000.0000000001."""
    return float(Fraction(repr(numerator)) / Fraction(repr(denominator)))


def nearest(unit: str) -> str | None:
    """Return the known code most like ``unit``, for messages about a unit that is not known."""
    found = difflib.get_close_matches(unit, [*UNITS, *ALIASES], n=1, cutoff=0.5)
    return canonical(found[0]) if found else None
