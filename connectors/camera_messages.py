"""What the readers of cameras' analytics share: counts per interval, states, and a cursor that keeps the counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from connectors.interval_counts import IntervalCounts, Key
from connectors.mqtt_messages import MqttMessage, Publish, Taken
from connectors.mqtt_reading import rejected, too_large
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.refusal import Refusal
from connectors.source import Outlet
from connectors.timestamps import to_text


@dataclass(frozen=True, slots=True)
class Report:
    """One value that a camera tells."""

    key: Key
    value: float | None
    time_us: int
    counter: bool = False
    """Whether ``value`` is a total since the counter began; else it is a state of this moment."""
    since_us: int | None = None
    once: bool = False
    """Whether it tells of something that happened once."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What one message tells."""

    reports: Sequence[Report] = ()
    event: str | None = None
    """What became of it where it tells nothing."""


Read = Callable[[MqttMessage], Reports | Refusal]
"""What one make's message, which is not empty, tells, or why it cannot be read; pure, never raises."""


@dataclass(slots=True)
class _Taking:
    readings: list[Reading] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)


_MOST_TOPICS = 20_000
_MOST_AHEAD_US = 3_600_000_000
_SOUND_CLOCK_US = 1_735_689_600_000_000
"""2025: a wall clock before this was never set, and nothing is held against it."""


class CameraMessages:
    """A ``Consumer`` of cameras' messages.

    Args:
        outlet: whose cursor the counters are kept in.
        read: knows the make's messages.
        counts: of its counters.
        filters: what is subscribed to; kept in the cursor too.
        now_us: the wall clock.
    """

    def __init__(
        self,
        outlet: Outlet,
        read: Read,
        counts: IntervalCounts,
        filters: Sequence[str] = (),
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._outlet = outlet
        self._read = read
        self._counts = counts
        self._filters = tuple(filters)
        self._now_us = now_us
        self._resumed = False
        self._told: dict[str, tuple[Report, ...]] = {}
        counts.restore(outlet.cursor())

    def connected(self, publish: Publish, resumed: bool) -> None:
        """See ``Consumer``."""
        self._resumed = resumed
        self._counts.connected(self._now_us())

    def disconnected(self) -> None:
        """See ``Consumer``."""
        self._counts.disconnected()

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        """See ``Consumer``."""
        taking = _Taking()
        for message in messages:
            if not message.payload:
                self._delete(message, taking)
                continue
            outcome = too_large(message) or _not_ahead(self._read(message), message.received_us)
            if isinstance(outcome, Refusal):
                taking.refused.append(rejected(message, [outcome]))
                continue
            if outcome.event is not None:
                taking.events[outcome.event] += 1
            for report in outcome.reports:
                self._take(report, message, taking)
            self._remember(message.topic, outcome.reports)
        for event, count in taking.events.items():
            self._outlet.count(event, count)
        return Taken(taking.readings, taking.refused, self._counts.cursor(self._filters))

    def tick(self, connected: bool) -> Taken | None:
        """See ``Consumer``."""
        closed = self._counts.close(self._now_us())
        return Taken(closed, (), self._counts.cursor(self._filters)) if closed else None

    def _take(self, report: Report, message: MqttMessage, taking: _Taking) -> None:
        if report.once:
            if message.retained:
                return  # an old event, told again to each who comes
            outcome, closed = self._counts.once(report.key, report.time_us, message.received_us)
        elif report.counter and report.value is not None:
            whole = self._resumed and message.qos > 0
            outcome, closed = self._counts.total(
                report.key, report.value, report.time_us, message.received_us, report.since_us, whole
            )
        else:
            quality = Quality.MISSING if report.value is None else Quality.UNKNOWN
            taking.readings.append(Reading(*report.key, report.time_us, report.value, "1", quality))
            return
        taking.events[outcome.value] += 1
        taking.readings += closed

    def _remember(self, topic: str, reports: Sequence[Report]) -> None:
        if len(self._told) >= _MOST_TOPICS and topic not in self._told:
            self._told.clear()
        self._told[topic] = tuple(reports)

    def _delete(self, message: MqttMessage, taking: _Taking) -> None:
        """A payload of no bytes takes a property back: its rule is gone."""
        taking.events["deletions"] += 1
        for report in self._told.pop(message.topic, ()):
            if report.counter or report.once:
                self._counts.forget(report.key)
            else:
                taking.readings.append(Reading(*report.key, message.received_us, None, "1", Quality.MISSING))


def _not_ahead(outcome: Reports | Refusal, received_us: int) -> Reports | Refusal:
    """Return what was read, unless the camera's clock runs ahead: its counters would be deaf until that time comes."""
    if isinstance(outcome, Refusal) or received_us < _SOUND_CLOCK_US:
        return outcome
    latest_us = max((report.time_us for report in outcome.reports), default=0)
    if latest_us <= received_us + _MOST_AHEAD_US:
        return outcome
    detail = f"time {to_text(latest_us)} is ahead of {to_text(received_us)}, when it came; look at the camera's clock"
    return Refusal(Reason.TOO_FAR_AHEAD, detail)
