"""The simulated Frigate's link to its broker: retained availability with a will, and nothing kept while it is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

_LOOK_S = 0.02
_PATIENCE_S = 60.0
_ANSWER_S = 10.0
"""A broker that has not answered by then is tried anew."""


class FrigateLink:
    """Connects, and connects again when the link is lost; what is sent meanwhile is dropped, as at QoS 0.

    Args:
        host: of the broker.
        port: of the broker.
        prefix: before all topics.
        greet: says what is to be said after connecting.
    """

    def __init__(self, host: str, port: int, prefix: str, greet: Callable[[], None]) -> None:
        self._address = host, port
        self._prefix = prefix
        self._greet = greet
        self._client: paho.Client | None = None
        self._up = threading.Event()
        self._cut = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="peer-frigate", daemon=True)
        self.sent: Counter[str] = Counter()
        """Messages that were given to the network, by the last part of their topics."""
        self.dropped = 0
        """Messages that there was no link for."""

    def start(self) -> None:
        """Connect; return when that is done.

        Raises:
            TimeoutError: if there is no broker.
        """
        self._thread.start()
        self.await_up()

    def await_up(self) -> None:
        """Return when there is a link.

        Raises:
            TimeoutError: if none comes about.
        """
        if not self._up.wait(_PATIENCE_S):
            raise TimeoutError("the simulated Frigate does not reach its broker")

    @property
    def up(self) -> bool:
        """Whether there is a link."""
        return self._up.is_set()

    def send(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        """Send a message below the prefix, or drop it."""
        client = self._client
        if client is None or not self._up.is_set():
            self.dropped += 1
            return
        outcome = client.publish(f"{self._prefix}/{topic}", payload, qos=0, retain=retain)
        if outcome.rc == paho.MQTT_ERR_SUCCESS:
            self.sent[topic.rpartition("/")[2]] += 1
        else:
            self.dropped += 1

    def cut(self) -> None:
        """Break the link, without a word to the broker, which then says that Frigate is offline; until ``mend``."""
        self._cut = True
        self.sent["available"] += self.up  # our will: the broker sends it
        client = self._client
        sock = None if client is None else client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _PATIENCE_S
        while self.up and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def mend(self) -> None:
        """Let it connect again; return when it has."""
        self._cut = False
        self.await_up()

    def close(self) -> None:
        """Leave in order, and say so."""
        if self._up.is_set():
            self.send("available", "offline", retain=True)
        self._closing.set()
        self._thread.join(_PATIENCE_S)
        self._drop()

    def _keep(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if not self._cut and not self._up.is_set():
                self._drop()
                with contextlib.suppress(OSError):
                    self._connect()

    def _connect(self) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.will_set(f"{self._prefix}/available", "offline", qos=1, retain=True)
        known = threading.Event()
        client.on_connect = lambda *_: known.set()
        client.on_disconnect = lambda *_: self._up.clear()
        client.connect(*self._address, keepalive=60)
        client.loop_start()
        self._client = client
        if not known.wait(_ANSWER_S):
            return
        self._up.set()
        if not client.is_connected():  # lost already, and that was said before
            self._up.clear()
        self._greet()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
