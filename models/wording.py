"""Numbers, units, names and times as people write them.

Pure. Names come from outside: they are cleaned and shortened here, and must never be used as a format.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Years 1 to 9999."""
_DAY_S = 86_400
_LONGEST_NAME = 60
_UNITS = {
    "1": "", "ug/m3": "µg/m³", "mg/m3": "mg/m³", "ng/m3": "ng/m³", "Cel": "°C", "[degF]": "°F", "m3/s": "m³/s",
    "m3/h": "m³/h", "m3": "m³", "[ft_i]3/s": "ft³/s", "[ft_i]": "ft", "[ppm]": "ppm", "[ppb]": "ppb", "deg": "°",
}  # fmt: skip
"""UCUM codes as people write them; all others are shown as they are."""
_CHANNELS = {"pm1": "PM1", "pm25": "PM2.5", "pm10": "PM10", "no": "NO", "no2": "NO2", "nox": "NOx", "o3": "O3",
             "so2": "SO2", "co": "CO", "co2": "CO2", "nh3": "NH3", "ph": "pH"}  # fmt: skip
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def number_text(value: float) -> str:
    """Return a number with four significant digits.

    >>> [number_text(x) for x in (182.0, 0.0123456, 123456.0, 1.5e12, float("nan"), float("inf"))]
    ['182', '0.01235', '123500', '1.5e12', 'unknown', 'infinite']
    """
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == 0:
        return "0"
    if 1e4 <= abs(value) < 1e9:
        return f"{float(f'{value:.4g}'):.0f}"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def unit_text(unit: str) -> str:
    """Return a UCUM unit as people write it, with the space that belongs before it; empty for none."""
    text = _UNITS.get(unit)
    if text is None:
        text = "" if not unit or (unit.startswith("{") and unit.endswith("}")) else clean(unit)
    return "" if text == "" else text if text == "°" else f" {text}"


def channel_text(name: str) -> str:
    """Return a channel's name as people write it."""
    return _CHANNELS.get(name) or clean(name.replace("_", " "))


def clean(name: str) -> str:
    """Return a name without control, format and surrogate characters, on one line, at most 60 characters long."""
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in name[: 4 * _LONGEST_NAME])
    text = " ".join(visible.split())
    text = text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
    return text or "unnamed"


def moment_text(time_us: int, now_us: int | None = None) -> str:
    """Return a moment in UTC; with its year where ``now_us`` is absent or in another one.

    >>> moment_text(1_772_510_400_000_000, 1_773_000_000_000_000)
    '3 March 04:00 UTC'
    """
    moment = _EPOCH + timedelta(microseconds=min(max(time_us, _FIRST_US), _LAST_US))
    year = f" {moment.year}"
    if now_us is not None:
        now = _EPOCH + timedelta(microseconds=min(max(now_us, _FIRST_US), _LAST_US))
        year = "" if now.year == moment.year else year
    seconds = f":{moment.second:02d}" if moment.second else ""
    return f"{moment.day} {_MONTHS[moment.month - 1]}{year} {moment.hour:02d}:{moment.minute:02d}{seconds} UTC"


def duration_text(seconds: float) -> str:
    """Return a duration in its largest fitting unit.

    >>> [duration_text(s) for s in (45, 600, 7200, 5400, 172800)]
    ['45 s', '10 min', '2 h', '1.5 h', '2 days']
    """
    for least_s, unit_s, name in ((2 * _DAY_S, _DAY_S, "days"), (3600, 3600, "h"), (60, 60, "min")):
        if seconds >= least_s:
            return f"{number_text(float(f'{seconds / unit_s:.3g}'))} {name}"
    return f"{number_text(float(f'{seconds:.3g}'))} s"


def lag_text(lag_s: float) -> str:
    """Return how people speak of a time so long ago.

    >>> [lag_text(s) for s in (3600, 86400, 604800, 259200)]
    ['1 h before', 'the same hour yesterday', 'the same hour last week', 'the same hour 3 days before']
    """
    days = round(lag_s / _DAY_S)
    if days < 1 or abs(lag_s - days * _DAY_S) > 1800:
        return f"{duration_text(lag_s)} before"
    return {1: "the same hour yesterday", 7: "the same hour last week"}.get(days, f"the same hour {days} days before")
