"""The map of sites without a browser: what lies where, that nobody is lost among marks, and lines that can be read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console.site_box import Box, around, box_of, extent
from pipeline.console.site_index import ALERT, OK, STATES
from pipeline.console.site_map import View, graticule, labels, marks, scale_bar
from pipeline.console.troubles import BadQuestion

SHEETS = ((1000, 660), (360, 430))
degrees = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
places = st.lists(degrees, min_size=1, max_size=60)


@given(places)
def test_the_extent_holds_all_and_no_more_than_half_the_gaps(found: list[tuple[float, float]]) -> None:
    """Protects places from lying outside the map, and maps of Fiji from going around the earth."""
    latitude, longitude = np.array(found).T
    box = extent(latitude, longitude)
    assert box is not None
    assert box.east >= box.west
    for east in longitude:  # rounding at the sides is what boxes in addresses leave room for
        away = (east - box.west) % 360.0
        assert min(away, 360.0 - away) <= 1e-9 or away <= box.east - box.west + 1e-9
    assert (box.south, box.north) == (latitude.min(), latitude.max())


def test_islands_on_both_sides_of_the_meridian() -> None:
    """Protects Fiji by an example that is worked out: from 177 to -179 are four degrees, not 356."""
    box = extent(np.array([-17.0, -18.0, -16.5]), np.array([177.0, 178.5, -179.0]))
    assert box == Box(177.0, -18.0, 181.0, -16.5)
    assert str(box) == "177.00000,-18.00000,-179.00000,-16.50000"
    assert box_of(str(box)) == box
    inside = box.within(np.array([-17.0, -17.0, -17.0, np.nan]), np.array([-179.5, 179.0, 0.0, np.nan]))
    assert inside.tolist() == [True, True, False, False]


def test_nothing_known_is_no_extent() -> None:
    """Protects a registry in which nobody has coordinates."""
    nothing = np.array([np.nan, np.nan])
    assert extent(nothing, nothing) is None
    assert extent(np.empty(0), np.empty(0)) is None


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,x", "nan,nan,nan,nan", "-181,0,1,1", "0,2,1,1", "0,-91,1,1", "0,0,1e999,1", "1;2;3;4"]
)
def test_a_box_that_is_none_is_refused(text: str) -> None:
    """Protects addresses with mistakes from a map of nowhere."""
    with pytest.raises(BadQuestion, match="box is"):
        box_of(text)


@given(degrees)
def test_what_is_around_a_place_holds_it(place: tuple[float, float]) -> None:
    """Protects the link from an entity to the map."""
    latitude, longitude = place
    box = box_of(str(around(latitude, longitude)))
    assert box.within(np.array([latitude]), np.array([longitude])).all()


@given(places, st.sampled_from(SHEETS), st.integers(1, 40))
def test_no_site_is_lost_among_marks(found: list[tuple[float, float]], sheet: tuple[int, int], most: int) -> None:
    """Protects every site: all lie on the sheet of their extent, each is counted in one mark, and the worst is told;
    whoever follows a mark's address finds exactly so many there."""
    latitude, longitude = np.array(found).T
    state = (np.arange(len(found)) * 7 % len(STATES)).astype(np.int8)
    box = extent(latitude, longitude)
    assert box is not None
    view = View.over(box, *sheet)
    drawn = marks(view, latitude, longitude, state, len(STATES), most)
    assert sum(mark.count for mark in drawn) == len(found)
    totals = np.sum([mark.counts for mark in drawn], axis=0)
    assert totals.tolist() == np.bincount(state, minlength=len(STATES)).tolist()
    assert [mark.worst for mark in drawn] == sorted(mark.worst for mark in drawn)
    for mark in drawn:
        assert 0 <= mark.x <= sheet[0] + 1e-6
        assert 0 <= mark.y <= sheet[1] + 1e-6
        assert mark.counts[mark.worst] > 0
        assert sum(mark.counts[mark.worst + 1 :]) == 0
        assert (mark.count == 1) == (mark.radius == 0)
        assert int(box_of(str(mark.box)).within(latitude, longitude).sum()) >= mark.count


def test_a_hundred_thousand_sites_are_few_marks() -> None:
    """Protects browsers: however many sites there are, marks are few; one that is alone in alert is drawn last."""
    draw = np.random.default_rng(5)
    latitude, longitude = draw.uniform(45, 55, 100_000), draw.uniform(0, 20, 100_000)
    state = np.full(100_000, OK, np.int8)
    state[70_000] = ALERT
    box = extent(latitude, longitude)
    assert box is not None
    for (width, height), most in zip(SHEETS, (420, 90), strict=True):
        drawn = marks(View.over(box, width, height), latitude, longitude, state, len(STATES), most)
        assert len(drawn) <= most
        assert sum(mark.count for mark in drawn) == 100_000
        assert [mark.counts[ALERT] for mark in drawn][-1] == 1
        assert sum(mark.counts[ALERT] for mark in drawn) == 1


def test_rings_do_not_cover_each_other() -> None:
    """Protects numbers from lying upon numbers where all cells are full."""
    draw = np.random.default_rng(6)
    latitude, longitude = draw.uniform(45, 55, 20_000), draw.uniform(0, 20, 20_000)
    box = extent(latitude, longitude)
    assert box is not None
    view = View.over(box, 1000, 660)
    drawn = marks(view, latitude, longitude, np.full(20_000, OK, np.int8), len(STATES), 420)
    at = np.array([(mark.x, mark.y) for mark in drawn])
    away = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) + np.eye(len(at)) * 1e9
    radius = np.array([mark.radius for mark in drawn])
    assert (away >= 0.9 * (radius[:, None] + radius[None])).all()


def test_distances_are_true_in_the_middle() -> None:
    """Protects the scale bar, against the length of a degree on the sphere: 111.195 km, at 60° N half that eastward."""
    view = View.over(Box(9.0, 59.5, 11.0, 60.5), 1000, 660, 0.0)
    x, y = view.xy(np.array([60.0, 60.0, 60.5]), np.array([10.0, 11.0, 10.0]))
    assert (x[0], y[0]) == (500.0, 330.0)
    assert (x[1] - x[0]) / (y[0] - y[2]) == pytest.approx(1.0, rel=1e-6)
    bar_px, text = scale_bar(view, 250.0)
    assert text == "20 km"
    assert bar_px / (x[1] - x[0]) == pytest.approx(20.0 / 111.195 / 0.5, rel=1e-3)


@given(degrees, st.floats(1e-4, 180), st.sampled_from(SHEETS))
def test_lines_can_be_read_on_every_map(middle: tuple[float, float], size: float, sheet: tuple[int, int]) -> None:
    """Protects from maps without a line, and from so many that their degrees lie upon each other."""
    latitude, longitude = middle
    box = Box(longitude - size, max(latitude - size / 2, -90), longitude + size, min(latitude + size / 2, 90))
    view = View.over(box, *sheet)
    meridians, parallels = graticule(view)
    assert len(meridians) <= 9
    if len(meridians) > 1:
        assert meridians[1].at_px - meridians[0].at_px >= 60
    assert len({line.text for line in parallels}) == len(parallels)
    bar_px, text = scale_bar(view, 0.25 * sheet[0])
    assert 0 < bar_px <= 0.25 * sheet[0] + 0.1
    assert text.endswith("m")


def test_degrees_are_told_as_people_write_them() -> None:
    """Protects the signs: south and west, and neither on the equator and the first meridian."""
    meridians, parallels = graticule(View.over(Box(-30.5, -18.0, 30.5, 18.0), 1000, 660, 0.0))
    assert [line.text for line in meridians] == ["30° W", "20° W", "10° W", "0°", "10° E", "20° E", "30° E"]
    assert [line.text for line in parallels] == ["20° S", "10° S", "0°", "10° N", "20° N"]
    assert [line.at_px for line in meridians] == pytest.approx([8.2, 172.1, 336.1, 500.0, 663.9, 827.9, 991.8])
    meridians, _ = graticule(View.over(Box(177.9, -1.0, 182.1, 1.0), 1000, 660, 0.0))
    assert [line.text for line in meridians] == ["178° E", "179° E", "180°", "179° W", "178° W"]


def test_names_are_written_where_they_have_room() -> None:
    """Protects names from covering each other, and maps of many sites from being full of them."""
    latitude, longitude = np.array([50.0, 50.0, 50.5]), np.array([8.0, 8.012, 9.0])
    box = extent(latitude, longitude)
    assert box is not None
    view = View.over(box, 1000, 660)
    drawn = marks(view, latitude, longitude, np.zeros(3, np.int8), len(STATES), 420)
    assert len(drawn) == 3
    placed = labels(view, drawn, ["first", "second", ""])
    assert sorted(label.text for label in placed) == ["first", "second"]
    assert math.hypot(placed[0].x - placed[1].x, placed[0].y - placed[1].y) > 12
    assert labels(view, drawn * 20, ["x"] * 60) == []


@given(degrees, st.sampled_from(SHEETS), st.floats(0.1, 8), st.floats(-1, 1), st.floats(-1, 1))
def test_every_move_is_an_address(
    middle: tuple[float, float], sheet: tuple[int, int], zoom: float, right: float, up: float
) -> None:
    """Protects the buttons that move the map: wherever they lead, the address is one that the page takes."""
    view = View.over(around(*middle), *sheet)
    for _ in range(4):
        view = View.over(box_of(str(view.box(zoom, right, up))), *sheet, 0.0)
        assert math.isfinite(view.px)
        assert view.px > 0
