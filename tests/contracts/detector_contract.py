"""What every detector of a stream owes its caller, as checks that run over any implementation.

Legend: n entities, C channels, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.detection import Detection
from models.state import RowState

STEP_US = 600_000_000
START_US = 1_600_000_200_000_000

Values = NDArray[np.float64]


class StreamDetector(Protocol):
    """What is checked: the detector's role in a stream."""

    def states(self) -> dict[str, RowState]: ...

    def grow(self, capacity: int) -> None: ...

    def detect(
        self,
        values: Values,
        learn: NDArray[np.bool_],
        expected: Values,
        spread: NDArray[np.float32],
        time_us: int,
        step: int,
        open_incident: NDArray[np.bool_],
    ) -> Detection: ...


Make = Callable[[int, int], StreamDetector]
"""Capacity and channels to a cold detector."""


def detect(detector: StreamDetector, past: Values, now: Values, step: int, learn: bool = True) -> Detection:
    """Score ``now`` [n, C] with the value before it for a forecast."""
    n, C = now.shape
    return detector.detect(
        now.copy(),
        np.full((n, C), learn),
        past.copy(),
        np.ones((n, C), np.float32),
        START_US + step * STEP_US,
        step,
        np.zeros(n, np.bool_),
    )


def replay(detector: StreamDetector, series: Values, start: int = 0) -> list[Detection]:
    """Feed ``series`` [T, n, C] from ``start`` on; return what was found at each step."""
    return [detect(detector, series[max(t - 1, 0)], series[t], t) for t in range(start, len(series))]


def same(left: Sequence[Detection], right: Sequence[Detection], rows: Any = slice(None)) -> bool:
    """Return whether two runs found the same; ``rows`` of the left one against all of the right one."""
    fields = ("score", "log_p", "emitted", "alert", "witness", "share", "sign", "warming", "admit")
    return all(
        np.array_equal(getattr(a, f)[rows], getattr(b, f)) for a, b in zip(left, right, strict=True) for f in fields
    )


def ordinary(T: int, n: int, C: int, seed: int = 7) -> Values:
    """Return [T, n, C] autocorrelated normal series."""
    noise = np.random.default_rng(seed).normal(size=(T, n, C))
    for t in range(1, T):
        noise[t] += 0.7 * noise[t - 1]
    return noise + 20.0


def check_cold_start(make: Make) -> None:
    """The first step of an unknown entity is scored, finitely, and marked as warming; no entity is no trouble."""
    first = replay(make(3, 2), ordinary(1, 3, 2))[0]
    assert first.score.shape == (3,)
    assert first.warming.all()
    assert not first.emitted.any()
    assert not first.alert.any()
    assert len(detect(make(3, 2), np.empty((0, 2)), np.empty((0, 2)), 0).score) == 0


def check_scoring_is_pure(make: Make) -> None:
    """A step's own values do not enter what they are scored against: learned from or not, the score is the same."""
    series = ordinary(200, 2, 2)
    one, other = make(2, 2), make(2, 2)
    replay(one, series[:-1])
    replay(other, series[:-1])
    learned = detect(one, series[-2], series[-1] + 5.0, 199)
    looked_at = detect(other, series[-2], series[-1] + 5.0, 199, learn=False)
    assert np.array_equal(learned.score, looked_at.score)
    assert np.array_equal(learned.witness, looked_at.witness)


def check_inputs_are_left_alone(make: Make) -> None:
    """The caller's arrays are neither changed nor kept."""
    series = ordinary(120, 2, 2)
    careful, careless = make(2, 2), make(2, 2)
    expected = replay(careful, series)
    found = []
    for t, now in enumerate(series):
        given = (now.copy(), np.ones((2, 2), np.bool_), series[max(t - 1, 0)].copy(), np.ones((2, 2), np.float32))
        before = [array.copy() for array in given]
        found.append(careless.detect(*given, START_US + t * STEP_US, t, np.zeros(2, np.bool_)))
        assert all(np.array_equal(a, b) for a, b in zip(before, given, strict=True))
        for array in given:
            array[...] = 0
    assert same(found, expected)


def check_memory_is_bounded(make: Make) -> None:
    """However long a series and however new its values, an entity takes the same room."""
    detector = make(1, 2)
    before = sum(state.bytes_per_row() for state in detector.states().values())
    replay(detector, np.cumsum(ordinary(1_500, 1, 2), axis=0))
    assert sum(state.bytes_per_row() for state in detector.states().values()) == before


def check_restore_continues(make: Make) -> None:
    """The rows of a snapshot, put into other rows of another detector, go on exactly as they would have."""
    series = ordinary(400, 3, 2)
    old, new = make(3, 2), make(1, 2)
    replay(old, series[:300])
    new.grow(5)
    rows = np.array([2, 0])
    for name, state in old.states().items():
        for key, array in state.arrays.items():
            new.states()[name][key][:2] = array[rows]
    assert same(replay(old, series, start=300), replay(new, series[:, rows], start=300), rows)


def check_batch_equals_one_by_one(make: Make) -> None:
    """An entity's scores do not depend on who else is in the batch."""
    series = ordinary(300, 4, 2)
    together = replay(make(4, 2), series)
    for e in range(4):
        rows = np.array([e])
        assert same(together, replay(make(1, 2), series[:, rows]), rows)


def hard_series(T: int) -> Values:
    """Return [T, n, 1] series that break careless arithmetic, one per entity."""
    t = np.arange(T, dtype=np.float64)
    noise = np.random.default_rng(3).normal(size=T)
    missing = np.full(T, np.nan)
    rows = [
        missing,
        np.full(T, 5.0),
        np.zeros(T),
        1e300 * (-1.0) ** t,
        1e-300 * noise,
        np.where(t < T / 2, 0.0, 1e9),
        np.where(t % 3 == 0, np.nan, noise),
        np.round(noise) / 10.0,
        np.where(t == T - 5, 1e308, noise),
        1e12 + 1e-6 * noise,
        np.where(t < T - 40, np.nan, noise),
    ]
    return np.stack(rows, axis=1)[:, :, None]


def check_hard_series_are_finite(make: Make) -> None:
    """Missing, constant, huge, tiny and broken series give finite numbers, and what is missing is no evidence."""
    series = hard_series(700)
    found = replay(make(series.shape[1], 1), series)
    for one in found:
        for field in ("score", "log_p", "emitted", "alert", "witness", "share"):
            assert np.isfinite(getattr(one, field)).all(), field
        assert (one.score >= 0.0).all()
        assert (one.log_p <= 0.0).all()
    assert max(one.score[0] for one in found) == 0.0
    assert max(one.score[1] for one in found) < 1.0


def check_oddity_scores_higher(make: Make) -> None:
    """A jump far outside everything seen scores beyond the boundary and above every ordinary step before it."""
    series = ordinary(600, 1, 2)
    series[-1, 0, 0] += 60.0
    found = replay(make(1, 2), series)
    assert found[-1].score[0] >= 1.0
    assert found[-1].score[0] > max(one.score[0] for one in found[:-1])
    assert found[-1].share[0].sum() > 0.99
    assert found[-1].share[0, 0] > found[-1].share[0, 1]
    assert found[-1].sign[0, 0] == 1


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_cold_start,
    check_scoring_is_pure,
    check_inputs_are_left_alone,
    check_memory_is_bounded,
    check_restore_continues,
    check_batch_equals_one_by_one,
    check_hard_series_are_finite,
    check_oddity_scores_higher,
)
