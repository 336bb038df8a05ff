"""Stretches of time in which something held, such as a connection; a bounded number of them."""

from __future__ import annotations

_MOST = 1000


class Intervals:
    """Half-open stretches, microseconds. The newest may be open: it holds until told otherwise."""

    def __init__(self) -> None:
        self._past: list[tuple[int, int]] = []
        self._since: int | None = None

    @property
    def since(self) -> int | None:
        """When the open one began; None when none is."""
        return self._since

    def begin(self, at_us: int) -> None:
        """Let it hold from here on. After an end at the same moment there still is a seam."""
        if self._since is None:
            last_us = self._past[-1][1] if self._past else at_us - 1
            self._since = max(at_us, last_us + 1)

    def end(self, at_us: int) -> None:
        """Let it hold no longer."""
        if self._since is not None:
            if at_us > self._since:
                self.add(self._since, at_us)
            self._since = None

    def add(self, since_us: int, until_us: int) -> None:
        """Take a stretch that is over; one that touches others becomes one with them."""
        if until_us <= since_us:
            return
        apart = [(s, e) for s, e in self._past if e < since_us or s > until_us]
        joined = [(s, e) for s, e in self._past if not (e < since_us or s > until_us)]
        since_us = min([since_us, *(s for s, _ in joined)])
        until_us = max([until_us, *(e for _, e in joined)])
        self._past = sorted([*apart, (since_us, until_us)])[-_MOST:]

    def covers(self, since_us: int, until_us: int) -> bool:
        """Whether it held all the time."""
        if self._since is not None and self._since <= since_us:
            return True
        return any(s <= since_us and until_us <= e for s, e in self._past)

    def touches(self, since_us: int, until_us: int) -> bool:
        """Whether it held at any time."""
        if self._since is not None and self._since < until_us:
            return True
        return any(s < until_us and since_us < e for s, e in self._past)
