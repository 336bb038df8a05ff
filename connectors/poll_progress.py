"""How far each place has come, for services that are asked "since when" and know no time of modification.

Places report at their own pace, and what they measure may come apart: the stage every quarter of an hour, the rain in
a batch twice a day. Asking since the newest reading would lose the rest. So each part of a place is remembered by
itself, and a place is asked since the oldest of its parts that still report.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from connectors.json_documents import parsed
from connectors.timestamps import parse, to_text


class Progress:
    """The newest time seen of each part of each place. For one thread.

    Args:
        cursor: what ``cursor`` returned in the life before; None, or what cannot be read: nothing is known.
        start_us: since when a place is asked that nothing is known of.
        reach_us: a part that is so far behind the newest of its place does not hold it back: it has stopped.
    """

    def __init__(self, cursor: str | None, start_us: int, reach_us: int) -> None:
        self._start_us = start_us
        self._reach_us = reach_us
        self._known: dict[str, int] = _read(cursor)
        self._parts: dict[str, dict[str, int]] = {}

    def saw(self, place: str, part: str, time_us: int) -> None:
        """Take note of a reading."""
        parts = self._parts.setdefault(place, {})
        if time_us > parts.get(part, time_us - 1):
            parts[part] = time_us

    def complete(self, places: Iterable[str], time_us: int) -> None:
        """Take note that nothing more is to come of these up to ``time_us``, whether anything came or not."""
        for place in places:
            self._known[place] = max(time_us, self._known.get(place, time_us))

    def since(self, place: str) -> int:
        """Return since when to ask for ``place``: all parts that still report are complete up to there."""
        before_us = self._known.get(place, self._start_us)
        parts = self._parts.get(place)
        if not parts:
            return before_us
        newest_us = max(parts.values())
        oldest_us = min(time_us for time_us in parts.values() if time_us >= newest_us - self._reach_us)
        return max(oldest_us, before_us)

    def since_all(self, places: Iterable[str]) -> int:
        """Return since when to ask for several places at once; places that have stopped hold no others back."""
        each = [self.since(place) for place in places]
        newest_us = max(each)
        return max(min(each), newest_us - self._reach_us)

    def cursor(self, places: Iterable[str]) -> str:
        """Return what the next life has to know."""
        return json.dumps({"since": {place: to_text(self.since(place)) for place in places}}, separators=(",", ":"))


def _read(cursor: str | None) -> dict[str, int]:
    document = parsed(cursor.encode()) if cursor is not None else None
    since = document.get("since") if isinstance(document, dict) else None
    if not isinstance(since, dict):
        return {}
    times = {str(place): parse(text) for place, text in since.items() if isinstance(text, str)}
    return {place: time_us for place, time_us in times.items() if isinstance(time_us, int)}
