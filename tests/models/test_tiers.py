"""The watch tier speaks rarely and at maxima; the alert tier keeps its budget even when told wrong probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.tiers import AlertTier, WatchTier

STEP_S = 600.0


def watch(scores: list[float], muted: list[list[float]] | None = None) -> NDArray[np.float32]:
    """Feed the plain voice's scores of one entity, ten minutes apart; return what is let through."""
    voices = muted if muted is not None else [[0.0]] * len(scores)
    tier = WatchTier(1, STEP_S, len(voices[0]))
    return np.array(
        [
            tier.step(np.array([score]), np.array([voice]), int((t + 1) * STEP_S * 1e6), t)[0]
            for t, (score, voice) in enumerate(zip(scores, voices, strict=True))
        ]
    )


def test_only_a_new_maximum_speaks() -> None:
    """Protects the console from a row of equal steps: within twelve hours only a higher one is news."""
    heard = watch([0.5, 0.5, 0.4, 0.6])
    assert (heard > 0.0).tolist() == [True, False, False, True]


def test_twelve_hours_later_the_same_speaks_again() -> None:
    """Protects from one large event silencing the next day."""
    quiet = 14 * 6
    assert watch([0.9] + [0.0] * quiet + [0.5])[-1] > 0.0
    assert watch([0.9] + [0.0] * 30 + [0.5])[-1] == 0.0


def test_after_a_watch_there_is_silence_for_three_hours() -> None:
    """Protects from a second watch for the same event."""
    heard = watch([1.5] + [2.0 + t for t in range(17)] + [30.0])
    assert heard[0] >= 1.0
    assert not heard[1:18].any()
    assert heard[18] >= 1.0


def test_often_heard_is_heard_less() -> None:
    """Protects from a series that is always new: each watch raises the bar."""
    scores = ([1.02] + [0.0] * (15 * 6)) * 6
    heard = watch(scores)
    assert heard[0] >= 1.0
    assert heard[-15 * 6 - 1] < 1.0


def test_added_voices_speak_only_where_they_open_a_watch() -> None:
    """Protects the first voices from being tired by the others."""
    heard = watch([0.0, 0.0, 0.0], [[0.0, 0.8], [0.0, 0.9], [0.0, 1.4]])
    assert heard[:2].tolist() == [0.0, 0.0]
    assert heard[2] >= 1.0


@pytest.mark.parametrize("heavier", [1.0, 1.6])
def test_budget_is_kept_under_wrong_probabilities(heavier: float) -> None:
    """Protects the promise: surprises that are too large by more than half still alarm about once per budget period."""
    rows, periods, n = 400.0, 60, 20
    tier = AlertTier(n, rows, by_block=(False, False, True, True))
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(int(rows * periods)):
        alarms += int((tier.step(heavier * rng.exponential(size=(n, 4))).max(axis=1) >= 1.0).sum())
    assert 0.5 <= alarms / (n * periods) <= 2.0


def test_authority_of_the_controller_is_bounded() -> None:
    """Protects from a controller that learns never to speak: after endless alarms a far larger surprise still does."""
    tier = AlertTier(1, 400.0, by_block=(False,))
    for _ in range(4_000):
        tier.step(np.array([[20.0]]))
    assert tier.step(np.array([[20.0]]))[0, 0] < 1.0
    assert tier.step(np.array([[60.0]]))[0, 0] >= 1.0
