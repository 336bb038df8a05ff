"""What Kafka's errors mean for us, and what is said when no Kafka answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import kafka.errors as kafka_errors
import pytest
from kafka import KafkaConsumer, KafkaProducer

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable, SourceUnavailable
from connectors.kafka_connecting import MISCONFIGURED, opened, server_addresses, settings_for, translated
from connectors.kafka_consumer import Patience
from connectors.kafka_sink import KafkaSink
from connectors.kafka_source import KafkaSource

ALL_ERRORS = sorted(
    (e for e in vars(kafka_errors).values() if isinstance(e, type) and issubclass(e, kafka_errors.KafkaError)),
    key=lambda e: e.__name__,
)


@pytest.mark.parametrize("kind", [*ALL_ERRORS, ConnectionResetError, TimeoutError], ids=lambda kind: kind.__name__)
def test_each_error_of_kafka_becomes_one_of_ours(kind: type[Exception]) -> None:
    """Protects the daemon's policy: whatever Kafka raises is either to be tried again or a person's to correct."""
    wanted = Misconfigured if issubclass(kind, MISCONFIGURED) else SourceUnavailable
    with pytest.raises(wanted, match="reading t-0"), translated(SourceUnavailable, "reading t-0"):
        raise kind({}) if kind is kafka_errors.LogTruncationError else kind
    if getattr(kind, "retriable", False):
        assert wanted is SourceUnavailable, "Kafka says that this may pass"


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [("a:1", [("a", 1)]), ("a, b:2 ", [("a", 9092), ("b", 2)]), (["[::1]:3", "[::1]"], [("::1", 3), ("::1", 9092)])],
)
def test_servers_are_host_and_port(servers: str | list[str], addresses: list[tuple[str, int]]) -> None:
    """Protects every usual way to write them."""
    assert server_addresses(servers) == addresses


@pytest.mark.parametrize("servers", ["", "a:b", ":9092", "a:1,"])
def test_what_is_no_address_is_refused(servers: str) -> None:
    """Protects from waiting for a misspelt server."""
    with pytest.raises(Misconfigured, match="is no address; write host:port"):
        server_addresses(servers)


def test_one_set_of_settings_serves_all_clients() -> None:
    """Protects a producer's setting from stopping the consumer, and a misspelt one from passing unseen."""
    settings = {"compression_type": "lz4", "fetch_max_bytes": 1}
    assert settings_for(KafkaProducer, settings) == {"compression_type": "lz4"}
    assert settings_for(KafkaConsumer, settings) == {"fetch_max_bytes": 1}
    with pytest.raises(Misconfigured, match="knows no setting fetch_bytes"):
        KafkaSource("h:1", ["t"], "g", settings=settings | {"fetch_bytes": 1})
    with pytest.raises(Misconfigured, match="knows no setting fetch_bytes"):
        KafkaSink("h:1", "t", settings=settings | {"fetch_bytes": 1})


def test_a_setting_cannot_take_a_promise_back() -> None:
    """Protects commits and isolation from a setting; others win over what was chosen."""
    source = KafkaSource("h:1", ["t"], "g", settings={"enable_auto_commit": True, "auto_offset_reset": "latest"})
    chosen = source._consumer._settings
    assert (chosen["enable_auto_commit"], chosen["auto_offset_reset"]) == (False, "latest")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where something listens and never answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_without_a_broker_source_and_sink_say_so(nobody: str) -> None:
    """Protects a start before the broker's: both errors may be retried, and the sink keeps what it has."""
    source = KafkaSource(nobody, ["t"], "g")
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match=f"no broker listens at {nobody}"):
            source.poll(0.0)
    assert source.assignment() == set()
    assert source.lag() == {}
    source.close()
    sink = KafkaSink(nobody, "t")
    sink.send("k", b"v")
    with pytest.raises(SinkUnavailable, match=f"no broker listens at {nobody}"):
        sink.flush(0.5)
    assert sink.waiting == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "over PLAINTEXT: the broker is starting, or this listener wants TLS or SASL"),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "u",
                "sasl_plain_password": "p",
            },
            r"over SASL_PLAINTEXT: credentials, mechanism \(SCRAM-SHA-512\) or TLS are the likely cause",
        ),
    ],
    ids=["plain", "login"],
)
def test_a_port_that_does_not_speak_kafka_is_explained(deaf: str, settings: dict[str, str], said: str) -> None:
    """Protects operators with a wrong password, on which a broker just hangs up, from reading of a missing broker."""
    source = KafkaSource(deaf, ["t"], "g", patience=Patience(connect_s=0.5), settings=settings)
    with pytest.raises(SourceUnavailable, match=said):
        source.poll(0.0)


def test_a_refused_setting_leaves_nothing_behind(deaf: str) -> None:
    """Protects from IO threads that go on for ever behind a constructor that failed."""
    with pytest.raises(ConnectorError):
        opened(KafkaConsumer, deaf, 0.3, SourceUnavailable, {"session_timeout_ms": 5, "group_id": "g"})
