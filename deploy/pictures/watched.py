"""A run to be pictured: a real daemon scores the demo's air stations, and a real Prometheus scrapes it while it does.

All but the last day is fed as fast as it is scored. That day is fed ten minutes a second, because a scrape cannot be
backdated: a curve is as long, on Prometheus' clock, as it took to scrape. The air is simulated, as in the demo: water,
its real stream, is measured on one channel for too few hours for a network to convince the judge.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from connectors.kafka_topics import ensure_topics
from pipeline.build import build_daemon
from pipeline.build_console import build_faces
from pipeline.build_housekeeping import build_housekeeping
from pipeline.config import load
from pipeline.daemon import Daemon
from pipeline.demo_data import DemoStream, air
from pipeline.health import GUARD
from pipeline.housekeeping import Housekeeping
from pipeline.incident import rfc3339
from pipeline.live import Live
from pipeline.metrics import Metrics
from pipeline.planted import FaultKind
from pipeline.status import Status

STATION, FAULT = "ring-road", FaultKind.LIMIT
"""Whose planted fault is looked at: fine dust gathers for half a day, at the harbour too."""
BEFORE_STEPS, AFTER_STEPS = 80, 110
"""Steps of ten minutes around the fault's beginning that are fed slowly."""
PAUSE_S = 1.1
"""Between slow steps: longer than Prometheus' scrape interval, so that none is left out."""
SETTLED_STEPS = 36
"""Steps that are fed between the training and the slow ones, for the network to take charge in."""
_WAIT_S = 300.0
_MOST_TRIES = 3
_CONFIG = """
kafka: {{bootstrap_servers: '{servers}', group: pictures, settings: {{fetch_max_wait_ms: 50}}}}
outputs: {{alerts_topic: alerts, dead_letter_topic: letters, alerts_file: '{folder}/alerts.jsonl'}}
state: '{folder}/state'
database: {{retention: 3650d}}   # the simulated year does not end
history: {{retention: 3650d, flush: 2s}}
http: {{port: 0}}
streams:
  - name: air
    topics: [air]
    step: 10m
    grace: 1m
    idle_timeout: 10m
    silence_after: 1h
    budget: 1 per 30d
    horizons: [1, 2, 3, 6]
    model: {{neighbours: {{k: 3}}}}
    retrain: {{every: null, on_drift: false, least_history: 3000}}
    channels:
"""
_SCRAPES = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: vedette
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """Where to look, and when it was how."""

    console: str
    prometheus: str
    began_s: float
    """Prometheus' clock, seconds since 1970, when the slow steps began."""


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Run it, its state below ``folder``, which is emptied; yield when the last step is fed, the incident still open.

    Raises:
        FileNotFoundError: if there is no Prometheus on this machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    demo = air()
    with ExitStack() as stack:
        servers = stack.enter_context(EmbeddedBroker()).bootstrap_servers
        path = folder / "vedette.yaml"
        path.write_text(_CONFIG.format(servers=servers, folder=folder) + _channels(demo), encoding="utf-8")
        config = load(path)
        topics = dict.fromkeys((demo.series.stream, "alerts", "letters"), 1)
        ensure_topics(servers, topics, settings=EmbeddedBroker.settings)
        live, metrics = Live(), Metrics(status=Status(60.0))
        beside = build_housekeeping(config, path, metrics, embedded=True, live=live)
        stack.callback(beside.close)
        daemon = build_daemon(config, embedded=True, metrics=metrics, housekeeping=beside)
        faces = stack.enter_context(build_faces(config, metrics, beside, live, undelivered=beside.undelivered))
        beside.listener = faces.said
        beside.start()
        stack.enter_context(_turning(daemon))
        console = f"http://127.0.0.1:{faces.port}"
        feed = _Feed(demo, servers, daemon)
        stack.callback(feed.close)
        start = _start(demo)
        feed.through(start - BEFORE_STEPS - SETTLED_STEPS)
        _train(beside, metrics, console)
        feed.through(start - BEFORE_STEPS)
        until(lambda: _count(metrics, "model_swaps_total") > 0, "the network has taken charge")
        prometheus = stack.enter_context(_prometheus(folder, faces.port))
        began_s = time.time()
        feed.through(start + AFTER_STEPS, PAUSE_S)
        yield Watched(console, prometheus, began_s)


class _Feed:
    """Sends the steps in order, and waits for the daemon after each that is sent slowly."""

    def __init__(self, demo: DemoStream, servers: str, daemon: Daemon) -> None:
        self._series = demo.series
        self._sink = KafkaSink(servers, demo.series.stream, settings=EmbeddedBroker.settings)
        self._daemon = daemon
        self._next = self._sent = 0

    def through(self, last: int, pause_s: float = 0.0) -> None:
        """Send all steps up to ``last``, and return when they are read."""
        while self._next <= last:
            self._send(self._next)
            self._next += 1
            if pause_s or self._next % 200 == 0:
                self._sink.flush(30.0)
                until(lambda: sum(self._daemon.handled.values()) >= self._sent, "the daemon has read all")
            time.sleep(pause_s)
        self._sink.flush(30.0)
        until(lambda: sum(self._daemon.handled.values()) >= self._sent, "the daemon has read all")

    def close(self) -> None:
        self._sink.close()

    def _send(self, step: int) -> None:
        series = self._series
        for name, row in zip(series.entities, series.values[:, step].tolist(), strict=True):
            told = [
                {"entity": name, "channel": channel, "time": rfc3339(int(series.times_us[step])), "value": value}
                for channel, value in zip(series.channels, row, strict=True)
                if value == value  # NaN: nothing was measured, so nothing is sent
            ]
            if told:
                self._sink.send(name, json.dumps(told).encode())
                self._sent += 1


def _channels(demo: DemoStream) -> str:
    lines = []
    for channel, unit in zip(demo.series.channels, demo.series.units, strict=True):
        limit = demo.limits.get(channel)
        limits = f", limits: [{{name: {channel}-limit, above: {limit:g}}}]" if limit is not None else ""
        lines.append(f"      - {{name: {channel}, unit: '{unit}'{limits}}}\n")
    return "".join(lines)


def _train(beside: Housekeeping, metrics: Metrics, console: str) -> None:
    """Have a network trained, and put in charge by hand: the judge does not find it better enough than what is there.

    Simulated air is close to linear, so that is as it should be; here it is to be seen what a network attends to.
    """
    for tries in range(1, _MOST_TRIES + 1):
        beside.train("air")
        until(lambda n=tries: _count(metrics, "training_jobs_total") >= n, "the training has ended")  # type: ignore[misc]
        if _count(metrics, "training_jobs_total", outcome="promoted"):
            return
        versions = _http(f"{console}/api/models?stream=air")["versions"]
        if versions:  # else the history was being tidied while it was read
            break
    else:
        raise RuntimeError(f"{_MOST_TRIES} trainings left no network: the log says why")
    version = versions[0]["version"]
    _http(f"{console}/api/models/promote", {"stream": "air", "version": version, "reason": "to be looked at"})


def _http(url: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """Return what the console's API answers, to a question or to an act."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {GUARD: "1", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def _count(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the sum of a counter over all labels that are not given."""
    found = (sample for family in metrics.registry.collect() for sample in family.samples)
    return sum(s.value for s in found if s.name == f"vedette_{name}" and labels.items() <= s.labels.items())


def _start(demo: DemoStream) -> int:
    """Return the step in which the fault begins that is looked at."""
    fault = next(fault for fault in demo.truths if fault.entity == STATION and fault.kind is FAULT)
    return int((demo.series.times_us < fault.start_us).sum())


@contextmanager
def _turning(daemon: Daemon) -> Iterator[None]:
    loop = threading.Thread(target=daemon.run, name="loop", daemon=True)
    loop.start()
    try:
        yield
    finally:
        daemon.stop()
        loop.join(60.0)


@contextmanager
def _prometheus(folder: Path, port: int) -> Iterator[str]:
    """Run a Prometheus that scrapes ``port`` each second; yield its address."""
    config = folder / "prometheus.yml"
    config.write_text(_SCRAPES.format(port=port), encoding="utf-8")
    address = f"127.0.0.1:{_free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        until(lambda: _answers(f"http://{address}/-/ready"), "Prometheus is ready")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.URLError:
        return False


def until(done: Callable[[], bool], what: str) -> None:
    """Wait until ``done``; raises TimeoutError with ``what`` was waited for."""
    end = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_WAIT_S:.0f} s in vain: {what}")
        time.sleep(0.05)
