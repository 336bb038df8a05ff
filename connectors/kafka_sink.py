"""Messages to one Kafka topic: what was accepted is sent until the broker has it, also across failures of the client.

kafka-python can report success for records that were never written (a batch that expires, a producer epoch that is
bumped). So the future of every record is kept and asked; after any failure the producer is thrown away, and a new one
sends again whatever was not acknowledged. Twice is possible, never is not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import KafkaProducer

from connectors.errors import ConnectorError, SinkUnavailable
from connectors.kafka_connecting import Settings, opened, settings_for, translated

log = structlog.get_logger(__name__)

_PRODUCER_SETTINGS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    # One batch of a partition is in flight at a time: small ones would make throughput batch size by round trip.
    "batch_size": 256 * 1024,
    "linger_ms": 5,
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 15_000,  # must exceed linger and request time-out together
    "max_block_ms": 3_000,  # how long one send may wait for metadata; the default of 60 s would stop the caller's loop
}


@dataclass(slots=True)
class _Message:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    future: Any = None
    """kafka-python's promise for this record; None while no producer has it."""


class KafkaSink:
    """Sends messages, keyed, to a topic. Called from one thread.

    ``send`` never raises for a broker that is away: messages wait here, in order, until a ``flush`` gets them through.
    Whoever sends has to stop sending while flushes fail, so that what waits stays bounded.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topic: str,
        *,
        settings: Settings | None = None,
        connect_s: float = 10.0,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            bootstrap_servers: ``host:port``, several separated by commas or as a list.
            topic: it must exist, unless the broker makes topics on first use.
            settings: kafka-python's own, by its names; those that a producer does not know are left out.
            connect_s: how long a first connection may take.
        """
        self.topic = topic
        self._servers = bootstrap_servers
        self._settings = _PRODUCER_SETTINGS | settings_for(KafkaProducer, settings or {})
        self._connect_s = connect_s
        self._producer: Any = None
        self._waiting: deque[_Message] = deque()

    @property
    def waiting(self) -> int:
        """How many messages are not acknowledged yet."""
        return len(self._waiting)

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Accept one message; it is on its way at once when the broker is there.

        Names that no UTF-8 can hold (a lone surrogate out of somebody's JSON) are sent with it escaped, so that
        different keys stay different.
        """
        named = [(_utf8(name).decode(), content) for name, content in headers]
        message = _Message(_utf8(key), value, named)
        self._waiting.append(message)
        if self._producer is not None:
            try:
                self._hand_over(message)
            except SinkUnavailable as error:
                log.warning("sending failed; will send again", topic=self.topic, error=str(error))
                self._discard()

    def flush(self, timeout_s: float) -> None:
        """Return when every message is acknowledged by all in-sync replicas.

        Raises:
            SinkUnavailable: if that did not happen in time; all unacknowledged messages are kept.
            Misconfigured: if the broker says that it cannot work (rights, size).
        """
        if not self._waiting:
            return
        deadline = time.monotonic() + timeout_s
        try:
            self._connect(min(self._connect_s, timeout_s))
            for message in self._waiting:
                if message.future is None:
                    self._hand_over(message)
            with translated(SinkUnavailable, f"writing to {self.topic}"):
                self._producer.flush(timeout=max(0.1, deadline - time.monotonic()))
                while self._waiting:
                    self._waiting[0].future.get(timeout=max(0.1, deadline - time.monotonic()))
                    self._waiting.popleft()
        except ConnectorError:
            self._discard()
            raise

    def close(self) -> None:
        """Flush what can be flushed within a moment and leave; what could not be is logged."""
        try:
            self.flush(5.0)
        except ConnectorError as error:
            log.error("left with messages unsent", topic=self.topic, messages=len(self._waiting), error=str(error))
        self._discard()

    def _connect(self, timeout_s: float) -> None:
        if self._producer is None:
            self._producer = opened(KafkaProducer, self._servers, timeout_s, SinkUnavailable, self._settings)

    def _hand_over(self, message: _Message) -> None:
        with translated(SinkUnavailable, f"writing to {self.topic}"):
            message.future = self._producer.send(
                self.topic, message.value, message.key or None, headers=message.headers
            )

    def _discard(self) -> None:
        """Throw the producer away; whatever it had not got through is nobody's again.

        With records pending, kafka-python's ``close`` raises and leaves its thread sending them, so that thread is told
        first to drop them.
        """
        producer, self._producer = self._producer, None
        for message in self._waiting:
            message.future = None
        if producer is None:
            return
        sender = getattr(producer, "_sender", None)
        if sender is not None:
            sender.force_close()
        try:
            with translated(SinkUnavailable, "closing the producer"):
                producer.close(timeout=0.5)
        except ConnectorError as error:
            log.info("closing the producer failed", topic=self.topic, error=str(error))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
