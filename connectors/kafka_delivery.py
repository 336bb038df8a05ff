"""Batches of messages to Kafka: acknowledged, or not kept here; those that are too large in pieces.

Unlike ``KafkaSink`` this forgets what it could not deliver: whoever sends has a place of its own for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

import structlog
from kafka import KafkaProducer

from connectors.errors import ConnectorError, Misconfigured
from connectors.kafka_connecting import Settings, settings_for
from connectors.kafka_halving import halved, pieces
from connectors.kafka_outcome import Producer, blamed
from connectors.kafka_steady import SteadyProducer
from connectors.kafka_swift import SwiftProducer, swift_settings
from connectors.spool import Message

log = structlog.get_logger(__name__)

_LIST_BYTES = 2
"""Brackets: the second half of a list may be so much more than half."""
_MADE_S = 2.0
"""What a broker that makes topics by itself may take for it."""
_LOOK_S = 0.1
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
        self._producer: Producer | None = None
        self._takes: dict[str, bool] = {}
        """Whether a topic took what it was sent last."""
        self._most_bytes: dict[str, int] = {}

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        """Return why topics refuse what is for them; what is for others is acknowledged by all in-sync replicas.

        Of what is refused some may be there, and sent again it is there twice; so, too, after an exception.

        Raises:
            SinkUnavailable: if Kafka acknowledges nothing now.
            Misconfigured: if the broker says that it takes nothing from us: a wrong login, say.
        """
        refused: dict[str, ConnectorError] = {}
        left = [piece for message in messages for piece in pieces(message, self._most(message.topic))]
        try:
            while left:
                left = self._sent(left, refused)
        except ConnectorError:
            self.close()
            raise
        return refused

    def _most(self, topic: str) -> int:
        """Return how many bytes a message to this topic may have, as far as its broker has told."""
        return self._most_bytes.get(topic, sys.maxsize)

    def _sent(self, messages: Sequence[Message], refused: dict[str, ConnectorError]) -> list[Message]:
        """Send messages but those of topics that are refused, which are added; return what is to be sent after it."""
        producer = self._producer  # which ``close`` may take away meanwhile
        if producer is None:
            producer = self._producer = self._opened()
        faults = self._faults(producer, {message.topic: None for message in messages})
        if faults:
            refused |= faults
            messages = [message for message in messages if message.topic not in faults]
        if not messages:
            return []
        topics = frozenset(message.topic for message in messages)
        outcome = producer.send(messages, self._deliver_s)
        if outcome.failures or outcome.large:
            refused |= blamed(outcome, topics, producer.faults)
            self.close()  # an idempotent producer has a gap where a message was refused
        self._takes |= {topic: topic not in refused for topic in topics}
        cut = {messages[index].topic for index in outcome.large} - refused.keys()
        again = [(message, index in outcome.large) for index, message in enumerate(messages) if message.topic in cut]
        return self._smaller(again, refused, isinstance(producer, SwiftProducer)) if again else []

    def _opened(self) -> Producer:
        """Return a producer that has reached its broker. kafka-python goes first: it says what is wrong, at once."""
        settings = self._settings if self._swift is None else self._settings | {"enable_idempotence": False}
        steady = SteadyProducer(self._servers, settings, self._connect_s)
        if self._swift is None:
            return steady
        steady.close()
        return SwiftProducer(self._swift)

    def _faults(self, producer: Producer, topics: Collection[str]) -> dict[str, ConnectorError]:
        """Return what is wrong with topics that are new, or did not take what they were sent last.

        To ask is quick, where a message to a missing topic fails after many seconds. New ones may be in the making.
        """
        unsure = [topic for topic in topics if not self._takes.get(topic)]
        if not unsure:
            return {}
        deadline = time.monotonic() + _MADE_S
        faults = producer.faults(unsure)
        while time.monotonic() < deadline:
            making = [topic for topic, fault in faults.items() if fault.retriable and topic not in self._takes]
            if not making:
                break
            time.sleep(_LOOK_S)
            faults = {topic: fault for topic, fault in faults.items() if topic not in making} | producer.faults(making)
        self._takes |= dict.fromkeys(faults, False)
        return faults

    def _smaller(
        self, messages: Sequence[tuple[Message, bool]], refused: dict[str, ConnectorError], swiftly: bool
    ) -> list[Message]:
        """Return what is to be sent instead, in order: all again, but in pieces what is too large.

        Args:
            messages: of topics that found some too large, and whether it is this one.
            refused: gets the topics that find too large what has no smaller pieces.
            swiftly: whether they went by librdkafka, which does not divide the batches that it puts together.
        """
        if swiftly and any(large and len(one.value) < self._settings["batch_size"] for one, large in messages):
            log.warning("a topic takes only small batches; readings go there in a slower way from now on")
            self._swift = None
            return [message for message, _ in messages]
        found: list[Message] = []
        largest = max(len(message.value) for message, large in messages if large)
        for message, said in messages:
            size = len(message.value)
            # kafka-python's idempotent producer says it too of all that was behind such a message, or goes elsewhere
            large = said and 2 * size > largest
            halves = halved(message) if large else [message]
            if not halves:
                refused[message.topic] = Misconfigured(
                    f"topic {message.topic} takes no message of {size} bytes: raise its max.message.bytes"
                )
            elif large:
                log.warning("a topic takes no message so large; it is sent in pieces", topic=message.topic, bytes=size)
                self._most_bytes[message.topic] = min(self._most(message.topic), size // 2 + _LIST_BYTES)
            found += halves
        return [
            piece for message in found if message.topic not in refused
            for piece in pieces(message, self._most(message.topic))
        ]  # fmt: skip

    def close(self) -> None:
        """Leave; what is pending is dropped."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()
