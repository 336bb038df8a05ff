"""How far a stream's history reaches, known without listing it each time: that is slow where there are many days."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.history import HistoryError, HistoryStore

_LIST_EVERY_S = 3600.0
"""Others may write to the same place, and old days are removed."""
_TRY_AGAIN_S = 300.0
"""After a listing that failed."""


class HistoryExtent:
    """Follows what this process writes, and lists the store seldom. May be asked from several threads."""

    def __init__(
        self,
        store: HistoryStore,
        *,
        list_every_s: float = _LIST_EVERY_S,
        try_again_s: float = _TRY_AGAIN_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow ``store``, which must be the one that this process writes by; seconds between listings."""
        self._store = store
        self._list_every_s = list_every_s
        self._try_again_s = try_again_s
        self._monotonic = monotonic
        self._listed: dict[str, tuple[int, int] | None] = {}
        self._list_at_s: dict[str, float] = {}

    def reaches(self, stream: str, least_us: int) -> bool:
        """Return whether first and last step lie so far apart, as far as is known; False where nothing is."""
        if self._monotonic() >= self._list_at_s.get(stream, float("-inf")):
            self._list(stream)
        known = [span for span in (self._listed.get(stream), self._store.written(stream)) if span is not None]
        if not known:
            return False
        return max(last for _, last in known) - min(first for first, _ in known) >= least_us

    def _list(self, stream: str) -> None:
        try:
            span = self._store.span(stream)
        except HistoryError:  # whoever writes or reads it says so
            self._list_at_s[stream] = self._monotonic() + self._try_again_s
            return
        self._listed[stream] = None if span is None else (span.first_us, span.last_us)
        self._list_at_s[stream] = self._monotonic() + self._list_every_s
