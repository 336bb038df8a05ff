"""What every reader of MQTT messages does: refusals with their topic, and payloads that are too large left unread."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.mqtt_messages import MqttMessage
from connectors.reading import Reason, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened

KEPT_BYTES = 65_536
"""Of a refused payload."""
MOST_PAYLOAD_BYTES = 1_048_576


def rejected(message: MqttMessage, refusals: Sequence[Refusal]) -> Rejected:
    """Return one rejected record for a message, however many of its values were refused; at least one was."""
    first = refusals[0]
    more = f" (and {len(refusals) - 1} more of its values)" if len(refusals) > 1 else ""
    detail = f"topic {shortened(message.topic, 120)}: {first.detail}{more}"[:LONGEST_DETAIL]
    topic = message.topic[:1000]
    return Rejected(first.reason, detail, message.payload[:KEPT_BYTES], topic, key=topic.encode("utf-8", "replace"))


def too_large(message: MqttMessage, most_bytes: int = MOST_PAYLOAD_BYTES) -> Refusal | None:
    """Return why a payload is not read; None when it is not too large."""
    size = message.whole or len(message.payload)
    if size <= most_bytes and not message.whole:
        return None
    return Refusal(Reason.TOO_LARGE, f"{size} bytes; allowed: at most {most_bytes}")
