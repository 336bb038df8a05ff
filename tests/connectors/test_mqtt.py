"""The MQTT source on a real mosquitto: the contract of sources, and that nothing is lost when the broker is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.mqtt import MqttSource
from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.mqtt_messages import Broker
from connectors.reading import Quality
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.ingest.source_contract import CHECKS, Check, Identity, identity
from pipeline.ingest.trial import Trial
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher, Told

STEP_US = 60_000_000
RULE = MappingRule(topic="sensors/{entity}/{channel}", values=(ValueRule(value="$.v", time="$.t", unit="Cel"),))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MosquittoServer]:
    with MosquittoServer(tmp_path / "broker") as running:
        yield running


class Station:
    """A broker with a publisher, as the peer of a contract."""

    keeps = True

    def __init__(self, server: MosquittoServer, version: int | None) -> None:
        self.server = server
        self.version = version
        self._time_us = (time.time_ns() // 1000 // STEP_US - 100_000) * STEP_US
        self._subscribe()

    def _subscribe(self) -> None:
        """Make the session: a broker keeps nothing for those who were never there."""
        import tempfile

        with Trial(Path(tempfile.mkdtemp())) as trial:
            trial.run(self.source())
            trial.until(lambda: None in trial.reasons)

    def source(self) -> ReadingSource:
        return MqttSource(Broker("127.0.0.1", "contract", port=self.server.port, version=self.version), [RULE])

    def give(self, count: int) -> Sequence[Identity]:
        given: list[Identity] = []
        told: list[Told] = []
        for _ in range(count):
            self._time_us += STEP_US
            given.append(("dock-3", "temperature", self._time_us))
            told.append(("sensors/dock-3/temperature", payload(self._time_us)))
        with Publisher(self.server.port) as publisher:
            publisher.tell(told)
        return given

    def give_bad(self) -> None:
        with Publisher(self.server.port) as publisher:
            publisher.tell([("sensors/dock-3/temperature", b'{"v": "warm"')])

    def go_away(self) -> None:
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()


def payload(time_us: int, value: float = 12.5) -> bytes:
    return json.dumps({"v": value, "t": to_text(time_us)}).encode()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("version", [5, 4], ids=["mqtt5", "mqtt311"])
def test_it_keeps_the_contract(check: Check, version: int, server: MosquittoServer, tmp_path: Path) -> None:
    """Protects everything that the ingest process relies on, with both versions of the protocol."""
    check(Station(server, version), tmp_path / "life")
