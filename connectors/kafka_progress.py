"""Watches over each partition's progress, for what a Kafka client can lose without a word.

Partitions that are never fetched again after a rebalance (kafka-python#3131), brokers that went away:
in each case ``poll`` just returns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.base import TopicPartition


@dataclass(slots=True)
class _Progress:
    position: int
    moved_at_s: float
    behind_since_s: float | None = None


class ProgressWatch:
    """Knows since when each partition's position stands still. Times are those of the caller's monotonic clock."""

    def __init__(self, quiet_after_s: float, stalled_after_s: float) -> None:
        self._quiet_after_s = quiet_after_s
        self._stalled_after_s = stalled_after_s
        self._progress: dict[TopicPartition, _Progress] = {}
        self._asked_at_s = float("-inf")
        self._without_since_s: float | None = None

    def observe(self, positions: Mapping[TopicPartition, int], now_s: float) -> None:
        """Note where the assigned partitions stand (-1: not known yet); forget all others."""
        if positions:
            self._without_since_s = None
        elif self._without_since_s is None:
            self._without_since_s = now_s
        for partition in self._progress.keys() - positions.keys():
            del self._progress[partition]
        for partition, position in positions.items():
            known = self._progress.get(partition)
            if known is None or known.position != position:
                self._progress[partition] = _Progress(position, now_s)

    def without_partitions(self, now_s: float) -> bool:
        """Return True when nothing was assigned for so long that the broker may be away; then not for as long again."""
        if self._without_since_s is None or now_s - self._without_since_s < self._quiet_after_s:
            return False
        self._without_since_s = now_s
        return True

    def quiet(self, now_s: float) -> set[TopicPartition]:
        """Return partitions whose true end should be asked for now; empty while it was asked a short time ago."""
        if now_s - self._asked_at_s < self._quiet_after_s:
            return set()
        quiet = {p for p, known in self._progress.items() if now_s - known.moved_at_s >= self._quiet_after_s}
        if quiet:
            self._asked_at_s = now_s
        return quiet

    def stalled(self, ends: Mapping[TopicPartition, int], now_s: float) -> dict[TopicPartition, tuple[int, int]]:
        """Return position and end of partitions that stood still before their end since an earlier call."""
        stalled = {}
        for partition, end in ends.items():
            known = self._progress.get(partition)
            if known is None or end <= known.position:
                continue
            if known.behind_since_s is None:
                known.behind_since_s = now_s
            elif now_s - known.behind_since_s >= self._stalled_after_s:
                stalled[partition] = (known.position, end)
        return stalled
