"""What may be said of an MQTT broker, shared by all kinds of source that read from one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from connectors.mqtt_messages import Broker, Presence, Tls
from pipeline.config_fields import Count, Name, PositiveDuration, Secret, Section
from pipeline.ingest.kind import SourceOptions

_PORT, _TLS_PORT = 1883, 8883


class TlsOptions(Section):
    """How the broker is known, and how we are; files are PEM. ``tls: {}`` is TLS with the system's authorities."""

    ca_file: Path | None = None
    """Authorities that its certificate is checked against; none: the system's."""
    cert_file: Path | None = None
    """Ours; none: we have none to show."""
    key_file: Path | None = None
    """Its key; none: it is in the same file."""
    key_password: Secret | None = None
    check_name: bool = True
    """Whether the certificate must be for the name that is connected to."""


class PresenceOptions(Section):
    """A retained message that tells others whether we are there."""

    topic: Name = Field(examples=["vedette/ingest/online"])
    online: str = "online"
    offline: str = "offline"
    """Also the will: the broker says so when we vanish."""


class BrokerOptions(SourceOptions):
    """Which broker, and as whom."""

    host: Name = Field(examples=["broker.example.org"])
    port: Count | None = Field(default=None, ge=1, le=65535)
    """None: 1883, and 8883 with TLS."""
    username: Name | None = None
    password: Secret | None = None
    tls: TlsOptions | None = None
    client_id: Name | None = None
    """The broker keeps our session under it, so it stays the same and nobody else has it; none: vedette-NAME."""
    mqtt: Literal["auto", "5", "3.1.1"] = "auto"
    """``auto``: 5, and 3.1.1 where the broker does not know it."""
    keepalive: PositiveDuration = timedelta(seconds=30)
    session_expiry: PositiveDuration = timedelta(days=7)
    """How long the broker keeps the session while we are away; MQTT 5 only."""
    presence: PresenceOptions | None = None

    @model_validator(mode="after")
    def _password_has_a_user(self) -> BrokerOptions:
        if self.password is not None and self.username is None:
            raise ValueError("password without username | both, or neither")
        return self

    def broker(self) -> Broker:
        """Return it as connectors take it."""
        tls = self.tls
        return Broker(
            host=self.host,
            port=self.port or (_PORT if tls is None else _TLS_PORT),
            client_id=self.client_id or f"vedette-{self.name}",
            username=self.username,
            password=_clear(self.password),
            tls=None
            if tls is None
            else Tls(tls.ca_file, tls.cert_file, tls.key_file, _clear(tls.key_password), tls.check_name),
            presence=self._presence(),
            keepalive_s=max(round(self.keepalive.total_seconds()), 1),
            session_expiry_s=round(self.session_expiry.total_seconds()),
            version={"auto": None, "5": 5, "3.1.1": 4}[self.mqtt],
        )

    def _presence(self) -> Presence | None:
        said = self.presence
        return None if said is None else Presence(said.topic, said.online.encode(), said.offline.encode())


def _clear(secret: Secret | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
