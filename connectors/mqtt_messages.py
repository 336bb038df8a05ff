"""What goes between an MQTT connection and whoever reads its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from connectors.reading import Reading, Rejected


class MqttMessage(NamedTuple):
    """One message as it came."""

    topic: str
    payload: bytes
    qos: int = 0
    retained: bool = False
    """Old: the broker kept it for those who subscribe later. What comes while we are subscribed is not marked."""
    mid: int = 0
    """The broker's number of it on this connection; 0 at QoS 0."""
    received_us: int = 0
    """The wall clock when it came here, microseconds UTC."""
    duplicate: bool = False
    """The broker has sent it before, to this session: perhaps to us, perhaps into a connection that was lost."""
    whole: int = 0
    """Bytes of its payload, where that was so large that only its beginning was kept; 0: all of it is here."""


class Taken(NamedTuple):
    """What messages held."""

    readings: Sequence[Reading] = ()
    rejected: Sequence[Rejected] = ()
    cursor: str | None = None


NOTHING = Taken()

Publish = Callable[[str, bytes], None]
"""Sends a payload to a topic at QoS 0, not retained; only from within the consumer's methods; lost when the connection
is."""


class Consumer(Protocol):
    """Reads the messages of one connection. All methods are called from the thread that runs the connection.

    What ``read`` and ``tick`` return is offered to the outlet by the connection, as often as it takes until it is
    durable; so each message is read once, and a consumer may keep state. None of the methods may raise for bad data,
    or wait for anything.
    """

    def connected(self, publish: Publish, resumed: bool) -> None:
        """Take note that messages come from here on.

        ``resumed``: the broker kept the session, so nothing at QoS 1 was missed.
        """

    def disconnected(self) -> None:
        """Take note that the connection is lost; messages at QoS 0 are missed from here on."""

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        """Return what messages hold; they come in the broker's order, at least one. They are acknowledged when it is
        durable.

        A message that the broker delivers again after a lost connection, because it had not been acknowledged, is
        recognised and not read again; after a restart of the process it is.
        """

    def tick(self, connected: bool) -> Taken | None:
        """Return what time alone brings, about once a second; None for nothing."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic filter that is asked for."""

    filter: str
    qos: int = 1
    """0 or 1; at 1, what comes while we are away waits at the broker, if it was published at 1."""
    retained: bool = True
    """Whether the broker is to send what it keeps, at each new connection. MQTT 3.1.1 sends it anyhow."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the broker is known, and how we are. Files are PEM, read at each connection, so they may be exchanged."""

    ca_file: Path | None = None
    """Authorities that the broker's certificate is checked against; none: the system's."""
    cert_file: Path | None = None
    """Ours, with its chain; none: we have none to show."""
    key_file: Path | None = None
    """Its key; none: it is in the same file."""
    key_password: str | None = field(default=None, repr=False)
    check_name: bool = True
    """Whether the certificate must be for the name that is connected to; the authority is always checked."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A retained message that tells others whether we are connected; the broker changes it (a will) when we vanish."""

    topic: str
    online: bytes = b"online"
    offline: bytes = b"offline"


@dataclass(frozen=True, slots=True)
class Broker:
    """Which broker, and as whom."""

    host: str
    client_id: str
    """Stable: the broker keeps the session under it. Two clients with one id throw each other out."""
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    presence: Presence | None = None
    keepalive_s: int = 30
    session_expiry_s: int = 7 * 86_400
    """How long the broker keeps the session while we are away; MQTT 3.1.1 has no such limit of ours."""
    version: int | None = None
    """5 or 4 (3.1.1); none: 5, and 4 where the broker does not know it."""

    @property
    def address(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"
