"""When to try again what has just failed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

_MOST = 5
_SHARE = 9
"""A try that takes long is followed by so many times as long without one: tries cost the others a tenth at most."""


class Backoff:
    """Pauses that grow while something fails. Asked from any thread, told by one.

    Args:
        first_s: the first pause; up to 5 times as long after further failures.
        monotonic: the clock for waiting.
    """

    def __init__(self, first_s: float, monotonic: Callable[[], float]) -> None:
        self._first_s = self._pause_s = first_s
        self._monotonic = monotonic
        self._until_s = -math.inf

    @property
    def due(self) -> bool:
        """Whether it may be tried now."""
        return self.left_s <= 0.0

    @property
    def left_s(self) -> float:
        """Seconds until it may be tried; 0 or less when it may now."""
        return self._until_s - self._monotonic()

    def failed(self, took_s: float = 0.0) -> None:
        """Pause. ``took_s``: how long others had to wait for the try that failed."""
        self._until_s = self._monotonic() + max(self._pause_s * random.uniform(0.8, 1.2), _SHARE * took_s)
        self._pause_s = min(self._pause_s * 2, _MOST * self._first_s)

    def rest(self) -> None:
        """Pause for as long as pauses get: what has failed would fail again at once."""
        self._until_s = self._monotonic() + _MOST * self._first_s

    def succeeded(self) -> None:
        """Pause no more."""
        self._pause_s, self._until_s = self._first_s, -math.inf
