"""kafka-python's producer for whole batches: slower than librdkafka's, it knows all settings, and divides batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import kafka.errors as kafka_errors
import structlog
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.kafka_connecting import MISCONFIGURED, Settings, opened, settings_for, translated
from connectors.kafka_outcome import Blame, Failure, Outcome, forbidden, missing
from connectors.spool import Message

log = structlog.get_logger(__name__)

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_SILENCE = (
    kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError, kafka_errors.Cancelled,
    kafka_errors.BrokerNotAvailableError,
)  # fmt: skip
"""What tells nothing of whose fault it is."""
_OF_TOPIC = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.InvalidTopicError)
"""Of all that waiting cannot cure, what a topic can be blamed for."""

_LOOKS = 5


class SteadyProducer:
    """Sends batches. Called from one thread.

    Args:
        servers: ``host:port``, several separated by commas or as a list.
        settings: kafka-python's own.
        connect_s: how long a connection may take.

    Raises:
        Misconfigured: if Kafka says that it cannot work.
        SinkUnavailable: if no broker answers.
    """

    def __init__(self, servers: str | Sequence[str], settings: Settings, connect_s: float) -> None:
        self._servers = servers
        self._settings = settings
        self._connect_s = connect_s
        self._producer: Any = opened(KafkaProducer, servers, connect_s, SinkUnavailable, settings)

    def faults(self, topics: Sequence[str]) -> dict[str, ConnectorError]:
        """Return which of these topics cannot be written now, by what the broker tells of them.

        Raises:
            SinkUnavailable: if no broker answers.
        """
        found: dict[str, ConnectorError] = {}
        for topic in topics:
            try:
                _of(topic, partial(self._producer.partitions_for, topic))
            except _SILENCE:
                self._require_answer()
                found[topic] = missing(topic)
            except ValueError as error:  # it does not ask the broker for what can be no name
                found[topic] = Misconfigured(f"writing to Kafka: {error}: correct the name")
            except KafkaError as error:
                failure = _failure(error, topic)
                if failure.blame is not Blame.TOPIC:
                    raise failure.error from error
                found[topic] = failure.error
        return found

    def _require_answer(self) -> None:
        settings = settings_for(KafkaAdminClient, {k: v for k, v in self._settings.items() if _is_admins(k)})
        opened(KafkaAdminClient, self._servers, self._connect_s, SinkUnavailable, settings).close()

    def send(self, messages: Sequence[Message], timeout_s: float) -> Outcome:
        """Send all and wait; return what became of them."""
        deadline = time.monotonic() + timeout_s
        failures: dict[str, Failure] = {}
        large: set[int] = set()
        futures: dict[int, Any] = {}
        for index, message in enumerate(messages):
            if message.topic in failures:  # each would wait as long, and in vain
                continue
            try:
                futures[index] = self._send(message)
            except _TOO_LARGE:  # our own bound refuses it
                large.add(index)
            except (KafkaError, OSError) as error:
                failures[message.topic] = _failure(error, message.topic)
        self._flush(deadline)
        for index, future in futures.items():
            topic, left_s = messages[index].topic, deadline - time.monotonic()
            if topic in failures and left_s <= 0.0:
                continue
            try:
                future.get(timeout=max(0.001, left_s))
            except _TOO_LARGE:
                large.add(index)
            except (KafkaError, OSError) as error:
                failures.setdefault(topic, _failure(error, topic))
        return Outcome(failures, frozenset(large))

    def _send(self, message: Message) -> Any:
        """Return the future of a message."""
        key = message.key.encode("utf-8", "backslashreplace") or None
        send = partial(self._producer.send, message.topic, message.value, key, headers=list(message.headers))
        return _of(message.topic, send)

    def _flush(self, deadline: float) -> None:
        """Have all sent now. Only the futures tell what became of it: a flush forgets batches that were split."""
        try:
            self._producer.flush(timeout=max(0.1, deadline - time.monotonic()))
        except KafkaError as error:
            log.debug("the futures will tell", error=str(error))

    def close(self) -> None:
        """Leave without waiting for what is pending; it is dropped."""
        sender = getattr(self._producer, "_sender", None)
        if sender is not None:  # with records pending its thread would go on sending them
            sender.force_close()
        try:
            with translated(SinkUnavailable, "closing the producer"):
                self._producer.close(timeout=0.5)
        except ConnectorError as error:
            log.info("closing the producer failed", error=str(error))


def _of(topic: str, ask: Callable[[], Any]) -> Any:
    """Return what ``ask`` returns, which needs to know of a topic.

    A look at several topics that fails for one of them fails for whoever waits for it: what is said of another topic
    than this one is no answer.
    """
    for _ in range(_LOOKS):
        try:
            return ask()
        except _OF_TOPIC as error:
            if topic in _named(error):
                raise
    return ask()


def _named(error: KafkaError) -> Collection[str]:
    """Return the topics that an error is about."""
    about = error.args[0] if error.args else ""
    return about if isinstance(about, (set, frozenset)) else {about}


def _is_admins(name: str) -> bool:
    return name in KafkaAdminClient.DEFAULT_CONFIG


def _failure(error: BaseException, topic: str) -> Failure:
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return Failure(Blame.TOPIC, missing(topic))
    if isinstance(error, kafka_errors.TopicAuthorizationFailedError):
        return Failure(Blame.TOPIC, forbidden(topic))
    if isinstance(error, (*_SILENCE, OSError)):
        blame = Blame.OPEN
    else:
        blame = Blame.KAFKA if isinstance(error, MISCONFIGURED) and not isinstance(error, _OF_TOPIC) else Blame.TOPIC
    try:
        with translated(SinkUnavailable, f"writing to Kafka: topic {topic}"):
            raise error
    except ConnectorError as ours:
        return Failure(blame, ours)
