"""The one YAML file that says everything, read in one place. No class below `pipeline/build.py` knows it.

``load`` reports every mistake of a file at once, each with its path, line, value, what is allowed and the nearest
known name. Secrets come from ``${ENV}`` or ``file:PATH`` and are masked wherever the config is shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, model_validator

from pipeline.config_checks import find_conflicts
from pipeline.config_errors import ConfigError, Mistake
from pipeline.config_fields import Count, Duration, Glob, Name, PositiveCount, PositiveDuration, Secret, Section
from pipeline.config_ingest import IngestConfig
from pipeline.config_source import read
from pipeline.config_streams import StreamConfig
from pipeline.config_validation import validate

MASK = "**********"
_SECRET_WORDS = ("password", "secret", "token", "oauth")


def _split_servers(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("is not an address | host:port, such as localhost:9092")
    return value


Address = Annotated[Name, AfterValidator(_address)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError("is not a plain value | text, a number, true, false or null")
    return value


Setting = Annotated[Any, AfterValidator(_plain)]


def _location(value: str) -> str:
    if "://" in value and not re.fullmatch(r"[a-z][a-z0-9+.-]*://.+", value):
        raise ValueError("is neither a directory nor a URL | a path, or a URL such as s3://bucket/folder")
    return value


def _database_url(value: SecretStr) -> SecretStr:
    if not re.match(r"(sqlite|postgresql)(\+[a-z0-9]+)?://", value.get_secret_value()):
        raise ValueError("is no database | sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME")
    return value


def _without_password(value: SecretStr) -> str:
    masked = re.sub(r"(://[^:/@]*:)[^@]*@", rf"\1{MASK}@", value.get_secret_value())
    return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", masked)


Location = Annotated[str, Field(min_length=1), AfterValidator(_location)]
def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", value):
        raise ValueError("is no address | http://HOST:PORT or https://HOST/PATH")
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
DatabaseUrl = Annotated[Secret, AfterValidator(_database_url), PlainSerializer(_without_password, return_type=str)]


class SecurityConfig(Section):
    """How to log in to the brokers."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: Name | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None


class KafkaConfig(Section):
    """Where the brokers are; ``settings`` goes to kafka-python as it is, by kafka-python's names."""

    bootstrap_servers: Annotated[tuple[Address, ...], BeforeValidator(_split_servers)] = Field(
        default=("localhost:9092",), min_length=1
    )
    group: Name = "vedette"
    instance: Name | None = None
    """A stable name of this replica, so that its restart moves no partition."""
    security: SecurityConfig = Field(default_factory=SecurityConfig)
    settings: dict[str, Setting] = Field(default_factory=dict)

    def client_settings(self) -> dict[str, Any]:
        """Return what every kafka-python client is given, secrets in the clear: addresses, login and ``settings``."""
        security = self.security
        named = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "security_protocol": security.protocol,
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.password.get_secret_value() if security.password else None,
            "ssl_cafile": str(security.ca_file) if security.ca_file else None,
            "ssl_certfile": str(security.cert_file) if security.cert_file else None,
            "ssl_keyfile": str(security.key_file) if security.key_file else None,
            "ssl_password": security.key_password.get_secret_value() if security.key_password else None,
        }
        return {name: value for name, value in named.items() if value is not None} | self.settings


class OutputsConfig(Section):
    """Where alerts, scores and refused records go; a file ``-`` is stdout."""

    alerts_topic: Name | None = "vedette.alerts"
    scores_topic: Name | None = None
    dead_letter_topic: Name | None = "vedette.dead_letters"
    alerts_file: Path | None = None
    scores_file: Path | None = None
    receivers: tuple[ReceiverConfig, ...] = ()
    """Alertmanagers, webhooks and files, each for the incidents that it names."""
    outbox: Path = Path("state/outbox.db")
    """Where messages for receivers wait until they are delivered."""
    max_waiting: Count = 100_000
    """Messages that may wait for one receiver; beyond it those worth least are dropped, and counted; 0: never."""


class ReceiverConfig(Section):
    """Somebody who is told of incidents: those that fit all of what is said here."""

    name: Name
    kind: Literal["alertmanager", "webhook", "file"]
    urls: tuple[HttpUrl, ...] = ()
    """Of an Alertmanager all its instances, each is told; of a webhook exactly one."""
    path: Path | None = None
    """Of a file: JSON lines are appended to it."""
    secret: Secret | None = None
    """A webhook's requests are signed with it (HMAC-SHA256)."""
    ca_file: Path | None = None
    """PEM with the authorities that its certificate is checked against; none: the system's."""
    streams: tuple[Glob, ...] = ("*",)
    kinds: tuple[str, ...] = ()
    """Kinds of incident; empty: all."""
    tier: Literal["watch", "alert"] = "alert"
    """From this tier up."""
    timeout: PositiveDuration = timedelta(seconds=5)
    linger: Duration = timedelta(seconds=35)
    """Of an Alertmanager: the end of an incident is told so long after its beginning at the earliest. Longer than its
    ``group_wait``, or people never hear of what was short."""


class CheckpointsConfig(Section):
    """Where the state is saved, how often, and how many are kept of each partition."""

    directory: Path = Path("state/checkpoints")
    every: PositiveDuration = timedelta(minutes=1)
    keep: Count = Field(default=2, ge=1, le=100)


class TokenConfig(Section):
    """A token, sent as ``Authorization: Bearer …`` or entered in the console, and what it is good for."""

    name: Name
    token: Secret
    role: Literal["read", "act"] = "read"


class HttpConfig(Section):
    """Where /metrics, /livez and /readyz answer. Port 0 takes any free one."""

    host: Name = "127.0.0.1"
    port: Count = Field(default=9464, le=65535)
    console: bool = True
    """Whether the console and its API answer beside the probes."""
    public_url: HttpUrl | None = None
    """Where people reach the console, for the links in alerts; none: http://HOST:PORT."""
    tokens: tuple[TokenConfig, ...] = ()
    """Who may read and act; empty: whoever reaches the port, which is loopback by default."""
    cert_file: Path | None = None
    key_file: Path | None = None


class MetricsConfig(Section):
    """What /metrics tells of single entities: observed, expected, band, score and incident of each channel."""

    per_entity: bool = True
    max_series: Count = 50_000
    """Beyond it further entities are left out, and counted."""
    idle: PositiveDuration = timedelta(hours=6)
    """An entity that has not been measured for so long loses its series."""


class ModelsConfig(Section):
    """Where trained models lie, and how many are kept."""

    directory: Location = "state/models"
    """A directory, or the URL of one in an object store, such as s3://bucket/models."""
    keep: Count = Field(default=10, ge=2, le=1000)
    """Versions per stream that stay, besides the champion, its predecessor and the challenger."""
    watch: PositiveDuration = timedelta(seconds=5)
    """How often the registry is asked whether another version is in charge."""


class HistoryConfig(Section):
    """Where closed frames are kept as Parquet, for training and for people."""

    directory: Location | None = "state/history"
    """A directory, or the URL of one in an object store; null: nothing is kept, so nothing can be trained on."""
    retention: PositiveDuration = timedelta(days=400)
    flush: PositiveDuration = timedelta(minutes=1)
    """A part is written at least so often, and before every checkpoint."""
    compact: PositiveDuration = timedelta(hours=1)
    """How often the parts of days that are over are merged."""


class DatabaseConfig(Section):
    """Where incidents and operators' labels are kept."""

    url: DatabaseUrl = SecretStr("sqlite:///state/vedette.db")
    """As SQLAlchemy writes it: sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME."""
    retention: PositiveDuration = timedelta(days=730)
    spool: Path = Path("state/alert_spool")
    """Where messages wait while the database is away."""


class FeedbackConfig(Section):
    """How operators' labels come in."""

    topic: Name | None = None
    """A topic with labels, besides the command line; null: none."""
    refresh: PositiveDuration = timedelta(seconds=5)
    """How often the database is asked for new labels."""
    lookalikes_for: PositiveDuration = timedelta(days=90)
    """How long a false alarm keeps incidents like it silent; after it they speak again."""


class TrainingConfig(Section):
    """What a training process may take, and where it keeps its books."""

    directory: Path = Path("state/training")
    max_duration: PositiveDuration = timedelta(hours=4)
    max_memory_mib: Count = Field(default=8192, ge=256)
    """A job that would need more trains on a newer, shorter part of the history; one that grows beyond is ended."""
    threads: PositiveCount = 1
    nice: Count = Field(default=10, le=19)
    """How much a job gives way to the daemon on the processor."""
    attempts: PositiveCount = 3
    """How often a job that died is taken up again where it was."""
    stale_after: PositiveDuration = timedelta(minutes=10)
    """A job that has not reported progress for so long is taken for hung, and ended."""


class LogConfig(Section):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["logfmt", "json"] = "logfmt"


_STATE: tuple[tuple[str, str, str], ...] = (
    ("checkpoints", "directory", "{state}/checkpoints"),
    ("models", "directory", "{state}/models"),
    ("history", "directory", "{state}/history"),
    ("training", "directory", "{state}/training"),
    ("database", "url", "sqlite:///{state}/vedette.db"),
    ("database", "spool", "{state}/alert_spool"),
    ("outputs", "outbox", "{state}/outbox.db"),
    ("ingest", "spool", "{state}/spool.db"),
)
"""What lies in the state directory where nothing else is said: section, key and where."""


class Config(Section):
    """Everything. Only ``streams`` has no default."""

    state: Path = Path("state")
    """The directory of everything that is kept, where a section does not say otherwise."""
    streams: tuple[StreamConfig, ...] = Field(min_length=1)
    kafka: KafkaConfig = Field(default_factory=KafkaConfig)
    outputs: OutputsConfig = Field(default_factory=OutputsConfig)
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig)
    models: ModelsConfig = Field(default_factory=ModelsConfig)
    history: HistoryConfig = Field(default_factory=HistoryConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    database: DatabaseConfig = Field(default_factory=DatabaseConfig)
    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig)
    http: HttpConfig = Field(default_factory=HttpConfig)
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    ingest: IngestConfig = Field(default_factory=IngestConfig)
    log: LogConfig = Field(default_factory=LogConfig)
    startup_timeout: Duration = timedelta(minutes=2)
    """How long to wait for a broker at start before exiting with 69."""
    shutdown_timeout: PositiveDuration = timedelta(seconds=30)
    """How long a SIGTERM may take to drain."""
    stall_timeout: PositiveDuration = timedelta(minutes=2)
    """/livez fails when the loop has not turned for so long."""
    seed: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _keep_in_the_state_directory(cls, data: Any) -> Any:
        """Return the data with every place that is not said put below ``state``."""
        if not isinstance(data, dict) or not isinstance(data.get("state", "state"), str):
            return data  # the fields' own checks say what is wrong
        filled = dict(data)
        for section, key, where in _STATE:
            inside = filled.get(section, {})
            if isinstance(inside, dict) and key not in inside:
                filled[section] = {**inside, key: where.format(state=data.get("state", "state"))}
        return filled

    def stream(self, name: str) -> StreamConfig:
        """Return the stream called ``name``; KeyError when there is none."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise KeyError(name)


def load(path: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """Return the config in the file at ``path``.

    Raises:
        ConfigError: with every mistake, if the file cannot be read or anything in it cannot be.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [Mistake((), None, None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [Mistake((), None, None, f"is not UTF-8 text: byte {error.start}")]) from None
    return loads(text, environment, str(path))


def loads(text: str, environment: Mapping[str, str] | None = None, source: str = "config") -> Config:
    """Return the config in ``text``; ``source`` names it in messages. Raises ConfigError as ``load`` does."""
    document = read(text, os.environ if environment is None else environment)
    config, mistakes = validate(Config, document, find_conflicts)
    if config is None or mistakes:
        raise ConfigError(source, mistakes)
    return config


def effective(config: Config) -> str:
    """Return the whole config as YAML, defaults filled in, secrets masked."""
    data = config.model_dump(mode="json")
    settings = data["kafka"]["settings"]
    for name in settings:
        if any(word in name.lower() for word in _SECRET_WORDS):
            settings[name] = MASK
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the config, for editors."""
    return Config.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Vedette"}
