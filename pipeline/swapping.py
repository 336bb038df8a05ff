"""Swapping: the watch over the registry, by which every replica comes to the same network without a gap.

The registry's pointer says who is in charge. Each replica asks for itself, loads and rebuilds beside the loop, and
swaps at a step boundary of its own; there is nothing to agree on, so they converge as soon as each has looked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from models.registry import Registry
from pipeline.metrics_models import ModelMetrics
from pipeline.preparing import Terms
from pipeline.stream import Stream
from pipeline.succession import Succession

log = structlog.get_logger("vedette.swapping")


class ModelWatch:
    """Keeps the networks of all streams as the registry says, with a thread of its own.

    Nothing here raises into the loop, and nothing makes it wait: without the registry scoring goes on with what is
    there. A network that fails gives way at once to the linear forecast; its predecessor follows as soon as it is
    rebuilt, from memory if the registry is away, and the registry is told to roll back and to bar the one that failed.
    """

    def __init__(
        self,
        registry: Registry,
        metrics: ModelMetrics,
        *,
        every_s: float = 5.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Watch ``registry`` every ``every_s`` seconds for the streams that are added; ``now`` is UTC, aware."""
        self._registry = registry
        self._metrics = metrics
        self._every_s = every_s
        self._now = now
        self._successions: dict[str, Succession] = {}
        self._woken = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, stream: Stream, terms: Terms) -> None:
        """Watch ``stream`` too, and put its champion in charge now; to be called before readings and ``start``."""
        succession = Succession(stream, terms, self._registry, self._metrics, self._now, self._woken.set)
        self._successions[stream.name] = succession
        succession.begin()

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="model-watch", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread; one that hangs in a store that is away is left to itself, for it holds nothing."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Look once at every stream; what the thread does again and again."""
        for succession in self._successions.values():
            try:
                succession.look()
            except Exception:
                log.exception("could not look after a stream's models", stream=succession.stream.name)

    def turn(self, stream: Stream) -> None:
        """Take over what is ready for ``stream``, and give up what failed: the loop's part, between two frames."""
        succession = self._successions.get(stream.name)
        if succession is not None:
            succession.turn()

    def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            self.look()
            self._woken.wait(self._every_s)
