"""Whose turn it is: many sensors, one question each, and an allowance that is too small for all of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_SLOWEST_S = 21_600.0
"""A sensor that has been silent for long is still asked so often: it may come back."""
_AGAIN_S = 30.0
"""After a first failure; twice that after the next."""


@dataclass(slots=True)
class _Turn:
    due_s: float
    order: int
    pause_s: float
    failures: int = 0


class Turns:
    """Says which sensor is asked next: the one that has been due for longest. For one thread.

    Args:
        every_s: from question to question, of each sensor.
        monotonic: the clock for waiting.
    """

    def __init__(self, every_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._turns: dict[int, _Turn] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._turns)

    def arrange(self, sensors: Iterable[int]) -> None:
        """Ask these from now on, and no others; those that are new are due at once, in this order."""
        known, self._turns = self._turns, {}
        for one in sensors:
            self._order += 1
            self._turns[one] = known.get(one) or _Turn(self._monotonic(), self._order, self._every_s)

    def wait_s(self) -> float:
        """Return the seconds until a sensor is due; 0.0: one is. A minute if there is none."""
        if not self._turns:
            return 60.0
        return max(self._turns[self.next()].due_s - self._monotonic(), 0.0)

    def next(self) -> int:
        """Return the sensor that is to be asked before all others.

        Raises:
            ValueError: if there is none.
        """
        return min(self._turns, key=lambda one: (self._turns[one].due_s, self._turns[one].order))

    def answered(self, sensor: int, *, silent: bool) -> None:
        """Take note that it was asked; ``silent``: it has measured nothing for long, so that it may wait longer."""
        turn = self._turns[sensor]
        slowest_s = max(_SLOWEST_S, self._every_s)
        turn.pause_s = min(2.0 * turn.pause_s, slowest_s) if silent else self._every_s
        turn.failures = 0
        self._put_off(turn, turn.pause_s)

    def failed(self, sensor: int) -> None:
        """Take note that no good answer came: others come first."""
        turn = self._turns[sensor]
        self._put_off(turn, min(_AGAIN_S * 2.0**turn.failures, turn.pause_s))
        turn.failures = min(turn.failures + 1, 20)

    def drop(self, sensor: int) -> None:
        """Ask it no more, until it is arranged again."""
        self._turns.pop(sensor, None)

    def _put_off(self, turn: _Turn, seconds: float) -> None:
        self._order += 1
        turn.due_s, turn.order = self._monotonic() + seconds, self._order
