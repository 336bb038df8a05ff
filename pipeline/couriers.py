"""Couriers: how messages get to a receiver of each kind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from connectors.alertmanager import Alert, Alertmanager
from connectors.errors import ConnectorError, ReceiverRefused, ReceiverUnavailable
from connectors.json_lines import JsonLinesSink
from connectors.outbox import Outbox
from connectors.outbox_rows import Told, Waiting
from connectors.webhook import Webhook
from pipeline.alertmanager_alerts import AlertWriter, labels
from pipeline.delivering import Instance, put_off_us
from pipeline.incident import decode
from pipeline.metrics_receivers import ReceiverMetrics

log = structlog.get_logger("vedette.couriers")

_NEVER_S = 3600.0


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


class _Courier:
    """What all couriers do with the outbox."""

    most = 1

    def __init__(
        self, instance: Instance, outbox: Outbox, metrics: ReceiverMetrics, now_us: Callable[[], int] = _wall_clock_us
    ) -> None:
        self._instance = instance
        self._outbox = outbox
        self._metrics = metrics
        self._now_us = now_us

    def attend(self) -> bool:
        """Have nothing to do beside messages."""
        return False

    def rest_s(self) -> float:
        """Need not be asked again."""
        return _NEVER_S

    def hurry(self) -> None:
        """Have nothing to do again."""

    def abort(self) -> None:
        """Have nothing that could hang."""

    def _arrived(self, messages: Sequence[Waiting]) -> None:
        now_us = self._now_us()
        for message in messages:
            delay_s = (now_us - message.added_us) / 1e6
            self._metrics.delivered(self._instance.receiver, self._instance.name, delay_s)

    def _set_aside(self, message: Waiting, why: str) -> None:
        log.error(
            "a receiver refuses a message; it was set aside", receiver=self._instance.receiver,
            instance=self._instance.name, incident=message.incident, sequence=message.sequence, error=why,
        )  # fmt: skip
        self._outbox.refused(self._instance.queue, message, self._now_us(), why)
        self._metrics.refused(self._instance.receiver, self._instance.name)


class WebhookCourier(_Courier):
    """Posts messages one by one. One that the other side fails on is put off, so that it holds up only its incident."""

    most = 20

    def __init__(
        self, instance: Instance, outbox: Outbox, metrics: ReceiverMetrics, webhook: Webhook,
        now_us: Callable[[], int] = _wall_clock_us,
    ) -> None:  # fmt: skip
        """Take the parts ready made."""
        super().__init__(instance, outbox, metrics, now_us)
        self._webhook = webhook

    def carry(self, messages: Sequence[Waiting]) -> int:
        """Post them; see ``Courier``."""
        arrived = 0
        for message in messages:
            try:
                self._webhook.post(message.body, f"{message.incident}:{message.sequence}", self._now_us() / 1e6)
            except ReceiverRefused as error:
                self._set_aside(message, str(error))
                continue
            except ReceiverUnavailable as error:
                if error.cause in ("failing", "timeout"):  # perhaps only with this one
                    self._outbox.put_off(message, put_off_us(message.tries, self._now_us()))
                raise
            self._outbox.delivered([message])
            self._arrived([message])
            arrived += 1
        return arrived

    def abort(self) -> None:
        """End the exchange that is under way."""
        self._webhook.abort()

    def close(self) -> None:
        """Let go of the connection."""
        self._webhook.close()


class FileCourier(_Courier):
    """Appends messages to a file as JSON lines; one that was moved away, by logrotate say, is begun anew."""

    most = 500

    def __init__(self, instance: Instance, outbox: Outbox, metrics: ReceiverMetrics, path: Path) -> None:
        """Append to ``path``, whose folder exists when the first message comes."""
        super().__init__(instance, outbox, metrics)
        self._path = path
        self._sink: JsonLinesSink | None = None
        self._file: tuple[int, int] | None = None

    def carry(self, messages: Sequence[Waiting]) -> int:
        """Write them; see ``Courier``."""
        try:
            sink = self._opened()
            for message in messages:
                sink.send(message.incident, message.body)
            sink.flush(0.0)
        except ConnectorError as error:
            self._abandon()  # what it holds is in the outbox still
            raise ReceiverUnavailable(str(error), "unwritable") from error
        self._outbox.delivered(messages)
        self._arrived(messages)
        return len(messages)

    def close(self) -> None:
        """Close the file."""
        self._abandon()

    def _opened(self) -> JsonLinesSink:
        if self._sink is not None and self._file != _identity(self._path):
            self._abandon()
        if self._sink is None:
            self._sink = JsonLinesSink(self._path)
            self._file = _identity(self._path)
        return self._sink

    def _abandon(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(ConnectorError):
                sink.close()


class AlertmanagerCourier(_Courier):
    """Tells one Alertmanager of incidents, and again and again of those that are open, since it forgets them otherwise.

    An end follows its beginning after ``linger_s`` at the earliest: Alertmanager notifies nobody of what ended before
    its group_wait was over, and after an outage both would come at once. One that was away may have forgotten the
    beginning, so the time counts from when it was told again.
    """

    most = 200

    def __init__(
        self, instance: Instance, outbox: Outbox, metrics: ReceiverMetrics, alertmanager: Alertmanager,
        writer: AlertWriter, *, repeat_s: float = 60.0, linger_s: float = 35.0, settle_s: float = 20.0,
        now_us: Callable[[], int] = _wall_clock_us, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Take the parts ready made.

        Args:
            alertmanager: one instance.
            writer: finds labels and words.
            repeat_s: how often open incidents are told again.
            linger_s: shortest time that an incident is open there; longer than group_wait, which is 30 s by default.
            settle_s: so long after the start nothing is told again, unless ``hurry`` is called: what went to another
                process meanwhile is known as soon as partitions are assigned.
            now_us: the wall clock.
            monotonic: the clock for repeating.
        """
        super().__init__(instance, outbox, metrics, now_us)
        self._alertmanager = alertmanager
        self._writer = writer
        self._repeat_s = repeat_s
        self._linger_us = round(linger_s * 1e6)
        self._monotonic = monotonic
        self._repeat_at_s = monotonic() + settle_s
        self._knows_us = now_us()  # since when it knows what is open, at the earliest
        self._may_have_forgotten = True

    def carry(self, messages: Sequence[Waiting]) -> int:
        """Tell of them; see ``Courier``."""
        now_us = self._now_us()
        told = self._outbox.told(self._instance.queue, [message.incident for message in messages])
        alerts: list[Alert] = []
        carried: list[Waiting] = []
        for message in messages:
            before = told.get(message.incident)
            if message.ends and before is not None and before.open:
                until_us = max(before.since_us, self._knows_us) + self._linger_us
                if now_us < until_us:
                    self._outbox.put_off(message, until_us, failed=False)
                    continue
            try:
                alerts += self._alerts(message, before, now_us)
            except ValueError as error:
                self._set_aside(message, str(error))
                continue
            carried.append(message)
        return self._tell(carried, alerts) if carried else 0

    def attend(self) -> bool:
        """Tell again of what is open, when it is time."""
        now_s = self._monotonic()
        if now_s < self._repeat_at_s:
            return False
        told = self._repeat()
        self._repeat_at_s = now_s + self._repeat_s  # not where it failed: then as soon as it is back
        return told

    def hurry(self) -> None:
        """Tell again of what is open as soon as possible."""
        self._repeat_at_s = self._monotonic()

    def rest_s(self) -> float:
        """Return how long it is until the next telling."""
        return max(self._repeat_at_s - self._monotonic(), 0.0)

    def abort(self) -> None:
        """End the exchange that is under way."""
        self._alertmanager.abort()

    def close(self) -> None:
        """Let go of the connection."""
        self._alertmanager.close()

    # ---- inner ----

    def _alerts(self, message: Waiting, before: Told | None, now_us: int) -> list[Alert]:
        """Return what to tell: the end of the alert with the labels before, if they have changed, and the message."""
        said = decode(message.body)
        alert = self._writer.write(said, now_us)
        if before is not None and before.open:
            earlier = decode(before.body)
            if labels(earlier) != alert.labels:
                return [self._writer.over(earlier, now_us), alert]
        return [alert]

    def _tell(self, messages: Sequence[Waiting], alerts: Sequence[Alert]) -> int:
        try:
            self._post(alerts)
        except ReceiverRefused as error:
            if len(messages) == 1:
                self._set_aside(messages[0], str(error))
                return 0
            return sum(self.carry([message]) for message in messages)
        self._outbox.told_of(self._instance.queue, messages, self._now_us())
        self._arrived(messages)
        return len(messages)

    def _repeat(self) -> bool:
        after = ""
        while page := self._outbox.held_open(self._instance.queue, after, self.most):
            after = page[-1].incident
            now_us = self._now_us()
            alerts = [self._writer.write(decode(told.body), now_us) for told in page]
            try:
                self._post(alerts)
            except ReceiverRefused:
                for place, why in self._alertmanager.post_each(alerts).items():
                    log.error("an Alertmanager refuses an alert", incident=page[place].incident, error=why)
                    self._outbox.end(self._instance.queue, page[place].incident)
            self._metrics.repeated(self._instance.receiver, self._instance.name, len(page))
        if self._may_have_forgotten:
            self._may_have_forgotten, self._knows_us = False, self._now_us()
        return bool(after)

    def _post(self, alerts: Sequence[Alert]) -> None:
        """Tell it; where it does not answer it may have been started anew, and know nothing of what it was told."""
        try:
            self._alertmanager.post(alerts)
        except ReceiverUnavailable:
            self._repeat_at_s = self._monotonic()
            self._may_have_forgotten = True
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file lies at the path; None: there is none, or it is stdout."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def instance_name(url: str) -> str:
    """Return host and port of an address.

    >>> instance_name("https://am-1:9093/path?key=1")
    'am-1:9093'
    """
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]
