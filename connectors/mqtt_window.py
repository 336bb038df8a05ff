"""What was taken from the broker and is not acknowledged yet: it waits until the outlet says that it is durable."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from connectors.errors import ConnectorError, SpoolFull
from connectors.mqtt_messages import MqttMessage, Taken
from connectors.source import Outlet

_TRY_AGAIN_S = 1.0


@dataclass(slots=True)
class _Batch:
    mids: list[int]
    """To be acknowledged on the connection that is; empty once that is lost."""
    messages: int
    size: int
    taken: Taken
    offered: bool = False
    done: Future[None] | None = None
    """None: there is nothing to make durable."""


class Window:
    """Batches in the order in which they came, from being read until they are durable.

    Args:
        outlet: takes them.
        wake: called, from any thread, when one may have become durable.
        most_messages: more are not held ...
        most_bytes: ... nor more bytes of payload, but for the last batch.
        monotonic: the clock for waiting.
    """

    def __init__(
        self,
        outlet: Outlet,
        wake: Callable[[], None],
        most_messages: int,
        most_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outlet = outlet
        self._wake = wake
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._monotonic = monotonic
        self._batches: deque[_Batch] = deque()
        self._retry_at_s = 0.0
        self.messages = 0
        self.bytes = 0

    @property
    def room(self) -> int:
        """How many more messages may be held; 0 for no more."""
        return max(self._most_messages - self.messages, 0) if self.bytes < self._most_bytes else 0

    @property
    def empty(self) -> bool:
        """Whether all is durable."""
        return not self._batches

    def add(self, messages: Sequence[MqttMessage], taken: Taken) -> None:
        """Hold messages and what was read of them."""
        mids = [message.mid for message in messages if message.qos]
        size = sum(len(message.payload) for message in messages)
        self._batches.append(_Batch(mids, len(messages), size, taken))
        self.messages += len(messages)
        self.bytes += size

    def offer(self) -> None:
        """Offer what was not offered yet, or failed, in order.

        Raises:
            Stopping: if the outlet is past taking anything.
        """
        if self._monotonic() < self._retry_at_s:
            return
        self._take_back()  # one may have failed later than the one before it, for which we waited
        for batch in self._batches:
            if not batch.offered and not self._offer(batch):
                return

    def _offer(self, batch: _Batch) -> bool:
        readings, rejected, cursor = batch.taken
        if not readings and not rejected and cursor is None:
            batch.offered = True
            return True
        try:
            batch.done = self._outlet.offer(readings, cursor=cursor, rejected=rejected)
        except SpoolFull as error:
            self._retry_at_s = self._monotonic() + min(error.retry_after_s, _TRY_AGAIN_S)  # asking costs nothing
            return False
        batch.offered = True
        batch.done.add_done_callback(lambda _: self._wake())
        return True

    def durable(self) -> list[int]:
        """Let go of what is durable, and return what may be acknowledged, in order."""
        mids: list[int] = []
        while self._batches and self._is_durable(self._batches[0]):
            batch = self._batches.popleft()
            mids += batch.mids
            self.messages -= batch.messages
            self.bytes -= batch.size
        return mids

    def _is_durable(self, batch: _Batch) -> bool:
        if not batch.offered:
            return False
        if batch.done is None:
            return True
        if not batch.done.done():
            return False
        error = batch.done.exception()
        if error is None:
            return True
        if not isinstance(error, ConnectorError):
            raise error
        self._fail()
        return False

    def _fail(self) -> None:
        """Offer again, after a while, whatever failed."""
        self._take_back()
        self._retry_at_s = self._monotonic() + _TRY_AGAIN_S

    def _take_back(self) -> None:
        for batch in self._batches:
            if batch.done is not None and batch.done.done() and batch.done.exception() is not None:
                batch.offered, batch.done = False, None

    def connection_lost(self) -> None:
        """Forget what is to be acknowledged: the broker will deliver it again, under numbers of its choice."""
        for batch in self._batches:
            batch.mids = []


class Redeliveries:
    """Knows the messages again that the broker delivers a second time because their acknowledgement never came."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def sift(self, messages: Sequence[MqttMessage]) -> list[MqttMessage]:
        """Return the messages that are new; all of them wait for their acknowledgement from here on."""
        new: list[MqttMessage] = []
        for message in messages:
            if message.qos:
                mark = hash((message.topic, message.payload))
                self._open[message.mid] = mark
                if message.duplicate and self._before.pop(message.mid, None) == mark:
                    continue
            new.append(message)
        return new

    def acknowledged(self, mids: Sequence[int]) -> None:
        """These are settled."""
        for mid in mids:
            self._open.pop(mid, None)

    def connection_lost(self) -> None:
        """What is open now may come again."""
        self._before |= self._open
        self._open = {}

    def session_lost(self) -> None:
        """The broker knows nothing of the past; its numbers begin anew."""
        self._before = {}
