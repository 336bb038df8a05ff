"""Watermarks: how far event time has come in a stream, judged from what its partitions have delivered."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Partition:
    max_time_us: int | None
    """Newest event time seen; None while nothing has come."""
    arrival_us: int
    """When something last came, or when the partition was first expected."""


class Watermarks:
    """The watermark of a stream: the minimum over its active partitions of the newest event time seen there.

    The minimum, because partitions are drained at different speeds and the maximum would make half of a catch-up late.
    A partition from which nothing has come for ``idle_timeout_us`` holds nothing up; when all are idle the clock
    carries the watermark on, so that the windows of silent sensors close. It never goes backwards, whoever joins,
    leaves or comes back. Partitions are told apart by whatever names them: by topic and number where a stream has
    several topics, or the slower topic's readings would come late for the faster one's.
    """

    def __init__(self, idle_timeout_us: int) -> None:
        """Let a partition be idle once nothing has come from it for ``idle_timeout_us``."""
        if idle_timeout_us <= 0:
            raise ValueError(f"idle_timeout_us is {idle_timeout_us}; it must be above 0")
        self._idle_timeout_us = idle_timeout_us
        self._partitions: dict[Hashable, _Partition] = {}
        self._watermark_us: int | None = None

    def expect(self, partition: Hashable, now_us: int) -> None:
        """Hold the watermark for a partition that was just assigned, until it delivers or its time-out passes.

        Without this the first partition to deliver in a catch-up sets a watermark that makes the others late.
        """
        self._partitions.setdefault(partition, _Partition(None, now_us))

    def observe(self, partition: Hashable, max_time_us: int, now_us: int) -> None:
        """Note that readings up to ``max_time_us`` came from ``partition`` at ``now_us``."""
        known = self._partitions.setdefault(partition, _Partition(None, now_us))
        if known.max_time_us is None or max_time_us > known.max_time_us:
            known.max_time_us = max_time_us
        known.arrival_us = max(known.arrival_us, now_us)

    def remove(self, partition: Hashable) -> None:
        """Forget a partition that is read elsewhere now; one that is not known is no error."""
        self._partitions.pop(partition, None)

    def watermark(self, now_us: int) -> int | None:
        """Return the watermark at ``now_us``, never less than before; None before the first reading."""
        candidate = self._candidate(now_us)
        if candidate is not None and (self._watermark_us is None or candidate > self._watermark_us):
            self._watermark_us = candidate
        return self._watermark_us

    def shared(self) -> dict[str, int | float | str]:
        """Return what a checkpoint has to keep: how far the watermark has come."""
        return {} if self._watermark_us is None else {"watermark_us": self._watermark_us}

    def restore_shared(self, shared: Mapping[str, int | float | str]) -> None:
        """Take up a watermark from ``shared``, unless this one has come further."""
        if "watermark_us" in shared:
            saved_us = int(shared["watermark_us"])
            self._watermark_us = saved_us if self._watermark_us is None else max(saved_us, self._watermark_us)

    def _candidate(self, now_us: int) -> int | None:
        active = [p for p in self._partitions.values() if now_us - p.arrival_us < self._idle_timeout_us]
        if active:
            seen = [p.max_time_us for p in active if p.max_time_us is not None]
            return min(seen) if len(seen) == len(active) else None
        idle = [p for p in self._partitions.values() if p.max_time_us is not None]
        if not idle:
            return None
        newest_us = max(p.max_time_us for p in idle if p.max_time_us is not None)
        return newest_us + now_us - max(p.arrival_us for p in idle)
