"""Everything that can be wrong with a record, through a broker: each to the dead letters, the rest unaffected."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.decoding import KEPT_BYTES
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from pipeline.build import build_daemon
from pipeline.config import Config, loads
from pipeline.daemon import Daemon
from pipeline.exit_codes import OK
from pipeline.metrics import Metrics
from tests.end_to_end.kafka_parts import Record, produce, read_all, wait_until

TOPIC, LETTERS = "sensors.air", "letters"
NOW = datetime.now(UTC).replace(microsecond=0)
GOOD = {"entity": "harbour", "channel": "pm25", "time": (NOW - timedelta(minutes=2)).isoformat(), "value": 12.5}
CONFIG = """
kafka: {{bootstrap_servers: '{servers}', group: {group}}}
outputs: {{alerts_topic: alerts, dead_letter_topic: letters}}
state: {folder}
streams:
  - name: air
    topics: [{topic}]
    step: 1m
    max_entities: 20
    channels: [{{name: pm25, unit: ug/m3}}, {{name: temperature, unit: Cel}}]
"""


def but(**changes: Any) -> bytes:
    """Return the good reading with changes; a value of ``...`` takes the key away."""
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}).encode()


def raw_value(text: str) -> bytes:
    """Return the good reading with ``text`` where its value stands."""
    return but(value="@").replace(b'"@"', text.encode())


EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "org.example.reading"}
CE_HEADERS = [("ce_specversion", b"1.0"), ("ce_type", b"t"), ("ce_id", b"7"), ("ce_source", b"/s")]
SENML = [{"bn": "quay/", "bt": round(NOW.timestamp()) - 60, "n": "pm25", "u": "ug/m3", "v": 3.5}]

GOOD_RECORDS = {
    "canonical": Record(but()),
    "a list of two": Record(b"[" + but(entity="pier") + b"," + but(entity="pier", channel="temperature") + b"]"),
    "entity as the key": Record(but(entity=...), b"mole"),
    "another unit that converts": Record(but(channel="temperature", unit="K", value=290.0)),
    "known to be missing": Record(but(value=None)),
    "SenML": Record(json.dumps(SENML).encode()),
    "CloudEvent, structured": Record(json.dumps({**EVENT, "data": GOOD}).encode()),
    "CloudEvent, binary": Record(but(), None, [*CE_HEADERS, ("content-type", b"application/json")]),
    "keys that we do not know": Record(but(colour="red", nested={"a": [1, 2]})),
}
GOOD_READINGS = 10
BAD_RECORDS = {
    "cut JSON": (Record(b'{"entity": "harb'), "invalid_json"),
    "no JSON": (Record(b"\xff\xfe\x00PK"), "invalid_json"),
    "JSON as deep as it gets": (Record(b"[" * 100_000), "invalid_json"),
    "empty": (Record(b""), "empty"),
    "an empty list": (Record(b"[]"), "empty"),
    "tombstone": (Record(None, b"harbour"), "tombstone"),
    "value as text": (Record(but(value="12.5")), "wrong_type"),
    "value as a list": (Record(but(value=[1])), "wrong_type"),
    "value as a boolean": (Record(but(value=True)), "wrong_type"),
    "channel as a number": (Record(but(channel=3)), "wrong_type"),
    "a bare number": (Record(b"17"), "wrong_type"),
    "time as a number": (Record(but(time=1_795_190_400)), "wrong_type"),
    "no channel": (Record(but(channel=...)), "missing_key"),
    "no value": (Record(but(value=...)), "missing_key"),
    "no time": (Record(but(time=...)), "missing_key"),
    "no entity and no key": (Record(but(entity=...)), "missing_key"),
    "NaN": (Record(raw_value("NaN")), "not_finite"),
    "infinity": (Record(raw_value("-Infinity")), "not_finite"),
    "a number beyond all": (Record(raw_value("1e999")), "not_finite"),
    "not a time": (Record(but(time="yesterday")), "bad_time"),
    "the 30th of February": (Record(but(time="2026-02-30T00:00:00Z")), "bad_time"),
    "before computers": (Record(but(time="0001-01-01T00:00:00Z")), "bad_time"),
    "the end of time": (Record(but(time="9999-12-31T23:59:59Z")), "bad_time"),
    "naive time": (Record(but(time="2026-11-20T16:00:00")), "naive_time"),
    "a clock that runs ahead": (Record(but(time=(NOW + timedelta(days=2)).isoformat())), "too_far_ahead"),
    "quality": (Record(but(quality="lovely")), "bad_quality"),
    "unknown channel": (Record(but(channel="pm52")), "unknown_channel"),
    "unit of something else": (Record(but(unit="Cel")), "unit_mismatch"),
    "unknown unit": (Record(but(unit="furlong")), "unit_mismatch"),
    "5 MB": (Record(b'{"entity": "' + b"x" * 5_000_000 + b'"}'), "too_large"),
    "one bad reading in a list": (Record(b"[" + but() + b"," + but(value="x") + b"]"), "wrong_type"),
    "CloudEvent without data": (Record(json.dumps(EVENT).encode()), "empty"),
    "CloudEvent of another version": (
        Record(json.dumps({**EVENT, "specversion": "0.3", "data": GOOD}).encode()),
        "unsupported",
    ),
}


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    """A broker inside this process."""
    with EmbeddedBroker() as running:
        yield running


def config_for(broker: EmbeddedBroker, folder: Path, topic: str) -> Config:
    """Return a configuration; every topic has a group of its own."""
    text = CONFIG.format(servers=broker.bootstrap_servers, folder=folder, topic=topic, group=f"of-{topic}")
    return loads(text, {})


def run_through(broker: EmbeddedBroker, config: Config, records: int, timeout_s: float = 60.0) -> Daemon:
    """Run the real daemon until it has handled so many records, and leave in order."""
    daemon = build_daemon(config, embedded=True, metrics=Metrics())

    def handled() -> bool:
        daemon.turn()
        return sum(daemon.handled.values()) >= records

    wait_until(handled, f"{records} records handled", timeout_s)
    assert daemon.shut_down() == OK
    return daemon


def value_of(daemon: Daemon, metric: str, **labels: str) -> float:
    """Return a metric; 0 where it was never counted."""
    return daemon.metrics.registry.get_sample_value(f"vedette_{metric}", labels) or 0.0


@pytest.fixture(scope="module")
def outcome(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Daemon, list[Record]]:
    """The daemon after all good and bad records, and what lies in the dead-letter topic."""
    config = config_for(broker, tmp_path_factory.mktemp("state"), TOPIC)
    ensure_topics(broker.bootstrap_servers, {TOPIC: 4, LETTERS: 4}, settings=EmbeddedBroker.settings)
    good, bad = list(GOOD_RECORDS.values()), [record for record, _ in BAD_RECORDS.values()]
    mixed = [record for i in range(len(bad)) for record in (good[i : i + 1] + bad[i : i + 1])]
    count = produce(broker.bootstrap_servers, TOPIC, mixed, EmbeddedBroker.settings)
    daemon = run_through(broker, config, count)
    return daemon, read_all(broker.bootstrap_servers, LETTERS, EmbeddedBroker.settings)


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_each_bad_record_is_a_dead_letter(outcome: tuple[Daemon, list[Record]], name: str) -> None:
    """Protects whoever sent it: the bytes are there, with the reason, a detail and the origin."""
    record, reason = BAD_RECORDS[name]
    kept = (record.value or b"")[:KEPT_BYTES]
    letters = [letter for letter in outcome[1] if (letter.value or b"") == kept]
    reasons = [dict(letter.headers)["vedette-reason"].decode() for letter in letters]
    assert reason in reasons
    headers = dict(letters[0].headers)
    assert headers["vedette-topic"] == TOPIC.encode()
    assert headers["vedette-partition"].isdigit()
    assert headers["vedette-offset"].isdigit()
    assert headers["vedette-detail"]


def test_each_bad_record_is_one_dead_letter(outcome: tuple[Daemon, list[Record]]) -> None:
    """Protects from letters that are lost or doubled, and from good records among them."""
    assert len(outcome[1]) == len(BAD_RECORDS)
    origins = {
        (dict(letter.headers)["vedette-partition"], dict(letter.headers)["vedette-offset"]) for letter in outcome[1]
    }
    assert len(origins) == len(BAD_RECORDS)


def test_the_good_ones_are_read_all_the_same(outcome: tuple[Daemon, list[Record]]) -> None:
    """Protects the rest: all formats are read, into the entities that they name, and counted."""
    daemon, _ = outcome
    assert value_of(daemon, "readings_total", stream="air") == GOOD_READINGS
    assert set(daemon.streams[0].entities) == {"harbour", "pier", "mole", "quay"}
    for reason in {reason for _, reason in BAD_RECORDS.values()}:
        expected = sum(of == reason for _, of in BAD_RECORDS.values())
        assert value_of(daemon, "dead_letters_total", stream="air", reason=reason) == expected, reason


def test_more_entities_than_allowed_are_refused(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Protects memory from hostile names: the first are watched, the others are dead letters."""
    topic = "sensors.names"
    records = [Record(but(entity=f"station-{i}"), partition=0) for i in range(50)]
    count = produce(broker.bootstrap_servers, topic, records, EmbeddedBroker.settings)
    daemon = run_through(broker, config_for(broker, tmp_path, topic), count)
    assert len(daemon.streams[0].entities) == 20
    assert value_of(daemon, "dead_letters_total", stream="air", reason="too_many_entities") == 30


def test_a_flood_leaves_memory_flat(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Protects the process from a sender gone mad: 20,000 bad records of every kind, and hardly a byte more after."""
    topic = "sensors.flood"
    kinds = [record for record, _ in BAD_RECORDS.values() if record.value is not None and len(record.value) < 1000]
    daemon = build_daemon(config_for(broker, tmp_path, topic), embedded=True, metrics=Metrics())
    sent = 0

    def flood(count: int) -> None:
        nonlocal sent
        hostile = [Record(but(channel=f"channel-{sent + i}", unit=f"unit-{i}")) for i in range(0, count, 4)]
        records = [*hostile, *(kinds[i % len(kinds)] for i in range(count - len(hostile)))]
        sent += produce(broker.bootstrap_servers, topic, records, EmbeddedBroker.settings)

        def handled() -> bool:
            daemon.turn()
            return sum(daemon.handled.values()) >= sent

        wait_until(handled, "the flood is handled")
        daemon.commit(force=True)

    flood(2_000)  # caches fill, code is compiled
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        flood(20_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000_000
    refused = sum(
        sample.value
        for metric in daemon.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "vedette_dead_letters_total"
    )
    assert refused == sent
    assert daemon.shut_down() == OK
