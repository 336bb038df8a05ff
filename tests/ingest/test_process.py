"""`vedette ingest` as a process: how it begins, what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE
from tests.end_to_end.kafka_parts import wait_until
from tests.ingest.ingest_process import Found, IngestProcess
from tests.ingest.keeping_peers import Pusher
from tests.kafka_broker import fresh
from tests.replay_server import ReplayServer, page_reply

NOBODY = "127.0.0.1:1"
"""Where no Kafka is."""


def refused(url: str, name: str = "gauges") -> str:
    """Return a source whose peer will not serve it."""
    return f"  - {{name: {name}, kind: usgs, url: {url}, sites: [USGS-1], every: 1s}}\n"


def test_it_needs_no_networks() -> None:
    """Protects small machines beside the sensors: no torch, no river, no numba in the process that only brings."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys, pipeline.ingest.process; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "pipeline.ingest.delivering" in said
    assert not {"torch", "river", "numba", "pandas", "scipy"} & set(said.split())


def test_when_all_sources_are_given_up_so_is_the_process(tmp_path: Path) -> None:
    """Protects from a process that runs, is restarted, and brings nothing: a person has to look, and is told why."""
    with closing(ReplayServer()) as server:
        server.on("/*", page_reply("no key, no data", 403))
        server.start()
        with IngestProcess(tmp_path, NOBODY, "air", refused(server.url)) as process:
            process.start()
            assert process.ended() == CONFIG
            assert "a source is given up" in process.said()
            assert "403" in process.said()


def test_one_that_is_given_up_is_a_note_while_others_go_on(tmp_path: Path) -> None:
    """Protects the others, and whoever looks at /readyz; two processes on one spool are one too many."""
    with closing(ReplayServer()) as server, closing(Pusher()) as pusher:
        server.on("/*", page_reply("gone", 410))
        server.start()
        with IngestProcess(tmp_path, NOBODY, "air", refused(server.url) + pusher.section) as process:
            process.start()
            wait_until(lambda: "gauges stopped" in process.asked("/readyz"), "the note is there")
            wait_until(lambda: '"ready":true' in process.asked("/readyz").replace(" ", ""), "it is ready")
            wait_until(lambda: process.metric("source_stopped", "gauges") == 1, "it is counted")
            second = tmp_path / "second"
            second.mkdir()
            with IngestProcess(second, NOBODY, "air", pusher.section, spool=process.spool) as another:
                another.start()
                assert another.ended() == CONFIG
                assert "is used by another process" in another.said()
            assert process.stop() == OK


def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    """Protects from a process that nobody can look into."""
    with closing(ReplayServer()) as server, closing(Pusher()) as pusher:
        server.start()
        with IngestProcess(tmp_path, NOBODY, "air", pusher.section, port=server.port) as process:
            process.start()
            assert process.ended() == UNAVAILABLE
            assert "cannot listen" in process.said()


def test_a_stop_while_kafka_is_away_keeps_what_was_taken(tmp_path: Path) -> None:
    """Protects readings from the end of the process: what was answered is in the spool."""
    with closing(Pusher()) as pusher, IngestProcess(tmp_path, NOBODY, "air", pusher.section) as process:
        process.start()
        given = pusher.give(50)
        wait_until(lambda: process.metric("spool_readings") == len(given), "all is in the spool")
        assert process.stop() == OK
        assert f'"readings": {len(given)}' in process.said()
        assert "left readings in the spool" in process.said()
        process.start()
        wait_until(lambda: process.metric("spool_readings") == len(given), "it is still there")
        assert process.stop() == OK


@pytest.mark.kafka
def test_a_topic_that_is_missing_is_told_at_once(tmp_path: Path, real_kafka: LocalKafka) -> None:
    """Protects from a spool that fills for a misspelt name."""
    topic, dead = fresh("air"), fresh("dead")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 1})
    with closing(Pusher()) as pusher:
        process = IngestProcess(tmp_path, real_kafka.bootstrap_servers, topic, pusher.section, dead_letters=dead)
        with process:
            process.start()
            assert process.ended() == CONFIG
            assert f"no topic {dead} on" in process.said()


@pytest.mark.kafka
def test_it_leaves_in_time_though_kafka_hangs(tmp_path: Path, real_kafka: LocalKafka) -> None:
    """Protects the stop of the whole machine: a Kafka that says nothing holds up no reading and no end."""
    topic = fresh("air")
    ensure_topics(real_kafka.bootstrap_servers, {topic: 1})
    with closing(Pusher()) as pusher:
        process = IngestProcess(tmp_path, real_kafka.bootstrap_servers, topic, pusher.section, shutdown="8s")
        with process:
            process.start()
            given = list(pusher.give(10))
            wait_until(lambda: process.metric("delivered_readings_total") == 10, "Kafka takes readings")
            with frozen(real_kafka):
                before = requests(process)
                given += pusher.give(10)
                wait_until(lambda: requests(process) > before, "they are on their way to a Kafka that does not answer")
                assert process.stop() == OK, process.said()  # past its time it would end by force, with another code
            process.start()
            wait_until(lambda: process.metric("delivered_readings_total") >= 10, "what was left is delivered")
            assert process.stop() == OK
    found = Found.once_there(set(given), real_kafka.bootstrap_servers, topic, {})
    assert set(found.ids) == set(given)
    assert found.out_of_order() == []


def requests(process: IngestProcess) -> float:
    """Return how many pushes have come."""
    return process.metric("source_events_total", "pushed", event="requests_line_protocol")


@contextmanager
def frozen(kafka: LocalKafka) -> Iterator[None]:
    """Have Kafka say nothing."""
    pid = kafka.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
