"""One connection to an MQTT broker, from its opening to its end, driven by one thread; paho speaks the protocol."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.errors import SourceRefused, SourceUnavailable
from connectors.mqtt_client import MOST_PACKET_BYTES, MQTT_5, Published, SwiftClient
from connectors.mqtt_messages import Broker, MqttMessage, Subscription
from connectors.mqtt_refusals import OLD_BROKER, connection_refused
from connectors.mqtt_socket import BufferedSocket, open_socket, plain_reason, refused_certificate
from connectors.source import Stopping

_ANSWER_S = 5.0
_SLICE_S = 0.2
_MOST_AT_ONCE_BYTES = 4 * 1_048_576
"""Of payloads in one turn; large messages come in smaller batches."""
_TAKEN_OVER = 142


class VersionRefused(Exception):
    """The broker does not know MQTT 5."""


class Link:
    """One connection. Not for use from two threads.

    Args:
        broker: where, and as whom.
        version: 5 or 4 (3.1.1).
        window: how many unacknowledged messages the broker may send; MQTT 5 only.
        wakeable: a descriptor that ends a wait when it becomes readable.
        stopping: whether to leave.
        now_us: the wall clock.
        most_packet_bytes: brokers leave larger messages out (MQTT 5, 3.1.2.11.4); MQTT 3.1.1 knows no such limit, and
            of what is larger only the beginning is kept.
    """

    def __init__(
        self,
        broker: Broker,
        version: int,
        window: int,
        wakeable: int,
        stopping: Callable[[], bool],
        now_us: Callable[[], int],
        most_packet_bytes: int = MOST_PACKET_BYTES,
    ) -> None:
        self._broker = broker
        self._version = version
        self._window = window
        self._stopping = stopping
        self._now_us = now_us
        self._most_packet_bytes = most_packet_bytes
        self._received: list[MqttMessage] = []
        self._received_bytes = 0
        self._answer: tuple[int, str, bool] | None = None
        self._asked: tuple[Subscription, ...] = ()
        self._asked_s = 0.0
        self._granted: list[int] | None = None
        self._checked_s = 0.0
        self._poll = select.poll()
        self._poll.register(wakeable, select.POLLIN)
        self.lost: str | None = None
        """Why the connection is no more."""
        self.taken_over = False
        """Another client came with our id."""
        self._client = self._made()
        self._socket: BufferedSocket | None = None

    # ---- coming and going ----

    def open(self) -> bool:
        """Connect; return whether the broker kept our session.

        Raises:
            SourceUnavailable: if the broker is away, or asks to come later.
            SourceRefused: if it does not want us.
            Misconfigured: if what is configured cannot work.
            VersionRefused: if it does not know this version of the protocol.
            Stopping: if it is time to leave.
        """
        broker, client = self._broker, self._client
        self._socket = client.opened = open_socket(broker.host, broker.port, broker.tls, self._stopping)
        self._poll.register(self._socket, select.POLLIN)
        try:
            client.connect(broker.host, broker.port, broker.keepalive_s, **self._session())
            self._await_answer()
            if self._answer is None:
                self._no_answer()
            assert self._answer is not None
            code, text, resumed = self._answer
            if code == OLD_BROKER and self._version == MQTT_5:
                raise VersionRefused
            if code:
                raise connection_refused(broker, code, text)
        except BaseException:
            self.close()
            raise
        return resumed

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Ask for subscriptions; messages may come before the answer, if the broker kept our session."""
        self._asked, self._granted = tuple(subscriptions), None
        self._asked_s = time.monotonic()
        if self._version == MQTT_5:
            self._client.subscribe([(one.filter, _options(one)) for one in subscriptions])
        else:
            self._client.subscribe([(one.filter, one.qos) for one in subscriptions])

    def granted(self) -> list[Subscription] | None:
        """Return the subscriptions that hold at a lower QoS than asked for; None while there is no answer.

        Sets ``lost`` when the answer does not come.

        Raises:
            SourceRefused: if one is not allowed.
        """
        if self._granted is None:
            if time.monotonic() - self._asked_s > _ANSWER_S:
                self.lost = self.lost or "no answer to the subscription"
            return None
        for one, code in zip(self._asked, self._granted, strict=False):
            if code >= 128:
                raise SourceRefused(f"{self._broker.address} refuses the subscription to {one.filter} (reason {code})")
        return [one for one, code in zip(self._asked, self._granted, strict=False) if code < one.qos]

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Take subscriptions back that the session still has; not waited for."""
        if filters:
            self._client.unsubscribe(list(filters))

    def leave(self) -> None:
        """Say good-bye, and close; the broker keeps the session."""
        presence = self._broker.presence
        if self.lost is None:
            if presence is not None:
                self._client.publish(presence.topic, presence.offline, qos=0, retain=True)
            self._client.disconnect()
            with contextlib.suppress(OSError):  # it is gone already, which is what we want
                self._send()
        self.close()

    def close(self) -> None:
        """Close, without a word to the broker."""
        if self._socket is not None:
            self._socket.close()

    # ---- messages ----

    def turn(self, timeout_s: float, most: int) -> list[MqttMessage]:
        """Send what waits, wait for something to come, and return up to about ``most`` messages.

        Sets ``lost`` when the connection is no more. Returns early when the wakeable descriptor becomes readable.
        """
        sock = self._socket
        if sock is None or self.lost is not None:
            return []
        try:
            self._send()
            if self._received or (most and sock.pending()):
                timeout_s = 0.0
            wanted = (select.POLLIN if most else 0) | (select.POLLOUT if sock.unsent else 0)
            self._poll.modify(sock, wanted)
            ready = dict(self._poll.poll(timeout_s * 1000)).get(sock.fileno(), 0)
            if most and (ready & ~select.POLLOUT or sock.pending()):
                self._read(sock, most)
            elif ready & (select.POLLHUP | select.POLLERR):
                self.lost = self.lost or "the connection is broken"
            self._look_after()
        except OSError as error:
            self.lost = plain_reason(error)
        received, self._received = self._received, []
        return received

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1 by their numbers, in order; sent at the next turn."""
        ack = self._client.ack
        for mid in mids:
            ack(mid, 1)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 0; see ``mqtt_messages.Publish``."""
        self._client.publish(topic, payload, qos=0)

    def announce(self) -> None:
        """Say that we are here, where that is asked for."""
        presence = self._broker.presence
        if presence is not None:
            self._client.publish(presence.topic, presence.online, qos=0, retain=True)

    # ---- inner ----

    def _made(self) -> SwiftClient:
        broker = self._broker
        clean = {"clean_session": False} if self._version != MQTT_5 else {}
        client = SwiftClient(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
            **clean,
        )
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.presence is not None:
            client.will_set(broker.presence.topic, broker.presence.offline, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.received = self._take
        client.most_packet_bytes = self._most_packet_bytes
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = lambda *_: None  # with it, what is sent is queued until ``_send``
        return client

    def _session(self) -> dict[str, Any]:
        if self._version != MQTT_5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._broker.session_expiry_s
        properties.ReceiveMaximum = self._window
        properties.MaximumPacketSize = self._most_packet_bytes
        return {"clean_start": False, "properties": properties}

    def _send(self) -> None:
        if self._client.want_write():
            self._client.loop_write()
        if self._socket is not None:
            self._socket.flush()

    def _read(self, sock: BufferedSocket, most: int) -> None:
        """Read packets until nothing more has come, or so many messages have."""
        read, received, most_bytes = self._client.loop_read, self._received, _MOST_AT_ONCE_BYTES
        sock.dry = False
        self._received_bytes = 0
        try:
            while not sock.dry and self.lost is None and len(received) < most and self._received_bytes < most_bytes:
                if read():
                    self.lost = self.lost or self._why(sock)
        except Exception as error:  # paho's decoders raise whatever a packet that is none makes them
            self.lost = f"the broker sends what is no MQTT: {type(error).__name__}: {error}"

    def _why(self, sock: BufferedSocket) -> str:
        return "the broker has closed the connection" if sock.error is None else plain_reason(sock.error)

    def _look_after(self) -> None:
        """Keep the connection alive; a look twice a second is enough."""
        now_s = time.monotonic()
        if now_s - self._checked_s >= 0.5:
            self._checked_s = now_s
            if self._client.loop_misc():
                self.lost = self.lost or f"no sign of life for {self._broker.keepalive_s} s"

    def _await_answer(self) -> None:
        """Turn until the broker has answered, the connection is lost, or a broker would have answered."""
        until_s = time.monotonic() + _ANSWER_S
        while self._answer is None and self.lost is None and time.monotonic() < until_s:
            if self._stopping():
                raise Stopping
            self._received = self.turn(_SLICE_S, 1)  # the first message may come right behind the answer

    def _no_answer(self) -> None:
        """Raise what a connection without CONNACK means."""
        address = self._broker.address
        error = None if self._socket is None else self._socket.error
        refused = refused_certificate(error, address)
        if refused is not None:
            raise refused
        if self.lost is None:
            raise SourceUnavailable(f"{address} does not answer as an MQTT broker within {_ANSWER_S:g} s")
        if self._version == MQTT_5:
            raise VersionRefused
        raise SourceUnavailable(f"{address} closes the connection at once: {self.lost}")

    def _on_connect(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        self._answer = reason.value, str(reason), bool(flags.session_present)

    def _on_subscribe(self, _: Any, __: Any, ___: int, reasons: Any, ____: Any) -> None:
        self._granted = [reason.value for reason in reasons]

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        """Take a message that came on paho's own way."""
        topic = message._topic.decode("utf-8", "backslashreplace")
        self._take(Published(topic, message.payload, message.qos, message.retain, message.mid, message.dup))

    def _take(self, found: Published) -> None:
        topic, payload, qos, retained, mid, duplicate, whole = found
        self._received_bytes += len(payload)
        self._received.append(MqttMessage(topic, payload, qos, retained, mid, self._now_us(), duplicate, whole))

    def _on_disconnect(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if not flags.is_disconnect_packet_from_server:
            return
        self.taken_over = reason.value == _TAKEN_OVER
        if self.taken_over:
            self.lost = f"another client came with our client id {self._broker.client_id}; each needs its own"
        else:
            self.lost = f"the broker ends the connection: {str(reason).lower()}"


def _options(one: Subscription) -> SubscribeOptions:
    never, always = SubscribeOptions.RETAIN_DO_NOT_SEND, SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
    return SubscribeOptions(qos=one.qos, retainHandling=always if one.retained else never)
