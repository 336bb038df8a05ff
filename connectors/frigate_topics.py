"""Which of Frigate's topics are listened to, and what a message on one is about."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.frigate_messages import Review, Sighting, event_message, name_of, redacted, review_message
from connectors.mqtt_messages import MqttMessage, Subscription
from connectors.mqtt_reading import MOST_PAYLOAD_BYTES, too_large
from connectors.reading import Rejected
from connectors.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Available:
    """Whether Frigate is there."""

    online: bool


@dataclass(frozen=True, slots=True)
class CameraState:
    """Whether one of the things holds that a camera needs to see objects."""

    camera: str
    what: str
    watches: bool


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """How many objects there are at a camera, or in a zone: both names stand at the same place."""

    place: str
    label: str
    n: int


Said = Sighting | Review | Available | CameraState | ObjectCount | Rejected | None


def subscriptions(prefix: str, reviews: bool) -> list[Subscription]:
    """Return what to ask the broker for: nothing with pictures, names or plates."""
    topics = ["events", "available", "+/status/detect", "+/detect/state", "+/enabled/state", "+/+"]
    if reviews:
        topics.append("reviews")
    return [Subscription(f"{prefix}/{topic}") for topic in topics]


def read(message: MqttMessage, prefix: str) -> Said:
    """Return what a message says; None for what is of no concern. Never raises."""
    topic = message.topic.removeprefix(f"{prefix}/")
    refusal = too_large(message, MOST_PAYLOAD_BYTES)
    if topic in ("events", "reviews"):
        found = refusal or (event_message if topic == "events" else review_message)(message.payload)
        return _rejected(message, found) if isinstance(found, Refusal) else found
    if refusal is not None:
        return None
    word = message.payload[:20].decode("utf-8", "replace").strip().lower()
    if topic == "available":
        return Available(word == "online")
    camera, _, what = topic.partition("/")
    if name_of(camera) is None:
        return None
    if what == "status/detect":
        return CameraState(camera, "stream", word == "online")
    if what in ("detect/state", "enabled/state"):
        return CameraState(camera, what, word != "off")
    if "/" not in what and word.isascii() and word.isdecimal():
        return ObjectCount(camera, what, int(word))
    return None


def _rejected(message: MqttMessage, refusal: Refusal) -> Rejected:
    """Return a dead letter that says nothing of a person."""
    topic = message.topic[:1000]
    detail = f"topic {topic[:120]}: {refusal.detail}"
    return Rejected(refusal.reason, detail, redacted(message.payload), topic, key=topic.encode("utf-8", "replace"))
