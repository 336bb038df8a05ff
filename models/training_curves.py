"""How the held-out loss falls while a trainer works: curves of two trainers can be compared at equal loss.

Legend: T steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class Stopwatch:
    """Seconds of a monotonic clock, without those in which it was paused."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin to run."""
        self._clock = clock
        self._began = clock()

    def __call__(self) -> float:
        """Return the seconds so far. Means nothing while paused."""
        return self._clock() - self._began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for as long as this lasts; not to be nested."""
        stopped = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - stopped


@dataclass(slots=True)
class LossCurve:
    """Held-out losses of one training, by the seconds that it had trained; evaluating took none of them."""

    baseline: float
    """The loss of correcting nothing."""
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    updates: int = 0
    targets: int = 0
    """Gone over so far."""

    def add(self, seconds: float, loss: float) -> None:
        """Note the loss after so many seconds of training."""
        self.seconds.append(seconds)
        self.losses.append(loss)

    @property
    def best(self) -> float:
        """The lowest loss; that of correcting nothing if none was lower."""
        return min([self.baseline, *self.losses])

    @property
    def targets_per_s(self) -> float:
        """Speed over the whole training."""
        return self.targets / self.seconds[-1] if self.seconds else 0.0

    def reached(self, loss: float) -> float | None:
        """Return after how many seconds the loss was first no higher than ``loss``; None if never.

        >>> curve = LossCurve(1.0, [10.0, 20.0, 30.0], [0.9, 0.5, 0.6])
        >>> curve.reached(0.6), curve.reached(0.4)
        (20.0, None)
        """
        return next((s for s, own in zip(self.seconds, self.losses, strict=True) if own <= loss), None)

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON can hold it: points [seconds, loss]."""
        points = [[round(s, 3), round(loss, 5)] for s, loss in zip(self.seconds, self.losses, strict=True)]
        return {
            "targets_per_s": round(self.targets_per_s),
            "updates": self.updates,
            "seconds": round(self.seconds[-1], 2) if self.seconds else 0.0,
            "best_loss": round(self.best, 5),
            "curve": points,
        }
