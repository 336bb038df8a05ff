"""Protects the way from others' topics: what is committed and when, what comes again, and who waits for whom."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors import foreign_topics
from connectors.errors import ConnectorError
from connectors.foreign_topics import ForeignTopics
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_local import LocalKafka
from connectors.spool import Message, Parcel
from pipeline.ingest.kinds.kafka import KafkaOptions
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.connectors.foreign_topic import PARTITION, Topic, real_topic
from tests.connectors.foreign_values import AVRO, avro, framed
from tests.schema_registry import SchemaRegistryServer


@pytest.fixture
def topic(embedded: EmbeddedBroker) -> Topic:
    return Topic(embedded.bootstrap_servers, embedded.settings)


def values(trial: Trial) -> list[float | None]:
    return [reading.value for reading in trial.readings()]


@pytest.mark.kafka
def test_what_is_durable_is_committed_and_nothing_else(real_kafka: LocalKafka, tmp_path: Path) -> None:
    """Protects from loss: with Kafka and spool closed to us nothing is committed; the next life brings it all, once."""
    topic = real_topic(real_kafka)
    topic.give(30)
    with Trial(tmp_path / "one", max_spool=1) as trial:
        trial.kafka.up = False
        trial.run(topic.source())
        trial.until(lambda: trial.delivering.notes() and None in trial.reasons)
        trial.stop()
        assert topic.committed() < 0
    with Trial(tmp_path / "two") as trial:
        trial.run(topic.source())
        trial.until(lambda: values(trial) == list(range(1, 31)))
        trial.until(lambda: topic.committed() == 30)
        topic.give(5)
        trial.until(lambda: values(trial) == list(range(1, 36)))
        assert trial.stop() < LEAVES_WITHIN_S
        assert topic.committed() == 35, "told to stop it commits what is durable"


@pytest.mark.kafka
def test_partitions_move_between_two_and_nothing_is_lost(real_kafka: LocalKafka, tmp_path: Path) -> None:
    """Protects replicas: a second member takes a part, and gives it back when it leaves."""
    topic = real_topic(real_kafka)
    with Trial(tmp_path / "one") as one:
        one.run(topic.source())
        topic.give(20)
        one.until(lambda: values(one) == list(range(1, 21)))
        with Trial(tmp_path / "two") as two:
            two.run(topic.source())
            two.until(lambda: None in two.reasons)
            topic.give(20, partitions=(0, 1))
            two.until(lambda: {*values(one), *values(two)} == set(range(1, 41)))
            assert values(two), "the second member had a partition"
            two.stop()
        topic.give(20, partitions=(0, 1))
        one.until(lambda: {*values(one), *values(two)} == set(range(1, 61)))


def test_what_could_not_be_made_durable_is_read_again_in_order(topic: Topic, tmp_path: Path) -> None:
    """Protects order and completeness when the spool fails for a while under a running source."""
    with Trial(tmp_path) as trial:
        trial.run(topic.source())
        topic.give(3)
        trial.until(lambda: values(trial) == [1, 2, 3])
        failing = threading.Event()
        made_durable = trial.delivering._make_durable

        def fail_first(taken: Any) -> None:
            if not failing.is_set():
                failing.set()
                raise OSError("no space left on the device")
            made_durable(taken)

        trial.delivering._make_durable = fail_first  # type: ignore[method-assign]
        topic.give(20)
        trial.until(lambda: values(trial) == list(range(1, 24)))
        trial.until(lambda: topic.committed() == 23)
        assert failing.is_set()


def test_what_fails_while_more_waits_for_room_comes_first(topic: Topic, tmp_path: Path) -> None:
    """Protects order where a part fails just as the next one is offered, which then has to wait and would go ahead."""
    with Trial(tmp_path) as trial:
        trial.delivering._retry_s = 0.5
        make_durable, offer = trial.delivering._make_durable, trial.delivering.offer
        following = threading.Event()
        offered: list[Future[None]] = []

        def fail_first(taken: Any) -> None:
            if not following.is_set():
                topic.give(2)
                assert following.wait(60.0)
                raise OSError("no space left on the device")
            make_durable(taken)

        def offer_late(parcel: Parcel) -> Future[None]:
            if len(offered) == 1:
                following.set()
                offered[0].exception(60.0)
            offered.append(offer(parcel))
            return offered[-1]

        trial.delivering._make_durable = fail_first  # type: ignore[method-assign]
        trial.delivering.offer = offer_late  # type: ignore[method-assign]
        trial.run(topic.source())
        topic.give(2)
        trial.until(lambda: topic.committed() == 4)
        assert values(trial) == [1, 2, 3, 4]


def test_what_becomes_durable_while_it_leaves_is_committed(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the next life from readings that only took a moment: they would come once more."""
    reached, looked, go_on = threading.Event(), threading.Event(), threading.Event()
    settled_one = foreign_topics._Life._settled_one

    def look(life: foreign_topics._Life, timeout_s: float) -> bool:
        if looked.is_set():  # once it has waited in vain
            go_on.set()
        looked.set()
        return settled_one(life, timeout_s)

    monkeypatch.setattr(foreign_topics._Life, "_settled_one", look)
    with Trial(tmp_path) as trial:
        deliver = trial.kafka.deliver

        def slowly(messages: Sequence[Message]) -> dict[str, ConnectorError]:
            reached.set()
            go_on.wait(60.0)
            return deliver(messages)

        trial.kafka.deliver = slowly  # type: ignore[method-assign]
        trial.run(topic.source())
        topic.give(3)
        assert reached.wait(60.0)
        try:
            trial.stop()
            assert topic.committed() == 3
        finally:
            go_on.set()


def test_a_registry_that_is_away_stops_the_topic_and_loses_nothing(topic: Topic, tmp_path: Path) -> None:
    """Protects records whose schema cannot be asked for yet; what is no record of anybody's is a dead letter."""
    mapping = {"time": "at", "entity": "station", "channels": {"stage": {"field": "level", "unit": "m"}}}
    record = {"station": "S7", "at": 1_795_176_000_000, "level": Decimal(1), "air": {"no2": 1.0}, "flag": "GOOD"}
    with SchemaRegistryServer() as server, Trial(tmp_path) as trial:
        schema = server.register(json.dumps(AVRO))
        server.go_away()
        trial.run(topic.source(registry={"url": server.url}, mapping=mapping))
        topic.put(b"\x00 what is this")
        topic.put(framed(schema.id, avro(record)))
        topic.put(None)
        trial.until(lambda: any("does not answer" in (reason or "") for reason in trial.reasons))
        assert not trial.readings()
        assert not trial.dead_letters()
        server.come_back()
        trial.until(lambda: values(trial) == [1.0])
        trial.until(lambda: topic.committed() == 3)
        ((raw, headers),) = trial.dead_letters()
        assert raw == b"\x00 what is this"
        assert headers["vedette-detail"].startswith(f"{topic.name}-{PARTITION} at 0: ")
        assert trial.count("events", event="tombstones") == 1


def test_it_is_built_from_options(topic: Topic) -> None:
    """Protects the options: another cluster's login goes to kafka-python by its names, secrets stay masked."""
    options = KafkaOptions.model_validate({
        "name": "plant", "kind": "kafka", "topics": ["a"],
        "cluster": {
            "bootstrap_servers": ["k:9093"], "protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "u",
            "password": "hush-hush", "settings": {"session_timeout_ms": 9000},
        },
    })  # fmt: skip
    assert options.cluster is not None
    assert options.cluster.client_settings() == {
        "bootstrap_servers": ["k:9093"], "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u", "sasl_plain_password": "hush-hush", "session_timeout_ms": 9000,
    }  # fmt: skip
    assert "hush" not in repr(options)
    assert isinstance(topic.source(), ForeignTopics)
