"""What every connector promises. Implementations state how; ``tests/contracts`` proves that they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from connectors.reading import ReadingBatch


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(slots=True)
class RecordBlock:
    """Undecoded records of one topic-partition, in offset order. n records; no object per record but its bytes."""

    topic: str
    partition: int
    values: Sequence[bytes | None]
    """The record values; None is a tombstone."""
    offsets: NDArray[np.int64]
    """[n] offsets, ascending, with gaps where control records lay."""
    timestamps_ms: NDArray[np.int64]
    """[n] record time stamps, as the producer or the broker set them."""
    next_offset: int
    """Where to go on after this block: what may be committed once its effects are durable."""
    keys: Sequence[bytes | None] | None = None
    """The record keys, or None when no record has one."""
    headers: Mapping[int, Sequence[tuple[str, bytes]]] | None = None
    """Headers of those records that have any, by index into ``values``."""


class Source(Protocol):
    """Brings record blocks in. Called from one thread.

    Obligations: ``poll`` never blocks longer than its time-out (and returns an empty list then); blocks of a partition
    come in offset order, without gaps or repeats, from the position last sought or committed; across partitions the one
    whose records are furthest behind in time comes first. Nothing is committed but by ``commit``. ``close`` is not
    guaranteed to be called.
    """

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        """Return what has come, at most about 50,000 records; raise ``SourceUnavailable`` or an error that is fatal."""

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that this source reads now."""

    def on_rebalance(self, callback: Callable[[set[TopicPartition], set[TopicPartition]], None]) -> None:
        """Have ``callback(revoked, assigned)`` called within ``poll``, before a record of a new partition comes."""

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset, or None when there is none."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on reading ``partition`` at ``offset``."""

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Make ``offsets`` the positions to resume at. Durable when it returns."""

    def lag(self) -> dict[TopicPartition, int]:
        """Return the records between the position and the end, where the end is known; no network call."""

    def exhausted(self) -> bool:
        """Return True when no record will ever come again (a file read to its end); a live source never is."""

    def close(self) -> None:
        """Leave; nothing is committed."""


class Sink(Protocol):
    """Carries messages out. Idempotent by key: the same key sent twice is one thing said once."""

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Accept one message; may buffer, never blocks long."""

    def flush(self, timeout_s: float) -> None:
        """Return when all that was sent is durable; raise ``SinkUnavailable`` otherwise. Nothing is dropped then."""

    def close(self) -> None:
        """Flush what can be flushed and leave."""


class Decoder(Protocol):
    """Turns a record block into readings and rejections; never raises for bad data."""

    def decode(self, block: RecordBlock) -> ReadingBatch:
        """Return the block's readings as columns; each record that could not be read is in ``rejected``, all others in
        the columns. A list value with one bad element rejects that element's record as a whole."""
