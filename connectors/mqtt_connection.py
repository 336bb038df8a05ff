"""A lasting connection to an MQTT broker: messages to a consumer, acknowledged in order once the outlet has them."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Callable, Sequence

import structlog

from connectors.errors import SourceUnavailable
from connectors.mqtt_client import MOST_PACKET_BYTES, MQTT_3_1_1, MQTT_5
from connectors.mqtt_link import Link, VersionRefused
from connectors.mqtt_messages import NOTHING, Broker, Consumer, Subscription
from connectors.mqtt_window import Redeliveries, Window
from connectors.source import Outlet, Stopping

log = structlog.get_logger("vedette.ingest")

_TURN_S = 0.2
_TICK_S = 1.0
_LEAVE_S = 1.2
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MOST_S = 30.0
_WELL_AFTER_S = 10.0
_SUSPICIOUS = 2
_MOST_BYTES = 32 * 1_048_576


class MqttConnection:
    """Subscribes, hands messages on in batches, and acknowledges a batch after its readings are durable.

    At QoS 1 the broker keeps a persistent session under our client id: what was not acknowledged it delivers again
    after a lost connection or a restart, up to what it is configured to keep. While the outlet has no room nothing is
    acknowledged, at most ``window`` messages are held, and then the socket is not read either.

    Args:
        broker: where, and as whom.
        subscriptions: what to ask for; at least one.
        window: how many unacknowledged messages are held; with MQTT 5 the broker is told. Mosquitto gets slower beyond
            a few thousands.
        batch: how many messages are handed to the consumer at once, at most.
        most_packet_bytes: of larger messages only the beginning comes; a broker that speaks MQTT 5 leaves them out.
        now_us: the wall clock.
    """

    def __init__(
        self,
        broker: Broker,
        subscriptions: Sequence[Subscription],
        *,
        window: int = 2000,
        batch: int = 1000,
        most_packet_bytes: int = MOST_PACKET_BYTES,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.broker = broker
        self.subscriptions = tuple(subscriptions)
        self._most = window
        self._batch = batch
        self._most_packet_bytes = most_packet_bytes
        self._now_us = now_us
        self._version = broker.version or MQTT_5

    def run(self, outlet: Outlet, consumer: Consumer, former: Sequence[str] = ()) -> None:
        """Bring messages until the outlet is stopping; connect again, by itself, whenever the connection is lost.

        Args:
            outlet: says what is durable.
            consumer: reads the messages.
            former: filters that were subscribed to once; the session may still have them, and they are taken back.

        Raises:
            SourceUnavailable: if the broker is away at first, or another client has taken our session.
            SourceRefused: if it does not want us: a wrong password, a subscription that is not allowed.
            Misconfigured: if what is configured cannot work.
            Stopping: if the outlet stops while something waits for it.
        """
        with contextlib.closing(_Running(self, outlet, consumer, former)) as running:
            running.run()

    def open(self, stopping: Callable[[], bool], wakeable: int) -> tuple[Link, bool]:
        """Return an open link, and whether the broker kept the session; see ``Link.open`` for what it raises."""
        link = Link(
            self.broker, self._version, min(self._most, 65_535), wakeable, stopping, self._now_us,
            self._most_packet_bytes,
        )  # fmt: skip
        try:
            return link, link.open()
        except VersionRefused:
            if self.broker.version is not None:
                raise SourceUnavailable(
                    f"{self.broker.address} does not speak MQTT 5, or closes the connection at once"
                ) from None
        self._version = MQTT_3_1_1
        try:
            return self.open(stopping, wakeable)
        except SourceUnavailable:
            self._version = MQTT_5  # it was no matter of the version
            raise

    @property
    def most(self) -> tuple[int, int]:
        """How many messages are held, and how many are handed on at once."""
        return self._most, self._batch


class _Running:
    """One run of a connection, over all the links that it takes."""

    def __init__(self, connection: MqttConnection, outlet: Outlet, consumer: Consumer, former: Sequence[str]) -> None:
        wanted = {one.filter for one in connection.subscriptions}
        self._former = [one for one in former if one not in wanted]
        self._connection = connection
        self._outlet = outlet
        self._consumer = consumer
        most, self._batch = connection.most
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._window = Window(outlet, self._wake, most, _MOST_BYTES)
        self._redeliveries = Redeliveries()
        self._ticked_s = time.monotonic()
        self._subscribing = False
        self._short = 0
        """How many connections in a row did not last."""
        self._link: Link | None = None

    def run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        self._connect()
        while not self._outlet.stopping:
            since_s = time.monotonic()
            reason = self._serve()
            if reason is None:
                break
            if time.monotonic() - since_s >= _WELL_AFTER_S:
                backoff_s, self._short = _BACKOFF_FIRST_S, 0
            self._short += 1
            self._lose(reason)
            backoff_s = self._connect_again(backoff_s)
        self._leave()

    def close(self) -> None:
        """Let go of everything."""
        if self._link is not None:
            self._link.close()
        self._wake_r.close()
        self._wake_w.close()

    def _connect(self) -> None:
        """Open a link and ask for the subscriptions."""
        connection = self._connection
        link, resumed = connection.open(lambda: self._outlet.stopping, self._wake_r.fileno())
        if not resumed:
            self._redeliveries.session_lost()
        self._link = link
        self._subscribing = True
        self._consumer.connected(link.publish, resumed)
        if resumed:
            link.unsubscribe(self._former)
        link.subscribe(connection.subscriptions)

    def _await_subscriptions(self, link: Link) -> None:
        """Take note of the broker's answer, once it comes."""
        lower = link.granted()
        if lower is None:
            return
        self._subscribing = False
        if lower:
            log.warning("the broker grants less than QoS 1: what comes while we are away is lost",
                        broker=self._connection.broker.address, filters=[one.filter for one in lower])  # fmt: skip
        link.announce()
        self._outlet.working()

    def _connect_again(self, backoff_s: float) -> float:
        """Try until there is a link again, or the outlet is stopping; return how long to wait the next time."""
        while not self._pause(backoff_s * random.uniform(0.8, 1.2)):
            backoff_s = min(backoff_s * 2, _BACKOFF_MOST_S)
            try:
                self._connect()
            except SourceUnavailable as error:
                self._outlet.failing(str(error))
                self._redeliveries.connection_lost()
                continue
            self._outlet.count("reconnects")
            break
        return backoff_s

    def _serve(self) -> str | None:
        """Take messages until the link is lost; return why, or None when it is time to leave."""
        link = self._link
        assert link is not None
        while not self._outlet.stopping:
            messages = link.turn(_TURN_S, min(self._window.room, self._batch))
            self._drain()
            if messages:
                new = self._redeliveries.sift(messages)
                if len(new) < len(messages):
                    self._outlet.count("redelivered", len(messages) - len(new))
                self._window.add(messages, self._consumer.read(new) if new else NOTHING)
            if self._subscribing:
                self._await_subscriptions(link)
            self._tick(True)
            self._settle()
            if link.lost is not None:
                return link.lost
        return None

    def _settle(self) -> None:
        """Offer what waits, and acknowledge what is durable."""
        self._window.offer()
        mids = self._window.durable()
        self._redeliveries.acknowledged(mids)
        if mids and self._link is not None:
            self._link.acknowledge(mids)

    def _tick(self, connected: bool) -> None:
        now_s = time.monotonic()
        if now_s - self._ticked_s < _TICK_S:
            return
        self._ticked_s = now_s
        taken = self._consumer.tick(connected)
        if taken is not None:
            self._window.add((), taken)

    def _lose(self, reason: str) -> None:
        """Take note that the link is lost.

        Raises:
            SourceUnavailable: if another client has our id: coming back at once would throw it out in turn, for ever.
        """
        link, self._link = self._link, None
        self._window.connection_lost()
        self._redeliveries.connection_lost()
        self._consumer.disconnected()
        broker = self._connection.broker
        address = broker.address
        if self._short >= _SUSPICIOUS:
            reason += f", time and again; perhaps another client has our client id {broker.client_id}"
        self._outlet.failing(f"{address}: {reason}")
        if link is not None:
            link.close()
            if link.taken_over:
                raise SourceUnavailable(f"{address}: {reason}")

    def _pause(self, seconds: float) -> bool:
        """Wait, and go on making durable what is held; longer while there is no room. Return whether to leave."""
        until_s = time.monotonic() + seconds
        while not self._outlet.stopping and (time.monotonic() < until_s or not self._window.room):
            select.select([self._wake_r], [], [], min(max(until_s - time.monotonic(), 0.01), _TURN_S))
            self._drain()
            self._tick(False)
            self._settle()
        return self._outlet.stopping

    def _leave(self) -> None:
        """Acknowledge what becomes durable within a moment, so that it does not come again; then say good-bye."""
        until_s = time.monotonic() + _LEAVE_S
        with contextlib.suppress(Stopping):
            self._settle()
            while not self._window.empty and time.monotonic() < until_s:
                select.select([self._wake_r], [], [], 0.05)
                self._drain()
                self._settle()
        if self._link is not None:
            self._link.leave()
            self._link = None

    def _wake(self) -> None:
        """End a wait; may come from any thread, and after the end."""
        with contextlib.suppress(OSError):  # full: it will wake anyhow; closed: nobody waits
            self._wake_w.send(b"w")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_r.recv(4096)
