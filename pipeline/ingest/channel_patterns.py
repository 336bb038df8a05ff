"""Channels that are meant by patterns, such as ``*_total``."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MOST_KNOWN = 100_000


class ChannelPatterns:
    """Tells whether a channel is meant; ``*`` and ``?`` stand for any characters. For one thread at a time.

    What stands in braces behind a channel's name are its labels: a pattern may name them, and need not.

    >>> meant = ChannelPatterns(["*_total", "rain"])
    >>> meant('requests_total{code="200"}'), meant("rain"), meant("rainbow")
    (True, True, False)
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        translated = (re.escape(one).replace(r"\*", ".*").replace(r"\?", ".") for one in self._patterns)
        self._matches = re.compile("|".join(f"(?:{one})" for one in translated), re.DOTALL).fullmatch
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __call__(self, channel: str) -> bool:
        """Return whether one of the patterns means ``channel``."""
        meant = self._known.get(channel)
        if meant is None:
            meant = bool(self._patterns) and any(self._matches(name) for name in (channel, channel.partition("{")[0]))
            if len(self._known) < _MOST_KNOWN:
                self._known[channel] = meant
        return meant
