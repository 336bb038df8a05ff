"""How a Kafka client gets to its broker, and what it means when it does not.

One place maps kafka-python's exceptions to ours (``translated``), and one opens clients within a time-out (``opened``).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import kafka.errors as kafka_errors
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.net.compat import KafkaNetClient

from connectors.errors import ConnectorError, Misconfigured

Settings = Mapping[str, Any]
"""kafka-python's own settings by their own names, passed through: security, sizes, ``api_version``."""

CLIENTS: tuple[Any, ...] = (KafkaConsumer, KafkaProducer, KafkaAdminClient)

Client = TypeVar("Client")

MISCONFIGURED: tuple[type[Exception], ...] = (
    kafka_errors.AuthorizationError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InvalidTopicError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedCodecError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.UnsupportedVersionError,
)
"""What waiting cannot cure. All else that Kafka reports may pass."""


@contextmanager
def translated(unavailable: type[ConnectorError], doing: str) -> Iterator[None]:
    """Turn kafka-python's exceptions into ours; ``doing`` says what failed, with topic and broker where they matter."""
    try:
        yield
    except MISCONFIGURED as error:
        raise Misconfigured(f"{doing}: {error}") from error
    except (kafka_errors.KafkaError, OSError) as error:
        raise unavailable(f"{doing}: {error}") from error


def settings_for(client: Any, settings: Settings) -> dict[str, Any]:
    """Return those of ``settings`` that ``client``, one of kafka-python's classes, knows.

    One set of settings serves consumers, producers and the admin client; ``Misconfigured`` if none knows a name.
    """
    unknown = sorted(name for name in settings if not any(name in one.DEFAULT_CONFIG for one in CLIENTS))
    if unknown:
        raise Misconfigured(f"kafka-python knows no setting {', '.join(unknown)}: correct the name, or take it out")
    return {name: value for name, value in settings.items() if name in client.DEFAULT_CONFIG}


def server_addresses(bootstrap_servers: str | Sequence[str]) -> list[tuple[str, int]]:
    """Return host and port of each server.

    >>> server_addresses("a:9092,[::1]:9093,b")
    [('a', 9092), ('::1', 9093), ('b', 9092)]
    """
    servers = bootstrap_servers.split(",") if isinstance(bootstrap_servers, str) else list(bootstrap_servers)
    addresses = []
    for server in (server.strip() for server in servers):
        host, colon, port = server.rpartition(":")
        if not colon or server.endswith("]"):
            host, port = server, "9092"
        if not host or not port.isdecimal():
            raise Misconfigured(f"bootstrap_servers: {server!r} is no address; write host:port")
        addresses.append((host.strip("[]"), int(port)))
    return addresses


def listening(bootstrap_servers: str | Sequence[str], timeout_s: float) -> tuple[str, int] | None:
    """Return the first server that accepts a TCP connection, or None when none does in time."""
    addresses = server_addresses(bootstrap_servers)
    for address in addresses:
        try:
            with socket.create_connection(address, timeout_s / len(addresses)):
                return address
        except OSError:
            continue
    return None


def opened(
    make: Callable[..., Client],
    bootstrap_servers: str | Sequence[str],
    timeout_s: float,
    unavailable: type[ConnectorError],
    settings: Settings,
) -> Client:
    """Return ``make(**settings)``, a kafka-python client that has reached its broker; leave nothing behind on failure.

    Raises:
        Misconfigured: if Kafka says that what is asked for cannot work.
        ConnectorError: ``unavailable``, if no broker answered within about ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    address = listening(bootstrap_servers, timeout_s)
    if address is None:
        raise unavailable(f"no broker listens at {bootstrap_servers}")
    left_ms = max(100, int((deadline - time.monotonic()) * 1000))
    nets: list[Any] = []

    def remembered(**config: Any) -> Any:
        """Make the client's network side. A constructor that fails does not stop its IO thread; we must."""
        nets.append(KafkaNetClient(**config))
        return nets[-1]

    try:
        with translated(unavailable, f"connecting to {bootstrap_servers}"):
            client = make(
                bootstrap_servers=bootstrap_servers, kafka_client=remembered, bootstrap_timeout_ms=left_ms, **settings
            )
            if hasattr(client, "bootstrap"):
                client.bootstrap(timeout_ms=left_ms)  # a given api_version lets the constructor skip this
            return client
    except BaseException as error:
        for net in nets:
            net.close()
        if isinstance(error, ConnectorError) and error.retriable:
            raise unavailable(_refused(address, settings)) from error
        raise


def _refused(address: tuple[str, int], settings: Settings) -> str:
    """Say what is likely wrong where a port is open but no Kafka answers: a broker just hangs up on bad credentials."""
    protocol = settings.get("security_protocol", "PLAINTEXT")
    where = f"{address[0]}:{address[1]} accepts connections but does not answer as Kafka over {protocol}"
    if protocol == "PLAINTEXT":
        return f"{where}: the broker is starting, or this listener wants TLS or SASL (security_protocol)"
    mechanism = settings.get("sasl_mechanism", "none")
    return f"{where}: credentials, mechanism ({mechanism}) or TLS are the likely cause, or the broker is starting"
