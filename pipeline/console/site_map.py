"""The map of sites without anybody's tiles: what lies where on a sheet of a given size, and what is drawn around it.

The projection is equidistant cylindrical with the view's middle latitude true to scale: degrees are straight lines, and
one scale bar holds where one looks. Longitudes are counted around the view's middle, so that a view may lie across the
180th meridian.

Legend: n sites, S states.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.console.site_box import Box, Floats, cosine, wrapped

KM_PER_DEGREE = 111.195
"""Of latitude, on a sphere of the earth's mean radius, 6371.0088 km."""
_LEAST_SPAN = 0.02
"""Degrees: 2 km. Nothing is magnified further."""
_ROOM = 0.08
"""Share of an extent that is left free at each side."""
_STEPS = (90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_CELLS_PX = (14, 24, 32, 40)
_MOST_LABELLED = 45
_LETTER_PX = 6.9
_LABEL_PX = 15.0


@dataclass(frozen=True, slots=True)
class View:
    """A sheet of ``width`` by ``height`` pixels over a part of the earth."""

    latitude: float
    """Of its middle; likewise the next."""
    longitude: float
    px: float
    """Pixels for a degree of latitude."""
    width: int
    height: int

    @classmethod
    def over(cls, box: Box, width: int, height: int, room: float = _ROOM) -> View:
        """Return the view that shows ``box`` as large as it can, with some room around it."""
        latitude, longitude = (box.south + box.north) / 2, (box.west + box.east) / 2
        tall = max((box.north - box.south) * (1 + 2 * room), _LEAST_SPAN)
        wide = max((box.east - box.west) * (1 + 2 * room) * cosine(latitude), _LEAST_SPAN)
        return cls(latitude, longitude, min(width / wide, height / tall), width, height)

    @property
    def degree_px(self) -> float:
        """Pixels for a degree of longitude."""
        return self.px * cosine(self.latitude)

    def xy(self, latitude: Floats, longitude: Floats) -> tuple[Floats, Floats]:
        """Return [n] pixels from the left, and from the top."""
        away = (longitude - self.longitude + 180.0) % 360.0 - 180.0
        return self.width / 2 + away * self.degree_px, self.height / 2 - (latitude - self.latitude) * self.px

    def box(self, zoom: float = 1.0, right: float = 0.0, up: float = 0.0) -> Box:
        """Return what is seen; or would be, nearer by ``zoom``, and moved by shares of the width and height."""
        wide = min(self.width / self.degree_px / zoom, 360.0)
        tall = min(self.height / self.px / zoom, 180.0)
        latitude = min(max(self.latitude + up * tall, -90.0), 90.0)
        west = self.longitude + right * wide - wide / 2
        return Box(west, max(latitude - tall / 2, -90.0), west + wide, min(latitude + tall / 2, 90.0))


@dataclass(frozen=True, slots=True)
class Mark:
    """One site, or several that lie too near each other to be told apart."""

    x: float
    y: float
    radius: float
    """Of the ring around the number, where there are several."""
    count: int
    worst: int
    """The highest state among them."""
    counts: tuple[int, ...]
    """[S]"""
    site: int
    """Which, where it is one; else one of them."""
    box: Box
    """All of them and a little around."""


def marks(
    view: View, latitude: Floats, longitude: Floats, state: NDArray[np.int8], states: int, most: int
) -> list[Mark]:
    """Return what is seen of the sites, at most about ``most`` marks however many sites there are; the worst last.

    Args:
        view: where one looks.
        latitude: [n] degrees; NaN where unknown.
        longitude: [n]
        state: [n] 0 to ``states`` - 1; higher is worse.
        states: how many there are.
        most: sites that share a cell become one mark; cells grow until there are so few, or are 40 pixels wide.
    """
    x, y = view.xy(latitude, longitude)
    seen = np.flatnonzero((x >= 0) & (x <= view.width) & (y >= 0) & (y <= view.height))
    if not len(seen):
        return []
    x, y = x[seen], y[seen]
    for cell_px in _CELLS_PX:
        cell = (y // cell_px).astype(np.int64) * (view.width + 1) + (x // cell_px).astype(np.int64)
        cells, of = np.unique(cell, return_inverse=True)
        if len(cells) <= most:
            break
    k = len(cells)
    count = np.bincount(of, minlength=k)
    east = (longitude[seen] - view.longitude + 180.0) % 360.0 - 180.0 + view.longitude
    around = [_extreme(np.minimum, of, k, east), _extreme(np.minimum, of, k, latitude[seen])]
    around += [_extreme(np.maximum, of, k, east), _extreme(np.maximum, of, k, latitude[seen])]
    each = np.bincount(of * states + state[seen], minlength=k * states).reshape(k, states)
    worst = states - 1 - np.argmax(each[:, ::-1] > 0, axis=1)
    first = np.zeros(k, np.intp)
    first[of] = seen
    radius = np.where(count > 1, np.clip(8.0 + 2.4 * np.log10(count), 9.0, max(0.46 * cell_px, 9.0)), 0.0)
    # What stands for several stays within its cell, so that numbers do not cover each other.
    free = np.where(count > 1, np.maximum(cell_px / 2 - radius, 0.0), cell_px)
    middle_x, middle_y = (cells % (view.width + 1) + 0.5) * cell_px, (cells // (view.width + 1) + 0.5) * cell_px
    at_x = np.clip(np.bincount(of, x, k) / count, middle_x - free, middle_x + free)
    at_y = np.clip(np.bincount(of, y, k) / count, middle_y - free, middle_y + free)
    return [
        Mark(
            round(float(at_x[i]), 1), round(float(at_y[i]), 1), round(float(radius[i]), 1), int(count[i]),
            int(worst[i]), tuple(each[i].tolist()), int(first[i]), _roomy(*(float(side[i]) for side in around)),
        )
        for i in np.lexsort((count, worst)).tolist()
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A meridian or a parallel."""

    at_px: float
    text: str


def graticule(view: View) -> tuple[list[Line], list[Line]]:
    """Return the meridians and the parallels of a view, with their degrees."""
    step = _step(view)
    box = view.box()
    digits = max(0, -math.floor(math.log10(step))) if step < 1 else 0
    meridians, parallels = [], []
    for n in range(math.ceil(box.west / step), math.floor(box.east / step) + 1):
        text = _degrees(wrapped(n * step), digits, "E", "W")
        meridians.append(Line(round(view.width / 2 + (n * step - view.longitude) * view.degree_px, 1), text))
    for n in range(math.ceil(box.south / step), math.floor(box.north / step) + 1):
        text = _degrees(n * step, digits, "N", "S")
        parallels.append(Line(round(view.height / 2 - (n * step - view.latitude) * view.px, 1), text))
    return meridians, parallels


def scale_bar(view: View, most_px: float) -> tuple[float, str]:
    """Return a round length in pixels, at most ``most_px``, and in words; true at the middle of the view."""
    longest_m = most_px / view.px * KM_PER_DEGREE * 1000
    decade = 10.0 ** math.floor(math.log10(longest_m))
    metres = next(m * decade for m in (5, 2, 1) if m * decade <= longest_m)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return round(metres / 1000 / KM_PER_DEGREE * view.px, 1), text


@dataclass(frozen=True, slots=True)
class Label:
    """A name beside a mark."""

    x: float
    y: float
    """Of the text's baseline."""
    text: str


def labels(view: View, drawn: Sequence[Mark], names: Iterable[str]) -> list[Label]:
    """Return names beside the marks, the worst first, as far as they have room; none where there are many marks.

    Args:
        view: where one looks.
        drawn: as ``marks`` returns them.
        names: of each mark; empty: it gets none.
    """
    if len(drawn) > _MOST_LABELLED:
        return []
    taken = [(mark.x - 9, mark.y - 9, mark.x + 9, mark.y + 9) for mark in drawn]
    placed: list[Label] = []
    for mark, name in reversed(list(zip(drawn, names, strict=True))):
        wide = _LETTER_PX * len(name)
        for x, y in ((12.0, 4.0), (-12.0 - wide, 4.0), (-wide / 2, -13.0), (-wide / 2, 22.0)):
            left, base = mark.x + x, mark.y + y
            space = (left, base - _LABEL_PX + 3, left + wide, base + 3)
            on_sheet = left >= 34 and space[2] <= view.width - 4 and space[1] >= 4 and space[3] <= view.height - 24
            if name and on_sheet and not any(_touch(space, other) for other in taken):
                taken.append(space)
                placed.append(Label(round(left, 1), round(base, 1), name))
                break
    return placed


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _extreme(which: np.ufunc, of: NDArray[np.intp], k: int, values: Floats) -> Floats:
    """Return [k] the smallest or largest value of each cell."""
    found = np.full(k, np.inf if which is np.minimum else -np.inf)
    which.at(found, of, values)
    return found


def _roomy(west: float, south: float, east: float, north: float) -> Box:
    """Return a box that also holds its corners after they were written with five digits."""
    room = 0.0005
    return Box(west - room, max(south - room, -90.0), east + room, min(north + room, 90.0))


def _step(view: View) -> float:
    """Return how many degrees lie between two lines: they leave room for labels, and seven fit over the width."""
    room_px = max(66.0, view.width / 7)
    fit = [step for step in _STEPS if step * view.degree_px >= room_px]
    return fit[-1] if fit else _STEPS[0]


def _degrees(value: float, digits: int, positive: str, negative: str) -> str:
    if abs(value) < 10.0**-digits / 2:
        return "0°"
    side = positive if value > 0 else negative
    return f"{abs(value):.{digits}f}°" + ("" if digits == 0 and abs(value) == 180 and side in "EW" else f" {side}")
