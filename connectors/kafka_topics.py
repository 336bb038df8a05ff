"""Topics: the ones that must be there, and the ones that we make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.kafka_connecting import Settings, opened, settings_for, translated


def ensure_topics(
    bootstrap_servers: str | Sequence[str],
    topics: Mapping[str, int],
    *,
    replication_factor: int = -1,
    timeout_s: float = 10.0,
    settings: Settings | None = None,
) -> None:
    """Create those of ``topics`` (name to number of partitions) that are missing; existing ones stay as they are.

    Where ``settings`` allow automatic creation (the embedded broker), topics are only touched: then the broker's own
    number of partitions holds. A ``replication_factor`` of -1 is the broker's default (Kafka 2.4 or newer).

    Raises:
        Misconfigured: if a topic may not be created.
        SourceUnavailable: if no broker answers in time.
    """
    settings = dict(settings or {})
    if settings.get("allow_auto_create_topics"):
        _touch(bootstrap_servers, topics, timeout_s, settings)
        return
    admin = _admin(bootstrap_servers, timeout_s, settings)
    try:
        for name, partitions in topics.items():
            _create(admin, name, partitions, replication_factor, timeout_s)
    finally:
        admin.close()


def require_topics(
    bootstrap_servers: str | Sequence[str],
    topics: Sequence[str],
    *,
    timeout_s: float = 10.0,
    settings: Settings | None = None,
) -> None:
    """Raise ``Misconfigured`` naming the ``topics`` that do not exist; a group would wait for them in silence."""
    admin = _admin(bootstrap_servers, timeout_s, dict(settings or {}))
    try:
        with translated(SourceUnavailable, f"listing the topics of {bootstrap_servers}"):
            missing = sorted(set(topics) - set(admin.list_topics()))
    finally:
        admin.close()
    if missing:
        raise Misconfigured(f"no topic {', '.join(missing)} on {bootstrap_servers}: create it, or correct the name")


def _admin(bootstrap_servers: str | Sequence[str], timeout_s: float, settings: dict[str, Any]) -> Any:
    wanted = settings_for(KafkaAdminClient, settings)
    return opened(KafkaAdminClient, bootstrap_servers, timeout_s, SourceUnavailable, wanted)


def _create(admin: Any, name: str, partitions: int, replication_factor: int, timeout_s: float) -> None:
    with translated(SourceUnavailable, f"creating topic {name}"):
        try:
            admin.create_topics(
                {name: {"num_partitions": partitions, "replication_factor": replication_factor}},
                timeout_ms=int(timeout_s * 1000),
                wait_for_metadata=True,
            )
        except TopicAlreadyExistsError:
            return


def _touch(
    bootstrap_servers: str | Sequence[str], topics: Mapping[str, int], timeout_s: float, settings: dict[str, Any]
) -> None:
    wanted = settings_for(KafkaProducer, settings)
    producer = opened(KafkaProducer, bootstrap_servers, timeout_s, SourceUnavailable, wanted)
    try:
        for name in topics:
            with translated(SourceUnavailable, f"creating topic {name}"):
                producer.partitions_for(name)
    finally:
        producer.close(timeout=timeout_s)
