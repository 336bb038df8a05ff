"""Batches of messages to Kafka: all acknowledged, or none kept here; those that are too large in pieces.

Unlike ``KafkaSink`` this forgets what it could not deliver: whoever sends has a place of its own for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.kafka_connecting import Settings, opened, settings_for, translated
from connectors.kafka_halving import halved, pieces
from connectors.kafka_swift import SwiftProducer, swift_settings
from connectors.spool import Message

log = structlog.get_logger(__name__)

_LIST_BYTES = 2
"""Brackets: the second half of a list may be so much more than half."""
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_SETTINGS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "batch_size": 256 * 1024,
    "linger_ms": 5,
    "max_request_size": 4 * 1024 * 1024,
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 10_000,  # must exceed linger and request time-out together
    "max_block_ms": 3_000,
}


class KafkaDelivery:
    """Delivers batches, in order for each key, by an idempotent producer. Called from one thread.

    Args:
        bootstrap_servers: ``host:port``, several separated by commas or as a list.
        settings: kafka-python's own, by its names; those that a producer does not know are left out.
        connect_s: how long a connection may take.
        deliver_s: how long a batch may take.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        settings: Settings | None = None,
        connect_s: float = 3.0,
        deliver_s: float = 15.0,
    ) -> None:
        self._servers = bootstrap_servers
        self._settings = _SETTINGS | settings_for(KafkaProducer, settings or {})
        self._connect_s = connect_s
        self._deliver_s = deliver_s
        self._swift = swift_settings(bootstrap_servers, self._settings)
        self._producer: Any = None
        self._most_bytes: dict[str, int] = {}

    def deliver(self, messages: Sequence[Message]) -> None:
        """Return when all messages are acknowledged by all in-sync replicas.

        Raises:
            SinkUnavailable: if that did not happen in time. Some may be there; sent again, they are there twice.
            Misconfigured: if the broker says that it cannot work: rights, or a size that allows not one reading.
        """
        try:
            left = [piece for message in messages for piece in pieces(message, self._most(message.topic))]
            while left:
                left = self._smaller(left, self._sent(left))
        except ConnectorError:
            self.close()
            raise

    def _most(self, topic: str) -> int:
        """Return how many bytes a message to this topic may have, as far as its broker has told."""
        return self._most_bytes.get(topic, sys.maxsize)

    def _sent(self, messages: Sequence[Message]) -> set[int]:
        """Send all; return which of them the broker does not take for their size."""
        if self._producer is None:
            self._producer = self._opened()
        if isinstance(self._producer, SwiftProducer):
            return self._sent_swiftly(self._producer, messages)
        producer, deadline = self._producer, time.monotonic() + self._deliver_s
        large: set[int] = set()
        failed: KafkaError | None = None
        with translated(SinkUnavailable, "writing to Kafka"):
            futures = [self._send(producer, message) for message in messages]
            self._flush(producer, deadline)
            for index, future in enumerate(futures):
                try:
                    if not isinstance(future, KafkaError):
                        future.get(timeout=max(0.1, deadline - time.monotonic()))
                        continue
                except _TOO_LARGE:
                    pass
                except KafkaError as error:
                    failed = failed or error
                    if time.monotonic() >= deadline:
                        break
                    continue
                large.add(index)
            if failed is not None and not large:  # what fails beside a refused one is sent again with its pieces
                raise failed
        return large

    def _opened(self) -> Any:
        """Return a producer that has reached its broker. kafka-python goes first: it says what is wrong, at once."""
        settings = self._settings if self._swift is None else self._settings | {"enable_idempotence": False}
        producer = opened(KafkaProducer, self._servers, self._connect_s, SinkUnavailable, settings)
        if self._swift is None:
            return producer
        _leave(producer)
        return SwiftProducer(self._swift)

    def _sent_swiftly(self, producer: SwiftProducer, messages: Sequence[Message]) -> set[int]:
        """Do as ``_sent`` by librdkafka, which does not divide what it put together: that is left to kafka-python."""
        large = producer.send(messages, self._deliver_s)
        if all(len(messages[index].value) >= self._settings["batch_size"] for index in large):  # sent by themselves
            return large
        log.warning("a topic takes only small batches; readings go there in a slower way from now on")
        self._swift = None
        self.close()
        return self._sent(messages)

    def _flush(self, producer: Any, deadline: float) -> None:
        """Have all sent now. Only the futures tell what became of it: a flush forgets batches that were split."""
        try:
            producer.flush(timeout=max(0.1, deadline - time.monotonic()))
        except KafkaTimeoutError:
            raise
        except KafkaError as error:
            log.debug("the futures will tell", error=str(error))

    def _send(self, producer: Any, message: Message) -> Any:
        """Return the future of a message, or the error if our own bound refuses it."""
        key = message.key.encode("utf-8", "backslashreplace") or None
        try:
            return producer.send(message.topic, message.value, key, headers=list(message.headers))
        except _TOO_LARGE as error:
            return error

    def _smaller(self, messages: Sequence[Message], large: set[int]) -> list[Message]:
        """Return what is to be sent instead, in order: all again, for the refused ones their pieces; [] if none was.

        Raises:
            Misconfigured: if the broker refuses what has no smaller pieces.
        """
        if not large:
            return []
        self.close()  # an idempotent producer has a gap where a message was refused
        found: list[Message] = []
        for index, message in enumerate(messages):
            if index not in large:
                found.append(message)
                continue
            halves = halved(message)
            size = len(message.value)
            if not halves:
                raise Misconfigured(
                    f"topic {message.topic} takes no message of {size} bytes: raise its max.message.bytes"
                )
            log.warning("a topic takes no message so large; it is sent in pieces", topic=message.topic, bytes=size)
            self._most_bytes[message.topic] = min(self._most(message.topic), size // 2 + _LIST_BYTES)
            found += halves
        return [piece for message in found for piece in pieces(message, self._most(message.topic))]

    def close(self) -> None:
        """Leave; what is pending is dropped."""
        producer, self._producer = self._producer, None
        if isinstance(producer, SwiftProducer):
            producer.close()
        elif producer is not None:
            _leave(producer)


def _leave(producer: Any) -> None:
    """Close one of kafka-python's producers without waiting for what is pending."""
    sender = getattr(producer, "_sender", None)
    if sender is not None:  # with records pending its thread would go on sending them
        sender.force_close()
    try:
        with translated(SinkUnavailable, "closing the producer"):
            producer.close(timeout=0.5)
    except ConnectorError as error:
        log.info("closing the producer failed", error=str(error))
