"""Batches of messages to Kafka: all acknowledged, or none kept here.

Unlike ``KafkaSink`` this forgets what it could not deliver: whoever sends has a place of its own for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import structlog
from kafka import KafkaProducer

from connectors.errors import ConnectorError, SinkUnavailable
from connectors.kafka_connecting import Settings, opened, settings_for, translated
from connectors.spool import Message

log = structlog.get_logger(__name__)

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
        self._producer: Any = None

    def deliver(self, messages: Sequence[Message]) -> None:
        """Return when all messages are acknowledged by all in-sync replicas.

        Raises:
            SinkUnavailable: if that did not happen in time. Some may be there; sent again, they are there twice.
            Misconfigured: if the broker says that it cannot work (rights, size).
        """
        try:
            if self._producer is None:
                self._producer = opened(KafkaProducer, self._servers, self._connect_s, SinkUnavailable, self._settings)
            deadline = time.monotonic() + self._deliver_s
            with translated(SinkUnavailable, "writing to Kafka"):
                futures = [
                    self._producer.send(
                        message.topic,
                        message.value,
                        message.key.encode("utf-8", "backslashreplace") or None,
                        headers=list(message.headers),
                    )
                    for message in messages
                ]
                self._producer.flush(timeout=max(0.1, deadline - time.monotonic()))
                for future in futures:  # kafka-python can report a flush of records that were never written
                    future.get(timeout=max(0.1, deadline - time.monotonic()))
        except ConnectorError:
            self.close()
            raise

    def close(self) -> None:
        """Leave; what is pending is dropped."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        sender = getattr(producer, "_sender", None)
        if sender is not None:  # with records pending its thread would go on sending them
            sender.force_close()
        try:
            with translated(SinkUnavailable, "closing the producer"):
                producer.close(timeout=0.5)
        except ConnectorError as error:
            log.info("closing the producer failed", error=str(error))
