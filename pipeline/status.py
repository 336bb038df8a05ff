"""Whether the daemon is alive and ready, told by the loop and asked by other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum


class NotReady(StrEnum):
    """Why the daemon should get no work, or is not to be relied on, just now."""

    JOINING = "it has not joined its consumer group yet"
    LOADING = "its models are not loaded yet"
    SOURCE = "the broker cannot be reached"
    DRAINING = "it is shutting down"


class Status:
    """What the probes answer from. All methods may be called from any thread.

    Alive means that the loop turns; a broker that is away leaves it alive, since a restart would cure nothing. Ready
    means that nothing holds it back.
    """

    def __init__(self, stall_timeout_s: float = 120.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start not ready, for ``NotReady.JOINING``; the loop is late when it is silent for ``stall_timeout_s``."""
        self.stall_timeout_s = stall_timeout_s
        self._monotonic = monotonic
        self._last_tick_s = monotonic()
        self._reasons = {NotReady.JOINING}
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Say that the loop has turned."""
        self._last_tick_s = self._monotonic()

    def tick_age_s(self) -> float:
        """Return the seconds since the loop last turned; before its first turn, since the start."""
        return max(0.0, self._monotonic() - self._last_tick_s)

    def alive(self) -> bool:
        """Return False when the loop has stalled."""
        return self.tick_age_s() < self.stall_timeout_s

    def hold(self, reason: NotReady) -> None:
        """Be not ready for ``reason``."""
        with self._lock:
            self._reasons.add(reason)

    def release(self, reason: NotReady) -> None:
        """Be no longer held back by ``reason``."""
        with self._lock:
            self._reasons.discard(reason)

    def reasons(self) -> list[NotReady]:
        """Return what holds it back, in the order of ``NotReady``; empty when it is ready."""
        with self._lock:
            return [reason for reason in NotReady if reason in self._reasons]
