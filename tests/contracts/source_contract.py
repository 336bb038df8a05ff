"""What every source owes the daemon, as checks that run over any implementation.

A check is given a way to ``write`` records and a way to ``open`` a source on them; a source opened later, after an
earlier one was closed, is its second life and knows what the first one committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from connectors.base import RecordBlock, Source, TopicPartition
from tests.kafka_broker import drain, until

RECORDS = 30
"""A partition."""


class Written(NamedTuple):
    """A record that was written."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    time_ms: int


@dataclass(slots=True)
class World:
    """Where the records are."""

    partitions: Sequence[TopicPartition]
    open: Callable[[], Source]
    patience_s: float = 30.0
    """How long records may take to come."""


Make = Callable[[dict[int, list[Written]]], World]
"""Records by partition to a world that holds them, offsets from 0 on."""


def some_records(partition: int) -> list[Written]:
    """Return records with and without keys, values and headers, one each second."""
    return [
        Written(
            key=None if i % 4 == 1 else b"k%d" % i,
            value=None if i % 4 == 2 else b"%d:%d" % (partition, i),
            headers=(("h", b"%d" % i), ("empty", b"")) if i % 5 == 0 else (),
            time_ms=1_700_000_000_000 + 1000 * i + partition,
        )
        for i in range(RECORDS)
    ]


def came(blocks: Sequence[RecordBlock], partition: int) -> list[tuple[int, Written]]:
    """Return offset and content of the records of ``partition`` in the order they came."""
    found = []
    for block in blocks:
        if block.partition != partition:
            continue
        n = len(block.values)
        assert n > 0, "an empty block"
        assert block.offsets.shape == block.timestamps_ms.shape == (n,)
        assert block.offsets.dtype == block.timestamps_ms.dtype == np.int64
        assert block.keys is None or len(block.keys) == n
        assert block.next_offset > block.offsets[-1]
        for i, value in enumerate(block.values):
            key = block.keys[i] if block.keys is not None else None
            headers = tuple((block.headers or {}).get(i, ()))
            found.append((int(block.offsets[i]), Written(key, value, headers, int(block.timestamps_ms[i]))))
    return found


def check_everything_comes_once_in_order(make: Make) -> None:
    """All records come, whole, once, in the order of their offsets; then nothing, and no lag."""
    written = {0: some_records(0), 1: some_records(1)}
    world = make(written)
    source = world.open()
    blocks = drain(source, 2 * RECORDS, world.patience_s)
    for partition, records in written.items():
        assert came(blocks, partition) == list(enumerate(records))
    assert source.poll(0.1) == []
    assert set(world.partitions) <= source.assignment()
    assert all(source.lag()[p] == 0 for p in world.partitions)
    source.close()


def check_the_callback_comes_first(make: Make) -> None:
    """A partition is announced before its first record, and whoever is told may seek it, or ask what was committed."""
    world = make({0: some_records(0), 1: some_records(1)})
    source = world.open()
    known: set[TopicPartition] = set()

    def changed(revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        known.difference_update(revoked)
        known.update(assigned)
        for partition in assigned & set(world.partitions):
            assert source.committed(partition) is None
            source.seek(partition, 10)

    source.on_rebalance(changed)
    blocks: list[RecordBlock] = []

    def all_came() -> bool:
        new = source.poll(0.2)
        assert {TopicPartition(b.topic, b.partition) for b in new} <= known
        blocks.extend(new)
        return sum(len(b.values) for b in blocks) >= 2 * (RECORDS - 10)

    until(all_came, world.patience_s)
    for partition in (0, 1):
        assert [offset for offset, _ in came(blocks, partition)] == list(range(10, RECORDS))
    source.close()


def check_a_seek_goes_anywhere(make: Make) -> None:
    """After a seek, backwards or forwards, records come from there on."""
    written = some_records(0)
    world = make({0: written})
    at = world.partitions[0]
    source = world.open()
    drain(source, RECORDS, world.patience_s)
    for offset in (0, 17, RECORDS - 1, 3):
        source.seek(at, offset)
        assert source.lag()[at] == RECORDS - offset
        blocks = drain(source, RECORDS - offset, world.patience_s)
        assert came(blocks, 0) == list(enumerate(written))[offset:]
    source.close()


def check_a_commit_outlives_the_source(make: Make) -> None:
    """The next life begins at what was committed, not at what was read; nothing is committed by itself."""
    world = make({0: some_records(0), 1: some_records(1)})
    first, second = world.partitions[0], world.partitions[1]
    source = world.open()
    drain(source, 2 * RECORDS, world.patience_s)
    assert source.committed(first) is None
    source.commit({first: 12})
    assert source.committed(first) == 12
    source.close()
    source = world.open()
    blocks = drain(source, RECORDS + RECORDS - 12, world.patience_s)
    assert [offset for offset, _ in came(blocks, 0)] == list(range(12, RECORDS))
    assert [offset for offset, _ in came(blocks, 1)] == list(range(RECORDS))
    assert (source.committed(first), source.committed(second)) == (12, None)
    source.close()


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_everything_comes_once_in_order,
    check_the_callback_comes_first,
    check_a_seek_goes_anywhere,
    check_a_commit_outlives_the_source,
)
