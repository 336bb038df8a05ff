"""Lets several threads of one source share its outlet: each says for itself whether its peer answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from connectors.reading import Reading, Rejected
from connectors.source import Outlet, Site

_LOOK_S = 0.1


class OutletParts:
    """Makes the parts of an outlet. The peer answers when it answers all parts that have said anything.

    Args:
        outlet: of the source.
    """

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.leave = threading.Event()
        """Set when all parts are to leave, though the source goes on."""
        self._turn = threading.Lock()
        self._reasons: dict[str, str | None] = {}

    def part(self, name: str) -> OutletPart:
        """Return a part."""
        return OutletPart(self, name)

    def report(self, name: str, reason: str | None) -> None:
        """Take what a part says of its peer; None: it answers."""
        with self._turn:
            self._reasons[name] = reason
            wrong = [one for one in self._reasons.values() if one is not None]
            if wrong:
                self.outlet.failing("; ".join(wrong))
            else:
                self.outlet.working()


class OutletPart:
    """An ``Outlet`` that is also stopping when its parts are told to leave."""

    def __init__(self, parts: OutletParts, name: str) -> None:
        self._parts = parts
        self._name = name

    @property
    def stopping(self) -> bool:
        """See ``Outlet``."""
        return self._parts.leave.is_set() or self._parts.outlet.stopping

    def wait(self, seconds: float) -> bool:
        """See ``Outlet``."""
        while seconds > 0.0 and not self.stopping:
            self._parts.leave.wait(min(seconds, _LOOK_S))
            seconds -= _LOOK_S
        return self.stopping

    def cursor(self) -> str | None:
        """See ``Outlet``."""
        return self._parts.outlet.cursor()

    def offer(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> Future[None]:
        """See ``Outlet``."""
        return self._parts.outlet.offer(readings, cursor=cursor, rejected=rejected)

    def deliver(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> None:
        """See ``Outlet``."""
        self._parts.outlet.deliver(readings, cursor=cursor, rejected=rejected)

    def describe(self, sites: Sequence[Site]) -> None:
        """See ``Outlet``."""
        self._parts.outlet.describe(sites)

    def working(self) -> None:
        """See ``Outlet``."""
        self._parts.report(self._name, None)

    def failing(self, reason: str) -> None:
        """See ``Outlet``."""
        self._parts.report(self._name, reason)

    def count(self, event: str, n: int = 1) -> None:
        """See ``Outlet``."""
        self._parts.outlet.count(event, n)
