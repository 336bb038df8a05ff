"""Receivers ready made for tests: quick to try again, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from connectors.alertmanager import Alertmanager
from connectors.outbox import Outbox
from connectors.webhook import Webhook
from pipeline.alertmanager_alerts import AlertWriter
from pipeline.couriers import AlertmanagerCourier, FileCourier, WebhookCourier, instance_name
from pipeline.delivering import Courier, Delivery, Instance
from pipeline.incident import Tier
from pipeline.metrics_receivers import ReceiverMetrics
from pipeline.receivers import Receivers, Route

CONSOLE = "https://console.example"


class Numbers:
    """Metrics in a registry of their own, and their values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ReceiverMetrics(
            lambda name, text, *labels: Counter(f"vedette_{name}", text, labels, registry=self.registry),
            lambda name, text, *labels: Gauge(f"vedette_{name}", text, labels, registry=self.registry),
            lambda name, text, buckets, *labels: Histogram(
                f"vedette_{name}", text, labels, registry=self.registry, buckets=buckets
            ),
        )

    def value(self, name: str, receiver: str = "", instance: str = "", **labels: str) -> float | None:
        """Return a metric's value."""
        who = {"receiver": receiver, "address": instance} if receiver else {}
        return self.registry.get_sample_value(f"vedette_{name}", who | labels)


class Desk:
    """Makes receivers over one outbox; waits are short, so that tests are, and long ones end by ``pass_time``."""

    def __init__(self, folder: Path, *, max_waiting: int = 0) -> None:
        self.folder = folder
        self.numbers = Numbers()
        self.outbox = Outbox(folder / "outbox.db", max_waiting)
        self.routes: list[Route] = []
        self.deliveries: list[Delivery] = []
        self._ahead_us = 0

    def now_us(self) -> int:
        """Return the time, and what was passed of it beside."""
        return time.time_ns() // 1000 + self._ahead_us

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass at once for those who deliver."""
        self._ahead_us += round(seconds * 1e6)
        for delivery in self.deliveries:
            delivery.wake()

    def alertmanager(
        self, *urls: str, timeout_s: float = 10.0, repeat_s: float = 3600.0, linger_s: float = 0.0,
        fires_for_s: float = 300.0, settle_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Add an Alertmanager called "ops" with these instances."""
        queues = []
        for url in urls:
            instance = Instance("ops", instance_name(url), "alertmanager", f"ops {instance_name(url)}")
            writer = AlertWriter(CONSOLE, round(fires_for_s * 1e6))
            self._deliver(
                instance,
                AlertmanagerCourier(
                    instance, self.outbox, self.numbers.metrics, Alertmanager(url, timeout_s), writer,
                    repeat_s=repeat_s, linger_s=linger_s, settle_s=settle_s, now_us=self.now_us,
                ),
            )  # fmt: skip
            queues.append(instance.queue)
        self.routes.append(Route(tuple(queues), repeats=True))

    def webhook(self, url: str, *, secret: str = "s3cret", timeout_s: float = 10.0, least: Tier = Tier.ALERT) -> None:
        """Add a webhook called "hook"."""
        instance = Instance("hook", instance_name(url), "webhook", "hook")
        self._deliver(
            instance, WebhookCourier(instance, self.outbox, self.numbers.metrics, Webhook(url, secret, timeout_s))
        )
        self.routes.append(Route(("hook",), least=least))

    def file(self, path: Path, streams: Sequence[str] = ("*",)) -> None:
        """Add a file called "file"."""
        instance = Instance("file", path.name, "file", "file")
        self._deliver(instance, FileCourier(instance, self.outbox, self.numbers.metrics, path))
        self.routes.append(Route(("file",), streams=tuple(streams)))

    def open(self) -> Receivers:
        """Return the receivers, started."""
        receivers = Receivers(self.outbox, self.routes, self.deliveries, self.numbers.metrics, retry_s=0.01)
        receivers.start()
        return receivers

    def _deliver(self, instance: Instance, courier: Courier) -> None:
        delivery = Delivery(
            instance, courier, self.outbox, self.numbers.metrics, first_wait_s=0.01, longest_wait_s=0.05,
            now_us=self.now_us,
        )  # fmt: skip
        self.deliveries.append(delivery)


def wait_until(done: Callable[[], bool]) -> None:
    """Return when ``done`` is True; fail after a while."""
    deadline_s = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.005)
