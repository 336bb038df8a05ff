"""Protects services from being asked too often, and us from being banned for it."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from connectors.rate_limiting import Allowance, Limit, RateLimiter


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def spent(limiter: RateLimiter, clock: Clock, n: int) -> list[float]:
    """Return when each of ``n`` requests goes, asked for as soon as each may."""
    times = []
    for _ in range(n):
        while (wait_s := limiter.wait_s()) > 0.0:
            clock.now_s += wait_s
        limiter.take()
        times.append(clock.now_s)
    return times


@given(st.integers(1, 40), st.floats(0.5, 3600.0), st.integers(1, 40), st.floats(0.5, 3600.0))
def test_no_window_holds_more_than_the_limits(n: int, per_s: float, m: int, also_per_s: float) -> None:
    """Protects from a ban: wherever the service's minute begins, it holds at most so many requests."""
    clock = Clock()
    times = spent(RateLimiter(Limit(n, per_s), Limit(m, also_per_s), monotonic=clock), clock, 3 * max(n, m))
    for most, window_s in ((n, per_s), (m, also_per_s)):
        recent: deque[float] = deque()
        for time_s in times:
            recent.append(time_s)
            while recent[0] <= time_s - window_s * (1 - 1e-6):
                recent.popleft()
            assert len(recent) <= max(most, 2)  # of a limit of one, the one that is due again may share the edge


def test_it_is_not_slower_than_it_must() -> None:
    """Protects a limit of 1000 an hour from being used as 100."""
    clock = Clock()
    times = spent(RateLimiter(Limit(1000, 3600.0), monotonic=clock), clock, 1000)
    assert times[-1] - times[0] <= 3600.0 + 1e-6


def test_the_service_knows_better_what_is_left() -> None:
    """Protects from a key that others use too: the service's count holds."""
    clock = Clock()
    limiter = RateLimiter(Limit(60, 60.0), monotonic=clock)
    limiter.learn(Allowance(remaining=1, reset_s=30.0))
    limiter.take()
    assert limiter.wait_s() > 1.0
    limiter.learn(Allowance(remaining=0, reset_s=30.0))
    assert limiter.blocked
    assert limiter.wait_s() == 30.0
    clock.now_s += 30.0
    assert limiter.wait_s() == 0.0


def test_nothing_left_without_a_time_is_a_minute() -> None:
    """Protects from asking again at once where only "0 left" is said."""
    limiter = RateLimiter(monotonic=Clock())
    limiter.learn(Allowance(remaining=0))
    assert limiter.wait_s() == 60.0


def test_blocks_neither_shrink_nor_last_for_ever() -> None:
    """Protects from a header that silences a source for a year, and from one that takes back a longer wait."""
    clock = Clock()
    limiter = RateLimiter(monotonic=clock)
    limiter.block(20.0)
    limiter.block(5.0)
    assert limiter.wait_s() == 20.0
    limiter.block(1e9)
    assert limiter.wait_s() == 3600.0
