"""What tests of MQTT sources share: a publisher that knows what the broker took, and waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

Told = tuple[str, bytes]
"""Topic and payload."""


class Publisher:
    """A client of a broker on loopback that publishes, and returns when the broker has acknowledged. A context manager.

    Args:
        port: the broker's.
        username, password: where it wants them.
    """

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(0.05, 0.2)
        self._connected = threading.Event()
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_disconnect = lambda *_: self._connected.clear()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._connected.wait(60)

    def tell(self, told: Iterable[Told], qos: int = 1, retain: bool = False) -> int:
        """Publish; return how many, when the broker has acknowledged all."""
        assert self._connected.wait(60)
        sent: list[Any] = [self._client.publish(topic, payload, qos, retain) for topic, payload in told]
        for one in sent:
            one.wait_for_publish(60)
            assert one.is_published()
        return len(sent)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
