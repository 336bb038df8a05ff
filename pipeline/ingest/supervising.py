"""Runs the sources, each in a thread of its own; one that fails never stops another."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from connectors.errors import ConnectorError
from connectors.source import ReadingSource, Stopping
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import SourceOutlet

log = structlog.get_logger("vedette.ingest")

_BACKOFF_FIRST_S = 1.0
_BACKOFF_MOST_S = 60.0
_WELL_AFTER_S = 60.0
"""A source that ran for so long is started again at once, as if nothing had been before."""


class State(StrEnum):
    """How a source is."""

    STARTING = "starting"
    WORKING = "working"
    FAILING = "failing"
    STOPPED = "stopped"
    """Given up; a person has to look."""
    ENDED = "ended"
    """It has brought all there is, or was told to stop."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a source is, and why."""

    state: State
    reason: str = ""


class Supervised:
    """One source and the thread it runs in.

    Args:
        source: brings readings.
        outlet: made for it; its ``report`` is to be ``self.report``.
        metrics: where to count.
        stop: set when it is to leave.
    """

    def __init__(
        self,
        name: str,
        source: ReadingSource,
        make_outlet: Callable[[Callable[[str | None], None]], SourceOutlet],
        metrics: IngestMetrics,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.condition = Condition(State.STARTING)
        self._source = source
        self._outlet = make_outlet(self._reported)
        self._metrics = metrics
        self._stop = stop
        self._monotonic = monotonic
        self._thread = threading.Thread(target=self._run, name=f"vedette-{name}"[:15], daemon=True)

    def start(self) -> None:
        """Begin."""
        self._metrics.known(self.name)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._run_again_and_again()
        finally:
            self._outlet.close()

    def _run_again_and_again(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._stop.is_set():
            started_s = self._monotonic()
            again = self._run_once()
            if not again:
                return
            if self._monotonic() - started_s >= _WELL_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            if self._stop.wait(backoff_s * random.uniform(0.8, 1.2)):
                break
            backoff_s = min(backoff_s * 2, _BACKOFF_MOST_S)
            self._metrics.restarted(self.name)
        self.condition = Condition(State.ENDED)

    def _run_once(self) -> bool:
        """Run the source to its end; return whether to run it again."""
        try:
            self._source.run(self._outlet)
        except Stopping:
            pass
        except ConnectorError as error:
            if not error.retriable:
                log.error("a source is given up; the others go on", source=self.name, error=str(error))
                self.condition = Condition(State.STOPPED, str(error))
                self._metrics.source_stopped(self.name)
                return False
            log.warning("a source's peer is away; it will be tried again", source=self.name, error=str(error))
            self._failed(str(error))
            return True
        except BaseException as error:  # SystemExit and CancelledError too: they would end this thread without a word
            log.exception("a source failed; it will be started again", source=self.name)
            self._failed(f"a defect of ours: {type(error).__name__}: {error}")
            return True
        log.info("a source has ended", source=self.name)
        self.condition = Condition(State.ENDED)
        return False

    def _failed(self, reason: str) -> None:
        self._metrics.source_up(self.name, False)
        self.condition = Condition(State.FAILING, reason)

    def _reported(self, reason: str | None) -> None:
        """Take what the source says of its peer; said once for each change."""
        if self.condition.state in (State.STOPPED, State.ENDED):
            return  # a thread of the source that is late
        now = Condition(State.WORKING) if reason is None else Condition(State.FAILING, reason)
        if now.state is not self.condition.state:
            if reason is not None:
                log.warning("a source's peer does not answer as it should", source=self.name, reason=reason)
            elif self.condition.state is State.FAILING:
                log.info("a source's peer answers again", source=self.name)
        self.condition = now


class Supervisor:
    """All sources of the process."""

    def __init__(self, sources: list[Supervised], stop: threading.Event) -> None:
        self.sources = sources
        self._stop = stop

    def start(self) -> None:
        """Start all."""
        for source in self.sources:
            source.start()

    def running(self) -> bool:
        """Whether any still runs."""
        return any(source.alive for source in self.sources)

    def notes(self) -> list[str]:
        """Return what a person should know."""
        return [
            f"source {source.name} {source.condition.state}: {source.condition.reason}"
            for source in self.sources
            if source.condition.state in (State.FAILING, State.STOPPED)
        ]

    def stop(self, timeout_s: float) -> list[str]:
        """Tell all to leave, and wait; return the names of those that did not."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        return [s.name for s in self.sources if s.alive and not s.join(max(deadline - time.monotonic(), 0.0))]
