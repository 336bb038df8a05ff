"""Brokers for tests: a real Apache Kafka where there is one, and the embedded one; and waiting without sleeping."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest

from connectors.base import RecordBlock, Source
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics

_names = itertools.count()


@pytest.fixture(scope="session")
def real_kafka() -> Iterator[LocalKafka]:
    """A real broker, started once; a test that stops it starts it again."""
    if not os.environ.get("KAFKA_HOME"):
        pytest.skip("needs a real Apache Kafka: KAFKA_HOME is not set")
    with LocalKafka() as kafka:
        ensure_topics(kafka.bootstrap_servers, {fresh("first"): 1}, timeout_s=100.0)  # it listens before it is ready
        yield kafka


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """The broker within this process."""
    with EmbeddedBroker(60.0) as broker:
        yield broker


def fresh(name: str) -> str:
    """Return a topic or group name that no other test uses."""
    return f"{name}-{os.getpid()}-{next(_names)}"


def until(done: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Call ``done``, which does something and takes a while, until it returns True."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"did not come about within {timeout_s:g} s"


def drain(source: Source, records: int, timeout_s: float = 60.0) -> list[RecordBlock]:
    """Poll until so many records came; return their blocks."""
    blocks: list[RecordBlock] = []

    def enough() -> bool:
        blocks.extend(source.poll(0.2))
        return sum(len(block.values) for block in blocks) >= records

    until(enough, timeout_s)
    return blocks
