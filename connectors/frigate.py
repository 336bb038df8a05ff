"""Frigate, the network video recorder: what it sees becomes counts per minute; no picture, name or plate is looked at.

Its messages come over MQTT at QoS 0 and are lost while any of the links is; so its database is asked over HTTP at each
start, after every new connection, when something does not fit, and every so often. See ``frigate_minutes`` for the
readings, ``frigate_presence`` for when nothing is zero and when it is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from connectors.errors import ConnectorError, Misconfigured
from connectors.frigate_asking import Asking
from connectors.frigate_manner import Manner
from connectors.frigate_topics import subscriptions
from connectors.frigate_watch import FrigateWatch
from connectors.http_service import HttpService
from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_messages import Broker
from connectors.outlet_parts import OutletPart, OutletParts
from connectors.source import Outlet

_LEAVE_S = 2.5
_LOOK_S = 0.2


class FrigateSource:
    """A ``ReadingSource``: counts of objects and reviews per camera, zone and label.

    Args:
        broker: where Frigate publishes.
        service: where its API answers, such as http://frigate:5000; None: what is missed on the way is lost.
        prefix: its ``topic_prefix``.
        cameras: those that are looked at; empty: all.
        labels: those that are counted; empty: all that Frigate follows.
        reviews: whether reviews are counted too.
        grace_s: how long after its end a minute is told: Frigate needs a moment to be sure of an object.
        every_s: how often the database is asked without a reason.
        silent_s: an object that says nothing for so long is looked into; Frigate tells of each once a minute.
        history_s: how far back the very first start asks.
        reach_s: how far back any start asks.
        now_us: the wall clock.
        look_s: how often it is looked whether a minute is over.

    Raises:
        Misconfigured: if the prefix is none.
    """

    watch_type: ClassVar[type[FrigateWatch]] = FrigateWatch

    def __init__(
        self,
        broker: Broker,
        service: HttpService | None = None,
        *,
        prefix: str = "frigate",
        cameras: Sequence[str] = (),
        labels: Sequence[str] = (),
        reviews: bool = True,
        grace_s: float = 10.0,
        every_s: float = 300.0,
        silent_s: float = 180.0,
        history_s: float = 3600.0,
        reach_s: float = 86_400.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        look_s: float = _LOOK_S,
    ) -> None:
        if not prefix.strip("/") or set(prefix) & set("+#"):
            raise Misconfigured(f"frigate: prefix {prefix!r} is no topic; it is mqtt.topic_prefix of Frigate's config")
        self.manner = Manner(
            prefix=prefix.strip("/"),
            cameras=tuple(cameras),
            labels=tuple(labels),
            reviews=reviews,
            asks=service is not None,
            grace_us=round(grace_s * 1e6),
            every_us=round(every_s * 1e6),
            silent_us=round(silent_s * 1e6),
            history_us=round(min(history_s, reach_s) * 1e6),
            reach_us=round(reach_s * 1e6),
        )
        self.service = service
        self._now_us = now_us
        self._look_s = look_s
        self._connection = MqttConnection(broker, subscriptions(self.manner.prefix, reviews), now_us=now_us)
        self.watch: FrigateWatch | None = None
        """What is known, while it runs."""

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet is stopping; see ``ReadingSource`` and ``MqttConnection.run``."""
        parts = OutletParts(outlet)
        watch = self.watch = self.watch_type(self.manner, outlet.cursor(), outlet.count, self._now_us)
        listening = _Listening(self._connection, parts.part("mqtt"), watch)
        asking = None if self.service is None else Asking(self.service, parts.part("http"), self.manner)
        threads = [one for one in (listening, asking) if one is not None]
        for thread in threads:
            thread.start()
        try:
            while not outlet.stopping:
                listening.check()
                if asking is not None:
                    self._ask(outlet, watch, asking)
                due = watch.due()
                if due is None:
                    outlet.wait(self._look_s)
                else:  # there may be more: after an absence many minutes are due
                    outlet.deliver(due.readings, cursor=due.cursor)
        finally:
            parts.leave.set()
            until_s = time.monotonic() + _LEAVE_S
            for thread in threads:
                thread.join(max(until_s - time.monotonic(), 0.1))
            self.watch = None

    def _ask(self, outlet: Outlet, watch: FrigateWatch, asking: Asking) -> None:
        """Take what the database has answered, and ask it what is to be asked."""
        outcome = asking.outcome()
        if isinstance(outcome, ConnectorError):
            if not outcome.retriable:
                raise outcome
            outlet.count("failed_polls")
            watch.unanswered()
        elif outcome is not None:
            outlet.count("polls")
            taken = watch.answer(outcome)
            if outcome.plans is not None:
                outlet.describe(watch.sites())
            outlet.deliver(taken.readings, cursor=taken.cursor, rejected=taken.rejected)
        if asking.idle:
            question = watch.question()
            if question is not None:
                asking.ask(question)


class _Listening(threading.Thread):
    """The connection to the broker, in a thread of its own; the source's may have to wait for room."""

    def __init__(self, connection: MqttConnection, outlet: OutletPart, watch: FrigateWatch) -> None:
        super().__init__(name="frigate-mqtt", daemon=True)
        self._connection = connection
        self._outlet = outlet
        self._watch = watch
        self._error: BaseException | None = None

    def run(self) -> None:
        """Listen until it is time to leave."""
        try:
            self._connection.run(self._outlet, self._watch)
        except BaseException as error:  # raised where the source runs
            self._error = error

    def check(self) -> None:
        """Raise what has ended the connection."""
        if self._error is not None:
            raise self._error
