"""What is known of Sparkplug edge nodes: who was born, what aliases mean, whether a message was missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.codec_json import LONGEST_NAME
from connectors.mqtt_messages import MqttMessage
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.source import Site
from connectors.sparkplug_births import Born, Node
from connectors.sparkplug_payload import Metric, Payload, decode, is_numeric, number

NAMESPACE = "spBv1.0"
MOST_NODES = 10_000
MOST_METRICS = 100_000
"""Of one edge node and its devices, each device counting as one more."""
MOST_ALL_METRICS = 500_000
"""Of all edge nodes; some hundred megabytes."""
_ANSWER_US = 10_000_000
"""A node that does not answer a rebirth request for so long never will: then its old aliases count again."""
_NOT_MEASURED = ("bdSeq", "Node Control/", "Node Info/", "Device Control/", "Properties/", "Node Properties/")
"""Metrics that are about the node, by how they begin (6.4.18)."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message came from: the levels of its topic."""

    group: str
    kind: str
    node: str
    device: str = ""

    @property
    def entity(self) -> str:
        """``group/node`` or ``group/node/device``."""
        return "/".join(filter(None, (self.group, self.node, self.device)))


def address_of(topic: str) -> Address | None:
    """Return what a topic names; None for what is no edge node's: commands, and the state of host applications.

    >>> address_of("spBv1.0/plant/DDATA/edge-1/pump-3")
    Address(group='plant', kind='DDATA', node='edge-1', device='pump-3')
    """
    levels = topic.split("/")
    if levels[0] != NAMESPACE or len(levels) not in (4, 5) or not all(levels):
        return None
    kind = levels[2]
    if kind not in (("NBIRTH", "NDATA", "NDEATH") if len(levels) == 4 else ("DBIRTH", "DDATA", "DDEATH")):
        return None
    return Address(levels[1], kind, levels[3], levels[4] if len(levels) == 5 else "")


@dataclass(slots=True)
class Heard:
    """What one message gave."""

    readings: list[Reading] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    rebirth: str | None = None
    """The topic at which the node is to be asked for its births."""
    events: list[str] = field(default_factory=list)


class SparkplugNodes:
    """Follows edge nodes by their messages; a bounded number of them, each with a bounded number of metrics.

    Beyond that the node is forgotten that was silent longest: should it speak again, it is asked for its births.

    Args:
        ask: whether nodes are asked for their births; if not, aliases are believed after a gap.
    """

    def __init__(self, ask: bool = True) -> None:
        self._ask = ask
        self.nodes: dict[tuple[str, str], Node] = {}
        """By group and name; whoever was silent longest comes first."""
        self.size = 0
        """Devices and metrics of all nodes."""

    def connection_lost(self) -> None:
        """Births may be missed from here on."""
        for node in self.nodes.values():
            node.next_seq, node.missed, node.asked_us = None, True, None

    def hear(self, message: MqttMessage) -> Heard:
        """Return what a message of an edge node gives; never raises for what is in it."""
        heard = Heard()
        address = address_of(message.topic)
        if address is None:
            heard.events.append("other_topics")
            return heard
        if len(address.entity) > LONGEST_NAME:
            detail = f"name {shortened(address.entity)}; allowed: {LONGEST_NAME} characters"
            heard.refused.append(Refusal(Reason.WRONG_TYPE, detail))
            return heard
        payload = decode(message.payload)
        if isinstance(payload, Refusal):
            heard.refused.append(payload)
            return heard
        node = self._node(address)
        before = node.size
        self._hear(node, address, payload, message, heard)
        self.size += node.size - before
        self._make_room(heard)
        return heard

    def _hear(self, node: Node, address: Address, payload: Payload, message: MqttMessage, heard: Heard) -> None:
        if address.kind == "NDEATH":
            self._node_dies(node, address, payload, message, heard)
            return
        gap = self._follow(node, address, payload)
        if gap:
            heard.events.append("sequence_gaps")
        if address.kind in ("NBIRTH", "DBIRTH"):
            self._bear(node, address, payload, heard)
        if address.kind == "DDEATH":
            self._dies(node, address, address.device, _time_us(None, payload, message), heard)
        else:
            self._read(node, address, payload, message, heard)
        if self._ask and node.missed and address.kind != "NBIRTH":
            self._ask_for_birth(node, address, message, heard)

    def _node(self, address: Address) -> Node:
        """Return the node that speaks, which from now on is the one that was silent for the shortest time."""
        key = address.group, address.node
        node = self.nodes.pop(key, None) or Node()
        self.nodes[key] = node
        return node

    def _make_room(self, heard: Heard) -> None:
        """Forget nodes that were silent longest, but never the one that speaks."""
        while len(self.nodes) > 1 and (len(self.nodes) > MOST_NODES or self.size > MOST_ALL_METRICS):
            self.size -= self.nodes.pop(next(iter(self.nodes))).size
            heard.events.append("nodes_forgotten")

    def _follow(self, node: Node, address: Address, payload: Payload) -> bool:
        """Follow the sequence of a node (6.4.19): 0 to 255 and round again; return whether something was missed."""
        if address.kind == "NBIRTH":
            node.missed = False
            node.asked_us = None
            node.forget_all()
            node.bd_seq = _bd_seq(payload)
            node.next_seq = None if payload.seq is None else (payload.seq + 1) % 256
            return False
        expected, seq = node.next_seq, payload.seq
        node.next_seq = None if seq is None else (seq + 1) % 256
        gap = expected is not None and seq != expected
        node.missed = node.missed or gap
        return gap

    def _ask_for_birth(self, node: Node, address: Address, message: MqttMessage, heard: Heard) -> None:
        if node.asked_us is None:
            node.asked_us = message.received_us
            heard.rebirth = f"{NAMESPACE}/{address.group}/NCMD/{address.node}"
            heard.events.append("rebirth_requests")
        elif message.received_us - node.asked_us > _ANSWER_US:
            node.missed, node.asked_us = False, None
            heard.events.append("rebirths_unanswered")

    def _bear(self, node: Node, address: Address, payload: Payload, heard: Heard) -> None:
        """Learn what a birth says: names, aliases, types, units."""
        node.forget(address.device)
        if node.size >= MOST_METRICS:
            heard.refused.append(Refusal(Reason.TOO_MANY_ENTITIES, f"more than {MOST_METRICS} metrics of one node"))
            return
        node.begin(address.device)
        names = node.by_name[address.device]
        for metric in payload.metrics:
            if metric.name is None or _about_the_node(metric.name):
                continue
            if node.size >= MOST_METRICS:
                heard.refused.append(Refusal(Reason.TOO_MANY_ENTITIES, f"more than {MOST_METRICS} metrics of one node"))
                break
            name = metric.name[: LONGEST_NAME + 1]  # as much as is needed to refuse its readings
            node.learn(address.device, Born(name, metric.datatype, metric.unit, metric.alias))
        channels = {born.name: born.unit for born in names.values() if is_numeric(born.datatype)}
        if channels:
            heard.sites.append(Site(address.entity, channels=channels, attributes={"edge node": address.node}))

    def _read(self, node: Node, address: Address, payload: Payload, message: MqttMessage, heard: Heard) -> None:
        unknown: list[int] = []
        for metric in payload.metrics:
            born = self._born(node, address, metric, unknown)
            if born is None or _about_the_node(born.name) or not is_numeric(born.datatype):
                continue
            if not metric.measures:
                continue
            reading = _reading(metric, born, address.entity, _time_us(metric, payload, message))
            if isinstance(reading, Refusal):
                heard.refused.append(reading)
            else:
                heard.readings.append(reading)
        if unknown:
            node.missed = True
            shown = ", ".join(map(str, unknown[:5]))
            detail = (
                f"no birth that was seen says what alias {shown} means ({len(unknown)} metrics of {address.entity})"
            )
            heard.refused.append(Refusal(Reason.MISSING_KEY, detail))

    def _born(self, node: Node, address: Address, metric: Metric, unknown: list[int]) -> Born | None:
        """Return what is known of a metric; None, and its alias among the ``unknown``, if nothing is."""
        if metric.name is not None:
            known = node.by_name.get(address.device, {}).get(metric.name)
            return known or Born(metric.name, metric.datatype, metric.unit)
        if metric.alias is None:
            return None
        known = node.by_alias.get(metric.alias)
        if known is None or (node.missed and self._ask):
            unknown.append(metric.alias)
            return None
        return known

    def _node_dies(self, node: Node, address: Address, payload: Payload, message: MqttMessage, heard: Heard) -> None:
        """All metrics of a node and its devices are stale from now on, unless it is the will of an older session."""
        bd_seq = _bd_seq(payload)
        if node.bd_seq is not None and bd_seq is not None and bd_seq != node.bd_seq:
            heard.events.append("old_deaths")
            return
        for device in list(node.by_name):
            # the time in a will is when it was left with the broker, not when the node died (6.4.21)
            self._dies(node, address, device, message.received_us, heard)
        del self.nodes[address.group, address.node]

    def _dies(self, node: Node, address: Address, device: str, time_us: int, heard: Heard) -> None:
        entity = Address(address.group, "", address.node, device).entity
        for born in node.forget(device).values():
            if is_numeric(born.datatype):
                heard.readings.append(Reading(entity, born.name, time_us, None, born.unit, Quality.MISSING))
        heard.events.append("deaths")


def _reading(metric: Metric, born: Born, entity: str, time_us: int) -> Reading | Refusal:
    if len(entity) > LONGEST_NAME or len(born.name) > LONGEST_NAME:
        shown = shortened(f"{entity} {born.name}")
        return Refusal(Reason.WRONG_TYPE, f"name {shown}; allowed: {LONGEST_NAME} characters")
    quality, value = metric.quality, None
    if metric.value is not None and quality is not Quality.MISSING:
        value = number(metric.value, metric.datatype or born.datatype)
    if value is None:
        quality = Quality.MISSING
    return Reading(entity, born.name, time_us, value, metric.unit or born.unit, quality)


def _time_us(metric: Metric | None, payload: Payload, message: MqttMessage) -> int:
    """Return when a metric was measured: its own time, else the payload's, else when the message came."""
    for time_ms in (None if metric is None else metric.time_ms, payload.time_ms):
        if time_ms is not None:
            return min(time_ms * 1000, 2**62)
    return message.received_us


def _bd_seq(payload: Payload) -> float | None:
    """Return the number of a node's session, which its birth and its will share (6.4.18)."""
    return next((metric.value for metric in payload.metrics if metric.name == "bdSeq"), None)


def _about_the_node(name: str) -> bool:
    return name.startswith(_NOT_MEASURED)


def filters(groups: Sequence[str]) -> list[str]:
    """Return the topic filters for the messages of edge nodes; of all groups if none is named."""
    return [
        f"{NAMESPACE}/{group}/{kind}/+{'/+' if kind[0] == 'D' else ''}"
        for group in groups or ("+",)
        for kind in ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH")
    ]
