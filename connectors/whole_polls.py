"""The readings of one poll, handed over in the order of time and with the cursor at their end.

The pages of a poll come in whatever order a service likes, and one may break. So the cursor moves only when the last
page was whole. What came before a broken page is dropped, or has gone on already where a poll is too large to be held:
that is safe, for the poll is repeated from the same cursor, and what comes twice is known to the outlet.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from connectors.reading import Reading, Rejected
from connectors.source import Outlet
from connectors.unchanged import Unchanged

MOST_HELD = 50_000
"""Readings, about 15 MB."""
_MOST_KNOWN = 20_000


class RejectedBefore:
    """Knows refused records again: polls overlap, and the same bad row would come at every one of them. Bounded."""

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def new_among(self, rejected: Sequence[Rejected]) -> list[Rejected]:
        """Return those that were not among earlier ones."""
        found = []
        for one in rejected:
            mark = zlib.crc32(one.raw, zlib.crc32(one.detail.encode("utf-8", "replace")))
            if mark not in self._known:
                self._known[mark] = None
                found.append(one)
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return found


class WholePoll:
    """Collects what the pages of one poll hold. Make a new one for each poll; drop it when a page breaks.

    Args:
        outlet: where the readings go.
        known: of the source, kept from poll to poll.
        most_held: readings; beyond them a part goes on before the poll is over.
        unchanged: of the source, kept from poll to poll: readings that say nothing new are counted and left out.
    """

    def __init__(
        self,
        outlet: Outlet,
        known: RejectedBefore,
        most_held: int = MOST_HELD,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._outlet = outlet
        self._unchanged = unchanged
        self._known = known
        self._most_held = most_held
        self._readings: list[Reading] = []
        self._rejected: list[Rejected] = []

    def add(self, readings: Sequence[Reading], rejected: Sequence[Rejected]) -> None:
        """Take what one whole page holds; return when there is room for the next.

        Raises:
            Stopping: if the process stops before that.
        """
        self._readings += readings
        self._rejected += rejected
        if len(self._readings) > self._most_held or len(self._rejected) > self._most_held:
            self._hand_over(None)

    def finish(self, cursor: str | None) -> None:
        """Hand over the rest, with the cursor behind it; return when all is durable.

        Raises:
            Stopping: if the process stops before that.
        """
        self._hand_over(cursor)

    def _hand_over(self, cursor: str | None) -> None:
        readings, self._readings = self._readings, []
        rejected, self._rejected = self._known.new_among(self._rejected), []
        if readings or rejected or cursor is not None:
            readings.sort(key=lambda reading: (reading.time_us, reading.result_time_us or 0))
            if self._unchanged is None:
                self._outlet.deliver(readings, cursor=cursor, rejected=rejected)
                return
            new, marks = self._unchanged.without(readings)
            self._outlet.deliver(new, cursor=cursor, rejected=rejected)
            self._unchanged.remember(marks)
            self._outlet.count("unchanged", len(readings) - len(new))
