"""A guard for kafka-python's way of joining a group: an answer that came between two polls is taken, not thrown away.

kafka-python 3.0 joins in the background. When that is done while nobody is inside ``poll``, the next ``poll`` does not
look at the outcome but begins anew, which makes all other members join anew too: two busy members rebalance for ever.
Or, where what it joined anew for is no more (metadata that have come meanwhile), it neither joins nor looks: the member
never gets its partitions.
"""

from __future__ import annotations

from typing import Any

HOOKS = ("_do_join_and_sync_async", "_on_join_complete_async", "_generation", "need_rejoin")


class _KeptJoin:
    """Stands before a coordinator's joining and remembers an outcome until it was taken up."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator
        self._join = coordinator._do_join_and_sync_async
        self._complete = coordinator._on_join_complete_async
        self._needed = coordinator.need_rejoin
        self._kept: tuple[Any, Any] | None = None

    async def join(self) -> Any:
        """Return the outcome that was not taken up yet, if it still holds, or else join."""
        if self._kept is not None and self._holds():
            return self._kept[1]
        self._kept = None
        outcome = await self._join()
        self._kept = (self._coordinator._generation, outcome)
        return outcome

    def needed(self) -> bool:
        """Return whether there is a join to be done, or one that is done to be taken up."""
        return self._holds() or bool(self._needed())

    def _holds(self) -> bool:
        return self._kept is not None and self._kept[0] is self._coordinator._generation

    async def complete(self, *arguments: Any) -> Any:
        """Take the outcome up."""
        self._kept = None
        return await self._complete(*arguments)


def keep_joins(consumer: Any) -> None:
    """Put the guard into ``consumer``, unless its kafka-python is built in another way."""
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is not None and all(hasattr(coordinator, name) for name in HOOKS):
        kept = _KeptJoin(coordinator)
        coordinator._do_join_and_sync_async = kept.join
        coordinator._on_join_complete_async = kept.complete
        coordinator.need_rejoin = kept.needed
