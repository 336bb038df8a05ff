"""Sources of kind ``kafka``: topics that others write, here or on another cluster."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from connectors.source import ReadingSource
from pipeline.config_fields import Name, Number, PositiveDuration, Secret, Section
from pipeline.ingest.kind import SourceKind, SourceOptions, SourcePlace
from pipeline.ingest.record_options import RecordOptions, TimeOptions

CANONICAL = RecordOptions(
    time=TimeOptions(field="time"), entity="entity", channel="channel", value="value", unit="unit", quality="quality",
    result_time="result_time",
)  # fmt: skip
"""Of records whose fields are called as ours."""


class ClusterOptions(Section):
    """Another Kafka than the one that readings go to, and how to log in there."""

    bootstrap_servers: tuple[Name, ...] = Field(min_length=1, examples=[["kafka.example.org:9092"]])
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: Name | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None
    settings: dict[Name, bool | int | Number | str] = Field(default_factory=dict)
    """kafka-python's own, by its names."""

    def client_settings(self) -> dict[str, Any]:
        """Return what kafka-python is given, secrets in the clear."""
        named = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": None if self.password is None else self.password.get_secret_value(),
            "ssl_cafile": None if self.ca_file is None else str(self.ca_file),
            "ssl_certfile": None if self.cert_file is None else str(self.cert_file),
            "ssl_keyfile": None if self.key_file is None else str(self.key_file),
            "ssl_password": None if self.key_password is None else self.key_password.get_secret_value(),
        }
        return {name: value for name, value in named.items() if value is not None} | self.settings


class RegistryOptions(Section):
    """Where the schemas of Avro and Protobuf are."""

    url: str = Field(pattern=r"^https?://[^/@\s]+", examples=["http://registry.example.org:8081"])
    user: str = Field(default="", max_length=200)
    password: Secret | None = None
    ca_file: Path | None = None
    """PEM with the authorities that its certificate is checked against; none: the system's."""
    timeout: PositiveDuration = timedelta(seconds=10)


class KafkaOptions(SourceOptions):
    """Which topics, and what their fields mean."""

    kind: Literal["kafka"]
    topics: tuple[Name, ...] = Field(min_length=1, examples=[["plant.public.measurements"]])
    group: Name | None = None
    """The consumer group; none: ``vedette-ingest-`` and the source's name."""
    instance: Name | None = None
    """A stable name of this member of the group, so that its restart moves no partition."""
    cluster: ClusterOptions | None = None
    """None: the Kafka that readings go to."""
    registry: RegistryOptions | None = None
    mapping: RecordOptions = CANONICAL
    """``@key``, ``@topic``, ``@time``, ``@header.NAME`` and ``@ce.NAME`` stand for what is around a record."""
    envelopes: bool = True
    """Whether the envelopes of Kafka Connect, Debezium and CloudEvents are taken off."""


def _build(options: KafkaOptions, place: SourcePlace) -> ReadingSource:
    from connectors.document_envelopes import RESULT_TIME
    from connectors.foreign_records import ForeignRecords
    from connectors.foreign_topics import ForeignTopics
    from connectors.schema_registry import SchemaRegistry

    settings = dict(place.kafka if options.cluster is None else options.cluster.client_settings())
    servers = settings.pop("bootstrap_servers")
    registry = None
    if options.registry is not None:
        asked = options.registry
        registry = SchemaRegistry(
            asked.url,
            user=asked.user,
            password="" if asked.password is None else asked.password.get_secret_value(),
            ca_file=asked.ca_file,
            timeout_s=asked.timeout.total_seconds(),
        )
    return ForeignTopics(
        servers,
        options.topics,
        options.group or f"vedette-ingest-{options.name}",
        ForeignRecords(options.mapping.mapping(RESULT_TIME), registry, envelopes=options.envelopes),
        close=(lambda: None) if registry is None else registry.close,
        instance=options.instance,
        settings=settings,
    )


KIND = SourceKind(KafkaOptions, _build, "Kafka topics that others write: JSON, Avro, Protobuf, CloudEvents, Debezium")
