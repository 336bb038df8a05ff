"""The console over a simulated world, served by the real app and server on a free port of loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.console.app import create_app
from pipeline.console.asking import Asking
from pipeline.console.auth import Gatekeeper, Token
from pipeline.console.events import Events
from pipeline.console.limits import RateLimit
from pipeline.console.page_gate import PageGate
from pipeline.console.pages import router
from pipeline.console.server import ConsoleServer
from pipeline.health import Probes
from pipeline.incident import AlertMessage
from pipeline.metrics import Metrics
from tests.browser.console_world import World, world


class Served:
    """A world that can be looked at, and made to happen."""

    def __init__(self, shown: World, events: Events, requests: RateLimit, clock: Clock, address: str) -> None:
        self.world = shown
        self._requests = requests
        self._clock = clock
        self.events = events
        self.address = address

    def happens(self, message: AlertMessage) -> None:
        """Say a message, as the daemon's loop does."""
        self.events.said([message])

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """Let whoever is on this machine have asked all that they may, until the end of the block."""
        self._clock.stopped_s = time.monotonic()
        while self._requests.allows("127.0.0.1"):
            pass
        try:
            yield
        finally:
            self._clock.stopped_s = None

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Let the system page run into a mistake of ours, until the end of the block."""
        answers = self.world.answers
        whole = answers.sources
        answers.sources = None  # type: ignore[assignment]
        try:
            yield
        finally:
            answers.sources = whole


class Clock:
    """A monotonic clock that can be stopped."""

    stopped_s: float | None = None

    def __call__(self) -> float:
        """Return seconds."""
        return time.monotonic() if self.stopped_s is None else self.stopped_s


@contextmanager
def served(directory: Path, tokens: Sequence[Token] = (), port: int = 0) -> Iterator[Served]:
    """Serve a world whose stores lie below ``directory`` until the end of the block."""
    shown = world(directory)
    asking, metrics = Asking(), Metrics()
    events = Events(shown.live, shown.status, every_s=0.05)
    probes = Probes(shown.status, metrics.registry, "0.1.0", tuple)
    clock = Clock()
    requests = RateLimit(per_s=50.0, burst=200.0, monotonic=clock)
    pages = [router(shown.answers, PageGate(), asking)]
    app = create_app(shown.answers, events, probes, Gatekeeper(tokens), asking, pages=pages, requests=requests)
    server = ConsoleServer(app, "127.0.0.1", port, on_close=events.close)
    try:
        yield Served(shown, events, requests, clock, f"http://127.0.0.1:{server.port}")
    finally:
        server.close()
        asking.close()
        shown.store.close()
        shown.sites.close()
