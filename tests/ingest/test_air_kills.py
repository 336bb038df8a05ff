"""`kill -9` while OpenAQ and Sensor.Community are polled: what they still have is not lost, and nothing is doubled."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from connectors.timestamps import to_text
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Found, Identity, IngestProcess
from tests.ingest.keeping_peers import Feeding
from tests.ingest.nursery import Nursery
from tests.kafka_broker import fresh
from tests.openaq_service import LOCATION, PM25, OpenAQService
from tests.openaq_service import row as openaq_row
from tests.replay_server import ReplayServer
from tests.sensor_community_service import SENSOR, SensorCommunity
from tests.sensor_community_service import row as sensor_row

KILLS = 20
SEED = 6
YAML = '{api_version: "2.3", allow_auto_create_topics: true}'


class Air:
    """Both services at one server, and what their sensors measured: a second further with each reading."""

    name = "openaq"

    def __init__(self, server: ReplayServer) -> None:
        self._openaq = OpenAQService(server)
        self._community = SensorCommunity(server)
        self._time_us = (time.time_ns() // 1_000_000_000 - 80_000) * 1_000_000  # within the first history
        self.section = f"""\
    - {{name: openaq, kind: openaq, url: "{self._openaq.url}", key: a-key, locations: [{LOCATION}], every: 0.1s}}
    - {{name: community, kind: sensor_community, url: "{server.url}", contact: ops@town.example, every: 0.1s}}
"""

    def give(self, count: int) -> Sequence[Identity]:
        given: list[Identity] = []
        for _ in range(count):
            self._time_us += 1_000_000
            text = to_text(self._time_us)
            self._openaq.rows[PM25] = [*self._openaq.rows[PM25], openaq_row(text, 12.5)]
            self._community.rows = [
                *self._community.rows, sensor_row(text.replace("T", " ").rstrip("Z"), ("P2", "12.5")),
            ]  # fmt: skip
            given += [(f"openaq-{LOCATION}", "pm25", self._time_us), (f"sc-{SENSOR}", "pm25", self._time_us)]
        return given

    def close(self) -> None:
        """The server is its maker's."""


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, embedded: EmbeddedBroker, replay: ReplayServer) -> None:
    """Protects every value that the services still have, from kills at 20 moments of a poll."""
    moments = random.Random(SEED)
    servers, settings = embedded.bootstrap_servers, EmbeddedBroker.settings
    topic = fresh("air")
    ensure_topics(servers, {topic: 2}, settings=settings)
    peer = Air(replay)
    with ExitStack() as parts:
        process = parts.enter_context(IngestProcess(tmp_path, servers, topic, peer.section, settings=YAML))
        process.start()
        wait_until(lambda: process.metric("source_up", "community") == 1.0, "it answers")
        nursery = parts.enter_context(Nursery())
        feeding = parts.enter_context(Feeding([peer], count=1))
        for _ in range(KILLS):
            process.wait_started()
            time.sleep(moments.uniform(0.0, 0.4))
            process.kill()
            process.start(nursery)
        truth = feeding.finish()
        found = Found.once_there(set(truth), servers, topic, settings)
        assert process.stop() == 0
    sys.stdout.write(
        f"seed {SEED}: {KILLS} kills; given {len(truth)}, distinct on the topic {len(found.ids)}, "
        f"lost {len(set(truth) - set(found.ids))}, lying there {found.raw}\n"
    )
    assert len(truth) == len(set(truth)) > 100
    assert set(found.ids) == set(truth)
    assert [identity for identity, ids in found.ids.items() if len(ids) > 1] == []
