"""Axis Object Analytics over MQTT: counts of lines that are crossed, occupancy of areas, and active scenarios.

``{"topic": "axis:CameraApplicationPlatform/ObjectAnalytics/Device1Scenario1", "timestamp": 1795190700123,
"serial": "ACCC8E000001", "message": {"data": {"startTime": "…", "total": "1283", "totalHuman": "1101"}}}``. Numbers are
texts; totals count since ``startTime``. The entity is serial number and scenario, ``ACCC8E000001/Device1Scenario1``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import partial

from connectors.camera_messages import CameraMessages, Report, Reports
from connectors.codec_json import LONGEST_NAME
from connectors.interval_counts import IntervalCounts
from connectors.json_documents import number_of, parsed
from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_messages import Broker, MqttMessage, Subscription
from connectors.mqtt_subscribed import filters_in
from connectors.mqtt_topics import widest
from connectors.payload_times import PayloadTimes
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened
from connectors.source import Outlet

_TOPIC = re.compile(r"ObjectAnalytics/([A-Za-z0-9_.\- ]{1,100})$")
_TOTAL = re.compile(r"total([A-Z][A-Za-z]{0,30})?")
_TIMES = PayloadTimes()


class AxisSource:
    """A ``ReadingSource``: counts per interval and by class (``count``, ``count_human``), occupancy, and activity.

    The state of the counters is kept in the cursor.

    Args:
        broker: where, and as whom.
        filters: topic filters; empty: ``axis/#``, what cameras publish under by default.
        occupancy: scenarios whose totals are what is there now, such as ``Device1Scenario2``; beside those whose
            messages have no startTime.
        interval_us: of counts.
        alive_us: how long after a counter's last report silence means zero.
    """

    def __init__(
        self,
        broker: Broker,
        filters: Sequence[str] = (),
        *,
        occupancy: Collection[str] = (),
        interval_us: int = 60_000_000,
        alive_us: int = 3_600_000_000,
    ) -> None:
        self._connection = MqttConnection(broker, [Subscription(one) for one in widest(filters or ("axis/#",))])
        self._occupancy = frozenset(occupancy)
        self._interval_us = interval_us
        self._alive_us = alive_us

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet is stopping; see ``ReadingSource`` and ``MqttConnection.run``."""
        counts = IntervalCounts(self._interval_us, self._alive_us)
        read = partial(read_event, occupancy=self._occupancy)
        filters = [one.filter for one in self._connection.subscriptions]
        self._connection.run(outlet, CameraMessages(outlet, read, counts, filters), filters_in(outlet.cursor()))


def read_event(message: MqttMessage, occupancy: Collection[str] = ()) -> Reports | Refusal:
    """Return what an event of Object Analytics tells; others tell nothing. Never raises."""
    found = _TOPIC.search(message.topic)
    if found is None:
        return Reports(event="other_topics")
    document = parsed(message.payload)
    if isinstance(document, Refusal):
        return document
    data = _data(document)
    if isinstance(data, Refusal):
        return data
    assert isinstance(document, dict)
    stamp = document.get("timestamp")
    time_us = message.received_us if stamp is None else _TIMES.read(stamp)
    if isinstance(time_us, Refusal):
        return time_us
    entity = _entity(document, message.topic, found[1])
    if len(entity) > LONGEST_NAME:
        return Refusal(Reason.WRONG_TYPE, f"entity {shortened(entity)}; allowed: {LONGEST_NAME} characters")
    start = data.get("startTime")
    since_us = None if start is None else _TIMES.read(start)
    if isinstance(since_us, Refusal):
        return since_us.within("startTime")
    counter = since_us is not None and found[1] not in occupancy
    return _reports(data, entity, time_us, since_us if counter else None, counter)


def _reports(
    data: dict[str, object], entity: str, time_us: int, since_us: int | None, counter: bool
) -> Reports | Refusal:
    reports: list[Report] = []
    for name, value in data.items():
        total = _TOTAL.fullmatch(name)
        if total is None and name != "active":
            continue
        number = number_of(value)
        if isinstance(number, Refusal):
            return number.within(name)
        if number is not None and number < 0:
            return Refusal(Reason.WRONG_TYPE, f"{name} {number:g}; allowed: 0 or more")
        if total is None:
            reports.append(Report((entity, "active"), number, time_us))
            continue
        channel = "count" if counter else "occupancy"
        if total[1]:
            channel += f"_{total[1].lower()}"
        reports.append(Report((entity, channel), number, time_us, counter, since_us))
    return Reports(reports, None if reports else "without_numbers")


def _data(document: object) -> dict[str, object] | Refusal:
    message = document.get("message") if isinstance(document, dict) else None
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, dict):
        return Refusal(Reason.WRONG_TYPE, "no message.data; allowed: what AXIS OS publishes, with serial and timestamp")
    return data


def _entity(document: dict[str, object], topic: str, scenario: str) -> str:
    serial = document.get("serial")
    if isinstance(serial, str) and serial:
        return f"{serial}/{scenario}"
    return f"{topic.partition('/event/')[0] if '/event/' in topic else topic.split('/')[0]}/{scenario}"
