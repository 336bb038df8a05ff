"""The network's inputs."""

from __future__ import annotations

import math

import numpy as np

from models.features import block, build_inputs, calendar, input_width

HOUR_US = 3_600_000_000


def built(level: object, mask: object, neighbours: object, time_us: int = 0) -> np.ndarray:
    z, m = np.array(level, np.float32), np.array(mask, np.bool_)
    out = np.full((len(z), input_width(z.shape[1])), 99.0, np.float32)
    return build_inputs(z, 10 * z, m, time_us, np.array(neighbours, np.int32).reshape(len(z), -1), out)


def test_missing_is_zero_and_says_so() -> None:
    """Protects the mask: a missing value never looks like a measured one, NaN and infinity never come through."""
    out = built([[1.0, np.nan], [np.inf, 2.0]], [[True, False], [True, True]], [[-1], [-1]])
    np.testing.assert_array_equal(out[:, block(2, 0)], [[1, 0], [0, 2]])
    np.testing.assert_array_equal(out[:, block(2, 1)], [[10, 0], [0, 20]])
    np.testing.assert_array_equal(out[:, block(2, 2)], [[1, 0], [1, 1]])
    assert np.isfinite(out).all()


def test_neighbours_are_averaged_over_those_that_have_the_channel() -> None:
    """Protects the mean: missing neighbours, missing channels and slots that do not exist do not drag it to zero."""
    level = [[1.0, 5.0], [2.0, 6.0], [4.0, 7.0]]
    mask = [[True, True], [True, False], [True, True]]
    out = built(level, mask, [[1, 2], [0, -1], [1, 7]])
    np.testing.assert_array_equal(out[:, block(2, 3)], [[3, 7], [1, 5], [2, 0]])
    np.testing.assert_array_equal(out[:, block(2, 4)], [[30, 70], [10, 50], [20, 0]])


def test_the_calendar_turns_once_a_day_and_once_a_week() -> None:
    """Protects the calendar: six hours are a quarter of the day, and a week later all is the same."""
    six = calendar(6 * HOUR_US)
    np.testing.assert_allclose(six, [1.0, 0.0, math.sin(math.pi / 14), math.cos(math.pi / 14)], atol=1e-12)
    np.testing.assert_allclose(calendar(6 * HOUR_US + 168 * HOUR_US), six, atol=1e-12)
    np.testing.assert_array_equal(built([[0.0]], [[True]], [[-1]], 6 * HOUR_US)[0, 5:], np.array(six, np.float32))


def test_nobody_and_no_neighbours_are_fine() -> None:
    """Protects the first steps of a stream: no entity yet, no neighbour at all."""
    none = np.zeros((0, 2), np.float32)
    out = np.zeros((0, 14), np.float32)
    assert build_inputs(none, none, none > 0, 0, np.zeros((0, 0), np.int32), out).shape == (0, 14)
    assert not built([[1.0]], [[True]], np.zeros((1, 0)))[0, 3:5].any()
