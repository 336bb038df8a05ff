"""Value and state novelty: familiar is what was seen, and memory is bounded whatever comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.novelty import ValueNovelty, log_novelty, remember
from models.state_novelty import DELAY, StateNovelty

HOUR_US = 3_600_000_000


def judge(novelty: ValueNovelty, values: np.ndarray, start: int = 0, learn: bool = True) -> np.ndarray:
    """Feed [T] hourly values of one channel; return [T, 2] surprises."""
    flags = np.full((1, 1), learn)
    return np.array(
        [novelty.step(np.array([[v]]), flags, (start + t + 1) * HOUR_US)[0, 0] for t, v in enumerate(values)]
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=2, max_size=60), st.integers(-60, 60))
def test_novelty_equals_its_definition(seen: list[int], value: int) -> None:
    """Protects the bisection: with room for all it is d²/(d + s) over every past value, as a naive search finds it."""
    known, gap = np.zeros(128, np.float32), np.full(128, -1.0, np.float32)
    used, delta = 0, 0.0
    for past in seen:
        used, delta = remember(known, gap, used, delta, float(past))
    distances = [abs(value - past) for past in seen]
    d = min(distances)
    candidates = {seen[i] for i in range(len(seen)) if distances[i] == d}
    expected = set()
    for q in candidates:
        others = list(seen)
        others.remove(q)
        s = min(abs(q - past) for past in others)
        expected.add(d * d / (d + s) if d else 0.0)
    told = math.exp(log_novelty(known, gap, used, float(value)))
    assert any(told == pytest.approx(e, rel=1e-5) for e in expected)


def test_memory_is_bounded_and_sorted() -> None:
    """Protects the bound: endless new values keep the set full, sorted, and spread over all that was seen."""
    known, gap = np.zeros(32, np.float32), np.full(32, -1.0, np.float32)
    used, delta = 0, 0.0
    values = np.random.default_rng(0).normal(size=5_000)
    for value in values:
        used, delta = remember(known, gap, used, delta, float(value))
    kept = known[:used]
    assert used <= 32
    assert np.all(np.diff(kept) > 0.0)
    assert np.abs(values[:, None] - kept).min(axis=1).max() <= 2.0 * delta


def test_a_value_becomes_familiar() -> None:
    """Protects what novelty is for: a first jump surprises, the same value again does not."""
    novelty = ValueNovelty(1, 1, 3_600.0)
    judge(novelty, np.random.default_rng(1).normal(size=400))
    first, again = judge(novelty, np.array([30.0, 30.0]), start=400)[:, 0]
    assert first > 5.0
    assert again == 0.0


def test_a_shifted_day_surprises_although_each_value_is_common() -> None:
    """Protects the slow part: the usual night values by day are no new values, but a new kind of day."""
    t = np.arange(24 * 42)
    usual = 10.0 * np.sin(2 * np.pi * t / 24) + np.random.default_rng(2).normal(size=len(t))
    novelty = ValueNovelty(1, 1, 3_600.0)
    before = judge(novelty, usual)
    strange = judge(novelty, np.full(24, -10.0), start=len(t))
    assert strange[:, 0].max() < 3.0
    assert strange[:, 1].max() > max(4.6, before[24 * 14 :, 1].max())


def test_what_may_not_be_learned_stays_new() -> None:
    """Protects the memory from suspect values."""
    novelty = ValueNovelty(1, 1, 3_600.0)
    judge(novelty, np.random.default_rng(3).normal(size=300))
    assert judge(novelty, np.array([30.0]), 300, learn=False)[0, 0] == judge(novelty, np.array([30.0]), 301)[0, 0]


def states_after(errors: np.ndarray, calm: bool, representatives: int = 64) -> tuple[StateNovelty, np.ndarray]:
    """Feed [T, C] errors of one entity; return the witness and [T] the places of admission."""
    witness = StateNovelty(1, errors.shape[1], 9.0, representatives)
    flags, gate, none = np.ones((1, errors.shape[1]), np.bool_), np.array([calm]), np.array([False])
    admitted = [witness.step(errors[t : t + 1], flags, gate, none, 1_000 + t)[1][0] for t in range(len(errors))]
    return witness, np.array(admitted)


def test_memory_of_states_is_gated() -> None:
    """Protects against learning the anomaly: after the first steps nothing enters while the level is not calm."""
    errors = np.random.default_rng(4).normal(size=(400, 2))
    _, open_ = states_after(errors, calm=True)
    _, shut = states_after(errors, calm=False)
    assert (open_[100:] >= 0).any()
    assert (shut[100:] == -1).all()


def test_nearest_state_is_named() -> None:
    """Protects the explanation: the nearest remembered state is told by its step, late enough to be another moment."""
    errors = np.random.default_rng(5).normal(size=(300, 2))
    errors[100] = (9.0, -9.0)
    witness, admitted = states_after(errors, calm=True)
    assert admitted[100] >= 0
    witness.step(errors[100:101], np.ones((1, 2), np.bool_), np.array([True]), np.array([False]), 1_300)
    step, distance, channel = witness.nearest(np.array([0]))
    assert step[0] == 1_100
    assert distance[0] < 3.0  # the whitening went on learning; every other state is 10 or more away
    assert channel[0] in (0, 1)
    assert 1_300 - step[0] >= DELAY


def test_places_of_states_are_stable() -> None:
    """Protects the network's memory, which goes by place: a place is only ever taken over by a newer admission."""
    errors = np.random.default_rng(6).normal(size=(1_500, 3)) * 5.0
    witness, admitted = states_after(errors, calm=True, representatives=32)
    assert admitted.max() < 32
    for place in range(32):
        at = witness.state["admitted"][0, place]
        takers = np.flatnonzero(admitted == place) + 1_000
        assert at >= 1 << 62 or at == takers[-1]
