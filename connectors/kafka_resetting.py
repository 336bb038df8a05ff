"""Offsets that are gone: where kafka-python goes on elsewhere because what was to be read next is not there any more.

That happens without a word: retention removes records faster than they are read, an unclean election loses the newest,
a topic is made anew. The offsets between are lost to the reader, or come once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kafka.structs import TopicPartition as KafkaPartition

from connectors.base import TopicPartition
from connectors.kafka_batches import PlainRecords, RawBatch


class Jump(NamedTuple):
    """A partition was to be read on at one offset, and was at another."""

    partition: TopicPartition
    wanted: int
    found: int

    @property
    def lost(self) -> int:
        """Offsets that were not there any more, 0 where it went back; in compacted topics they were fewer records."""
        return max(0, self.found - self.wanted)


class Resets:
    """Notes from where kafka-python resets a position, and finds out where to.

    It stands on ``SubscriptionState.request_offset_reset`` (kafka-python 3.0 to 3.1), which is called on the client's
    own thread, before the position is forgotten.
    """

    def __init__(self, consumer: Any) -> None:
        """Watch ``consumer``; where its kafka-python is built in another way nothing will be noticed."""
        self._wanted: dict[TopicPartition, int] = {}
        self._subscription = getattr(consumer, "_subscription", None)
        self._request = getattr(self._subscription, "request_offset_reset", None)
        if self._request is not None:
            self._subscription.request_offset_reset = self._noted  # type: ignore[union-attr]

    def _noted(self, partition: Any, *arguments: Any) -> Any:
        assert self._request is not None
        state = self._subscription.assignment.get(KafkaPartition(*partition))  # type: ignore[union-attr]
        if state is not None and state.position is not None:
            self._wanted.setdefault(TopicPartition(*partition), int(state.position.offset))
        return self._request(partition, *arguments)

    def forget(self, partition: TopicPartition) -> None:
        """Somebody has said where to go on, or it is another's now."""
        self._wanted.pop(partition, None)

    def take(
        self,
        fetched: Mapping[TopicPartition, Sequence[RawBatch | PlainRecords]],
        position: Callable[[TopicPartition], int | None],
    ) -> list[Jump]:
        """Return the jumps whose end is known by now: by what came from there, or else by where it is read on."""
        jumps = []
        for partition, wanted in list(self._wanted.items()):
            found = fetched[partition][0].start_offset if fetched.get(partition) else position(partition)
            if found is None:
                continue  # it has not landed yet
            del self._wanted[partition]
            if found != wanted:
                jumps.append(Jump(partition, wanted, found))
        return jumps
