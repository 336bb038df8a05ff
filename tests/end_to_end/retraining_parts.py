"""A monitor that retrains itself, whole: broker, daemon, housekeeping, HTTP, and what it is fed and asked.

Stations follow a chaotic rule, z → ±(1 − 2 z²): white noise to a linear forecaster, something to learn for a network.
The sign is the regime. It changes neither the mean nor the spread of the values, only what follows what.
"""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from numpy.typing import NDArray

from connectors.kafka_embedded import PARTITIONS, EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from connectors.kafka_topics import ensure_topics
from models.registry import Registry
from pipeline.build import build_daemon
from pipeline.build_housekeeping import build_housekeeping
from pipeline.config import Config, load
from pipeline.daemon import _act_on_signals
from pipeline.health import GUARD, HealthServer
from pipeline.history import HistoryPart, HistoryStore
from pipeline.incident import rfc3339
from pipeline.job_process import is_alive, reap, send
from pipeline.job_record import JobRecord, job_folders
from pipeline.metrics import Metrics
from pipeline.status import Status
from tests.end_to_end.kafka_parts import wait_until

STREAM = "air"
STATIONS = ("east", "north", "south", "west")
CHANNELS = ("pm25", "no2")
STEP_US = 600_000_000
CONFIG = """
kafka: {{bootstrap_servers: '{servers}', group: retraining, settings: {{fetch_max_wait_ms: 50}}}}
outputs: {{alerts_topic: alerts, scores_topic: scores, dead_letter_topic: letters}}
state: {folder}/state
models: {{watch: 200ms}}
history: {{flush: 200ms}}
training: {{nice: 0}}  # the machine may be busy, and this test is not about giving way
http: {{port: 0}}
streams:
  - name: air
    topics: [air]
    step: 10m
    grace: 1m
    idle_timeout: 1h
    horizons: [1, 2]
    channels: [{{name: pm25}}, {{name: no2}}]
    model:
      hidden: 12
      window: 8
      attention: {{seasonal_lags: [], examples: 4}}
      train: {{epochs: 6, learning_rate: 0.01, dropout: 0, jitter: 0, mask: 0}}
    retrain: {{every: null, drift_pause: 1h, drift_wait: 5d, history: 6d, least_history: 500, margin: 0.02}}
"""
_OUTCOMES = ("promoted", "refused", "shadowed", "kept", "failed", "hung", "died")
_DAYS_AGO = 60
"""Event time begins so many days before now, and has passed less than that in the end."""
_JOB_S = 150.0
"""A training job takes a tenth of that, more on a busy machine."""


class Stations:
    """What the stations measure, step by step, for ever."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._z = self._rng.uniform(-1.0, 1.0, (len(STATIONS), len(CHANNELS)))
        self.regime = 1.0

    def step(self) -> NDArray[np.float64]:
        """Return [E, C] the next values."""
        push, error = self._rng.normal(0.0, 1.0, (2, *self._z.shape))
        self._z = np.clip(self.regime * (1.0 - 2.0 * self._z**2) + 0.01 * push, -1.0, 1.0)
        return 40.0 + 5.0 * self._z + error


class Scores:
    """Follows the topic of scores as any consumer would."""

    def __init__(self, servers: str) -> None:
        known = {name: v for name, v in EmbeddedBroker.settings.items() if name in KafkaConsumer.DEFAULT_CONFIG}
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers, enable_auto_commit=False, fetch_max_wait_ms=100, **known
        )
        partitions = [TopicPartition("scores", p) for p in range(PARTITIONS)]
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        self.records: list[dict[str, Any]] = []
        self._newest = dict.fromkeys(STATIONS, -1)

    def newest_step(self) -> int:
        """Read what has come, waiting a moment for it; return the newest step that every station has a score of."""
        for batch in self._consumer.poll(timeout_ms=100, max_records=10_000).values():
            for record in batch:
                told = json.loads(record.value)
                self.records.append(told)
                self._newest[told["entity"]] = told["step"]
        return min(self._newest.values())

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


class Monitor:
    """One daemon with all that belongs to it, as ``vedette run`` puts it together; its loop turns in a thread."""

    def __init__(self, folder: Path) -> None:
        """Start it with its state in ``folder``."""
        self._stack = ExitStack()
        servers = self._stack.enter_context(EmbeddedBroker()).bootstrap_servers
        self.path = folder / "vedette.yaml"
        self.path.write_text(CONFIG.format(servers=servers, folder=folder), encoding="utf-8")
        self.config: Config = load(self.path)
        topics = dict.fromkeys((STREAM, "alerts", "scores", "letters"), PARTITIONS)
        ensure_topics(servers, topics, settings=EmbeddedBroker.settings)
        self.registry = Registry(self.config.models.directory)
        self.stations = Stations()
        self.next_step = (time.time_ns() // 1000 - _DAYS_AGO * 86_400_000_000) // STEP_US
        self._input = KafkaSink(servers, STREAM, settings=EmbeddedBroker.settings)
        self._stack.callback(self._input.close)
        self.scores = Scores(servers)
        self._stack.callback(self.scores.close)
        self.metrics = Metrics(status=Status(60.0))
        self._stack.callback(self._end_jobs)
        beside = build_housekeeping(self.config, self.path, self.metrics, embedded=True)
        self._stack.callback(beside.close)
        server = HealthServer(
            self.metrics.status, self.metrics.registry, port=0,
            notes=beside.notes, train=beside.train, training=beside.training,
        )  # fmt: skip
        self._port = self._stack.enter_context(server).port
        self._daemon = build_daemon(self.config, embedded=True, metrics=self.metrics, housekeeping=beside)
        beside.start()
        self.exit_code: int | None = None
        self._loop = threading.Thread(target=self._run, name="loop", daemon=True)
        self._loop.start()
        self._stack.callback(self.stop)

    def _run(self) -> None:
        self.exit_code = self._daemon.run()

    def stop(self) -> int | None:
        """End the loop as SIGTERM does; return its exit code."""
        self._daemon.stop()
        self._loop.join(60.0)
        return self.exit_code

    def _end_jobs(self) -> None:
        """Leave no process behind, also when the test has failed; nothing starts any now."""
        wait_until(lambda: all(r.phase.ended or r.pid for r in self.jobs()), "every job has said its pid")
        for record in self.jobs():
            if record.pid is not None and record.pid_started is not None:
                send(record.pid, record.pid_started, signal.SIGKILL)
        wait_until(self.all_jobs_left, "every job's process is gone")
        for record in self.jobs():
            reap(record.pid or 0)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ---- readings ----

    def feed(self, steps: int = 1) -> None:
        """Let the stations report so many steps; return when all but the newest, which is open, are scored."""
        for _ in range(steps):
            time_us = self.next_step * STEP_US - STEP_US // 2
            for name, row in zip(STATIONS, self.stations.step().tolist(), strict=True):
                told = [
                    {"entity": name, "channel": channel, "time": rfc3339(time_us), "value": value}
                    for channel, value in zip(CHANNELS, row, strict=True)
                ]
                self._input.send(name, json.dumps(told).encode())
            self.next_step += 1
        self._input.flush(30.0)
        wait_until(self._scored, "every step is scored")

    def _scored(self) -> bool:
        assert self._loop.is_alive(), "the loop has ended"
        return self.scores.newest_step() >= self.next_step - 2

    def feed_until(self, done: Callable[[], object], what: str, timeout_s: float = 120.0) -> int:
        """Let the stations report step after step, each scored before the next, until ``done``; return how many."""
        first = self.next_step

        def fed() -> bool:
            self.feed()
            return bool(done())

        wait_until(fed, what, timeout_s)
        return self.next_step - first

    def feed_through_job(self) -> tuple[JobRecord, int]:
        """Let the stations report until the newest job has ended and is counted; return it, and how many steps."""
        count = len(self.jobs())
        steps = self.feed_until(lambda: self.jobs_counted() == count, "the job has ended", _JOB_S)
        return self.jobs()[-1], steps

    # ---- what can be done to it ----

    def http(self, path: str, method: str = "GET") -> Any:
        """Return what the daemon answers, as JSON."""
        url = f"http://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers={GUARD: "1"}), timeout=60) as a:
            return json.load(a)

    @contextmanager
    def asked_by_signal(self) -> Iterator[None]:
        """Have SIGUSR1 ask for trainings, as in ``vedette run``; main thread only."""
        before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)}
        _act_on_signals(self._daemon, deadline_s=30.0)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def poison(self, clean_steps: int) -> int:
        """Write what never was over the history, but for its newest steps; return how many rows that took.

        Each station's values come in a random order, and one in a hundred is a wild spike.
        """
        store = HistoryStore(str(self.config.history.directory))
        true = store.read(STREAM, CHANNELS, STEP_US)
        E, T, C = len(true.names), true.values.shape[1] - clean_steps, len(CHANNELS)
        rng = np.random.default_rng(1)
        false = rng.permutation(true.values[:, :T], axis=1)  # [E, T, C]
        false[rng.random(false.shape) < 0.01] += 60.0
        n = E * T
        part = HistoryPart(
            CHANNELS,
            STEP_US,
            true.names,
            codes=np.repeat(np.arange(E, dtype=np.int32), T),
            step=np.tile(true.step0 + np.arange(T), E),
            values=false.reshape(n, C),
            learn=np.ones((n, C), np.bool_),
            score=np.zeros(n, np.float32),
            level=np.zeros(n, np.int8),
            revision=np.full(n, time.time_ns() // 1000),
        )
        return store.write(STREAM, part)

    # ---- what is to be seen of it ----

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of the stream; 0 where there is no such series."""
        return self.metrics.registry.get_sample_value(f"vedette_{name}", {"stream": STREAM, **labels}) or 0.0

    def drifts(self) -> float:
        """Return how many drifts were seen."""
        return sum(self.metric("drifts_total", signal=signal) for signal in ("score", "residual"))

    def jobs(self) -> list[JobRecord]:
        """Return the records of all jobs, oldest first."""
        records = [folder.read() for folder in job_folders(self.config.training.directory, STREAM)]
        return [record for record in records if record is not None]

    def all_jobs_left(self) -> bool:
        """Return whether no job's process runs any more."""
        return not any(is_alive(record.pid, record.pid_started) for record in self.jobs())

    def jobs_counted(self) -> int:
        """Return how many jobs the metrics say have ended."""
        return round(sum(self.metric("training_jobs_total", outcome=outcome) for outcome in _OUTCOMES))
