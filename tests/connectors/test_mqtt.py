"""The MQTT source on a real mosquitto: the contract of sources, and that nothing is lost when the broker is killed."""

from __future__ import annotations

import json
import tempfile
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
from pipeline.ingest.source_contract import CHECKS, Check, Identity, check_what_was_not_durable_comes_again
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
def test_it_keeps_the_contract(check: Check, server: MosquittoServer, tmp_path: Path) -> None:
    """Protects everything that the ingest process relies on."""
    check(Station(server, None), tmp_path / "life")


def test_it_keeps_the_contract_with_mqtt_3_1_1(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects users of brokers without MQTT 5: redelivery after a life in which nothing became durable."""
    check_what_was_not_durable_comes_again(Station(server, 4), tmp_path / "life")


def told(count: int, first: int = 0) -> list[Told]:
    """Return ``count`` messages of four stations, each of another time."""
    start_us = 1_795_190_400_000_000
    return [
        (f"sensors/dock-{number % 4}/temperature", payload(start_us + number // 4 * STEP_US, float(number)))
        for number in range(first, first + count)
    ]


def source(server: MosquittoServer, *rules: MappingRule, retained: bool = False) -> MqttSource:
    return MqttSource(Broker("127.0.0.1", "test", port=server.port), rules or (RULE,), retained=retained)


def test_counts_are_equal_on_both_sides_though_the_broker_is_killed(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects QoS 1 from end to end: what the broker acknowledged and had written down arrives, once, in order."""
    with Trial(tmp_path / "life") as trial:
        trial.run(source(server))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            sent = publisher.tell(told(400))
            trial.until(lambda: len(trial.readings()) >= sent)
            trial.reasons.clear()
            server.save()
            server.kill()
            trial.until(lambda: any(trial.reasons))
            server.start()
            sent += publisher.tell(told(400, first=400))
        trial.until(lambda: len(trial.readings()) >= sent)
        values = [reading.value for reading in trial.readings()]
        assert sorted(values) == [float(number) for number in range(sent)]  # type: ignore[type-var]
        for entity in range(4):
            own = [r.value for r in trial.readings() if r.entity == f"dock-{entity}"]
            assert own == sorted(own)  # type: ignore[type-var]
        assert trial.count("events", event="reconnects") == 1


def test_what_waits_for_durability_when_the_connection_breaks_is_not_read_twice(
    server: MosquittoServer, tmp_path: Path
) -> None:
    """Protects readings whose time is their arrival: a redelivery within a life is recognised, not a second reading."""
    rule = MappingRule(topic="sensors/{entity}/{channel}")
    with Trial(tmp_path / "life", max_spool=1) as trial:
        trial.run(source(server, rule))
        trial.until(lambda: None in trial.reasons)
        trial.kafka.up = False
        with Publisher(server.port) as publisher:
            publisher.tell([("sensors/dock-3/stage", b"%d" % number) for number in range(10)])
        trial.until(lambda: trial.registry.get_sample_value("vedette_ingest_spool_full_total"))
        trial.reasons.clear()
        server.stop()
        trial.until(lambda: any(trial.reasons))
        server.start()
        trial.until(lambda: trial.count("events", event="redelivered") > 0)
        trial.kafka.up = True
        trial.until(lambda: len(trial.readings()) >= 10)
        with Publisher(server.port) as publisher:
            publisher.tell([("sensors/dock-3/stage", b"10")])
        trial.until(lambda: len(trial.readings()) >= 11)
        assert [reading.value for reading in trial.readings()] == [float(number) for number in range(11)]


def test_retained_messages_are_old_unless_asked_for(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects from last year's value that a broker kept; and gives it to those who want it."""
    with Publisher(server.port) as publisher:
        publisher.tell(told(1), retain=True)
    for retained, wanted in ((False, [1.0]), (True, [0.0, 1.0])):
        with Trial(tmp_path / str(retained)) as trial:
            trial.run(source(server, retained=retained))
            trial.until(lambda trial=trial: None in trial.reasons)  # type: ignore[misc]
            with Publisher(server.port) as publisher:
                publisher.tell(told(1, first=1))
            trial.until(lambda trial=trial, wanted=wanted: len(trial.readings()) >= len(wanted))  # type: ignore[misc]
            assert sorted(reading.value for reading in trial.readings()) == wanted  # type: ignore[type-var]


def test_an_old_value_without_a_time_is_suspect(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects from yesterday's value at today's time: scored, but nothing is learned from it."""
    with Publisher(server.port) as publisher:
        publisher.tell([("any/dock/level", b"1.5"), *told(1)], retain=True)
    with Trial(tmp_path / "life") as trial:
        trial.run(source(server, RULE, MappingRule(topic="any/{entity}/{channel}"), retained=True))
        trial.until(lambda: len(trial.readings()) == 2)
        assert {r.value: r.quality for r in trial.readings()} == {1.5: Quality.SUSPECT, 0.0: Quality.UNKNOWN}


def test_a_changed_mapping_leaves_no_subscription_behind(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects from a session that for ever brings what nobody reads any more."""
    other = MappingRule(topic="other/{entity}/{channel}")
    for rule in (RULE, other):
        with Trial(tmp_path / "life") as trial:
            trial.run(source(server, rule))
            trial.until(lambda trial=trial: None in trial.reasons)  # type: ignore[misc]
            trial.until(lambda trial=trial, rule=rule: rule.topic[:5] in (trial.outlet.cursor() or ""))  # type: ignore[misc]
            if rule is other:
                with Publisher(server.port) as publisher:
                    publisher.tell([*told(3), ("other/dock/stage", b"1")])
                trial.until(lambda trial=trial: len(trial.readings()) == 1)  # type: ignore[misc]
                assert trial.count("events", event="unmapped") == 0


def test_all_kinds_of_payload_come_through(server: MosquittoServer, tmp_path: Path) -> None:
    """Protects the way from a broker to readings for numbers, canonical JSON, SenML, and what is none of them."""
    rule = MappingRule(topic="any/{entity}/{channel}")
    with Trial(tmp_path / "life") as trial:
        trial.run(source(server, rule))
        trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell(
                [
                    ("any/dock/level", b"1.59"),
                    ("any/dock/pump", b"ON"),
                    ("any/dock/x", b'{"channel":"ph","time":"2026-11-20T16:00:00Z","value":7.4,"entity":"well"}'),
                    ("any/dock/y", b'[{"bn":"urn:dev:1:","bt":1795190400,"n":"water","u":"Cel","v":11.2}]'),
                    ("any/dock/z", b"warm"),
                    ("any/dock/level", b"unavailable"),
                ]
            )
        trial.until(lambda: len(trial.readings()) >= 5 and trial.dead_letters())
        found = [(r.entity, r.channel, r.value) for r in trial.readings()]
        assert sorted(found, key=repr) == [
            ("dock", "level", 1.59),
            ("dock", "level", None),
            ("dock", "pump", 1.0),
            ("urn:dev:1", "water", 11.2),
            ("well", "ph", 7.4),
        ]
        assert [r.quality for r in trial.readings() if r.value is None] == [Quality.MISSING]
        ((raw, headers),) = trial.dead_letters()
        assert raw == b"warm"
        assert headers["vedette-reason"] == "wrong_type"
        assert "any/dock/z" in headers["vedette-detail"]
