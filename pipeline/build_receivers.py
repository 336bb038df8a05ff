"""Builds the receivers from the configuration."""

from __future__ import annotations

from pathlib import Path

from connectors.alertmanager import Alertmanager
from connectors.errors import Misconfigured
from connectors.outbox import Outbox
from connectors.webhook import Webhook
from pipeline.alertmanager_alerts import AlertWriter
from pipeline.config import Config, ReceiverConfig
from pipeline.couriers import AlertmanagerCourier, FileCourier, WebhookCourier, instance_name
from pipeline.delivering import Courier, Delivery, Instance
from pipeline.incident import Kind, Tier
from pipeline.metrics_receivers import ReceiverMetrics
from pipeline.receiver_checks import problems
from pipeline.receivers import Receivers, Route

REPEAT_S = 60.0
"""How often an Alertmanager is told again of what is open."""
_FIRES_FOR_US = 300_000_000
"""Alertmanager's own resolve_timeout by default: a restart of this process within it ends no alert there."""


def build_receivers(config: Config, metrics: ReceiverMetrics, public_url: str) -> Receivers | None:
    """Return what delivers alerts to the receivers that ``config`` names; None where it names none.

    Args:
        config: everything.
        metrics: where to count.
        public_url: where people reach the console, for links.

    Raises:
        Misconfigured: if an address or the outbox can never be used. A receiver that is only away now is no error.
        OutboxUnavailable: if the outbox cannot be opened now.
    """
    if not config.outputs.receivers:
        return None
    outbox = Outbox(config.outputs.outbox, config.outputs.max_waiting)
    try:
        deliveries, routes = [], []
        for receiver in config.outputs.receivers:
            found = instances(receiver)
            routes.append(_route(receiver, found))
            for place, instance in enumerate(found):
                courier = _courier(receiver, place, instance, outbox, metrics, public_url)
                deliveries.append(Delivery(instance, courier, outbox, metrics))
        for route in routes:
            for queue in route.queues if route.repeats else ():
                for sibling in route.queues:
                    outbox.adopt(queue, sibling)
    except BaseException:
        outbox.close()
        raise
    return Receivers(outbox, routes, deliveries, metrics)


def instances(receiver: ReceiverConfig) -> list[Instance]:
    """Return the instances of a receiver, at least one.

    An Alertmanager's queues go by address, for each has its own state. A webhook's or file's goes by the receiver's
    name, so that what waits follows it to a new address.

    Raises:
        Misconfigured: if it lacks what its kind needs.
    """
    for key, problem, allowed in problems(receiver):
        raise Misconfigured(f"receiver {receiver.name!r}: {key} {problem}; allowed: {allowed}")
    if receiver.kind == "file":
        return [Instance(receiver.name, receiver.path.name if receiver.path else "", receiver.kind, receiver.name)]
    if receiver.kind == "webhook":
        return [Instance(receiver.name, instance_name(receiver.urls[0]), receiver.kind, receiver.name)]
    found: list[Instance] = []
    for url in receiver.urls:
        name = instance_name(url)
        again = sum(name == other.name.partition(" ")[0] for other in found)
        name = f"{name} {again + 1}" if again else name
        found.append(Instance(receiver.name, name, receiver.kind, f"{receiver.name} {name}"))
    return found


def console_url(config: Config, port: int | None = None) -> str:
    """Return where people reach the console: as configured, or host and port of this machine, ``port`` where given."""
    if config.http.public_url is not None:
        return config.http.public_url
    scheme = "https" if config.http.cert_file is not None else "http"
    host = f"[{config.http.host}]" if ":" in config.http.host else config.http.host
    return f"{scheme}://{host}:{config.http.port if port is None else port}"


def open_alertmanager(receiver: ReceiverConfig, place: int) -> Alertmanager:
    """Return the receiver's Alertmanager at that place in its ``urls``."""
    return Alertmanager(receiver.urls[place], receiver.timeout.total_seconds(), receiver.ca_file)


def open_webhook(receiver: ReceiverConfig) -> Webhook:
    """Return the receiver's webhook."""
    secret = receiver.secret.get_secret_value() if receiver.secret is not None else None
    return Webhook(receiver.urls[0], secret, receiver.timeout.total_seconds(), receiver.ca_file)


def _route(receiver: ReceiverConfig, found: list[Instance]) -> Route:
    return Route(
        queues=tuple(instance.queue for instance in found),
        streams=receiver.streams,
        kinds=frozenset(map(Kind, receiver.kinds)) or frozenset(Kind),
        least=Tier[receiver.tier.upper()],
        repeats=receiver.kind == "alertmanager",
    )


def _courier(
    receiver: ReceiverConfig, place: int, instance: Instance, outbox: Outbox, metrics: ReceiverMetrics, public_url: str
) -> Courier:
    if receiver.kind == "alertmanager":
        writer = AlertWriter(public_url, _FIRES_FOR_US)
        alertmanager = open_alertmanager(receiver, place)
        return AlertmanagerCourier(
            instance, outbox, metrics, alertmanager, writer, repeat_s=REPEAT_S, linger_s=receiver.linger.total_seconds()
        )
    if receiver.kind == "webhook":
        return WebhookCourier(instance, outbox, metrics, open_webhook(receiver))
    return FileCourier(instance, outbox, metrics, receiver.path or Path("-"))
