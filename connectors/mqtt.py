"""Readings from an MQTT broker, by mappings from topics and payloads."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.mqtt_client import MOST_PACKET_BYTES
from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_mapping import Bound, MappingRule, TopicMapping
from connectors.mqtt_messages import Broker, MqttMessage, Publish, Subscription, Taken
from connectors.mqtt_reading import MOST_PAYLOAD_BYTES, rejected, too_large
from connectors.mqtt_subscribed import SubscribedCursor, filters_in
from connectors.mqtt_topics import widest
from connectors.reading import Quality, Reading, Rejected
from connectors.source import Outlet

Route = tuple[TopicMapping, list[Bound]]
_HEAD_BYTES = 131_072
"""What a packet may have besides its payload: a topic, and properties."""
_MOST_ROUTES = 100_000
"""Topics whose mapping is remembered."""


class MqttSource:
    """A ``ReadingSource``: each message is read by the first mapping whose topic it fits.

    The time of a reading is the payload's where the mapping says where it is, else the message's arrival. A message
    whose time is its arrival and which was not acknowledged when the process died comes again as another reading.

    Args:
        broker: where, and as whom.
        rules: how topics and payloads are read.
        qos: asked for; at 1 nothing is lost while we are away that was published at 1.
        retained: whether messages that the broker kept from before we subscribed are read; they may be old, and are
            suspect where they do not say when they were taken.
        most_payload_bytes: larger messages are refused unread.

    Raises:
        ValueError: if there is no rule.
    """

    def __init__(
        self,
        broker: Broker,
        rules: Sequence[MappingRule],
        *,
        qos: int = 1,
        retained: bool = False,
        most_payload_bytes: int = MOST_PAYLOAD_BYTES,
    ) -> None:
        if not rules:
            raise ValueError("no mapping: name at least one topic")
        self._rules = tuple(rules)
        self._retained = retained
        self._most_payload_bytes = most_payload_bytes
        filters = widest(TopicMapping(rule).template.filter for rule in rules)
        self._connection = MqttConnection(
            broker,
            [Subscription(one, qos, retained) for one in filters],
            most_packet_bytes=max(MOST_PACKET_BYTES, most_payload_bytes + _HEAD_BYTES),
        )

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet is stopping; see ``ReadingSource`` and ``MqttConnection.run``."""
        filters = [one.filter for one in self._connection.subscriptions]
        consumer = MappedMessages(self._rules, outlet, self._retained, self._most_payload_bytes, filters)
        self._connection.run(outlet, consumer, filters_in(outlet.cursor()))


def _mark_old(readings: Sequence[Reading], received_us: int) -> None:
    """Mark readings of a retained message that do not say when they were taken: some time before now."""
    for reading in readings:
        if reading.time_us == received_us and reading.quality is Quality.UNKNOWN:
            reading.quality = Quality.SUSPECT


class MappedMessages:
    """A ``Consumer`` by rules; it keeps in the cursor which ``filters`` are subscribed to."""

    def __init__(
        self,
        rules: Sequence[MappingRule],
        outlet: Outlet,
        retained: bool,
        most_payload_bytes: int,
        filters: Sequence[str] = (),
    ) -> None:
        self._subscribed = SubscribedCursor(filters)
        self._mappings = [TopicMapping(rule) for rule in rules]
        self._outlet = outlet
        self._retained = retained
        self._most_payload_bytes = most_payload_bytes
        self._routes: dict[str, Route | None] = {}

    def connected(self, publish: Publish, resumed: bool) -> None:
        """See ``Consumer``."""
        self._subscribed.connected(self._outlet)

    def disconnected(self) -> None:
        """See ``Consumer``."""

    def tick(self, connected: bool) -> Taken | None:
        """See ``Consumer``."""
        return self._subscribed.taken()

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        """See ``Consumer``."""
        readings: list[Reading] = []
        refused: list[Rejected] = []
        events: dict[str, int] = {}
        for message in messages:
            event = self._read(message, readings, refused)
            if event is not None:
                events[event] = events.get(event, 0) + 1
        for event, count in events.items():
            self._outlet.count(event, count)
        return Taken(readings, refused)

    def _read(self, message: MqttMessage, readings: list[Reading], refused: list[Rejected]) -> str | None:
        """Read one message into ``readings`` and ``refused``; return the word for what became of it instead."""
        if message.retained and not self._retained:
            return "retained_skipped"
        if not message.payload:
            return "emptied"  # so a retained message is taken back
        route = self._route(message.topic)
        if route is None:
            return "unmapped"
        outcome = too_large(message, self._most_payload_bytes)
        if outcome is not None:
            refused.append(rejected(message, [outcome]))
            return None
        found, why = route[0].read(message, route[1])
        if message.retained:
            _mark_old(found, message.received_us)
        readings += found
        if why:
            refused.append(rejected(message, why))
        return None

    def _route(self, topic: str) -> Route | None:
        try:
            return self._routes[topic]
        except KeyError:
            pass
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        bounds = ((mapping, mapping.bind(topic)) for mapping in self._mappings)
        route = next(((mapping, bound) for mapping, bound in bounds if bound is not None), None)
        self._routes[topic] = route
        return route
