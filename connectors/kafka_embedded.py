"""A Kafka broker inside this process, for the demo and the fast tests: librdkafka's mock cluster.

It speaks Kafka's protocol over a loopback port and keeps its records in memory. A topic has four partitions (its fixed
default), creates topics on first use, knows no transactions' isolation, and lets a new group wait three seconds.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from confluent_kafka import Producer

PARTITIONS = 4
"""Of every topic: the mock cluster offers no setting for it."""


class EmbeddedBroker:
    """Runs from construction to ``close``; a context manager. Records are gone afterwards."""

    settings: dict[str, Any] = {"api_version": (2, 3), "allow_auto_create_topics": True}  # noqa: RUF012
    """What kafka-python must be told to speak with it: it answers no version request that kafka-python understands."""

    def __init__(self, start_timeout_s: float = 10.0) -> None:
        # The mock cluster lives as long as the client that started it. Its log level hides the start-up notice.
        self._owner: Producer | None = Producer({"test.mock.num.brokers": 1, "log_level": 4})
        brokers = self._owner.list_topics(timeout=start_timeout_s).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def close(self) -> None:
        """Stop the broker and free its port."""
        self._owner = None

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
