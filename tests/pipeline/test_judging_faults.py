"""Injected faults: seeded, in the series' own size, and reckoned as by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.judging_faults import APART, ECHO, TOLERANCE, InjectedFault, openings, plant, reckon, spreads
from pipeline.planted import FaultKind

D, T, C, FIRST = 6, 1_500, 2, 500


def series() -> NDArray[np.float64]:
    """Return [D, T, C] values that wander."""
    rng = np.random.default_rng(8)
    return 50.0 + rng.normal(0.0, 1.0, (D, T, C)) + np.cumsum(rng.normal(0.0, 0.1, (D, T, C)), axis=1)


def planted(values: NDArray[np.float64], seed: int = 0) -> tuple[NDArray[np.float64], list[InjectedFault]]:
    """Return ``values`` with faults behind FIRST."""
    return plant(values, FIRST, spreads(values[:, :FIRST]), 600.0, seed)


def test_faults_lie_where_the_truth_says() -> None:
    """Protects the reckoning: exactly the listed steps of the listed channels are changed, apart from each other, all
    kinds about as often, and what was given stays as it was."""
    values = series()
    before = values.copy()
    faulty, faults = planted(values)
    np.testing.assert_array_equal(values, before)
    changed = faulty != values
    for fault in faults:
        span = slice(FIRST + fault.start, FIRST + fault.end)
        assert changed[fault.copy, span, fault.channel].any()
        changed[fault.copy, span, fault.channel] = False
    assert not changed.any()
    assert len(faults) == 36
    counts = Counter(fault.kind for fault in faults)
    assert len(counts) == 5
    assert max(counts.values()) - min(counts.values()) <= 2
    for a, b in pairwise(faults):
        assert a.copy != b.copy or b.start - a.end >= APART - 2


def test_the_seed_decides() -> None:
    """Protects equal terms: the same faults for every contender, others for another seed."""
    values = series()
    assert planted(values)[1] == planted(values)[1]
    assert planted(values)[1] != planted(values, seed=1)[1]


def test_sizes_follow_the_series() -> None:
    """Protects streams of any unit: a thousandfold series gets the same faults a thousandfold."""
    small, large = planted(series()), planted(1000.0 * series())
    assert small[1] == large[1]
    np.testing.assert_allclose(large[0], 1000.0 * small[0], rtol=1e-9)


@pytest.mark.parametrize("kind", ["missing", "constant", "short"])
def test_where_there_is_nothing_to_spoil_nothing_is_claimed(kind: str) -> None:
    """Protects the count of faults: no fault in a channel that sends nothing, no "stuck" in one that stands still."""
    values = series()
    if kind == "missing":
        values[:, FIRST:] = np.nan
    elif kind == "constant":
        values[:] = 4.0
    else:
        values = values[:, : FIRST + APART]
    faulty, faults = planted(values)
    if kind == "constant":
        assert faults
        assert all(fault.kind is not FaultKind.STUCK for fault in faults)
        assert np.isfinite(faulty).all()
    else:
        assert faults == []
        np.testing.assert_array_equal(faulty, values)


def test_a_copy_with_gaps_keeps_them() -> None:
    """Protects the marks of what is missing: a fault changes values, it makes none up."""
    values = series()
    values[:, ::11] = np.nan
    faulty, faults = planted(values)
    assert faults
    stuck = np.zeros(values.shape, np.bool_)
    for fault in faults:
        if fault.kind is FaultKind.STUCK:
            stuck[fault.copy, FIRST + fault.start : FIRST + fault.end, fault.channel] = True
    assert (np.isnan(faulty) == np.isnan(values))[~stuck].all()


def test_reckoning_by_hand() -> None:
    """Protects what counts as found, as false, and as neither: in time, after the tolerance, in the echo, outside, and
    on a copy that is not counted."""
    faults = [InjectedFault(0, FaultKind.SPIKE, 0, 100, 101), InjectedFault(0, FaultKind.NOISE, 0, 200, 210)]
    alert, watch = np.zeros((2, 400), np.float32), np.zeros((2, 400), np.float32)
    alert[0, 101 + TOLERANCE - 1] = 1.0  # just in time
    watch[0, 210 + TOLERANCE] = 5.0  # too late to be a find, but an echo
    alert[0, 300] = alert[0, 302] = 2.0  # one false opening
    watch[0, 210 + ECHO] = 1.0  # no echo any more
    alert[1, 50] = watch[1, 50] = 3.0  # of a copy that is not counted
    found = reckon(alert, watch, faults, np.array([True, False]), quiet=10)
    assert found.by_alert.tolist() == [True, False]
    assert found.by_watch.tolist() == [False, False]
    assert found.found.tolist() == [True, False]
    assert (found.false_alerts, found.false_watches) == (1, 1)


def test_an_opening_comes_after_quiet() -> None:
    """Protects the count of false alarms: one that goes on is one; one after exactly the quiet still belongs to it."""
    alarms = np.zeros((1, 30), np.bool_)
    alarms[0, [0, 1, 6, 12]] = True
    assert np.flatnonzero(openings(alarms, 5)[0]).tolist() == [0, 12]
