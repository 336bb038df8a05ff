"""librdkafka's producer for whole batches: a message costs a twentieth of what it costs in kafka-python.

Settings are written in kafka-python's names everywhere; those that librdkafka has too are translated, and where any
other is set kafka-python goes on doing the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.kafka_connecting import listening
from connectors.spool import Message

_NAMES = {
    "acks": "acks", "allow_auto_create_topics": "allow.auto.create.topics", "batch_size": "batch.size",
    "client_id": "client.id", "compression_type": "compression.type",
    "connections_max_idle_ms": "connections.max.idle.ms",
    "delivery_timeout_ms": "message.timeout.ms", "enable_idempotence": "enable.idempotence", "linger_ms": "linger.ms",
    "max_in_flight_requests_per_connection": "max.in.flight.requests.per.connection",
    "max_request_size": "message.max.bytes", "metadata_max_age_ms": "metadata.max.age.ms",
    "reconnect_backoff_max_ms": "reconnect.backoff.max.ms", "reconnect_backoff_ms": "reconnect.backoff.ms",
    "request_timeout_ms": "request.timeout.ms", "retry_backoff_ms": "retry.backoff.ms",
    "sasl_mechanism": "sasl.mechanism", "sasl_plain_password": "sasl.password", "sasl_plain_username": "sasl.username",
    "security_protocol": "security.protocol", "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_ciphers": "ssl.cipher.suites", "ssl_crlfile": "ssl.crl.location", "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}  # fmt: skip
_MEANT_FOR_THE_OTHER = frozenset(("api_version", "max_block_ms", "bootstrap_timeout_ms", "metrics_enabled"))
"""How kafka-python is to go about things that librdkafka does in its own way."""
_MISCONFIGURED = frozenset((
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TOPIC_EXCEPTION,
    KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.UNSUPPORTED_VERSION,
    KafkaError.INVALID_CONFIG, KafkaError._AUTHENTICATION, KafkaError._INVALID_ARG,
))  # fmt: skip
"""What waiting cannot cure."""
_TOO_LARGE = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE))
_QUEUE: dict[str, Any] = {
    "queue.buffering.max.messages": 1_000_000,  # a batch is bounded by its bytes, elsewhere
    "queue.buffering.max.kbytes": 262_144,
    "partitioner": "murmur2_random",  # Java's and kafka-python's: an entity's partition depends on no client
    "log_level": 0,  # what goes wrong is told by errors, not on stderr
    "delivery.report.only.error": True,  # what is neither reported nor left was acknowledged
}
Identity = tuple[str, bytes | None, bytes]
"""Topic, key and value: all that librdkafka tells of a message that failed."""
_ASK_S = 1.0
_LOOK_S = 1.0


def swift_settings(servers: str | Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return kafka-python's ``settings`` in librdkafka's names; None where one of them has none.

    >>> swift_settings("a:9092", {"acks": "all", "ssl_context": object()}) is None
    True
    """
    found: dict[str, Any] = {"bootstrap.servers": servers if isinstance(servers, str) else ",".join(servers)}
    for name, value in settings.items():
        if name in _NAMES:
            if value is not None:
                found[_NAMES[name]] = value
        elif name == "ssl_check_hostname":
            found["ssl.endpoint.identification.algorithm"] = "https" if value else "none"
        elif name not in _MEANT_FOR_THE_OTHER:
            return None
    if "ssl.certificate.location" in found:  # the key may lie in the same file; librdkafka does not look there
        found.setdefault("ssl.key.location", found["ssl.certificate.location"])
    return found | _QUEUE


class SwiftProducer:
    """Sends batches. Called from one thread.

    Args:
        settings: from ``swift_settings``.

    Raises:
        Misconfigured: if librdkafka does not take them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._said = ""
        self._failed: dict[Identity, KafkaError] = {}
        self._servers = str(settings["bootstrap.servers"])
        try:
            self._producer: Any = Producer({**settings, "error_cb": self._note})
        except KafkaException as error:
            raise Misconfigured(f"Kafka's settings: {error.args[0].str()}") from error

    def send(self, messages: Sequence[Message], timeout_s: float) -> set[int]:
        """Send all and wait; return the indices of those that the broker does not take for their size.

        Raises:
            SinkUnavailable: if not all of the others were acknowledged in time.
            Misconfigured: if the broker says that it will never take them.
        """
        started_s = time.monotonic()
        deadline = started_s + timeout_s
        self._failed.clear()
        for message in messages:
            self._put(message, deadline)
        left = self._flushed(deadline)
        errors = {} if not self._failed else {
            index: self._failed[_identity(message)]
            for index, message in enumerate(messages) if _identity(message) in self._failed
        }  # fmt: skip
        unknown = self._failed.keys() - {_identity(messages[index]) for index in errors}
        if unknown:  # never seen; but what nobody owns up to may not pass for acknowledged
            raise SinkUnavailable(f"writing to Kafka: {len(unknown)} messages failed that cannot be told apart")
        large = {index for index, error in errors.items() if error.code() in _TOO_LARGE}
        others = [index for index in errors if index not in large]
        if others and not large:  # what fails beside a refused one is sent again with its pieces
            raise self._failure(errors[others[0]], messages[others[0]].topic)
        if left:
            waited_s = time.monotonic() - started_s
            detail = f"{left} messages were not acknowledged within {waited_s:.0f} s{self._why()}"
            raise SinkUnavailable(f"writing to Kafka: {detail}")
        return large

    def close(self) -> None:
        """Leave; what is pending is dropped."""
        self._producer.purge(in_queue=True, in_flight=True)
        self._producer.poll(0)

    def _flushed(self, deadline: float) -> int:
        """Return how many messages are not acknowledged at the deadline, or as soon as no broker listens any more.

        librdkafka would go on trying to connect for as long as a message may take.
        """
        while left := self._producer.flush(max(0.1, min(_LOOK_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or listening(self._servers, _ASK_S) is None:
                break
        return int(left)

    def _put(self, message: Message, deadline: float) -> None:
        topic, key, value = _identity(message)
        headers = list(message.headers) or None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._note_failed)
                return
            except BufferError:  # more than its queue holds
                if time.monotonic() >= deadline:
                    raise SinkUnavailable(f"writing to Kafka: its queue stays full{self._why()}") from None
                self._producer.poll(0.05)
            except KafkaException as error:  # refused at once: larger than our own bound, for one
                self._failed[topic, key, value] = error.args[0]
                return

    def _note_failed(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed[message.topic(), message.key(), message.value()] = error

    def _failure(self, error: KafkaError, topic: str) -> ConnectorError:
        if error.code() == KafkaError._MSG_TIMED_OUT and self._is_missing(topic):
            return SinkUnavailable(f"writing to Kafka: there is no topic {topic}, and the broker makes none")
        kind = Misconfigured if error.code() in _MISCONFIGURED else SinkUnavailable
        return kind(f"writing to Kafka: {error.str()}{self._why()}")

    def _is_missing(self, topic: str) -> bool:
        """Return whether the broker says that it has no such topic."""
        try:
            return topic not in self._producer.list_topics(timeout=_ASK_S).topics
        except KafkaException:  # it does not answer, which is worse
            return False

    def _why(self) -> str:
        return f" ({self._said})" if self._said else ""

    def _note(self, error: KafkaError) -> None:
        self._said = str(error.str())[:200]


def _identity(message: Message) -> Identity:
    return message.topic, message.key.encode("utf-8", "backslashreplace") or None, message.value
