"""Parts of the earth in degrees, WGS 84; they may lie across the 180th meridian.

Legend: n sites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.console.troubles import BadQuestion

Floats = NDArray[np.float64]

_LEAST_COSINE = 0.1


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the earth in degrees; ``east`` is never below ``west``: beyond 180 where the meridian lies between."""

    west: float
    south: float
    east: float
    north: float

    def __str__(self) -> str:
        """Return what ``box_of`` reads: west,south,east,north."""
        west, east = (-180.0, 180.0) if self.east - self.west > 359.9 else (wrapped(self.west), wrapped(self.east))
        return f"{west:.5f},{self.south:.5f},{east:.5f},{self.north:.5f}"

    def within(self, latitude: Floats, longitude: Floats) -> NDArray[np.bool_]:
        """Return [n] whether each site lies in it; unknown places do not."""
        east = (longitude - self.west) % 360.0  # as far east of the western side; NaN stays NaN
        inside: NDArray[np.bool_] = (
            (latitude >= self.south) & (latitude <= self.north) & (east <= self.east - self.west)
        )
        return inside


def box_of(text: str) -> Box:
    """Return the part of the earth that somebody asks for.

    >>> box_of("170,-50,-170,-30")
    Box(west=170.0, south=-50.0, east=190.0, north=-30.0)

    Raises:
        BadQuestion: if it is none.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise BadQuestion(f"box is {text[:60]!r}; say west,south,east,north in degrees, as 5.5,47,15.5,55") from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise BadQuestion(
            "box is west,south,east,north: longitudes from -180 to 180, latitudes from -90 to 90, south first"
        )
    return Box(west, south, east if east >= west else east + 360.0, north)


def extent(latitude: Floats, longitude: Floats) -> Box | None:
    """Return the smallest part of the earth with all known places in it, across the 180th meridian if need be."""
    known = ~(np.isnan(latitude) | np.isnan(longitude))
    if not known.any():
        return None
    latitude, ordered = latitude[known], np.unique(longitude[known])
    gaps = np.diff(ordered, append=ordered[0] + 360.0)
    widest = int(np.argmax(gaps))
    west = float(ordered[(widest + 1) % len(ordered)])
    east = west + max(360.0 - float(gaps[widest]), 0.0)
    return Box(west, float(latitude.min()), east, float(latitude.max()))


def coordinates_text(latitude: float | None, longitude: float | None) -> str:
    """Return a position as people write it; empty where it is not known.

    >>> coordinates_text(54.0931, -12.5)
    '54.0931° N, 12.5000° W'
    """
    if latitude is None or longitude is None:
        return ""
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.4f}° {north}, {abs(longitude):.4f}° {east}"


def around(latitude: float, longitude: float) -> Box:
    """Return what lies within some ten kilometres.

    >>> str(around(54.0, 12.0))
    '11.83000,53.90000,12.17000,54.10000'
    """
    tall = 0.1
    wide = round(tall / cosine(latitude), 2)
    return Box(longitude - wide, max(latitude - tall, -90.0), longitude + wide, min(latitude + tall, 90.0))


def wrapped(longitude: float) -> float:
    """Return a longitude from -180 to 180."""
    return longitude if -180.0 <= longitude <= 180.0 else (longitude + 180.0) % 360.0 - 180.0


def cosine(latitude: float) -> float:
    """Return how long a degree of longitude is beside one of latitude; near the poles never less than a tenth."""
    return max(math.cos(math.radians(latitude)), _LEAST_COSINE)
