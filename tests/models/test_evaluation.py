"""The judges themselves: hand-computed cases, and NAB's score against its own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.evaluation import (
    NAB_PROFILES,
    NabFile,
    auc_pr,
    floor_difference,
    floor_ew_z,
    floor_random,
    nab_score,
    nab_sweep,
    segments,
    vus_pr,
)

STANDARD = NAB_PROFILES["standard"]


def test_auc_pr_by_hand() -> None:
    """Protects average precision: hits at ranks 1 and 3 of four rows give (1/1 + 2/3) / 2."""
    labels = np.array([True, False, True, False])
    assert auc_pr(labels, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx((1.0 + 2.0 / 3.0) / 2.0)


def test_ties_earn_no_luck() -> None:
    """Protects against orderings by row: a constant score has the precision of always."""
    labels = np.r_[np.ones(3, np.bool_), np.zeros(7, np.bool_)]
    assert auc_pr(labels, np.ones(10)) == pytest.approx(0.3)
    assert math.isnan(auc_pr(np.zeros(4, np.bool_), np.ones(4)))


def test_segments_are_runs() -> None:
    """Protects events at both ends of a series."""
    assert segments(np.array([True, False, True, True])) == [(0, 0), (2, 3)]
    assert segments(np.zeros(3, np.bool_)) == []


def test_vus_pr_orders_detectors() -> None:
    """Protects the volume: perfect is near 1, near misses earn something, random little."""
    labels = np.zeros(2_000, np.bool_)
    labels[500:520] = labels[1_500:1_520] = True
    perfect = vus_pr(labels, labels + 0.1 * floor_random(labels.astype(float)), 20)
    early = vus_pr(labels, np.roll(labels, -8) + 0.1 * floor_random(labels.astype(float)), 20)
    chance = vus_pr(labels, floor_random(labels.astype(float)), 20)
    assert perfect > 0.85
    assert perfect > early > chance
    assert chance < 0.1


def corpus(scores: np.ndarray) -> list[NabFile]:
    return [NabFile(scores, [(400, 499)]), NabFile(np.zeros(1_000), [(600, 649)])]


def test_nab_of_silence_is_zero() -> None:
    """Protects the null of the scale."""
    for profile in NAB_PROFILES.values():
        assert nab_score(corpus(np.zeros(1_000)), profile, 0.5) == 0.0


def test_nab_of_the_left_edges_is_a_hundred() -> None:
    """Protects the top of the scale: every window at its first row and nothing else."""
    first, second = np.zeros(1_000), np.zeros(1_000)
    first[400] = second[600] = 1.0
    files = [NabFile(first, [(400, 499)]), NabFile(second, [(600, 649)])]
    for profile in NAB_PROFILES.values():
        assert nab_score(files, profile, 0.5) == pytest.approx(100.0)


def test_nab_by_hand() -> None:
    """Protects the arithmetic: one hit in the middle, one false alarm before any window, one window missed."""
    scores = np.zeros(1_000)
    scores[[300, 450, 460]] = 1.0
    middle = 2.0 / (1.0 + math.exp(5.0 * -0.5)) - 1.0
    edge = 2.0 / (1.0 + math.exp(-5.0)) - 1.0
    raw = middle / edge - 0.11 - 1.0
    assert nab_score(corpus(scores), STANDARD, 0.5) == pytest.approx(100.0 * (raw + 2.0) / 4.0)


def test_nab_false_alarms_cost_by_distance_and_probation_is_free() -> None:
    """Protects the penalty: nothing in the first 15 %, little just after a window, all of it far from one."""
    costs = []
    for row in (149, 502, 900):
        scores = np.zeros(1_000)
        scores[row] = 1.0
        costs.append(-nab_score(corpus(scores), STANDARD, 0.5))
    assert costs[0] == 0.0
    assert 0.0 < costs[1] < 0.1 * costs[2]
    assert costs[2] == pytest.approx(100.0 * 0.11 / 4.0)


def test_sweep_finds_the_best_threshold() -> None:
    """Protects the sweep: it equals the fixed score at its own threshold, and no threshold does better."""
    rng = np.random.default_rng(0)
    files = [NabFile(rng.random(1_000), [(400, 449), (700, 749)]) for _ in range(5)]
    for profile in NAB_PROFILES.values():
        best, threshold = nab_sweep(files, profile)
        assert nab_score(files, profile, threshold) == pytest.approx(best)
        cuts = rng.choice(np.concatenate([file.scores for file in files]), 99)
        tried = [nab_score(files, profile, float(cut)) for cut in cuts]
        assert max(tried) <= best + 1e-9


def test_floors_are_causal_and_finite() -> None:
    """Protects the comparison: floors see no later row, and gaps do not break them."""
    values = np.random.default_rng(1).normal(size=(300, 2))
    values[100:110, 0] = np.nan
    longer = np.concatenate([values, values + 50.0])
    early = floor_ew_z(values, 50.0)
    assert np.isfinite(early).all()
    assert np.array_equal(early, floor_ew_z(longer, 50.0)[:300])
    assert floor_difference(values)[100:110].max() < floor_difference(values).max()
