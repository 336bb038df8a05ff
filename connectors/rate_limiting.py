"""How often a service may be asked: token buckets, corrected by what the service itself says.

A bucket that holds ``burst`` tokens and gets ``n - burst`` of them in ``per_s`` seconds never lets more than ``n``
through in any ``per_s`` seconds, wherever the service's own minute begins. Services that ban for repeated excess
count like that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_LONGEST_BLOCK_S = 3600.0
"""A wrong header may not silence a source for a year."""
_BLOCK_UNSAID_S = 60.0
"""No request is left, and nothing says until when."""
_MOST_DOUBLINGS = 6
_ROUNDING = 1e-6
"""Of a token: waiting for less would be waiting for nothing."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``n`` requests in any ``per_s`` seconds; a fifth of them may come at once.

    >>> Limit(60, 60.0).burst
    12
    """

    n: int
    per_s: float

    @property
    def burst(self) -> int:
        """Return how many may come at once."""
        return max(self.n // 5, 1)

    @property
    def per_second(self) -> float:
        """Return the tokens that come back in a second."""
        return max(self.n - self.burst, 1) / self.per_s


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a service says it will still answer."""

    remaining: int | None = None
    reset_s: float | None = None
    """Until there are all again."""


class RateLimiter:
    """Says how long to wait before the next request. For one thread.

    Keep it as long as the service is asked: a new one knows nothing of requests before.

    Args:
        limits: all hold at once; none: only what the service says holds.
        monotonic: the clock for waiting.
    """

    def __init__(self, *limits: Limit, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._tokens = [float(limit.burst) for limit in limits]
        self._filled_s = monotonic()
        self._blocked_until_s = self._filled_s
        self._exceeded = 0

    def wait_s(self) -> float:
        """Return the seconds until a request may go; 0.0: now."""
        self._fill()
        waits = [
            (1.0 - tokens) / limit.per_second
            for tokens, limit in zip(self._tokens, self._limits, strict=True)
            if tokens < 1.0 - _ROUNDING
        ]
        return max([*waits, self._blocked_until_s - self._monotonic(), 0.0])

    @property
    def blocked(self) -> bool:
        """Whether the service itself has asked to be left alone now."""
        return self._blocked_until_s > self._monotonic()

    def take(self) -> None:
        """Count a request that goes now."""
        self._fill()
        self._tokens = [tokens - 1.0 for tokens in self._tokens]

    def block(self, seconds: float) -> None:
        """Let nothing through for so long, at most an hour; never shortens a longer one."""
        until_s = self._monotonic() + min(max(seconds, 0.0), _LONGEST_BLOCK_S)
        self._blocked_until_s = max(self._blocked_until_s, until_s)

    def exceeded(self, seconds: float | None) -> None:
        """Let nothing through after a request that was one too many, for so long; None: nothing says how long.

        Then it is a minute, and twice as long after each further one until a request is ``answered``: whoever counts
        by the hour refuses for as long as an hour, and bans who does not give up asking.
        """
        if seconds is None:
            seconds = _BLOCK_UNSAID_S * 2.0**self._exceeded
            self._exceeded = min(self._exceeded + 1, _MOST_DOUBLINGS)
        self.block(seconds)

    def answered(self) -> None:
        """Take note that a request was answered well."""
        self._exceeded = 0

    def learn(self, allowance: Allowance) -> None:
        """Believe the service where it allows less than we thought: others may use the same key."""
        if allowance.remaining is None:
            return
        self._tokens = [min(tokens, float(max(allowance.remaining, 0))) for tokens in self._tokens]
        if allowance.remaining <= 0:
            self.block(_BLOCK_UNSAID_S if allowance.reset_s is None else allowance.reset_s)

    def _fill(self) -> None:
        now_s = self._monotonic()
        passed_s, self._filled_s = now_s - self._filled_s, now_s
        self._tokens = [
            min(tokens + passed_s * limit.per_second, float(limit.burst))
            for tokens, limit in zip(self._tokens, self._limits, strict=True)
        ]
