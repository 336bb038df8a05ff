"""Delivering: one thread for each receiver and instance, which carries what waits in the outbox until it is there.

    outbox ► due messages ► courier ► receiver          failed: back off with jitter, or as long as the receiver asks

A receiver that is slow, away or hangs holds up its own thread and nobody else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from connectors.errors import OutboxUnavailable, ReceiverUnavailable
from connectors.outbox import Outbox
from connectors.outbox_rows import Waiting
from pipeline.metrics_receivers import ReceiverMetrics

log = structlog.get_logger("vedette.delivering")

_IDLE_S = 60.0
"""A thread looks again so often though nobody woke it."""
_LONGEST_PUT_OFF_S = 60.0
"""Of a single message: once its receiver is well again nothing waits for longer."""


class Courier(Protocol):
    """Brings messages to one receiver; used by one thread, but for ``abort``."""

    most: int
    """How many messages it takes at a time."""

    def carry(self, messages: Sequence[Waiting]) -> int:
        """Bring messages, each about another incident, and take them out of the outbox; return how many arrived.

        What will never be taken is set aside. Raises ``ReceiverUnavailable`` where the rest has to be tried again.
        """

    def attend(self) -> bool:
        """Do what is due beside messages; return whether the receiver took anything. May raise as ``carry`` does."""

    def rest_s(self) -> float:
        """Return in how many seconds ``attend`` has something to do."""

    def hurry(self) -> None:
        """Let ``attend`` have something to do at once, if ever; from any thread."""

    def abort(self) -> None:
        """End what is under way; from any thread."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One of a receiver's addresses."""

    receiver: str
    name: str
    """Host and port, or a file's name: nothing secret."""
    kind: str
    queue: str
    """What the outbox calls it."""


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """How a receiver's instance is doing, for people. Times are microseconds since 1970."""

    receiver: str
    instance: str
    kind: str
    waiting: int
    oldest_us: int | None
    """Since when the oldest waits; None where nothing waits."""
    delivered: int
    """Messages since the start of this process; ``dropped`` likewise."""
    refused: int
    """Messages that it would not take, kept for people to look at."""
    dropped: int
    failing_since_us: int | None
    """Since when every try has failed; None while all is well."""
    last_success_us: int | None
    last_error: str
    """Empty: there was none since the start."""
    last_error_us: int | None


class Delivery:
    """Delivers one queue from a thread of its own, from ``start`` until ``close``."""

    def __init__(
        self,
        instance: Instance,
        courier: Courier,
        outbox: Outbox,
        metrics: ReceiverMetrics,
        *,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 60.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Take the parts ready made.

        Args:
            instance: whose queue.
            courier: brings the messages.
            outbox: where they wait.
            metrics: where to count.
            first_wait_s: after a failure; doubled with each further one.
            longest_wait_s: between two tries, unless the receiver asks for longer.
            now_us: the wall clock.
            chance: uniform in [0, 1), for the jitter.
        """
        self.instance = instance
        self._courier = courier
        self._outbox = outbox
        self._metrics = metrics
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._now_us = now_us
        self._chance = chance
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failures = 0
        self._delivered = 0
        self._dropped = 0
        self._failing_since_us: int | None = None
        self._last_success_us: int | None = None
        self._last_error = ""
        self._last_error_us: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"deliver-{instance.queue}"[:60], daemon=True)
        metrics.known(instance.receiver, instance.name)

    # ---- from any thread ----

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def hurry(self) -> None:
        """Tell again of what is open, where that is done, as soon as possible."""
        self._courier.hurry()
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end, whatever it waits for; what is under way is tried again at the next start."""
        self._stop.set()
        self._wake.set()
        self._courier.abort()

    def join(self, timeout_s: float) -> bool:
        """Return whether the thread has ended within that time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> ReceiverStatus:
        """Return how it is doing; raises ``OutboxUnavailable`` where the outbox cannot be read."""
        depth, instance = self._outbox.depth(self.instance.queue), self.instance
        return ReceiverStatus(
            receiver=instance.receiver,
            instance=instance.name,
            kind=instance.kind,
            waiting=depth.waiting,
            oldest_us=depth.oldest_us,
            delivered=self._delivered,
            refused=depth.refused,
            dropped=self._outbox.dropped(instance.queue),
            failing_since_us=self._failing_since_us,
            last_success_us=self._last_success_us,
            last_error=self._last_error,
            last_error_us=self._last_error_us,
        )

    # ---- the thread ----

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.clear()
                wait_s = self._turn()
                # While it backs off, new messages do not make it try sooner.
                (self._stop if self._failures else self._wake).wait(wait_s)
        finally:
            self._courier.close()

    def _turn(self) -> float:
        """Deliver what is due; return how long to wait for more."""
        try:
            if self._courier.attend():
                self._succeeded()
            wait_s = min(self._deliver(), self._courier.rest_s())
            self._failures = 0
        except ReceiverUnavailable as error:
            wait_s = self._failed(str(error), error.cause, error.retry_after_s or 0.0)
        except OutboxUnavailable as error:
            wait_s = self._failed(str(error), "outbox", 0.0)
        except Exception as error:
            # A defect here must not end the thread: scoring would go on, and nobody would notice.
            log.exception("delivering failed; will try again", receiver=self.instance.receiver)
            wait_s = self._failed(f"{type(error).__name__}: {error}", "defect", 0.0)
        with suppress(OutboxUnavailable):
            self._measure()
        return wait_s

    def _deliver(self) -> float:
        """Carry all that is due; return how long until something else is."""
        queue, most = self.instance.queue, self._courier.most
        while not self._stop.is_set():
            messages = self._outbox.due(queue, self._now_us(), most)
            if messages:
                arrived = self._courier.carry(messages)
                self._delivered += arrived
                if arrived:
                    self._succeeded()
            if len(messages) == most:
                self._measure()  # there may be many more
                continue
            due_us = self._outbox.next_due_us(queue)
            if due_us is None or due_us > (now_us := self._now_us()):
                return _IDLE_S if due_us is None else min((due_us - now_us) / 1e6, _IDLE_S)
        return 0.0

    def _succeeded(self) -> None:
        if self._failing_since_us is not None:
            log.info("the receiver is back", receiver=self.instance.receiver, instance=self.instance.name)
        self._failures, self._failing_since_us, self._last_success_us = 0, None, self._now_us()
        self._metrics.answered(self.instance.receiver, self.instance.name)

    def _failed(self, text: str, cause: str, asked_s: float) -> float:
        """Return how long to wait: exponential with jitter, and no less than the receiver asks for."""
        now_us, instance = self._now_us(), self.instance
        wait_s = back_off_s(self._failures, self._first_wait_s, self._longest_wait_s, self._chance(), asked_s)
        self._failures += 1
        if self._stop.is_set():
            return wait_s  # it was ended by us
        if self._failing_since_us is None:
            self._failing_since_us = now_us
        self._last_error, self._last_error_us = text, now_us
        self._metrics.failed(instance.receiver, instance.name, cause)
        log.warning(
            "a receiver did not take messages; they wait", receiver=instance.receiver, instance=instance.name,
            error=text, in_s=round(wait_s, 1),
        )  # fmt: skip
        return wait_s

    def _measure(self) -> None:
        queue, receiver, name = self.instance.queue, self.instance.receiver, self.instance.name
        depth, dropped = self._outbox.depth(queue), self._outbox.dropped(queue)
        self._metrics.waiting(receiver, name, depth.waiting, depth.oldest_us)
        self._metrics.dropped(receiver, name, dropped - self._dropped)
        self._dropped = dropped


def back_off_s(failures: int, first_s: float, longest_s: float, chance: float, asked_s: float = 0.0) -> float:
    """Return how long to wait after so many failures before this one: exponential, with jitter over its upper half.

    Many senders that failed at the same moment must not come back at the same moment. ``asked_s`` is what the receiver
    asks for: it is never asked sooner.

    >>> [back_off_s(n, 1.0, 60.0, chance) for n, chance in ((0, 0.0), (0, 1.0), (3, 1.0), (99, 1.0))]
    [0.5, 1.0, 8.0, 60.0]
    >>> back_off_s(0, 1.0, 60.0, 0.5, asked_s=120.0)
    120.0
    """
    return max(min(first_s * 2.0 ** min(failures, 30), longest_s) * (0.5 + 0.5 * chance), asked_s)


def put_off_us(tries: int, now_us: int) -> int:
    """Return until when a message waits that failed for itself, perhaps, ``tries`` times before."""
    return now_us + round(1e6 * min(2.0 ** min(tries, 30), _LONGEST_PUT_OFF_S))
