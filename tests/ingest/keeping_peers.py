"""Peers that keep what they have until they are told that it was taken, each with what it was given: the truth."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from connectors.timestamps import to_text
from tests.connectors.pushing_peer import TOKEN, PushingPeer
from tests.ingest.ingest_process import Identity
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher
from tests.replay_server import ReplayServer
from tests.usgs_service import SITE, UsgsService, value


class KeepingPeer(Protocol):
    """The system outside."""

    name: str
    """Of the source that reads it."""
    section: str
    """That source, as YAML."""

    def give(self, count: int) -> Sequence[Identity]:
        """Let it have further readings; return what they are to become."""

    def close(self) -> None:
        """End it."""


class Pusher:
    """Pushes line protocol over HTTP, and sends again what was not answered."""

    name = "pushed"

    def __init__(self) -> None:
        self._peer = PushingPeer()
        self.section = f"""\
  - name: pushed
    kind: http
    port: {self._peer.port}
    senders: [{{name: peer, token: {TOKEN}}}]
    max_ahead: 3000d
"""

    def give(self, count: int) -> Sequence[Identity]:
        return self._peer.give(count)

    def answers(self) -> Counter[int]:
        """Return how often it was answered with each status."""
        return Counter(list(self._peer.answers))

    def close(self) -> None:
        self._peer.close()


class Gauge:
    """A USGS service that answers with pages; what it has was modified when it was given it.

    Every page costs a token of what the USGS allows, of which there are 200 to begin with: more readings want larger
    pages, a longer life rarer polls.
    """

    name = "gauges"

    def __init__(self, page_size: int = 50, every: str = "0.1s", share: float = 1.0) -> None:
        self._share = share
        self._server = ReplayServer()
        self._server.start()
        self._service = UsgsService(self._server, page_size=page_size)
        self._given = 0
        self._first_us = time.time_ns() // 1000 - 86_400_000_000
        self.section = f"""\
  - name: gauges
    kind: usgs
    url: {self._service.url}
    key: a-key-of-a-test
    sites: [{SITE}]
    every: {every}
    overlap: 3s
"""

    def give(self, count: int) -> Sequence[Identity]:
        count = max(round(count * self._share), 1)  # it looks at all that it has at every poll
        times_us = [self._first_us + 1_000_000 * (self._given + i) for i in range(count)]
        self._given += count
        modified = to_text(time.time_ns() // 1000).removesuffix("Z")
        self._service.rows += [value(to_text(t).removesuffix("Z"), "3.25", modified) for t in times_us]
        return [(SITE, "stage", time_us) for time_us in times_us]

    def close(self) -> None:
        self._server.close()


class Mosquitto:
    """A real mosquitto with a session that persists; what is published at QoS 1 waits there for its acknowledgement."""

    name = "broker"

    def __init__(self, folder: Path) -> None:
        self._broker = MosquittoServer(folder)
        self._publisher = Publisher(self._broker.port)
        self._given = 0
        self._first_us = time.time_ns() // 1000 - 86_400_000_000
        self.section = f"""\
  - name: broker
    kind: mqtt
    host: 127.0.0.1
    port: {self._broker.port}
    mappings: [{{topic: "sensors/{{entity}}", value: $.pm10, channel: pm10, time: $.time}}]
"""

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [self._first_us + 1000 * (self._given + i) for i in range(count)]
        self._given += count
        told = [("sensors/lamp-4", b'{"pm10": 21.5, "time": "%s"}' % to_text(t).encode()) for t in times_us]
        self._publisher.tell(told)
        return [("lamp-4", "pm10", time_us) for time_us in times_us]

    def close(self) -> None:
        self._publisher.close()
        self._broker.close()


class Feeding:
    """Gives all peers more and more, from a thread, and knows what was given. A context manager: it ends with it."""

    def __init__(self, peers: Sequence[KeepingPeer], *, count: int = 4, every_s: float = 0.05) -> None:
        self.truth: list[Identity] = []
        self.error: BaseException | None = None
        self._peers = peers
        self._count = count
        self._every_s = every_s
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeding", daemon=True)

    def finish(self) -> list[Identity]:
        """Give no more; return all that was given."""
        self._enough.set()
        self._thread.join(30.0)
        if self.error is not None:
            raise self.error
        return self.truth

    def _feed(self) -> None:
        try:
            while not self._enough.wait(self._every_s):
                for peer in self._peers:
                    self.truth += peer.give(self._count)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Feeding:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join(30.0)
