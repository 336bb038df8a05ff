"""Every source keeps the source contract, and the contract is worth keeping: a source that is not careful breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from kafka import KafkaProducer

from connectors.base import RecordBlock, TopicPartition
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_source import KafkaSource
from connectors.memory import MemorySource
from tests.contracts.source_contract import CHECKS, Make, World, Written
from tests.kafka_broker import fresh

BLOCK = 7
"""Records in a block of a source in memory."""


def blocks_of(written: Mapping[int, list[Written]]) -> list[RecordBlock]:
    """Return records as blocks, those of all partitions in turn."""
    blocks = []
    for start in range(0, max(map(len, written.values())), BLOCK):
        for partition, records in written.items():
            part = records[start : start + BLOCK]
            blocks.append(
                RecordBlock(
                    "t",
                    partition,
                    [r.value for r in part],
                    np.arange(start, start + len(part), dtype=np.int64),
                    np.array([r.time_ms for r in part], np.int64),
                    start + len(part),
                    [r.key for r in part],
                    {i: r.headers for i, r in enumerate(part) if r.headers},
                )
            )
    return blocks


def in_memory(kind: type[MemorySource]) -> Make:
    """Return a maker of worlds in memory; what is committed outlives a source as it would on a broker."""

    def make(written: dict[int, list[Written]]) -> World:
        lives: list[MemorySource] = []
        partitions = [TopicPartition("t", p) for p in written]

        def open_one() -> MemorySource:
            committed = {p: lives[-1].committed(p) for p in partitions} if lives else {}
            known = {p: offset for p, offset in committed.items() if offset is not None}
            lives.append(kind(blocks_of(written), committed=known))
            return lives[-1]

        return World(partitions, open_one, patience_s=0.5)

    return make


def on(broker: EmbeddedBroker) -> Make:
    """Return a maker of topics on the embedded broker."""

    def make(written: dict[int, list[Written]]) -> World:
        topic, group = fresh("contract"), fresh("group")
        writer = KafkaProducer(
            bootstrap_servers=broker.bootstrap_servers,
            api_version=(2, 3),
            allow_auto_create_topics=True,
            enable_idempotence=False,
        )
        for partition, records in written.items():
            for r in records:
                # kafka-python refuses a record without key and value, which others may well write: not checked here.
                writer.send(topic, r.value, r.key, list(r.headers), partition, r.time_ms)
        writer.flush(10)
        writer.close()
        # The mock cluster lets the next life wait until the session of the last one is over, though that one left.
        settings = {
            **EmbeddedBroker.settings,
            "fetch_max_wait_ms": 20,
            "session_timeout_ms": 3000,
            "heartbeat_interval_ms": 500,
        }
        return World(
            [TopicPartition(topic, p) for p in written],
            lambda: KafkaSource(broker.bootstrap_servers, [topic], group, settings=settings),
        )

    return make


class ForgetfulSource(MemorySource):
    """Goes on where it likes after a seek, and keeps no commit."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        super().seek(partition, offset + 1)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        pass


class RepeatingSource(MemorySource):
    """Gives every block twice."""

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        return 2 * super().poll(timeout_s)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_source_in_memory_keeps_the_contract(check: Callable[[Make], None]) -> None:
    """Protects the tests of the daemon from a fake that does what no broker would."""
    check(in_memory(MemorySource))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_kafka_keeps_the_contract(check: Callable[[Make], None], embedded: EmbeddedBroker) -> None:
    """Protects what the daemon relies on: no gaps, no repeats, told before."""
    check(on(embedded))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_refuses_careless_sources(check: Callable[[Make], None]) -> None:
    """Protects the contract itself: each of its checks is broken by one of two careless sources."""
    refused = 0
    for kind in (ForgetfulSource, RepeatingSource):
        try:
            check(in_memory(kind))
        except AssertionError:
            refused += 1
    assert refused
