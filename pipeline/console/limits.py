"""How much one client may ask: so many requests a second, forms and JSON up to a size, within a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_BODY_BYTES = 65_536
BODY_TIMEOUT_S = 10.0
_MOST_CLIENTS = 4_096
"""Known at a time; the one that was silent longest is forgotten, which gives it its whole burst again."""


class RateLimit:
    """A bucket of tokens per client. Called from one thread."""

    def __init__(self, per_s: float, burst: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Let each client ask ``per_s`` times a second on average, ``burst`` times at once."""
        self._per_s = per_s
        self._burst = burst
        self._monotonic = monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Client to what was left, and when."""

    def allows(self, client: str) -> bool:
        """Return whether the client may ask once more, and count it if so.

        >>> limit = RateLimit(1.0, 2.0, monotonic=lambda: 0.0)
        >>> [limit.allows("a") for _ in range(3)]
        [True, True, False]
        """
        now_s = self._monotonic()
        left, at_s = self._left.pop(client, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        allowed = left >= 1.0
        self._left[client] = (left - 1.0 if allowed else left), now_s
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        return allowed
