"""A source and a sink in memory: for benchmarks, tests and programs that embed the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import SinkUnavailable


class MemorySource:
    """Hands out given record blocks in their order; exhausted at the end.

    Obeys the obligations of ``Source``: ``seek`` goes back to any offset that a block holds, whole blocks or parts.
    All partitions are its own at first; ``rebalance`` moves them as a consumer group would.
    """

    def __init__(
        self,
        blocks: Iterable[RecordBlock],
        blocks_per_poll: int = 1,
        committed: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Hand out ``blocks``, so many at a time, each partition from its ``committed`` offset on."""
        self._blocks = list(blocks)
        self._blocks_per_poll = blocks_per_poll
        self._committed = dict(committed or {})
        self._end = {TopicPartition(b.topic, b.partition): b.next_offset for b in self._blocks}
        self._assigned: set[TopicPartition] = set()
        self._changes: list[tuple[set[TopicPartition], set[TopicPartition]]] = [(set(), set(self._end))]
        self._position: dict[TopicPartition, int] = {}
        self._next = 0
        self._callback: Callable[[set[TopicPartition], set[TopicPartition]], None] = lambda revoked, assigned: None

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        """Return the next blocks; never waits."""
        changes, self._changes = self._changes, []
        for revoked, assigned in changes:
            self._move(revoked, assigned)
        taken: list[RecordBlock] = []
        while self._next < len(self._blocks) and len(taken) < self._blocks_per_poll:
            block = self._blocks[self._next]
            self._next += 1
            partition = TopicPartition(block.topic, block.partition)
            if partition in self._assigned and block.next_offset > self._position[partition]:
                taken.append(_from_offset(block, self._position[partition]))
                self._position[partition] = block.next_offset
        return taken

    def rebalance(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        """Have partitions taken away and given at the next poll; given ones go on at their committed offsets."""
        self._changes.append((set(revoked), set(assigned)))

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that are read now; none before the first poll."""
        return set(self._assigned)

    def on_rebalance(self, callback: Callable[[set[TopicPartition], set[TopicPartition]], None]) -> None:
        """Have ``callback`` called at the first poll with all partitions, and at each rebalance after it."""
        self._callback = callback

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset, or None."""
        return self._committed.get(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at ``offset``: the blocks are walked again from the first, what lies before a position is left out."""
        self._position[partition] = offset
        self._next = 0

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remember ``offsets``."""
        self._committed.update(offsets)

    def lag(self) -> dict[TopicPartition, int]:
        """Return the offsets not yet handed out, by partition."""
        return {p: max(0, self._end.get(p, 0) - self._position[p]) for p in self._assigned}

    def exhausted(self) -> bool:
        """Return True when every block was handed out."""
        return self._next >= len(self._blocks) and not self._changes

    def close(self) -> None:
        """Do nothing: there is nothing to leave."""

    def _move(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        self._assigned = (self._assigned - revoked) | assigned
        self._position |= {p: self._committed.get(p, 0) for p in assigned}
        self._next = 0
        self._callback(revoked, assigned)


class Message(NamedTuple):
    """What a sink was given."""

    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class MemorySink:
    """Keeps messages in a list; ``available`` = False makes ``flush`` fail as an unreachable sink does."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.available = True
        self._pending: list[Message] = []

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Accept one message; it shows in ``messages`` after a flush."""
        self._pending.append(Message(key, value, tuple(headers)))

    def flush(self, timeout_s: float) -> None:
        """Make what was sent durable, in the sense of this class; raise ``SinkUnavailable`` while not available."""
        if not self.available:
            raise SinkUnavailable(f"{len(self._pending)} messages wait: the sink is not available")
        self.messages += self._pending
        self._pending.clear()

    def close(self) -> None:
        """Flush if possible."""
        if self.available:
            self.flush(0.0)


def _from_offset(block: RecordBlock, offset: int) -> RecordBlock:
    """Return the part of ``block`` from ``offset`` on."""
    first = int(block.offsets.searchsorted(offset))
    if first == 0:
        return block
    headers = {i - first: h for i, h in block.headers.items() if i >= first} if block.headers else None
    keys = block.keys[first:] if block.keys is not None else None
    return replace(
        block,
        values=block.values[first:],
        offsets=block.offsets[first:],
        timestamps_ms=block.timestamps_ms[first:],
        keys=keys,
        headers=headers,
    )
