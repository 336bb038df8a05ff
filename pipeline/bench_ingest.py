"""The ingest process on one core beside bare servers and clients of the same kind, in the same run.

The process under test has a core to itself; senders, brokers and everything else have the others. Readings go to Kafka:
a real one where ``KAFKA_HOME`` names one, else the embedded one; and, to show what Kafka costs, nowhere.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.bench_ingest_fairness import fairness
from pipeline.bench_ingest_load import HttpLoad, MakeBody, line_bodies, single_bodies, write_requests
from pipeline.bench_ingest_subjects import Kafka, Subject, http_bare, http_push, mqtt, mqtt_bare, wait_until

WINDOW_S = 2.0
MQTT_MESSAGES = 20_000
IN_FLIGHT = 1_000
"""Messages that the broker sends before it waits for acknowledgements."""
_START_US = 1_700_000_000_000_000
_STATIONS = 64
"""Senders of single readings at a time: each waits until its own is durable."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Rates:
    """One subject's rounds."""

    per_s: list[float] = field(default_factory=list)
    per_core_s: list[float] = field(default_factory=list)
    """By the time that the core really worked: what it can do where senders, or others on this machine, hold it up."""
    busy: list[float] = field(default_factory=list)
    """Share of the core."""

    def add(self, count: float, seconds: float, cpu_s: float) -> None:
        """Note a round."""
        self.per_s.append(count / seconds)
        self.per_core_s.append(count / cpu_s)
        self.busy.append(cpu_s / seconds)


def bench_ingest(args: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Return readings/s of HTTP push (line protocol, remote-write) and MQTT, each beside its bare counterpart; and how
    long small requests wait beside large ones.
    """
    entities = args.entities or 1_000
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    with ExitStack() as stack:
        if len(cores) > 1:  # senders, the broker and we are on all cores but the last
            os.sched_setaffinity(0, set(cores[:-1]))
            stack.callback(os.sched_setaffinity, 0, set(cores))
        kafka, broker = stack.enter_context(_kafka(say))
        bench = Bench(cores[-1], kafka, args.rounds, say)
        lines = "/api/v2/write?precision=us"
        result = {
            "line_protocol": bench.http("line protocol", lines, "", *line_bodies(entities)),
            "one_reading_per_request": bench.http(
                "one reading per request", lines, "", *single_bodies(entities), connections=_STATIONS
            ),
            "remote_write": bench.http(
                "remote-write", "/api/v1/write", "Content-Encoding: snappy\r\n", *write_requests(entities)
            ),
            "small_requests": bench.fairness(),
            "mqtt": bench.mqtt(entities),
        }
    return result | {"kafka": broker, "entities": entities, "rounds": args.rounds, "cores": len(cores)}


class Bench:
    """Measures one protocol after the other.

    Args:
        core: of the process under test.
        kafka: where readings go.
        rounds: of each.
        say: told of progress.
    """

    def __init__(self, core: int, kafka: Kafka, rounds: int, say: Say) -> None:
        self._core = core
        self._kafka = kafka
        self._rounds = rounds
        self._say = say

    def http(
        self, name: str, path: str, headers: str, body: MakeBody, readings: int, connections: int = 4
    ) -> dict[str, Any]:
        """Send to a bare server, to ours, and to ours without Kafka, in turn."""
        rates: dict[str, Rates] = {"bare": Rates(), "ours": Rates(), "without_kafka": Rates()}
        with ExitStack() as stack:
            loads = {}
            for kind, subject, asked in (
                ("bare", http_bare, None), ("ours", http_push, self._kafka), ("without_kafka", http_push, Kafka()),
            ):  # fmt: skip
                pipe = stack.enter_context(_subject(subject, self._core, asked))
                load = HttpLoad(
                    _received(pipe), path, headers, body, again=kind == "bare", connections=connections
                )
                load.send_for(WINDOW_S / 4)  # to get warm: series become known, connections open
                loads[kind] = pipe, load
            for round_ in range(self._rounds):
                for kind, (pipe, load) in loads.items():
                    before = _asked(pipe)
                    bodies, seconds = load.send_for(WINDOW_S)
                    rates[kind].add(bodies * readings, seconds, _asked(pipe) - before)
                self._tell(name, round_, rates)
        return _compared(rates, "readings_per_s") | {"readings_per_request": readings}

    def fairness(self) -> dict[str, dict[str, float]]:
        """Send small requests alone, and while others send bodies of 16 MB; without Kafka."""
        with _subject(http_push, self._core, Kafka()) as pipe:
            found = fairness(_received(pipe), WINDOW_S)
        each = ", ".join(f"{beside.replace('_', ' ')} {one['median_ms']:g} ms" for beside, one in found.items())
        self._say(f"ingest: small requests take {each}")
        return found

    def mqtt(self, entities: int) -> dict[str, Any] | str:
        """Let messages gather at a broker for a bare client, for ours, and for ours without Kafka, in turn."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            return "left out: there is no mosquitto"
        rates: dict[str, Rates] = {"bare": Rates(), "ours": Rates(), "without_kafka": Rates()}
        subjects: dict[str, tuple[Subject, Kafka]] = {
            "bare": (mqtt_bare, Kafka()), "ours": (mqtt, self._kafka), "without_kafka": (mqtt, Kafka()),
        }  # fmt: skip
        sent = 0
        for round_ in range(self._rounds):
            for kind, (subject, kafka) in subjects.items():
                with _mosquitto(program) as port, _subject(subject, self._core, (port, kafka, IN_FLIGHT)) as pipe:
                    _received(pipe)
                    _publish(port, entities, sent)
                    sent += MQTT_MESSAGES
                    pipe.send(MQTT_MESSAGES)
                    rates[kind].add(*_received(pipe))
            self._tell("mqtt", round_, rates)
        return _compared(rates, "messages_per_s") | {"messages": MQTT_MESSAGES, "qos": 1}

    def _tell(self, name: str, round_: int, rates: dict[str, Rates]) -> None:
        each = ", ".join(f"{kind.replace('_', ' ')} {one.per_s[-1]:,.0f}/s" for kind, one in rates.items())
        self._say(f"ingest: {name}, round {round_ + 1} of {self._rounds}: {each}")


def _compared(rates: dict[str, Rates], unit: str) -> dict[str, Any]:
    bare, ours, alone = rates["bare"], rates["ours"], rates["without_kafka"]
    return {
        "readings_per_s": round(statistics.median(ours.per_s)),
        "readings_per_s_without_kafka": round(statistics.median(alone.per_s)),
        f"bare_{unit}": round(statistics.median(bare.per_s)),
        "ratio": _ratio(ours.per_s, bare.per_s),
        "per_core_s": {kind: round(statistics.median(one.per_core_s)) for kind, one in rates.items()},
        "ratio_per_core_s": _ratio(ours.per_core_s, bare.per_core_s),
        "core_busy": {kind: round(statistics.median(one.busy), 2) for kind, one in rates.items()},
    }


def _ratio(ours: list[float], bare: list[float]) -> float:
    return round(statistics.median(o / b for o, b in zip(ours, bare, strict=True)), 4)


@contextmanager
def _subject(subject: Subject, core: int, asked: Any) -> Iterator[Connection]:
    """Run a subject in a fresh process; yields the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=subject, args=(theirs, core, asked), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send(None)
        process.join(20.0)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def _received(pipe: Connection) -> Any:
    if not pipe.poll(180.0):
        raise RuntimeError("the process under test does not answer")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError("the process under test has ended; its own words are above") from None


def _asked(pipe: Connection) -> float:
    pipe.send("cpu")
    return float(_received(pipe))


@contextmanager
def _kafka(say: Say) -> Iterator[tuple[Kafka, str]]:
    """Run a broker; yields how to reach it and what it is."""
    from pipeline.bench_ingest_subjects import TOPIC

    if "KAFKA_HOME" in os.environ:
        from connectors.kafka_local import LocalKafka
        from connectors.kafka_topics import ensure_topics

        with LocalKafka() as local:
            ensure_topics(local.bootstrap_servers, {TOPIC: 4})
            yield Kafka(local.bootstrap_servers), "Apache Kafka"
        return
    from connectors.kafka_embedded import EmbeddedBroker

    say("ingest: no KAFKA_HOME, so an embedded broker takes Kafka's place")
    with EmbeddedBroker() as embedded:
        yield Kafka(embedded.bootstrap_servers, tuple(embedded.settings.items())), "embedded"


@contextmanager
def _mosquitto(program: str) -> Iterator[int]:
    """Run a broker; yields its port."""
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = int(taken.getsockname()[1])
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
            f"max_inflight_messages {IN_FLIGHT}\nset_tcp_nodelay true\n"
        )
        process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port))
            yield port
        finally:
            process.terminate()
            process.wait(10.0)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _publish(port: int, entities: int, first: int) -> None:
    """Let messages gather at the broker, all acknowledged by it; each of another time."""
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, "bench-sender", protocol=MQTTv5)
    acknowledged = 0

    def done(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    client.on_publish = done
    client.max_inflight_messages_set(IN_FLIGHT)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(first, first + MQTT_MESSAGES):
        payload = b'{"value":%.2f,"time":%d}' % (number % 97 / 7, _START_US // 1_000_000 + number)
        client.publish(f"air/station-{number % entities:05d}/pm25", payload, qos=1)
    wait_until(lambda: acknowledged >= MQTT_MESSAGES)
    client.disconnect()
    client.loop_stop()
