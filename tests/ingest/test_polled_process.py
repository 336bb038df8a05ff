"""A real `vedette ingest` that polls: services that behave and services that do not, side by side."""

from __future__ import annotations

import time
from pathlib import Path

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from connectors.timestamps import to_text
from tests.end_to_end.kafka_parts import wait_until
from tests.hubeau_service import HubeauService, observation
from tests.ingest.ingest_process import Found, IngestProcess
from tests.kafka_broker import fresh
from tests.replay_server import ReplayServer, Reply, json_reply
from tests.uk_flood_service import UkFloodService, reading
from tests.usgs_service import UsgsService, value

KEY = "a-key-that-nobody-may-see"
YAML = '{api_version: "2.3", allow_auto_create_topics: true}'


def test_one_that_is_refused_and_one_that_hangs_stop_no_other(
    tmp_path: Path, embedded: EmbeddedBroker, replay: ReplayServer
) -> None:
    """Protects two rivers from a blocked key and from a service that drips; and the key from the log."""
    now_us = time.time_ns() // 1_000_000_000 * 1_000_000
    times = [to_text(now_us - n * 60_000_000) for n in range(1, 31)]
    england = UkFloodService(replay, [reading(text, 1.5) for text in times])
    france = HubeauService(replay, [observation(text, 1500) for text in times], page_size=7)
    blocked, hanging = ReplayServer(), ReplayServer()
    UsgsService(blocked, [value(text.rstrip("Z"), "1.5", text.rstrip("Z")) for text in times])
    blocked.on("/ogcapi/v0/collections/time-series-metadata/items", json_reply({"error": f"{KEY} is blocked"}, 403))
    hanging.on("*", Reply(drip=True))
    sections = f"""\
    - {{name: england, kind: uk_flood, url: "{england.url}", stations: [1491TH], every: 1s}}
    - {{name: france, kind: hubeau, url: "{france.url}", codes: [K447001001], every: 1s}}
    - {{name: refused, kind: usgs, url: "{blocked.url}/ogcapi/v0", sites: [USGS-06904500], key: {KEY}}}
    - {{name: hangs, kind: uk_flood, url: "{hanging.url}"}}
"""
    topic = fresh("rivers")
    servers, settings = embedded.bootstrap_servers, EmbeddedBroker.settings
    ensure_topics(servers, {topic: 2}, settings=settings)
    truth = {(entity, "stage", now_us - n * 60_000_000) for entity in ("1491TH", "K447001001") for n in range(1, 31)}
    blocked.start()
    hanging.start()
    try:
        with IngestProcess(tmp_path, servers, topic, sections, settings=YAML) as process:
            process.start()
            found = Found.once_there(truth, servers, topic, settings)
            assert set(found.ids) == truth
            assert found.raw == len(truth)
            assert found.out_of_order() == []
            wait_until(lambda: process.metric("source_up", "england") == 1.0, "England answers")
            wait_until(lambda: "answers 403" in process.asked("/readyz?verbose") + process.said(), "it is said")
            wait_until(lambda: bool(hanging.asked), "the one that hangs is asked")
            assert process.stop() == 0
            assert "did not leave in time" not in process.said()
            assert KEY not in process.log.read_text(encoding="utf-8")
            assert len(blocked.asked) == 1
    finally:
        blocked.close()
        hanging.close()
