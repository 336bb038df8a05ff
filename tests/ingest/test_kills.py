"""`kill -9` of `vedette ingest` at many moments: what its peers still have is not lost, and nothing is there twice."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Door, Found, IngestProcess
from tests.ingest.keeping_peers import Feeding, Gauge, KeepingPeer, Mosquitto, Pusher
from tests.ingest.nursery import Nursery
from tests.kafka_broker import fresh

KILLS = 20
AWAY = frozenset((4, 5, 6, 12, 13))
"""Kills while Kafka is away: a life begins without it, spools, and is killed; the next ones too."""
SPOOLED = 6
"""The one of those that comes only when something has been spooled: the last after several lives without Kafka."""
AT_ONCE = frozenset((3, 9, 14))
"""Kills while the process starts; the others come once its sources run."""


def test_a_process_that_is_killed_loses_nothing_and_doubles_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Protects every reading that a peer still has, from kills at 20 moments, five of them with Kafka away."""
    kill_and_compare(tmp_path, request, 6)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(7, 12))
def test_a_process_that_is_killed_at_other_moments(tmp_path: Path, request: pytest.FixtureRequest, seed: int) -> None:
    """Protects as above, at a hundred other moments."""
    kill_and_compare(tmp_path, request, seed)


def kill_and_compare(tmp_path: Path, request: pytest.FixtureRequest, seed: int) -> None:
    """Kill a process whose three peers are given more and more, and compare what they had with what is on the topic.

    Pushed over HTTP and sent again until answered, polled page by page, and kept by an MQTT broker for a session: what
    each was given has to be the same, one by one, as what is on the topic without repeats.
    """
    moments = random.Random(seed)
    servers, settings, words = broker_of(request)
    topic = fresh("killed")
    ensure_topics(servers, {topic: 2}, settings=settings)
    spooled = 0.0
    with ExitStack() as parts:
        peers = [parts.enter_context(closing(peer)) for peer in peers_of(tmp_path)]
        door = parts.enter_context(Door(servers))
        sections = "".join(peer.section for peer in peers)
        process = parts.enter_context(IngestProcess(tmp_path, door.address, topic, sections, settings=words))
        process.start()  # once in peace: from its first subscription on an MQTT broker keeps what comes
        names = [peer.name for peer in peers]
        wait_until(lambda: all(process.metric("source_up", name) for name in names), f"all peers answer: {names}")
        nursery = parts.enter_context(Nursery())
        feeding = parts.enter_context(Feeding(peers))
        for kill in range(KILLS):
            if kill not in AT_ONCE:
                process.wait_started()
            time.sleep(moments.uniform(0.0, 1.5 if kill in AT_ONCE else 0.6))
            if kill == SPOOLED:
                wait_until(lambda: process.metric("spool_readings") > 0, "readings wait in the spool")
            spooled = max(spooled, process.metric("spool_readings")) if kill in AWAY else spooled
            process.kill()
            door.shut() if kill + 1 in AWAY else door.open()
            process.start(None if kill + 1 in AT_ONCE else nursery)
        truth = feeding.finish()
        found = Found.once_there(set(truth), servers, topic, settings)
        assert process.stop() == 0
    sys.stdout.write(
        f"seed {seed}: {KILLS} kills of {names}, {len(AWAY)} with Kafka away ({spooled:.0f} readings in the spool); "
        f"given {len(truth)}, distinct on the topic {len(found.ids)}, lost {len(set(truth) - set(found.ids))}, "
        f"lying there {found.raw}, so {found.raw - len(found.ids)} repeats; by entity {dict(found.by_entity())}\n"
    )
    assert spooled > 0
    assert len(truth) == len(set(truth)), "the truth is one"
    assert set(found.ids) == set(truth)
    assert [identity for identity, ids in found.ids.items() if len(ids) > 1] == []


def peers_of(folder: Path) -> Iterator[KeepingPeer]:
    """Yield every peer that there can be on this machine."""
    yield Pusher()
    yield Gauge()
    if shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto"):
        yield Mosquitto(folder / "mosquitto")


def broker_of(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], str]:
    """Return where Kafka is, the settings that it needs, and those as YAML: the real one if there is one."""
    if os.environ.get("KAFKA_HOME"):
        return str(request.getfixturevalue("real_kafka").bootstrap_servers), {}, "{}"
    servers = str(request.getfixturevalue("embedded").bootstrap_servers)
    return servers, EmbeddedBroker.settings, '{api_version: "2.3", allow_auto_create_topics: true}'
