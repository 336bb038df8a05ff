"""Sources run side by side: one that fails is started again or given up, and stops no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from connectors.errors import ConnectorError, SourceRefused, SourceUnavailable
from connectors.source import Outlet
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import SourceOutlet
from pipeline.ingest.supervising import State, Supervised, Supervisor
from tests.kafka_broker import until


class Failing:
    """Raises what it is told to, then works until it is stopped."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    def run(self, outlet: Outlet) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        outlet.working()
        while not outlet.wait(0.05):
            pass


class Told:
    """An outlet that only tells of the peer."""

    def __init__(self, report: Callable[[str | None], None], stop: threading.Event) -> None:
        self.working = lambda: report(None)
        self.failing = report
        self.wait = stop.wait
        self.close = lambda: None


def supervised(stop: threading.Event, name: str, source: Failing) -> Supervised:
    metrics = IngestMetrics(CollectorRegistry())

    def outlet(report: Callable[[str | None], None]) -> SourceOutlet:
        return cast(SourceOutlet, Told(report, stop))

    return Supervised(name, source, outlet, metrics, stop)


def test_one_failing_source_never_stops_another() -> None:
    """Protects all the others: from an absent peer, from a defect of ours, and from a peer that refuses."""
    stop = threading.Event()
    good, away, broken = Failing(), Failing(SourceUnavailable("away")), Failing(ZeroDivisionError("oops"))
    refused = Failing(SourceRefused("403: ask for a key"))
    parts = [supervised(stop, name, source) for name, source in
             (("good", good), ("away", away), ("broken", broken), ("refused", refused))]  # fmt: skip
    supervisor = Supervisor(parts, stop)
    supervisor.start()
    until(lambda: [p.condition.state for p in parts] == [State.WORKING, State.WORKING, State.WORKING, State.STOPPED])
    assert (good.runs, away.runs, broken.runs, refused.runs) == (1, 2, 2, 1)
    assert supervisor.notes() == ["source refused stopped: 403: ask for a key"]
    assert supervisor.running()
    assert supervisor.stop(60.0) == []
    assert [p.condition.state for p in parts] == [State.ENDED, State.ENDED, State.ENDED, State.STOPPED]


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()], ids=lambda error: type(error).__name__)
def test_a_source_that_would_end_its_thread_is_started_again(error: BaseException) -> None:
    """Protects from a source that is gone without a word: a library that exits, a task that was cancelled."""
    stop = threading.Event()
    source = Failing(error)
    one = supervised(stop, "exiting", source)
    one.start()
    until(lambda: one.condition.state is State.WORKING)
    assert source.runs == 2
    stop.set()
    assert one.join(60.0)


def test_what_a_late_thread_says_changes_nothing() -> None:
    """Protects the word "stopped", for which a person has to look."""
    stop = threading.Event()
    said: list[Callable[[str], None]] = []

    class Refused(Failing):
        def run(self, outlet: Outlet) -> None:
            said.append(outlet.failing)
            raise SourceRefused("401: no key")

    one = supervised(stop, "late", Refused())
    one.start()
    assert one.join(60.0)
    said[0]("still waiting")
    assert one.condition.state is State.STOPPED


def test_who_does_not_leave_is_named() -> None:
    """Protects the stop of the process from a source that hangs."""
    stop = threading.Event()
    hung = threading.Event()

    class Hanging(Failing):
        def run(self, outlet: Outlet) -> None:
            hung.wait(60.0)

    supervisor = Supervisor([supervised(stop, "hanging", Hanging())], stop)
    supervisor.start()
    assert supervisor.stop(0.2) == ["hanging"]
    hung.set()
    assert supervisor.stop(60.0) == []  # it leaves before the next test has the logs


def test_every_error_of_a_connector_says_whether_it_is_tried_again() -> None:
    """Protects the supervisor's only question."""
    assert all(isinstance(kind.retriable, bool) for kind in ConnectorError.__subclasses__())
