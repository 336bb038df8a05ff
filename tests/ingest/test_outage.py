"""Kafka away under load: nothing is lost, the order of each entity holds, memory stays flat, a full spool is told."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Found, Identity, IngestProcess
from tests.ingest.keeping_peers import Feeding, Gauge, KeepingPeer, Mosquitto, Pusher
from tests.kafka_broker import fresh
from tests.mosquitto_server import mosquitto

SAMPLE_S = 0.2
FULL = "it is full: sources have to wait"
FLAT_MB = 24.0
"""What memory may differ by from one half of an outage to the other: allocators and one batch in the making."""


@dataclass
class Outage:
    """What was seen while Kafka was away, and found when it was back."""

    away_s: float
    truth: list[Identity]
    found: Found
    before_mb: float
    memory_mb: list[float]
    spool_bytes: list[float]
    full: float
    notes: set[str]
    answers: Counter[int]
    log: str
    drained_s: float

    def __str__(self) -> str:
        given, there = len(self.truth), self.found
        half = len(self.memory_mb) // 2
        return (
            f"Kafka away for {self.away_s:.1f} s; given {given}, distinct on the topic {len(there.ids)}, "
            f"lost {len(set(self.truth) - set(there.ids))}, lying there {there.raw}, out of order "
            f"{len(there.out_of_order())} series; memory {self.before_mb:.0f} MB before, at most "
            f"{max(self.memory_mb[:half]):.0f} in the first half and {max(self.memory_mb[half:]):.0f} in the second; "
            f"spool up to {max(self.spool_bytes):.0f} bytes, full {self.full:.0f} times; answers to pushes "
            f"{dict(self.answers)}; all there {self.drained_s:.1f} s after Kafka was back"
        )


def outage(
    folder: Path, kafka: LocalKafka, away_s: float, max_spool: int, count: int, until_full: bool = False
) -> Outage:
    """Take Kafka away from a process with three sources, and bring it back; return what was seen.

    Args:
        folder: for its files.
        kafka: stopped and started.
        away_s: how long it does not run, at least.
        max_spool: bytes.
        count: readings that a source gets about twenty times a second.
        until_full: whether it stays away until the spool is full, and senders and people have been told so.
    """
    mosquitto()  # or skip
    topic = fresh("outage")
    ensure_topics(kafka.bootstrap_servers, {topic: 2})
    memory: list[float] = []
    spooled: list[float] = []
    notes: set[str] = set()
    with ExitStack() as parts:
        pusher = parts.enter_context(closing(Pusher()))
        gauge = parts.enter_context(closing(Gauge(10_000, "1s", 0.2)))
        peers: list[KeepingPeer] = [pusher, gauge, parts.enter_context(closing(Mosquitto(folder / "m")))]
        process = parts.enter_context(
            IngestProcess(
                folder, kafka.bootstrap_servers, topic, "".join(peer.section for peer in peers),
                more=f"  max_spool: {max_spool}",
            )
        )  # fmt: skip
        process.start()
        wait_until(lambda: all(process.metric("source_up", peer.name) for peer in peers), "all peers answer")
        feeding = parts.enter_context(Feeding(peers, count=count))
        wait_until(lambda: process.metric("delivered_readings_total") > 60 * count, "readings reach Kafka")
        before_mb = process.memory_mb()
        kafka.stop()
        parts.callback(start_again, kafka)  # whatever happens, other tests want it
        wait_until(lambda: "Kafka does not take readings" in process.said(), "it is noticed")
        since_s = time.monotonic()

        def enough() -> bool:
            time.sleep(SAMPLE_S)
            memory.append(process.memory_mb())
            spooled.append(process.metric("spool_bytes"))
            said = process.asked("/readyz")
            notes.update(json.loads(said)["notes"] if said else ())
            told = pusher.answers()[429] > 0 and any(FULL in note for note in notes)
            return time.monotonic() - since_s >= away_s and (told or not until_full)

        wait_until(enough, f"Kafka is away for {away_s:g} s")
        full, answers = process.metric("spool_full_total"), pusher.answers()
        truth = feeding.finish()
        kafka.start()
        lasted_s = time.monotonic() - since_s
        back_s = time.monotonic()
        wait_until(lambda: process.metric("spool_readings") == 0, "the spool is empty")
        found = Found.once_there(set(truth), kafka.bootstrap_servers, topic, {})
        drained_s = time.monotonic() - back_s
        assert process.stop() == 0
        log = process.said()
    return Outage(
        lasted_s, truth, found, before_mb, memory, spooled, full, notes, answers, log, drained_s
    )  # fmt: skip


def start_again(kafka: LocalKafka) -> None:
    """Start a broker unless it runs."""
    if not kafka.running:
        kafka.start()


def assert_nothing_is_wrong(seen: Outage) -> None:
    """Everything there, once, in order; memory flat."""
    sys.stdout.write(f"{seen}\n")
    assert set(seen.found.ids) == set(seen.truth)
    assert [identity for identity, ids in seen.found.ids.items() if len(ids) > 1] == []
    assert seen.found.out_of_order() == []
    half = len(seen.memory_mb) // 2
    assert max(seen.memory_mb[half:]) < max(seen.memory_mb[:half]) + FLAT_MB
    assert any("Kafka is away" in note for note in seen.notes)
    assert "Kafka takes readings again" in seen.log


@pytest.mark.kafka
def test_kafka_goes_away_under_load_and_the_spool_fills(tmp_path: Path, real_kafka: LocalKafka) -> None:
    """Protects every reading through an outage that the spool is too small for, and whoever has to look after it."""
    most = 1 << 20
    seen = outage(tmp_path, real_kafka, 6.0, most, 40, until_full=True)
    assert_nothing_is_wrong(seen)
    assert most / 2 < max(seen.spool_bytes) <= most
    assert seen.full > 0
    assert any(FULL in note for note in seen.notes)
    assert "the spool is full: sources have to wait until Kafka is back" in seen.log
    assert seen.answers[429] > 0
    assert seen.answers[204] > 0
    assert set(seen.answers) == {204, 429}


@pytest.mark.kafka
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("max_spool", [1 << 30, 8 << 20], ids=["room", "full"])
def test_kafka_is_away_for_two_minutes_under_load(tmp_path: Path, real_kafka: LocalKafka, max_spool: int) -> None:
    """Protects as above, for as long as a broker takes to be started anew by a person; with room enough, and not."""
    seen = outage(tmp_path, real_kafka, 120.0, max_spool, 40)
    assert_nothing_is_wrong(seen)
    assert max(seen.spool_bytes) <= max_spool
    assert (seen.full > 0) == (max_spool < 1 << 30)
