"""Protects from joins of a group that end while nobody is inside ``poll``, and are thrown away or never looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from connectors.kafka_joining import keep_joins


class Coordinator:
    """What kafka-python's does for a join, without a network: the next poll joins only while it needs to."""

    def __init__(self) -> None:
        self._generation = object()
        self.wanted = True
        self.joins = 0
        self.assigned: list[bytes] = []

    def need_rejoin(self) -> bool:
        return self.wanted

    async def _do_join_and_sync_async(self) -> bytes:
        self.joins += 1
        self._generation = object()
        return b"partitions %d" % self.joins

    async def _on_join_complete_async(self, outcome: bytes) -> None:
        self.assigned.append(outcome)
        self.wanted = False

    def poll(self) -> None:
        """Join, and take the outcome up, where that is needed."""

        async def joined() -> None:
            if self.need_rejoin():
                await self._on_join_complete_async(await self._do_join_and_sync_async())

        asyncio.run(joined())


def guarded() -> Coordinator:
    coordinator = Coordinator()
    keep_joins(SimpleNamespace(_coordinator=coordinator))
    return coordinator


def test_a_join_that_ended_between_polls_is_taken_up_and_not_done_again() -> None:
    """Protects a group of busy members from rebalancing for ever."""
    coordinator = guarded()
    asyncio.run(coordinator._do_join_and_sync_async())
    coordinator.poll()
    assert (coordinator.assigned, coordinator.joins) == ([b"partitions 1"], 1)
    coordinator.poll()
    assert coordinator.joins == 1


def test_it_is_taken_up_even_if_what_it_was_for_is_no_more() -> None:
    """Protects a member from waiting for partitions that it was given: metadata came, and no join seems needed."""
    coordinator = guarded()
    asyncio.run(coordinator._do_join_and_sync_async())
    coordinator.wanted = False
    coordinator.poll()
    assert (coordinator.assigned, coordinator.joins) == ([b"partitions 1"], 1)
    assert not coordinator.need_rejoin()


def test_an_outcome_of_a_generation_that_is_over_is_none() -> None:
    """Protects from partitions that belong to somebody else by now."""
    coordinator = guarded()
    asyncio.run(coordinator._do_join_and_sync_async())
    coordinator._generation = object()
    coordinator.poll()
    assert coordinator.assigned == [b"partitions 2"]
