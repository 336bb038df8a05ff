"""The source and the sink in memory keep the promises that the real ones do."""

from __future__ import annotations

import numpy as np
import pytest

from connectors.base import RecordBlock, TopicPartition
from connectors.errors import SinkUnavailable
from connectors.memory import MemorySink, MemorySource

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def block(partition: int, first: int, count: int) -> RecordBlock:
    """Return records named by partition and offset; every odd one has a header."""
    offsets = np.arange(first, first + count, dtype=np.int64)
    values = [f"{partition}:{o}".encode() for o in offsets.tolist()]
    headers = {i: [("h", value)] for i, value in enumerate(values) if offsets[i] % 2}
    return RecordBlock("t", partition, values, offsets, offsets * 10, first + count, list(values), headers)


def source(committed: dict[TopicPartition, int] | None = None) -> MemorySource:
    """Return a source of four blocks of two partitions."""
    return MemorySource([block(0, 0, 4), block(1, 0, 3), block(0, 4, 2), block(1, 3, 3)], committed=committed)


def drain(memory: MemorySource) -> list[bytes | None]:
    """Poll to the end; return the values."""
    values: list[bytes | None] = []
    while not memory.exhausted():
        for taken in memory.poll(0.0):
            values += taken.values
    return values


def test_everything_comes_once_and_in_order() -> None:
    """Protects the obligation of a source: no gaps, no repeats."""
    values = drain(source())
    assert [v for v in values if v and v.startswith(b"0")] == [f"0:{o}".encode() for o in range(6)]
    assert [v for v in values if v and v.startswith(b"1")] == [f"1:{o}".encode() for o in range(6)]


def test_seek_goes_back_into_a_block() -> None:
    """Protects restarts at any offset: keys, headers and times stay with their records."""
    memory = source()
    drain(memory)
    memory.seek(P0, 1)
    (part,) = memory.poll(0.0)
    assert list(part.values) == [b"0:1", b"0:2", b"0:3"]
    assert list(part.keys or ()) == list(part.values)
    assert part.headers == {0: [("h", b"0:1")], 2: [("h", b"0:3")]}
    assert part.timestamps_ms.tolist() == [10, 20, 30]
    assert memory.lag() == {P0: 2, P1: 0}


def test_reading_begins_at_the_committed_offsets() -> None:
    """Protects a second life without checkpoints."""
    assert drain(source({P0: 5, P1: 6})) == [b"0:5"]


def test_a_rebalance_takes_and_gives_partitions() -> None:
    """Protects tests of rebalances from a fake that hands out what is not assigned."""
    memory = source()
    seen: list[tuple[set[TopicPartition], set[TopicPartition]]] = []
    memory.on_rebalance(lambda revoked, assigned: seen.append((revoked, assigned)))
    assert memory.assignment() == set()
    memory.poll(0.0)
    memory.commit({P0: 4})
    memory.rebalance({P0}, set())
    assert drain(memory) == [f"1:{o}".encode() for o in range(6)]
    assert memory.assignment() == {P1}
    memory.rebalance(set(), {P0})
    assert drain(memory) == [b"0:4", b"0:5"]
    assert seen == [(set(), {P0, P1}), ({P0}, set()), (set(), {P0})]


def test_a_sink_keeps_what_it_could_not_flush() -> None:
    """Protects the obligation of a sink: nothing is dropped, and nothing shows before it is durable."""
    sink = MemorySink()
    sink.available = False
    sink.send("k", b"v", [("reason", b"empty")])
    with pytest.raises(SinkUnavailable, match="1 messages wait"):
        sink.flush(1.0)
    assert sink.messages == []
    sink.available = True
    sink.close()
    assert sink.messages == [("k", b"v", (("reason", b"empty"),))]
