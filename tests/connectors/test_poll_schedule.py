"""Protects services from being asked all at once or all the time, and sources from ending for a passing fault."""

from __future__ import annotations

import pytest

from connectors.errors import SourceRefused, SourceUnavailable
from connectors.poll_schedule import poll_forever
from connectors.source import Stopping
from tests.connectors.polled_outlet import QuickOutlet


class Polls:
    """Goes as planned, one outcome a poll: True, False or an error; then tells the outlet to stop."""

    def __init__(self, outlet: QuickOutlet, *outcomes: bool | Exception) -> None:
        self.outcomes = list(outcomes)
        self.outlet = outlet

    def __call__(self) -> bool:
        """Return or raise the next outcome."""
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.outlet.stop.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_polls_come_about_every_so_often() -> None:
    """Protects a service from everybody's polls in the same second."""
    outlet = QuickOutlet()
    with pytest.raises(Stopping):
        poll_forever(outlet, 100.0, Polls(outlet, *[False] * 50), monotonic=outlet.monotonic)
    assert all(90.0 <= wait <= 110.0 for wait in outlet.waits)
    assert max(outlet.waits) - min(outlet.waits) > 5.0
    assert outlet.counts == {"polls": 50}


def test_what_is_waiting_is_fetched_at_once() -> None:
    """Protects catching up from the pace of everyday."""
    outlet = QuickOutlet()
    with pytest.raises(Stopping):
        poll_forever(outlet, 100.0, Polls(outlet, True, True, True, False), monotonic=outlet.monotonic)
    assert len(outlet.waits) == 1


def test_failures_make_polls_rarer_and_are_told() -> None:
    """Protects a broken service from a storm, and people from not knowing."""
    outlet = QuickOutlet()
    away = [SourceUnavailable("the host is away")] * 9
    with pytest.raises(Stopping):
        poll_forever(outlet, 100.0, Polls(outlet, *away, False, away[0], False), monotonic=outlet.monotonic)
    for wait, due in zip(outlet.waits, [10, 20, 40, 80, 160, 320, 640, 900, 900, 100, 10, 100], strict=True):
        assert 0.9 * due <= wait <= 1.1 * due
    assert outlet.told == ["the host is away"] * 9 + [None, "the host is away", None]


def test_a_refusal_ends_it() -> None:
    """Protects an account from being asked with for ever."""
    outlet = QuickOutlet()
    with pytest.raises(SourceRefused):
        poll_forever(outlet, 100.0, Polls(outlet, SourceRefused("gone"), False), monotonic=outlet.monotonic)
