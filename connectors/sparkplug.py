"""Readings from Sparkplug B edge nodes over MQTT (Eclipse Sparkplug 3.0)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_messages import Broker, MqttMessage, Publish, Subscription, Taken
from connectors.mqtt_reading import rejected, too_large
from connectors.mqtt_subscribed import SubscribedCursor, filters_in
from connectors.reading import Reading, Rejected
from connectors.source import Outlet, Site
from connectors.sparkplug_nodes import SparkplugNodes, filters
from connectors.sparkplug_payload import rebirth_command


class SparkplugSource:
    """A ``ReadingSource``: entities are ``group/node`` and ``group/node/device``, channels the metrics' names.

    Edge nodes publish at QoS 0: what they send while we are away is gone. Values whose name only a birth tells that
    was not seen are refused, and the node is asked for its births. When a node or a device dies its metrics become
    missing.

    Args:
        broker: where, and as whom.
        groups: ids of the groups that are read; empty: all.
        rebirths: whether nodes are asked for their births; needs the right to publish on ``spBv1.0/+/NCMD/+``.
    """

    def __init__(self, broker: Broker, groups: Sequence[str] = (), *, rebirths: bool = True) -> None:
        self._rebirths = rebirths
        self._connection = MqttConnection(broker, [Subscription(one, 1, retained=False) for one in filters(groups)])

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet is stopping; see ``ReadingSource`` and ``MqttConnection.run``."""
        subscribed = [one.filter for one in self._connection.subscriptions]
        self._connection.run(outlet, SparkplugMessages(outlet, self._rebirths, subscribed), filters_in(outlet.cursor()))


class SparkplugMessages:
    """A ``Consumer`` of the messages of edge nodes."""

    def __init__(self, outlet: Outlet, rebirths: bool, subscribed: Sequence[str] = ()) -> None:
        self._outlet = outlet
        self._subscribed = SubscribedCursor(subscribed)
        self._nodes = SparkplugNodes(rebirths)
        self._publish: Publish | None = None

    def connected(self, publish: Publish, resumed: bool) -> None:
        """See ``Consumer``."""
        self._publish = publish
        self._subscribed.connected(self._outlet)

    def disconnected(self) -> None:
        """See ``Consumer``."""
        self._publish = None
        self._nodes.connection_lost()

    def tick(self, connected: bool) -> Taken | None:
        """See ``Consumer``."""
        return self._subscribed.taken()

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        """See ``Consumer``."""
        readings: list[Reading] = []
        refused: list[Rejected] = []
        sites: list[Site] = []
        events: Counter[str] = Counter()
        for message in messages:
            why = too_large(message)
            if why is not None:
                refused.append(rejected(message, [why]))
                continue
            heard = self._nodes.hear(message)
            readings += heard.readings
            sites += heard.sites
            events.update(heard.events)
            if heard.refused:
                refused.append(rejected(message, heard.refused))
            if heard.rebirth is not None and self._publish is not None:
                self._publish(heard.rebirth, rebirth_command(message.received_us // 1000))
        if sites:
            self._outlet.describe(sites)
        for event, count in events.items():
            self._outlet.count(event, count)
        return Taken(readings, refused)
