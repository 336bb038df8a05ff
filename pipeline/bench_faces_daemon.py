"""A daemon as one side of ``vedette bench faces``: in a process of its own, with all faces or with none.

It is made by the same builders as in ``vedette run``. What is different is only that its loop goes on when it is told
to, and that it notes how long its thread stood still.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.bench_load import Load, warm
from pipeline.build import build_daemon
from pipeline.build_console import build_faces
from pipeline.build_housekeeping import build_housekeeping
from pipeline.config import Config, loads
from pipeline.daemon import Daemon
from pipeline.garbage import settle
from pipeline.housekeeping import Housekeeping
from pipeline.live import Live
from pipeline.logs import configure
from pipeline.metrics import Metrics

_PATIENCE_S = 120.0
"""Without a reading, or with messages that do not leave, for so long something is wrong."""
_SETTLED_S = 0.3
_read_at = ctypes.PyDLL(None).pread
"""Keeps the interpreter's lock, as the loop does there: ``os.pread`` would offer it to the other threads each time."""
_read_at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)
_read_at.restype = ctypes.c_ssize_t
_WAITING_STAGES = ("poll", "commit", "checkpoint")
"""In these the loop waits for the broker and the disk, as it is meant to."""
_CONFIG = """\
state: {folder}/state
streams:
{stream}    retrain: {{every: null, least_history: 500000}}
kafka: {{bootstrap_servers: "{servers}", group: "{group}"}}
checkpoints: {{every: 1d}}
models: {{directory: {models}}}
database: {{retention: 3650d}}
http: {{port: 0}}
"""
_WITH = """\
history: {{retention: 3650d}}
metrics: {{max_series: 1000000}}
outputs:
  alerts_topic: alerts
  dead_letter_topic: null
  alerts_file: {folder}/alerts.jsonl
  receivers:
    - {{name: alertmanager, kind: alertmanager, urls: ["{alertmanager}"]}}
    - {{name: webhook, kind: webhook, urls: ["{webhook}"], secret: benchmark}}
    - {{name: file, kind: file, path: {folder}/told.jsonl, tier: watch}}
"""
_WITHOUT = """\
history: {{directory: null}}
metrics: {{per_entity: false}}
outputs: {{alerts_topic: null, dead_letter_topic: null}}
"""


@dataclass(frozen=True, slots=True)
class Side:
    """What a daemon is made of."""

    faces: bool
    """All of them, or none."""
    folder: str
    """For its state."""
    models: str
    """The registry, which holds a champion."""
    servers: str
    embedded: bool
    """Whether the broker is the embedded one."""
    load: Load
    alertmanager: str
    """Where one listens; likewise ``webhook``."""
    webhook: str

    def config(self) -> Config:
        """Return the configuration."""
        text = _CONFIG + (_WITH if self.faces else _WITHOUT)
        facts = {
            "folder": self.folder,
            "stream": self.load.yaml(),
            "servers": self.servers,
            "models": self.models,
            "group": f"bench-{'faces' if self.faces else 'bare'}",
            "alertmanager": self.alertmanager,
            "webhook": self.webhook,
        }
        return loads(text.format(**facts))


@dataclass(frozen=True, slots=True)
class Go:
    """An order: read on until ``readings`` are seen in all; then, if it says so, make everything durable."""

    readings: int
    now_us: int
    """What the daemon's clock shows."""
    durable: bool


@dataclass(slots=True)
class Spent:
    """What a run took. Seconds; clocks are those of ``time.perf_counter``, the same in all processes."""

    wall_s: float = 0.0
    loop_cpu_s: float = 0.0
    """On a processor, the loop's thread."""
    queued_s: float = 0.0
    """The loop's thread was ready, and no processor free: other programs' doing, or that of threads beside it."""
    process_cpu_s: float = 0.0
    """All threads, until everything that the run left to be done was done."""
    pauses: list[tuple[float, float, float]] = field(default_factory=list)
    """(from, to, seconds between them in which the thread neither ran nor was ready), where it is not meant to wait."""
    stages: dict[str, float] = field(default_factory=dict)
    """Of ``loop_cpu_s`` by the stage that ended then."""
    messages: int = 0
    """Alert messages since the start."""

    def add(self, other: Spent) -> None:
        """Count another run in."""
        self.wall_s += other.wall_s
        self.loop_cpu_s += other.loop_cpu_s
        self.queued_s += other.queued_s
        self.process_cpu_s += other.process_cpu_s
        self.pauses += other.pauses
        for name, seconds in other.stages.items():
            self.stages[name] = self.stages.get(name, 0.0) + seconds
        self.messages = other.messages


def serve(side: Side, orders: Connection) -> None:
    """Run a daemon by orders until there are no more; the first answer is its port, 0 where it has none.

    Every order is answered by what it took, and by an exception where it failed.
    """
    configure("error", "logfmt")
    try:
        with _running(side) as (daemon, marks, port):
            orders.send(port)
            while True:
                orders.send(_go(daemon, marks, orders.recv()))
    except EOFError:
        return
    except Exception as error:
        with suppress(BrokenPipeError):  # whoever gives orders has gone
            orders.send(RuntimeError(f"the daemon failed: {type(error).__name__}: {error}"))


@contextmanager
def _running(side: Side) -> Iterator[tuple[Daemon, _Marks, int]]:
    config, metrics, live = side.config(), _Marks(), Live()
    with ExitStack() as stack:
        beside: Housekeeping | None = None
        port = 0
        if side.faces:
            beside = build_housekeeping(config, Path(side.folder) / "none.yaml", metrics, live=live)
            stack.enter_context(closing(beside))
            faces = build_faces(config, metrics, beside, live, undelivered=beside.undelivered)
            stack.enter_context(faces)
            beside.listener = faces.said
            port = faces.port
        daemon = build_daemon(config, metrics=metrics, housekeeping=beside, embedded=side.embedded)
        (stream,) = daemon.streams
        if stream.predictor.champion is None:
            raise RuntimeError("the network is not in charge")
        warm(stream, side.load)
        if beside is not None:
            beside.start()
        while not daemon.source.assignment():
            daemon.turn()
        settle()
        yield daemon, metrics, port
        daemon.shut_down()


def _go(daemon: Daemon, marks: _Marks, go: Go) -> Spent:
    daemon.now_us = lambda: go.now_us
    process_s, queued_s, cpu_s = time.process_time(), marks.queued_s(), time.thread_time()
    started = marks.begin()
    _until(lambda: daemon.metrics.readings_seen() >= go.readings, daemon.turn, lambda: daemon.metrics.readings_seen())
    if go.durable:
        daemon.commit(force=True)
    spent = Spent(
        wall_s=time.perf_counter() - started,
        loop_cpu_s=time.thread_time() - cpu_s,
        queued_s=marks.queued_s() - queued_s,
        pauses=marks.pauses,
        stages=marks.cpu_s,
    )
    _settle(daemon.housekeeping)
    spent.process_cpu_s = time.process_time() - process_s
    spent.messages = marks.messages
    if daemon.streams[0].predictor.champion is None:
        raise RuntimeError("the network is in charge no more: the sides do not do the same work")
    return spent


def _until(done: Callable[[], bool], go_on: Callable[[], object], progress: Callable[[], int]) -> None:
    reached, since = progress(), time.monotonic()
    while not done():
        go_on()
        now = progress()
        if now != reached:
            reached, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE_S:
            raise RuntimeError(f"no progress for {_PATIENCE_S:.0f} s at {reached}")


def _settle(beside: Housekeeping) -> None:
    """Return when no more messages leave: some wait for their time, as ends of incidents do."""
    left, since = -1, time.monotonic()
    while left != 0 and time.monotonic() - since < _SETTLED_S:
        now = beside.undelivered() + (0 if beside.alerts is None else beside.alerts.waiting)
        if now != left:
            left, since = now, time.monotonic()
        time.sleep(0.02)


class _Marks(Metrics):
    """Notes at the end of each stage how long the loop's thread has stood still since the end of the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[tuple[float, float, float]] = []
        self.cpu_s: dict[str, float] = {}
        self.messages = 0
        self._schedule = _open_schedule()
        self._read = ctypes.create_string_buffer(100)
        self._last = (0.0, 0.0, 0.0)

    def begin(self) -> float:
        """Forget what was; return the time."""
        self.pauses, self.cpu_s = [], {}
        self._last = (time.perf_counter(), time.thread_time(), self.queued_s())
        return self._last[0]

    def stage(self, name: str, seconds: float) -> None:
        """Note the end of a stage."""
        super().stage(name, seconds)
        now = (time.perf_counter(), time.thread_time(), self.queued_s())
        before, self._last = self._last, now
        wall, cpu, queued = (b - a for a, b in zip(before, now, strict=True))
        self.cpu_s[name] = self.cpu_s.get(name, 0.0) + cpu
        if name not in _WAITING_STAGES:
            self.pauses.append((before[0], now[0], max(wall - cpu - queued, 0.0)))

    def said(self, messages: object) -> None:
        """Count messages."""
        super().said(messages)  # type: ignore[arg-type]
        self.messages += len(messages)  # type: ignore[arg-type]

    def queued_s(self) -> float:
        """Return how long this thread has waited for a processor; 0.0 where the system does not tell."""
        if self._schedule is None or _read_at(self._schedule, self._read, len(self._read) - 1, 0) <= 0:
            return 0.0
        return int(self._read.value.split()[1]) / 1e9


def _open_schedule() -> int | None:
    """Return Linux's account of this thread, to be read again and again."""
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    except OSError:
        return None
