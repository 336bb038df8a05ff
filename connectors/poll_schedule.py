"""When a service is polled: every so often, not all of them in the same second, and more rarely while it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from connectors.errors import SourceUnavailable
from connectors.source import Outlet, Stopping

_BACKOFF_FIRST_S = 10.0
_BACKOFF_MOST_S = 900.0
JITTER = 0.1


def poll_forever(
    outlet: Outlet,
    every_s: float,
    poll: Callable[[], bool],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Call ``poll`` now and then every ``every_s`` (a tenth more or less) until the outlet stops.

    A poll that raises SourceUnavailable is told to the outlet as failing and tried again after 10 s (or ``every_s`` if
    that is less), twice that, and so on up to 15 minutes; it goes on from its cursor. SourceRefused and Misconfigured
    end it.

    Args:
        outlet: of the source.
        every_s: from the beginning of one poll to that of the next.
        poll: asks and delivers; returns whether more is waiting, so that it is called again at once.
        monotonic: the clock for waiting.

    Raises:
        Stopping: from ``poll``.
        SourceRefused, Misconfigured: from ``poll``.
    """
    failures = 0
    while not outlet.stopping:
        began_s = monotonic()
        try:
            more = poll()
        except SourceUnavailable as error:
            outlet.failing(str(error))
            outlet.count("failed_polls")
            wait_s = min(min(_BACKOFF_FIRST_S, every_s) * 2.0**failures, _BACKOFF_MOST_S)
            failures = min(failures + 1, 20)
        else:
            outlet.working()
            outlet.count("polls")
            failures = 0
            wait_s = 0.0 if more else every_s - (monotonic() - began_s)
        if wait_s > 0.0 and outlet.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER)):
            raise Stopping
