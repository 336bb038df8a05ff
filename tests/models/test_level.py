"""The level witness sees what single channels do not show, follows lasting shifts, and knows the hour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.level import REBASE_AFTER, LevelWitness

STEP_US = 1_800_000_000
MONDAY_US = 1_609_718_400_000_000  # 2021-01-04 00:00 UTC

Values = NDArray[np.float64]


def judge(witness: LevelWitness, series: Values, start: int = 0) -> Values:
    """Feed [T, C] half-hourly values of one entity; return [T] surprises."""
    learn, calm = np.ones((1, series.shape[1]), np.bool_), np.zeros(1, np.bool_)
    return np.array(
        [
            witness.step(series[t : t + 1], learn, MONDAY_US + (start + t + 1) * STEP_US, calm)[0][0]
            for t in range(len(series))
        ]
    )


def test_a_broken_correlation_is_seen() -> None:
    """Protects the whitening: each channel stays within its range, only their agreement is gone."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=3_000)
    series = np.stack([common, common + 0.1 * rng.normal(size=3_000)], axis=1)
    witness = LevelWitness(1, 2, 1_800.0, 9.0)
    before = judge(witness, series)
    told = judge(witness, np.tile([[1.5, -1.5]], (3, 1)), start=3_000)
    assert told.max() > 7.0
    assert np.quantile(before[500:], 0.99) < 7.0


def test_a_lasting_shift_becomes_the_level() -> None:
    """Protects from a sensor that was moved: it alarms for a while, not for ever."""
    rng = np.random.default_rng(1)
    witness = LevelWitness(1, 1, 1_800.0, 9.0)
    judge(witness, rng.normal(size=(2_000, 1)))
    shifted = judge(witness, rng.normal(size=(REBASE_AFTER + 1_500, 1)) + 40.0, start=2_000)
    assert shifted[:50].max() > 9.0
    assert np.median(shifted[-200:]) < 3.0


def test_the_hour_is_known() -> None:
    """Protects the calendar profile: noon's value at midnight surprises more than at noon."""
    t = np.arange(48 * 60)
    rng = np.random.default_rng(2)
    day = 10.0 * np.maximum(np.sin(2 * np.pi * t / 48), 0.0)
    witness = LevelWitness(1, 1, 1_800.0, 9.0)
    usual = judge(witness, (day + rng.normal(size=len(t)))[:, None])
    at_noon = usual[48 * 50 :][(t[48 * 50 :] % 48) == 12]
    at_night = judge(witness, np.full((1, 1), 10.0), start=len(t) + 36)
    assert at_night[0] > at_noon.max() + 2.0


def test_winsorised_learning_keeps_the_scale() -> None:
    """Protects what is normal from what is not: a hundred absurd values do not widen the scale tenfold."""
    rng = np.random.default_rng(3)
    witness = LevelWitness(1, 1, 1_800.0, 9.0)
    judge(witness, rng.normal(size=(2_000, 1)))
    before = float(witness.state["variance"][0, 0])
    judge(witness, np.full((100, 1), 1e6), start=2_000)
    assert float(witness.state["variance"][0, 0]) < 2.0 * before


def test_missing_channels_are_no_evidence() -> None:
    """Protects the mask: a lost channel alone is not a level far out."""
    rng = np.random.default_rng(4)
    witness = LevelWitness(1, 2, 1_800.0, 9.0)
    series = rng.normal(size=(800, 2)) + 100.0
    judge(witness, series[:700])
    series[700:, 1] = np.nan
    assert judge(witness, series[700:], start=700).max() < 9.0
    assert judge(witness, np.full((5, 2), np.nan), start=800).max() == 0.0
