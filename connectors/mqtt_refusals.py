"""Why an MQTT broker refuses a connection, as errors that say whether trying again can help."""

from __future__ import annotations

from connectors.errors import ConnectorError, Misconfigured, SourceRefused, SourceUnavailable
from connectors.mqtt_messages import Broker

OLD_BROKER = 132
"""Unsupported protocol version."""
_PASSING = frozenset((136, 137, 151, 159))
"""Unavailable, busy, quota exceeded, connection rate exceeded."""
_WRONG_NAME_OR_RIGHT = frozenset((134, 135, 138, 140))
"""Bad user name or password, not authorized, banned, bad authentication method."""


def connection_refused(broker: Broker, code: int, text: str) -> ConnectorError:
    """Return what to raise for a reason of CONNACK (MQTT 5, 3.2.2.2; those of MQTT 3.1.1 are made the same)."""
    said = f"{broker.address} refuses the connection: {text.lower()}"
    if code in _WRONG_NAME_OR_RIGHT:
        who = "without a user name" if broker.username is None else f"as user {broker.username}"
        return SourceRefused(f"{said} ({who}, client id {broker.client_id}); see username and password")
    if code in _PASSING:
        return SourceUnavailable(said)
    return Misconfigured(f"{said} (reason {code}, client id {broker.client_id})")
