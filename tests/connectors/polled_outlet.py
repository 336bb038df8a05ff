"""An outlet for tests of pollers by themselves: its waits pass at once, on a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from connectors.reading import Reading, Rejected
from connectors.source import Site


class QuickOutlet:
    """Keeps what is said to it; ``monotonic`` is the clock that its waits move on."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.waits: list[float] = []
        self.told: list[str | None] = []
        """What was said of the peer: None, that it answers; else why not."""
        self.counts: dict[str, int] = {}
        self.on_wait: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        """Return the seconds waited so far."""
        return sum(self.waits)

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` is set."""
        return self.stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Note the wait and go on at once."""
        self.waits.append(max(seconds, 0.0))
        self.on_wait()
        return self.stopping

    def cursor(self) -> str | None:
        """There is none."""
        return None

    def offer(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> Future[None]:
        """Nothing is kept here."""
        raise NotImplementedError

    def deliver(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> None:
        """Nothing is kept here."""
        raise NotImplementedError

    def describe(self, sites: Sequence[Site]) -> None:
        """Nothing is kept here."""

    def working(self) -> None:
        """Note it."""
        self.told.append(None)

    def failing(self, reason: str) -> None:
        """Note it."""
        self.told.append(reason)

    def count(self, event: str, n: int = 1) -> None:
        """Note it."""
        self.counts[event] = self.counts.get(event, 0) + n
