"""ONVIF events over MQTT (Core specification, JSON event payloads; Analytics service, counting rules).

``Cam7/onvif-ej/RuleEngine/CountAggregation/Counter/&1/2/GateLine`` with
``{"UtcTime": "…Z", "Source": {"Rule": "GateLine", …}, "Data": {"Count": "418"}}``. The entity is the topic's prefix and
the rule, ``Cam7/GateLine``.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.camera_messages import CameraMessages, Report, Reports
from connectors.codec_json import LONGEST_NAME
from connectors.interval_counts import DailyResets, IntervalCounts
from connectors.json_documents import number_of, parsed
from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_messages import Broker, MqttMessage, Subscription
from connectors.mqtt_subscribed import filters_in
from connectors.mqtt_topics import widest
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened
from connectors.source import Outlet
from connectors.timestamps import parse

EVENTS = "onvif-ej"
"""The level of a topic behind which JSON events are."""
COUNTERS = {"RuleEngine/CountAggregation/Counter": "count"}
GAUGES = {"RuleEngine/CountAggregation/OccupancyCounter": ("Count", "occupancy")}
STATES = {
    "RuleEngine/FieldDetector/ObjectsInside": ("IsInside", "inside"),
    "RuleEngine/CellMotionDetector/Motion": ("IsMotion", "motion"),
    "VideoSource/MotionAlarm": ("State", "motion"),
}
HAPPENINGS = {
    "RuleEngine/LineDetector/Crossed": "crossed",
    "RuleEngine/LoiteringDetector/ObjectIsLoitering": "loitering",
}
"""Each message is one; its time tells it from the next. What says who somebody is, such as plates, is not read."""
_STATE_WORDS = {"true": 1.0, "false": 0.0}


class OnvifSource:
    """A ``ReadingSource``: counts per interval, occupancy and states of ONVIF cameras.

    Counters rise until they are reset; a total that falls is a reset, and so is a configured time of day between two
    reports. The state of the counters is kept in the cursor.

    Args:
        broker: where, and as whom.
        filters: topic filters; empty: ``+/onvif-ej/#``, cameras with a prefix of one level.
        interval_us: of counts.
        alive_us: how long after a counter's last report silence means zero.
        resets: times of day at which counters are reset.
    """

    def __init__(
        self,
        broker: Broker,
        filters: Sequence[str] = (),
        *,
        interval_us: int = 60_000_000,
        alive_us: int = 3_600_000_000,
        resets: DailyResets | None = None,
    ) -> None:
        self._connection = MqttConnection(broker, [Subscription(one) for one in widest(filters or (f"+/{EVENTS}/#",))])
        self._interval_us = interval_us
        self._alive_us = alive_us
        self._resets = resets or DailyResets()

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet is stopping; see ``ReadingSource`` and ``MqttConnection.run``."""
        counts = IntervalCounts(self._interval_us, self._alive_us, self._resets)
        filters = [one.filter for one in self._connection.subscriptions]
        self._connection.run(outlet, CameraMessages(outlet, read_event, counts, filters), filters_in(outlet.cursor()))


def read_event(message: MqttMessage) -> Reports | Refusal:
    """Return what an ONVIF event tells; events of no interest tell nothing. Never raises."""
    prefix, found, rest = message.topic.partition(f"/{EVENTS}/")
    kind = rest.partition("/&")[0]
    known = kind in COUNTERS or kind in GAUGES or kind in STATES or kind in HAPPENINGS
    if not found or not prefix or not known:
        return Reports(event="other_topics")
    document = parsed(message.payload)
    if isinstance(document, Refusal):
        return document
    if not isinstance(document, dict) or not isinstance(document.get("Data", {}), dict):
        return Refusal(
            Reason.WRONG_TYPE, f"{shortened(document)} is no event; allowed: an object with UtcTime and Data"
        )
    time_us = _time_us(document.get("UtcTime"), message)
    if isinstance(time_us, Refusal):
        return time_us
    entity = f"{prefix}/{_rule(document, rest)}".rstrip("/")
    if len(entity) > LONGEST_NAME:
        return Refusal(Reason.WRONG_TYPE, f"entity {shortened(entity)}; allowed: {LONGEST_NAME} characters")
    return _report(kind, entity, document.get("Data", {}), time_us)


def _report(kind: str, entity: str, data: dict[str, object], time_us: int) -> Reports | Refusal:
    happening = HAPPENINGS.get(kind)
    if happening is not None:
        return Reports([Report((entity, happening), 1.0, time_us, once=True)])
    if kind in COUNTERS:
        value = _number(data, "Count")
        return (
            value if isinstance(value, Refusal) else Reports([Report((entity, COUNTERS[kind]), value, time_us, True)])
        )
    item, channel = GAUGES.get(kind) or STATES[kind]
    value = _number(data, item)
    return value if isinstance(value, Refusal) else Reports([Report((entity, channel), value, time_us)])


def _number(data: dict[str, object], item: str) -> float | Refusal | None:
    """Return an item of Data; values are texts, and may be numbers and booleans."""
    if item not in data:
        return Refusal(Reason.MISSING_KEY, f"Data has no {item}")
    value = data[item]
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _STATE_WORDS:
        return _STATE_WORDS[value.strip().lower()]
    number = number_of(value)
    if isinstance(number, float) and number < 0:
        return Refusal(Reason.WRONG_TYPE, f"{item} {number:g}; allowed: 0 or more")
    return number


def _time_us(value: object, message: MqttMessage) -> int | Refusal:
    if value is None:
        return message.received_us
    return (
        parse(value) if isinstance(value, str) else Refusal(Reason.BAD_TIME, f"UtcTime {shortened(value)} is no time")
    )


def _rule(document: dict[str, object], rest: str) -> str:
    """Return the rule's name, or what else the source is told by."""
    source = document.get("Source")
    if isinstance(source, dict):
        rule = source.get("Rule")
        if isinstance(rule, str) and rule:
            return rule
    return rest.partition("/&")[2]
