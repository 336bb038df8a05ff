"""The label feed: what operators said, read from the database behind the loop and handed to it whole."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeAlias

import structlog

from connectors.alert_store_rows import LabelRow
from connectors.errors import ConnectorError
from pipeline.labels import Label, LabelKind
from pipeline.metrics_models import ModelMetrics

log = structlog.get_logger("vedette.label_feed")

LabelsByStream: TypeAlias = Mapping[str, tuple[Label, ...]]
"""Immutable. The labels of each stream that has any, in the order in which they were given."""

_LONGEST_WAIT_S = 60.0


class Store(Protocol):
    """What is asked of a database; may block and may raise ``ConnectorError``."""

    def labels(self, after_revision: int = 0) -> list[LabelRow]:
        """Return the labels that changed after a revision, withdrawn ones included."""


class LabelFeed:
    """Follows the labels from a thread of its own.

    ``current`` returns at once, always; it is the same object until a label or a labelled incident changes. While the
    database is away it stays as it was.
    """

    def __init__(
        self,
        store: Store,
        metrics: ModelMetrics,
        *,
        refresh_s: float,
        lookalikes_us: int,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            store: the database.
            metrics: told how many labels act, and of failures.
            refresh_s: how often it is asked.
            lookalikes_us: how long a label acts that has no end of its own.
            now_us: the wall clock.
        """
        self._store = store
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._lookalikes_us = lookalikes_us
        self._now_us = now_us
        self._labels: dict[str, Label] = {}
        self._revision = 0
        self._current: LabelsByStream = MappingProxyType({})
        self._streams: set[str] = set()
        self._loaded = threading.Event()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="label-feed", daemon=True)

    def start(self, timeout_s: float) -> bool:
        """Begin, and wait for the first answer; return whether it came in time. It may still come later."""
        self._thread.start()
        loaded = self._loaded.wait(timeout_s)
        if not loaded:
            log.warning("labels are not loaded yet; going on without them", waited_s=timeout_s)
        return loaded

    def current(self) -> LabelsByStream:
        """Return the labels as they are known now."""
        return self._current

    def refresh(self) -> None:
        """Have the database asked soon instead of at its time."""
        self._wake.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop asking; a question that is out is not waited for any longer than this."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # ---- the thread ----

    def _run(self) -> None:
        wait_s = self._refresh_s
        while not self._stopping:
            self._wake.clear()
            if self._ask():
                wait_s = self._refresh_s
                self._loaded.set()
            else:
                wait_s = min(2 * wait_s, max(_LONGEST_WAIT_S, self._refresh_s))
            self._wake.wait(wait_s)

    def _ask(self) -> bool:
        """Ask for what changed; return whether an answer came."""
        try:
            rows = self._store.labels(self._revision)
        except ConnectorError as error:
            self._metrics.database_failed()
            log.warning("labels cannot be read; those known stay", known=len(self._labels), error=str(error))
            # What comes back may be a restored or another database: revisions of the old one mean nothing there.
            self._revision = 0
            return False
        except Exception:
            log.exception("reading labels failed; those known stay", known=len(self._labels))
            return False
        if rows or self._revision == 0:
            self._take(rows)
        self._count()
        return True

    def _take(self, rows: Sequence[LabelRow]) -> None:
        before = {} if self._revision == 0 else self._labels
        after = dict(before)
        for row in rows:
            label = label_of(row)
            if label is None:
                after.pop(row.id, None)
            else:
                after[row.id] = label
        self._revision = max((row.revision for row in rows), default=0)
        if after != self._labels:
            self._labels = after
            self._current = by_stream(after.values())
            log.info("labels changed", labels=len(after))

    def _count(self) -> None:
        """Tell how many act now; a stream whose last label ended is told as well."""
        now_us = self._now_us()
        acting = Counter(
            (label.stream, label.kind)
            for label in self._labels.values()
            if label.kind is LabelKind.TRUE or label_end_us(label, self._lookalikes_us) > now_us
        )
        self._streams |= {stream for stream, _ in acting}
        for stream in self._streams:
            self._metrics.labels(stream, {str(kind): acting[stream, kind] for kind in LabelKind})


def label_end_us(label: Label, lookalikes_us: int) -> int:
    """Return when a label ends: its own time, or so long after it was given."""
    return label.until_us if label.until_us is not None else label.created_us + lookalikes_us


def by_stream(labels: Iterable[Label]) -> LabelsByStream:
    """Return labels by stream, each stream's in the order in which they were given."""
    grouped: dict[str, list[Label]] = {}
    for label in sorted(labels, key=lambda label: (label.created_us, label.id)):
        grouped.setdefault(label.stream, []).append(label)
    return MappingProxyType({stream: tuple(some) for stream, some in grouped.items()})


def load_labels(store: Store) -> LabelsByStream:
    """Return all labels at once, for processes that do not follow them; raises ``ConnectorError``."""
    return by_stream(label for row in store.labels() if (label := label_of(row)) is not None)


def label_of(row: LabelRow) -> Label | None:
    """Return the row as a label; None where it was taken back, or is of a kind that only a newer version knows."""
    if row.withdrawn_us is not None or row.kind not in LabelKind.__members__.values():
        return None
    return Label(
        id=row.id,
        incident_id=row.incident_id,
        kind=LabelKind(row.kind),
        reason=row.reason,
        until_us=row.until_us,
        author=row.author,
        created_us=row.created_us,
        stream=row.stream,
        entity=row.entity,
        incident_kind=row.incident_kind,
        started_us=row.started_us,
        ended_us=row.resolved_us,
        score=row.score,
        name=row.name,
        context=row.context,
    )
