"""The metrics of receivers and of the outbox before them; ``Metrics.receivers`` holds them.

Methods are named by what has happened; they may be called from any thread. A receiver's instance is the host and port
of one of its addresses, so both labels come from the config.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

_DELAY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""From said to delivered: fractions of a second when all is well, hours after an outage."""
_WHO = ("receiver", "address")  # not "instance": Prometheus has that label for whom it scrapes


class ReceiverMetrics:
    """What becomes of messages to receivers, as numbers."""

    def __init__(
        self, counter: Callable[..., Counter], gauge: Callable[..., Gauge], histogram: Callable[..., Histogram]
    ) -> None:
        """Make the metrics with ``counter`` and ``gauge``, called as (name, help, *labels), and ``histogram``, called
        as (name, help, buckets, *labels)."""
        self._up = gauge("receiver_up", "1 when the receiver took the last that it was sent.", *_WHO)
        self._waiting = gauge("receiver_waiting", "Messages that wait for the receiver.", *_WHO)
        self._oldest = gauge(
            "receiver_oldest_timestamp_seconds", "Since when the oldest waits; absent: none does.", *_WHO
        )
        self._delivered = counter("receiver_delivered", "Messages that the receiver took.", *_WHO)
        self._repeated = counter("receiver_repeated", "Open incidents that were told again to an Alertmanager.", *_WHO)
        self._failures = counter("receiver_failures", "Tries that failed, by cause; they are repeated.", *_WHO, "cause")
        self._refused = counter("receiver_refused", "Messages given up, for the receiver will never take them.", *_WHO)
        self._dropped = counter("receiver_dropped", "Messages given up, for there were too many.", *_WHO)
        self._delay = histogram(
            "receiver_delay_seconds", "From when a message was said until delivered.", _DELAY_BUCKETS_S, *_WHO
        )
        self._errors = counter("outbox_errors", "Failed writes to the outbox; they are repeated.")
        self._unwritten = gauge("outbox_unwritten", "Messages that the outbox has not on its disk yet.")
        self._lost = counter("outbox_dropped", "Messages given up for memory, for the outbox could not be written.")

    def known(self, receiver: str, instance: str) -> None:
        """There is such a receiver: its counters begin at 0, so that the first increase of each is seen."""
        for metric in (self._delivered, self._repeated, self._refused, self._dropped, self._waiting):
            metric.labels(receiver, instance)

    def waiting(self, receiver: str, instance: str, messages: int, oldest_us: int | None) -> None:
        """So many messages wait, the oldest since then."""
        self._waiting.labels(receiver, instance).set(messages)
        if oldest_us is not None:
            self._oldest.labels(receiver, instance).set(oldest_us / 1e6)
        else:
            with suppress(KeyError):
                self._oldest.remove(receiver, instance)

    def answered(self, receiver: str, instance: str) -> None:
        """The receiver took what it was sent."""
        self._up.labels(receiver, instance).set(1)

    def delivered(self, receiver: str, instance: str, delay_s: float) -> None:
        """A message was delivered, so long after it was said."""
        self._delivered.labels(receiver, instance).inc()
        self._delay.labels(receiver, instance).observe(max(delay_s, 0.0))

    def repeated(self, receiver: str, instance: str, incidents: int) -> None:
        """Incidents that are open were told again."""
        self._repeated.labels(receiver, instance).inc(incidents)

    def failed(self, receiver: str, instance: str, cause: str) -> None:
        """A try failed; ``cause`` is from a bounded set."""
        self._up.labels(receiver, instance).set(0)
        self._failures.labels(receiver, instance, cause).inc()

    def refused(self, receiver: str, instance: str) -> None:
        """A message was given up: the receiver will never take it."""
        self._refused.labels(receiver, instance).inc()

    def dropped(self, receiver: str, instance: str, messages: int) -> None:
        """So many more messages were given up for want of room."""
        if messages:
            self._dropped.labels(receiver, instance).inc(messages)

    def outbox_failed(self) -> None:
        """The outbox could not be written."""
        self._errors.inc()

    def outbox_unwritten(self, messages: int) -> None:
        """So many messages are in memory only."""
        self._unwritten.set(messages)

    def outbox_lost(self, messages: int) -> None:
        """So many more messages were given up: neither disk nor memory had room."""
        self._lost.inc(messages)
