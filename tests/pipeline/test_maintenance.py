"""Maintenance windows."""

from __future__ import annotations

import pytest

from pipeline.maintenance import Maintenance, MaintenanceWindow

HOUR_US = 3_600_000_000
WEEK_US = 168 * HOUR_US


def test_a_window_covers_steps_that_touch_it_and_no_others() -> None:
    """Protects the edges: a step is (begin, end], a window [start, end), to the microsecond."""
    window = MaintenanceWindow(100, 200)
    assert not window.overlaps(0, 99)
    assert window.overlaps(0, 100)
    assert window.overlaps(120, 130)
    assert window.overlaps(198, 300)
    assert not window.overlaps(199, 300)


def test_a_weekly_window_comes_again_and_not_before_its_start() -> None:
    """Protects repeats: two hours each week, from the first one on, for ever."""
    window = MaintenanceWindow(WEEK_US, WEEK_US + 2 * HOUR_US, WEEK_US)
    assert not window.overlaps(0, HOUR_US)
    for week in (1, 2, 500):
        start = week * WEEK_US
        assert window.overlaps(start - 1, start)
        assert window.overlaps(start + HOUR_US, start + 2 * HOUR_US)
        assert not window.overlaps(start + 2 * HOUR_US, start + 3 * HOUR_US)
        assert window.overlaps(start + 3 * HOUR_US, start + WEEK_US)


def test_globs_choose_the_entities() -> None:
    """Protects the others: maintenance of one site says nothing about the next."""
    maintenance = Maintenance([MaintenanceWindow(0, 100, entities=("north/*", "south/cam-?"))])
    assert maintenance.covers("north/a", 10, 20)
    assert maintenance.covers("south/cam-1", 10, 20)
    assert not maintenance.covers("south/cam-10", 10, 20)
    assert not maintenance.covers("North/a", 10, 20)
    assert not maintenance.covers("north/a", 100, 120)


def test_impossible_windows_are_refused() -> None:
    """Protects against windows that would silently never or always apply."""
    with pytest.raises(ValueError, match="must end after it starts"):
        MaintenanceWindow(5, 5)
    with pytest.raises(ValueError, match="longer than that"):
        MaintenanceWindow(0, 10, repeat_us=9)
