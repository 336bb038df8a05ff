"""Numbers as Grafana writes them in a panel's unit, and the colours that a dashboard names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = {
    "green": "#3f9142", "yellow": "#cf9f00", "orange": "#f2700a", "red": "#d62f43", "blue": "#2f6fd6",
    "transparent": "rgba(0,0,0,0)", "text": "#24292e",
}  # fmt: skip
SERIES = ("#56a64b", "#e0b400", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#19a3a3", "#7c4c9e", "#5f6b7a", "#b35900")
"""Of curves, in order."""
_DURATIONS = ((31_536_000.0, "years"), (86_400.0, "days"), (3600.0, "hours"), (60.0, "mins"), (1.0, "s"))
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_THOUSANDS = ("", " K", " Mil", " Bil", " Tri")


def written(value: float, unit: str = "short", decimals: int | None = None) -> str:
    """Return a value in a unit.

    >>> written(0.0042, "s"), written(93.0, "s"), written(2_500_000, "bytes"), written(0.953, "percentunit", 1)
    ('4.2 ms', '1.55 mins', '2.38 MiB', '95.3 %')
    >>> written(12_300), written(3.0, "cps"), written(0.5, "none", 2), written(float("nan"))
    ('12.3 K', '3 c/s', '0.50', 'NaN')
    """
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "∞", "-inf": "-∞"}[str(value)]
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals)} %"
    if unit == "s":
        return _duration(value, decimals)
    if unit == "bytes":
        return _scaled(value, 1024.0, tuple(f" {name}" for name in _BYTES), decimals)
    if unit == "none":
        return _digits(value, decimals)
    return _scaled(value, 1000.0, _THOUSANDS, decimals) + (" c/s" if unit == "cps" else "")


def colour(name: str) -> str:
    """Return what a browser takes for a colour's name."""
    return COLOURS.get(name, name)


def toned(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the colour of the highest threshold that ``value`` has reached."""
    reached = [step["color"] for step in steps if step.get("value") is None or value >= step["value"]]
    return colour(reached[-1] if reached else "text")


def mapped(value: float, mappings: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the word and the colour that a value is mapped to; None where it is to none."""
    for mapping in mappings:
        found = mapping.get("options", {}).get(f"{value:g}")
        if found is not None:
            return str(found.get("text", f"{value:g}")), colour(found.get("color", "text"))
    return None


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers that cover a range.

    >>> ticks(0.0, 9.3)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next((m for m in (1.0, 2.0, 5.0) if m * power >= raw * 0.999), 10.0)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _duration(seconds: float, decimals: int | None) -> str:
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 1:
        small = ((1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
        least, name = next(((s, n) for s, n in small if size >= s), small[-1])
        return f"{_digits(seconds / least, decimals)} {name}"
    least, name = next((s, n) for s, n in _DURATIONS if size >= s)
    return f"{_digits(seconds / least, decimals)} {name}"


def _scaled(value: float, base: float, names: Sequence[str], decimals: int | None) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return _digits(value, decimals) + names[power]


def _digits(value: float, decimals: int | None) -> str:
    """Return three digits that count, or as many decimals as are asked for."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
