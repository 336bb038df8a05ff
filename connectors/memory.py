"""A source and a sink in memory: for benchmarks, tests and programs that embed the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import SinkUnavailable


class MemorySource:
    """Hands out given record blocks in their order; exhausted at the end.

    Obeys the obligations of ``Source``: ``seek`` goes back to any offset that a block holds, whole blocks or parts.
    """

    def __init__(self, blocks: Iterable[RecordBlock], blocks_per_poll: int = 1) -> None:
        self._blocks = list(blocks)
        self._blocks_per_poll = blocks_per_poll
        self._partitions = {TopicPartition(b.topic, b.partition) for b in self._blocks}
        self._position = dict.fromkeys(self._partitions, 0)
        self._committed: dict[TopicPartition, int] = {}
        self._next = 0
        self._callback: Callable[[set[TopicPartition], set[TopicPartition]], None] | None = None

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        """Return the next blocks; never waits."""
        if self._callback is not None:
            callback, self._callback = self._callback, None
            callback(set(), set(self._partitions))
        taken: list[RecordBlock] = []
        while self._next < len(self._blocks) and len(taken) < self._blocks_per_poll:
            block = self._blocks[self._next]
            self._next += 1
            partition = TopicPartition(block.topic, block.partition)
            if block.next_offset > self._position[partition]:
                taken.append(_from_offset(block, self._position[partition]))
                self._position[partition] = block.next_offset
        return taken

    def assignment(self) -> set[TopicPartition]:
        """Return every partition that a block names."""
        return set(self._partitions)

    def on_rebalance(self, callback: Callable[[set[TopicPartition], set[TopicPartition]], None]) -> None:
        """Have ``callback`` called once, at the first poll, with all partitions."""
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
        """Return the records not yet handed out, by partition."""
        end = {TopicPartition(b.topic, b.partition): b.next_offset for b in self._blocks}
        return {p: end[p] - self._position[p] for p in self._partitions}

    def exhausted(self) -> bool:
        """Return True when every block was handed out."""
        return self._next >= len(self._blocks)

    def close(self) -> None:
        """Do nothing: there is nothing to leave."""


class MemorySink:
    """Keeps messages in a list; ``available`` = False makes ``flush`` fail as an unreachable sink does."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.available = True
        self._pending: list[tuple[str, bytes]] = []

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Accept one message; it shows in ``messages`` after a flush."""
        self._pending.append((key, value))

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
