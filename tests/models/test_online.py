"""River's detectors for the cold start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.online import GRACE, KINDS, LARGEST_SCORE, OnlineDetector, surprise_of_normal


def fed(kind: str, values: NDArray[np.float64], **options: int) -> OnlineDetector:
    """Return a detector that has learned ``values`` [T, n, C]."""
    detector = OnlineDetector(values.shape[2], 1e-3, kind, **options)
    for frame in values:
        detector.learn_many(frame, ~np.isnan(frame))
    return detector


def normal(steps: int, entities: int = 2, channels: int = 2) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(20.0, 2.0, (steps, entities, channels))


@pytest.mark.parametrize("kind", KINDS)
def test_the_odd_one_stands_out(kind: str) -> None:
    """Protects the cold start: ordinary values stay below the boundary, a far one is beyond every ordinary one."""
    values = normal(600)
    detector = OnlineDetector(2, 1e-3, kind)
    ordinary = []
    for frame in values:
        ordinary.append(detector.score_many(frame))
        detector.learn_many(frame, ~np.isnan(frame))
    odd = detector.score_many(np.array([[60.0, 20.0], [20.0, 20.0]]))
    assert np.mean(np.array(ordinary[-300:]) >= 1.0) < 0.02
    assert odd[0] > np.quantile(np.array(ordinary[-300:])[:, 0], 0.99)
    assert odd[0] > odd[1]


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_changes_nothing(kind: str) -> None:
    """Protects purity: the same frame scores the same however often it is asked."""
    detector = fed(kind, normal(300))
    frame = np.array([[25.0, 21.0], [15.0, 40.0]])
    first = detector.score_many(frame)
    for _ in range(50):
        np.testing.assert_array_equal(detector.score_many(frame), first)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=4))
def test_scores_are_finite_for_any_series(kind: str, data: list[float]) -> None:
    """Protects against poison: NaN, huge, tiny and repeated values leave finite scores, then and later."""
    series = np.resize(np.array(data), (130, 1, 1))
    detector = fed(kind, series)
    for frame in (series[0], np.array([[np.nan]]), np.array([[0.0]]), np.array([[1e308]])):
        score = detector.score_many(frame)
        assert np.isfinite(score).all()
        assert ((score >= 0) & (score <= LARGEST_SCORE)).all()


def test_a_constant_channel_is_not_odd_until_it_moves() -> None:
    """Protects against river's zero scale: constant input scores 0, a step away from it does not."""
    detector = fed("gaussian", np.full((50, 1, 1), 3.0))
    assert detector.score_many(np.array([[3.0]]))[0] == 0.0
    assert detector.score_many(np.array([[4.0]]))[0] > 1.0


def test_trees_see_an_odd_combination() -> None:
    """Protects the reason for trees: two values, each ordinary, that never came together before."""
    along = np.repeat(np.random.default_rng(0).normal(0.0, 1.0, (600, 1, 1)), 2, axis=2)
    odd = np.array([[1.5, -1.5]])
    usual = np.array([[1.5, 1.5]])
    trees = fed("half_space_trees", along)
    assert trees.score_many(odd)[0] > trees.score_many(usual)[0]
    gaussian = fed("gaussian", along)
    assert gaussian.score_many(odd)[0] == pytest.approx(gaussian.score_many(usual)[0], abs=0.1)


def test_nothing_is_said_before_the_grace() -> None:
    """Protects the first readings: with too few values every score is 0."""
    detector = fed("gaussian", normal(GRACE - 1))
    assert not detector.score_many(np.full((2, 2), 1e6)).any()
    assert not OnlineDetector(2, 0.01).score_many(np.zeros((3, 2))).any()


def test_one_absurd_value_does_not_last() -> None:
    """Protects the scale: after a single absurd reading a moderate outlier is still seen."""
    values = normal(300, 1, 1)
    values[200] = 1e12
    assert fed("gaussian", values).score_many(np.array([[60.0]]))[0] > 1.0


def test_what_may_not_be_learned_is_not() -> None:
    """Protects suspect readings' rule: scored, not learned."""
    detector = OnlineDetector(1, 0.01)
    for _ in range(100):
        detector.learn_many(np.array([[5.0]]), np.array([[False]]))
    assert not detector.score_many(np.array([[500.0]])).any()


def test_memory_is_bounded_and_the_warm_are_forgotten() -> None:
    """Protects memory: at most max_entities objects, and none for entities that have a calibrated score."""
    detector = fed("gaussian", normal(40, entities=9), max_entities=4)
    assert len(detector) == 4
    assert detector.score_many(np.full((9, 2), 1e3)).astype(bool).tolist() == [True] * 4 + [False] * 5
    frame = normal(1, entities=9)[0]
    detector.learn_many(frame, ~np.isnan(frame), warming=np.arange(9) >= 7)
    assert len(detector) == 2
    detector.forget(np.array([7, 8]))
    assert len(detector) == 0


def test_the_tail_is_smooth_where_the_formula_changes() -> None:
    """Protects ranking of extreme values: the asymptote continues the exact tail."""
    assert surprise_of_normal(30.0) == pytest.approx(surprise_of_normal(29.999999), rel=1e-4)
    assert surprise_of_normal(1e9) == surprise_of_normal(1e6)


def test_mistakes_are_named() -> None:
    """Protects configuration: unknown kinds and impossible budgets are refused with what is allowed."""
    with pytest.raises(ValueError, match="unknown online detector 'svm'; known are gaussian, half_space_trees"):
        OnlineDetector(1, 0.1, "svm")
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1, got 0"):
        OnlineDetector(1, 0)
