"""paho's client, made faster where every message passes: a socket that reads in large pieces, and PUBLISH read here.

It speaks the protocol but for that. Three of its inner methods are replaced; should a later version not call them, all
still works, on paho's own way, but without the bound on what a message may take of the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt import client as paho

from connectors.mqtt_socket import BufferedSocket

MQTT_5 = 5
MQTT_3_1_1 = 4
MOST_PACKET_BYTES = 16 * 1_048_576
_HEAD_BYTES = 196_608
"""Of a packet that is too large: its topic (64 kB), and enough of its payload for a dead letter."""


class Published(NamedTuple):
    """A PUBLISH packet, as far as it is read (MQTT 5, 3.3)."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    mid: int
    duplicate: bool
    whole: int = 0
    """Bytes of its payload, where only the beginning was kept; 0: all of it is here."""


def published(command: int, packet: bytes | bytearray, version: int) -> Published | None:
    """Return what a PUBLISH packet holds; None for what is unusual or damaged.

    Args:
        command: the packet's first byte.
        packet: what follows its length.
        version: 5 or 4.
    """
    qos = (command >> 1) & 3
    size = len(packet)
    if qos > 1 or size < 2:
        return None
    at = 2 + (packet[0] << 8 | packet[1])
    mid = 0
    name = packet[2:at]
    if qos:
        if size < at + 2:
            return None
        mid = packet[at] << 8 | packet[at + 1]
        at += 2
    if version == MQTT_5:
        length, shift = 0, 0
        while True:
            if at >= size or shift > 21:
                return None
            byte = packet[at]
            at += 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        at += length
    if at > size or not name:
        return None  # too short, or an alias stands for the topic, which we never allow
    return Published(
        name.decode("utf-8", "backslashreplace"), bytes(packet[at:]), qos, bool(command & 1), mid, bool(command & 8)
    )


class SwiftClient(paho.Client):
    """paho's client on a socket of ours."""

    opened: BufferedSocket
    """What it connects on; set before ``connect``."""
    received: Callable[[Published], None]
    """Called with each message at QoS 0 and 1."""
    most_packet_bytes = MOST_PACKET_BYTES
    """Of larger messages the beginning is kept; larger packets of any other kind end the connection."""

    def _create_socket(self) -> BufferedSocket:
        return self.opened

    def _packet_read(self) -> Any:
        outcome = super()._packet_read()
        packet = self._in_packet  # as far as it has come: some megabytes at each call
        if packet["remaining_length"] > self.most_packet_bytes:
            if packet["command"] & 0xF0 != paho.PUBLISH:
                return paho.MQTT_ERR_PROTOCOL
            del packet["packet"][_HEAD_BYTES:]
        return outcome

    def _handle_publish(self) -> Any:
        if self._in_packet["remaining_length"] > self.most_packet_bytes:
            return self._handle_large()
        found = published(self._in_packet["command"], self._in_packet["packet"], self._protocol)
        if found is None:
            return super()._handle_publish()
        self.received(found)
        return paho.MQTT_ERR_SUCCESS

    def _handle_large(self) -> Any:
        """Take the beginning of a message, with the size that all of it has."""
        head = self._in_packet["packet"][:_HEAD_BYTES]
        found = published(self._in_packet["command"], head, self._protocol)
        if found is None:
            return paho.MQTT_ERR_PROTOCOL
        before = len(head) - len(found.payload)
        self.received(found._replace(whole=self._in_packet["remaining_length"] - before))
        return paho.MQTT_ERR_SUCCESS
