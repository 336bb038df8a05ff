"""A topic that is deleted, or was never made, on a real Kafka: it holds up its own sources only, and is told."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics
from pipeline.config import Config
from pipeline.ingest.build import require_topics_of
from pipeline.ingest.topics_asked import TopicsAsked
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Door, Found, IngestProcess
from tests.ingest.keeping_peers import Gauge, Pusher
from tests.ingest.test_kafka_delivery import deleted
from tests.kafka_broker import fresh

pytestmark = pytest.mark.kafka


def test_a_deleted_topic_holds_up_only_its_own_sources(tmp_path: Path, real_kafka: LocalKafka) -> None:
    """Protects every other source from what somebody does to one topic; when it is back all of it comes, in order."""
    air, water, servers = fresh("air"), fresh("water"), real_kafka.bootstrap_servers
    ensure_topics(servers, {air: 2, water: 2})
    with ExitStack() as parts:
        pusher, gauge = parts.enter_context(closing(Pusher())), parts.enter_context(closing(Gauge(1_000, "0.5s")))
        sections = f"{pusher.section}    topic: {air}\n{gauge.section}    topic: {water}\n"
        process = parts.enter_context(IngestProcess(tmp_path, servers, f"{air}, {water}", sections))
        process.start()
        first, pushed = list(gauge.give(20)), list(pusher.give(20))
        assert set(first) == set(Found.once_there(set(first), servers, water, {}).ids)
        deleted(real_kafka, water)
        waiting = list(gauge.give(20))
        wait_until(lambda: process.metric("topic_refused", topic=water) == 1, "it is noticed")
        for _ in range(5):
            pushed += pusher.give(20)
            waiting += gauge.give(5)
            found = Found.once_there(set(pushed), servers, air, {})
            assert set(pushed) == set(found.ids)
        wait_until(lambda: process.metric("spool_readings") == len(waiting), "what is for it waits")
        wait_until(lambda: process.metric("spool_topic_readings", topic=water) == len(waiting), "by topic, too")
        wait_until(lambda: process.metric("kafka_up") == 1, "Kafka is there")
        why = f"there is no topic {water}, and the broker makes none: create it, or correct the name"
        note = f"topic {water} takes no readings (writing to Kafka: {why})"
        wait_until(lambda: note in process.asked("/readyz"), "it is told")
        ensure_topics(servers, {water: 2})
        wait_until(lambda: process.metric("spool_readings") == 0, "all of it comes")
        wait_until(lambda: process.metric("topic_refused", topic=water) == 0, "it is well")
        waiting += gauge.give(5)
        back = Found.once_there(set(waiting), servers, water, {})
        assert process.stop() == 0
    assert set(waiting) == set(back.ids)
    assert back.raw == len(waiting), "none twice"
    assert (back.out_of_order(), found.out_of_order()) == ([], [])
    assert "a topic takes readings again" in process.said()
    assert "Kafka does not take readings" not in process.said()


def test_topics_are_asked_for_once_kafka_is_there(tmp_path: Path, real_kafka: LocalKafka) -> None:
    """Protects who starts before Kafka does from a misspelt topic that nobody tells of."""
    air, dead = fresh("air"), fresh("dead")
    ensure_topics(real_kafka.bootstrap_servers, {air: 1})
    with Door(real_kafka.bootstrap_servers) as door:
        door.shut()
        config = Config.model_validate(
            {
                "kafka": {"bootstrap_servers": door.address},
                "streams": [{"name": "air", "topics": [air], "step": "1m", "channels": [{"name": "pm25"}]}],
                "outputs": {"dead_letter_topic": dead},
                "ingest": {"spool": str(tmp_path / "spool.db"), "sources": [{"name": "pushed", "kind": "http"}]},
            }
        )
        assert not require_topics_of(config), "nobody can be asked"
        answers: list[bool] = []

        def ask() -> bool:
            answers.append(require_topics_of(config))
            return answers[-1]

        with closing(TopicsAsked(ask, wait_s=0.05, missing_wait_s=0.1)) as topics:
            topics.start()
            wait_until(lambda: len(answers) > 2, "it asks again and again")
            assert topics.notes() == []
            door.open()
            wait_until(lambda: bool(topics.notes()), "it is told")
            (note,) = topics.notes()
            assert f"no topic {dead} on" in note
            assert "create it, or correct the name" in note
            ensure_topics(real_kafka.bootstrap_servers, {dead: 1})
            wait_until(lambda: not topics.notes(), "it is well")
            assert answers[-1]
