"""librdkafka's producer for whole batches: a message costs a twentieth of what it costs in kafka-python.

Settings are written in kafka-python's names everywhere; those that librdkafka has too are translated, and where any
other is set kafka-python goes on doing the work.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.kafka_connecting import listening
from connectors.kafka_outcome import Blame, Failure, Outcome, forbidden, leaderless, missing
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
_OF_KAFKA = frozenset((
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.UNSUPPORTED_VERSION, KafkaError.INVALID_CONFIG,
    KafkaError._AUTHENTICATION, KafkaError._INVALID_ARG, KafkaError._FATAL, KafkaError._SSL, KafkaError._RESOLVE,
))  # fmt: skip
"""What no topic can be blamed for."""
_SILENCE = frozenset((
    KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION, KafkaError.BROKER_NOT_AVAILABLE,
))  # fmt: skip
"""What tells nothing of whose fault it is."""
_MISCONFIGURED = _OF_KAFKA - {KafkaError._FATAL, KafkaError._RESOLVE} | {
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_EXCEPTION, KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_RECORD,
}  # fmt: skip
"""What waiting cannot cure."""
_MISSING = frozenset((
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
))  # fmt: skip
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
_TELL_S = 3.0
"""What a broker may take to tell of a topic; the connection may have to be made first."""
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
    """Sends batches. Called from one thread, but for ``close``.

    librdkafka's part ends in a thread of its own, as soon as nobody holds this any more: its end waits for its threads,
    once for ever as was seen, and whoever dropped it, by the garbage collector perhaps, would wait with it, locks in
    hand. So nothing that librdkafka holds leads back here.

    Args:
        settings: from ``swift_settings``.

    Raises:
        Misconfigured: if librdkafka does not take them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._said = _Said()
        self._failed: dict[Identity, KafkaError] = {}
        self._on_delivery = partial(_note_failed, self._failed)
        self._servers = str(settings["bootstrap.servers"])
        try:
            self._producer: Any = Producer({**settings, "error_cb": self._said.note})
        except KafkaException as error:
            raise Misconfigured(f"Kafka's settings: {error.args[0].str()}") from error

    def faults(self, topics: Sequence[str]) -> dict[str, ConnectorError]:
        """Return which of these topics cannot be written now, by what the broker tells of them.

        Raises:
            SinkUnavailable: if no broker answers.
        """
        codes = {topic: self._fault(topic) for topic in topics}
        return {topic: self._error(topic, code, "") for topic, code in codes.items() if code is not None}

    def _fault(self, topic: str) -> int | None:
        """Return the code of what is wrong with a topic; None if it can be written."""
        try:
            found = self._producer.list_topics(topic, timeout=_TELL_S).topics[topic]
        except KafkaException as error:
            detail = f"no broker tells of topic {topic}: {error.args[0].str()}{self._why()}"
            raise SinkUnavailable(f"writing to Kafka: {detail}") from error
        if found.error is not None:
            return int(found.error.code())
        leaderless = any(partition.leader < 0 for partition in found.partitions.values())
        return int(KafkaError.LEADER_NOT_AVAILABLE) if leaderless else None

    def send(self, messages: Sequence[Message], timeout_s: float) -> Outcome:
        """Send all and wait; return what became of them."""
        started_s = time.monotonic()
        deadline = started_s + timeout_s
        self._failed.clear()
        for message in messages:
            self._put(message, deadline)
        if self._flushed(messages, deadline):  # what is given up now fails, each message with its error
            self._producer.purge(in_queue=True, in_flight=True)
            self._producer.flush(_ASK_S)
        if not self._failed:
            return Outcome({}, frozenset())
        errors = {
            index: self._failed[_identity(message)]
            for index, message in enumerate(messages) if _identity(message) in self._failed
        }  # fmt: skip
        unknown = self._failed.keys() - {_identity(messages[index]) for index in errors}
        if unknown:  # never seen; but what nobody owns up to may not pass for acknowledged
            raise SinkUnavailable(f"writing to Kafka: {len(unknown)} messages failed that cannot be told apart")
        failures: dict[str, Failure] = {}
        waited = f"not acknowledged within {time.monotonic() - started_s:.0f} s"
        for index, error in errors.items():
            if error.code() not in _TOO_LARGE:
                failures.setdefault(messages[index].topic, self._failure(error, messages[index].topic, waited))
        return Outcome(failures, frozenset(i for i, error in errors.items() if error.code() in _TOO_LARGE))

    def close(self) -> None:
        """Leave; what is pending is dropped."""
        self._producer.purge(in_queue=True, in_flight=True)
        self._producer.poll(0)

    def _flushed(self, messages: Sequence[Message], deadline: float) -> int:
        """Return how many messages are not acknowledged at the deadline, or as soon as waiting is of no use.

        That is when no broker listens any more: librdkafka would go on trying to connect for as long as a message may
        take. Or when what is left is for topics that are missing, which it would wait for just as long.
        """
        waiting: Counter[str] = Counter()
        while left := int(self._producer.flush(max(0.1, min(_LOOK_S, deadline - time.monotonic())))):
            if time.monotonic() >= deadline or listening(self._servers, _ASK_S) is None:
                break
            waiting = waiting or Counter(message.topic for message in messages)
            if left <= sum(count for topic, count in waiting.items() if self._is_missing(topic)):
                break
        return left

    def _is_missing(self, topic: str) -> bool:
        """Return whether the broker says that it has no such topic."""
        try:
            return self._fault(topic) in _MISSING
        except SinkUnavailable:  # it does not answer, which is worse
            return False

    def _put(self, message: Message, deadline: float) -> None:
        topic, key, value = _identity(message)
        headers = list(message.headers) or None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._on_delivery)
                return
            except BufferError:  # more than its queue holds
                if time.monotonic() >= deadline:
                    raise SinkUnavailable(f"writing to Kafka: its queue stays full{self._why()}") from None
                self._producer.poll(0.05)
            except KafkaException as error:  # refused at once: larger than our own bound, for one
                self._failed[topic, key, value] = error.args[0]
                return

    def _failure(self, error: KafkaError, topic: str, waited: str) -> Failure:
        code = error.code()
        if code in _SILENCE:
            detail = f"topic {topic}: {error.str()}, {waited}{self._why()}"
            return Failure(Blame.OPEN, SinkUnavailable(f"writing to Kafka: {detail}"))
        return Failure(Blame.KAFKA if code in _OF_KAFKA else Blame.TOPIC, self._error(topic, code, error.str()))

    def _error(self, topic: str, code: int, text: str) -> ConnectorError:
        """Return what a person is told of a topic, and has to do."""
        if code in _MISSING:
            return missing(topic)
        if code == KafkaError.LEADER_NOT_AVAILABLE:
            return leaderless(topic)
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return forbidden(topic)
        kind = Misconfigured if code in _MISCONFIGURED else SinkUnavailable
        return kind(f"writing to Kafka: topic {topic}: {text or KafkaError(code).str()}{self._why()}")

    def _why(self) -> str:
        return f" ({self._said.text})" if self._said.text else ""

    def __del__(self) -> None:
        held = [self.__dict__.pop("_producer", None)]
        if held[0] is not None:
            threading.Thread(target=held.clear, name="vedette-kafka-end", daemon=True).start()


class _Said:
    """What librdkafka said last of errors."""

    def __init__(self) -> None:
        self.text = ""

    def note(self, error: KafkaError) -> None:
        self.text = str(error.str())[:200]


def _note_failed(failed: dict[Identity, KafkaError], error: KafkaError | None, message: Any) -> None:
    if error is not None:
        failed[message.topic(), message.key(), message.value()] = error


def _identity(message: Message) -> Identity:
    return message.topic, message.key.encode("utf-8", "backslashreplace") or None, message.value
