"""Tails in bounded memory say about what the true law says, far beyond what was seen often."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.tails import EXPONENTIAL, FLOOR_LOG, PARETO, QUARTER_NAT, TAIL_SIZE, clustering, insert, surprise


def filled(logs: np.ndarray, form: int, memory: float = 1e5) -> np.ndarray:
    tail = np.zeros(TAIL_SIZE, np.float32)
    for value in logs:
        insert(tail, float(value), 1.0, QUARTER_NAT, memory, form)
    return tail


@pytest.mark.parametrize("p", [1e-1, 1e-2, 1e-3, 1e-4])
def test_exponential_tail_of_an_exponential_law(p: float) -> None:
    """Protects the surprise: for statistics with an exponential law −ln p is known."""
    tail = filled(np.log(np.random.default_rng(0).exponential(3.0, 6_000)), EXPONENTIAL)
    told = surprise(tail, math.log(-3.0 * math.log(p)), EXPONENTIAL, 100.0)
    assert told == pytest.approx(-math.log(p), rel=0.15)


@pytest.mark.parametrize("p", [1e-2, 1e-3, 1e-4, 1e-5])
def test_pareto_tail_of_a_pareto_law(p: float) -> None:
    """Protects the same for heavy tails, also where nothing that far was ever seen."""
    tail = filled(0.4 * np.random.default_rng(1).exponential(1.0, 6_000), PARETO)
    told = surprise(tail, -0.4 * math.log(p), PARETO, 40.0)
    assert told == pytest.approx(-math.log(p), rel=0.15)


@pytest.mark.parametrize("form", [PARETO, EXPONENTIAL])
def test_surprise_never_falls_with_the_statistic(form: int) -> None:
    """Protects the order: a larger statistic is never less surprising, across median and threshold too."""
    tail = filled(np.random.default_rng(2).normal(size=2_000), form)
    told = [surprise(tail, x, form, 40.0) for x in np.linspace(-6.0, 12.0, 400)]
    assert np.all(np.diff(told) >= -1e-6)
    assert told[-1] > 5.0


@pytest.mark.parametrize("form", [PARETO, EXPONENTIAL])
def test_too_little_and_zero_say_nothing(form: int) -> None:
    """Protects the cold start, and values that were seen before."""
    tail = filled(np.random.default_rng(3).normal(size=30), form)
    assert surprise(tail, 50.0, form, 40.0) == 0.0
    assert surprise(filled(np.zeros(300), form), FLOOR_LOG, form, 40.0) == 0.0


@pytest.mark.parametrize("form", [PARETO, EXPONENTIAL])
def test_zeros_and_outliers_leave_the_tail_usable(form: int) -> None:
    """Protects quantised sensors: mostly zeros, few values, one absurd outlier."""
    rng = np.random.default_rng(4)
    logs = np.where(rng.random(3_000) < 0.9, FLOOR_LOG, rng.normal(size=3_000))
    logs[1_500] = 300.0
    tail = filled(logs, form)
    assert np.isfinite(tail).all()
    assert math.isfinite(surprise(tail, 1.0, form, 40.0))
    assert surprise(tail, 400.0, form, 40.0) > surprise(tail, 0.0, form, 40.0)


def test_old_statistics_fade() -> None:
    """Protects adaptation: what was extreme under the old law is ordinary once the new law has been seen for long."""
    old = np.random.default_rng(5).normal(size=2_000)
    tail = filled(np.r_[old, old + 4.0, old + 4.0], PARETO, memory=500.0)
    assert surprise(tail, 4.0, PARETO, 40.0) < 1.5


def test_exceedances_in_clusters_count_as_clusters() -> None:
    """Protects the extremal index: the same exceedances in runs are fewer events, hence each is more surprising."""
    scattered = np.zeros(3_000)
    scattered[::50] = 3.0
    runs = np.zeros(3_000)
    for start in range(0, 3_000, 500):
        runs[start : start + 10] = 3.0
    assert clustering(filled(runs, PARETO), 4.0) > clustering(filled(scattered, PARETO), 4.0) + 0.5
