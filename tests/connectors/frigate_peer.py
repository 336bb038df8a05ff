"""A simulated Frigate, a real mosquitto and a clock in a test's hands, with a source on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.frigate import FrigateSource
from connectors.frigate_objects import end_of
from connectors.frigate_watch import FrigateWatch
from connectors.http_service import HttpService
from connectors.mqtt_messages import Broker, MqttMessage, Taken
from connectors.reading import Reading
from connectors.source import Outlet
from pipeline.frigate_api import FrigateApi
from pipeline.frigate_simulation import SimulatedFrigate
from pipeline.ingest.source_contract import Identity
from pipeline.ingest.trial import Trial
from tests.mosquitto_server import MosquittoServer

PATIENCE_S = 60.0
GRACE_S = 10.0
Truth = dict[tuple[str, str, int], float]
"""Entity, channel and time."""


class Clock:
    """Stands until it is moved; epoch seconds. Hours ago, so that nothing of it is in the future."""

    def __init__(self) -> None:
        self.now = (time.time() // 3600 - 5) * 3600 + GRACE_S + 2.0

    def us(self) -> int:
        """Return microseconds."""
        return round(self.now * 1e6)

    @property
    def minute(self) -> int:
        """Return the minute that is."""
        return int(self.now // 60)

    def next_minute(self) -> None:
        """Go on to the next minute, far enough that the one before is told."""
        self.now = (self.minute + 1) * 60.0 + GRACE_S + 2.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain: {what}"
        time.sleep(0.005)


class NotingWatch(FrigateWatch):
    """Notes what was said to see whether it is heard."""

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        taken = super().read(messages)
        noted = [message.topic for message in messages if "/sentinel/" in message.topic]
        if noted:
            self.noted = noted[-1]
        return taken

    noted = ""


class NotingSource(FrigateSource):
    """A source whose hearing can be observed."""

    watch_type = NotingWatch
    left = False
    """Whether it has left ``run``."""

    def run(self, outlet: Outlet) -> None:
        try:
            super().run(outlet)
        finally:
            self.left = True


class FrigateWorld:
    """Everything that a source of Frigate needs; a context manager.

    Args:
        folder: for mosquitto.
        http: whether Frigate's API can be asked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        http: bool = True,
        cameras: Mapping[str, Sequence[str]] | None = None,
        labels: Sequence[str] = ("person",),
        reviews: bool = True,
        padding_s: float = 0.0,
    ) -> None:
        self._closing = ExitStack()
        self.clock = Clock()
        self.broker = self._closing.enter_context(MosquittoServer(folder / "mosquitto"))
        self.frigate = self._closing.enter_context(
            SimulatedFrigate(self.broker.port, cameras or {"dock": ["gate"]}, labels, now=lambda: self.clock.now)
        )
        self.api = self._closing.enter_context(FrigateApi(self.frigate, padding_s=padding_s)) if http else None
        self._reviews = reviews
        self.running: NotingSource | None = None
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def source(self, **options: object) -> NotingSource:
        """Return a new source, as after a start of the process."""
        service = None if self.api is None else HttpService(base_url=self.api.url, timeout_s=5.0, tries=1)
        settings: dict[str, object] = {"reviews": self._reviews, "every_s": 60.0, "look_s": 0.02, **options}
        self.running = NotingSource(
            Broker("127.0.0.1", "vedette-frigate", self.broker.port, keepalive_s=5),
            service,
            now_us=self.clock.us,
            **settings,  # type: ignore[arg-type]
        )
        return self.running

    def listens(self) -> bool:
        """Whether the source knows Frigate to be there."""
        watch = None if self.running is None else self.running.watch
        return watch is not None and watch.presence.since_us is not None

    def await_listening(self) -> None:
        """Wait until the source hears Frigate."""
        until(self.listens, "the source hears Frigate")

    def heard(self) -> None:
        """Wait until the source has heard all that was said, by what is said last."""
        watch = self.running.watch if self.running is not None else None
        assert isinstance(watch, NotingWatch)
        self._said += 1
        topic = f"sentinel/{self._said}"
        self.frigate.say(topic, b"0")
        until(lambda: watch.noted == f"frigate/{topic}", "the source has heard all")

    def minute(self) -> None:
        """Let a minute pass that was heard to its end."""
        self.heard()
        self.clock.next_minute()

    def truth(self, minutes: range) -> Truth:
        """Return the truth of some minutes."""
        return {
            (entity, channel, end_of(minute)): value
            for minute in minutes
            for (entity, channel), value in self.frigate.truth(minute).items()
        }


def final(trial: Trial) -> dict[Identity, Reading]:
    """Return of each reading the version with the latest result time: what a reader downstream ends up with."""
    found: dict[Identity, Reading] = {}
    for one in trial.readings():
        known = found.get((one.entity, one.channel, one.time_us))
        assert one.result_time_us is not None
        if known is None or one.result_time_us > (known.result_time_us or 0):
            found[one.entity, one.channel, one.time_us] = one
    return found
