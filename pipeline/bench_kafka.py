"""The daemon over a real Kafka against a bare kafka-python consumer of the same topic, in the same run, on one core."""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from connectors.base import Sink
from connectors.decoding import ReadingDecoder
from connectors.kafka_load import bare_consume, fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_sink import KafkaSink
from connectors.kafka_source import KafkaSource
from connectors.kafka_topics import ensure_topics
from pipeline.bench_load import START_STEP, STEP_US, TICK_US, Load, last_block_us, warmed_stream
from pipeline.daemon import Daemon
from pipeline.incident import decode
from pipeline.keeping import Keeper
from pipeline.metrics import Metrics
from pipeline.outputs import Outputs

PARTITIONS = 4
_ROUNDS = 3
_LIST = 50
"""Readings a message in the batched form."""


@dataclass(slots=True, eq=False)
class StampedSink:
    """A Kafka sink that notes when each alert was acknowledged, for the latency."""

    sink: Sink
    seen: list[tuple[int, float]] = field(default_factory=list)
    _sent: list[int] = field(default_factory=list)

    def send(self, key: str, value: bytes, headers: Any = ()) -> None:
        """Pass on; remember the step that the message is about."""
        self._sent.append(decode(value).time_us)
        self.sink.send(key, value, headers)

    def flush(self, timeout_s: float) -> None:
        """Pass on; what was sent is seen by others from now on."""
        self.sink.flush(timeout_s)
        now = time.perf_counter()
        self.seen += [(time_us, now) for time_us in self._sent]
        self._sent.clear()

    def close(self) -> None:
        """Pass on."""
        self.sink.close()


def run(args: argparse.Namespace, say: Callable[[str], None], pin: Callable[[], None]) -> dict[str, Any]:
    """Return the rates of both forms of messages and the latency from append to alert.

    ``pin`` keeps this process on one core; the broker, which is started before, has the others too.
    """
    load = Load(entities=args.entities or 2000)
    with LocalKafka() as kafka:
        pin()
        servers = kafka.bootstrap_servers
        ensure_topics(servers, {"single": PARTITIONS, "batched": PARTITIONS, "vedette.alerts": 1})
        ensure_topics(servers, {"live": PARTITIONS})
        say("kafka: filling topics")
        blocks = load.blocks(args.steps)
        records = [value for block in blocks for value in block.values if value is not None]
        fill(servers, "single", keyed(records))
        fill(servers, "batched", _lists(records))
        result: dict[str, Any] = {}
        now_us = last_block_us(blocks)
        for topic, messages in (("single", len(records)), ("batched", -(-len(records) // _LIST))):
            result[topic] = _compare(load, servers, topic, messages, len(records), now_us, say)
        say("kafka: latency")
        rate = result["single"]["readings_per_s"] / 2
        result |= _latency(load, servers, rate, args.seconds)
    return result


def _compare(
    load: Load, servers: str, topic: str, messages: int, readings: int, now_us: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Read the topic bare and by the daemon, in turn."""
    bare: list[float] = []
    ours: list[float] = []
    stages: dict[str, float] = {}
    for round_ in range(_ROUNDS):
        bare.append(bare_consume(servers, topic, range(PARTITIONS), messages))
        daemon = _daemon(load, servers, topic, f"bench-{topic}-{round_}", lambda: now_us)
        started = 0.0
        while daemon.metrics.readings_seen() < readings:
            daemon.turn()
            if not started and daemon.metrics.readings_seen():
                started, before = time.perf_counter(), daemon.metrics.readings_seen()
        seconds = time.perf_counter() - started
        ours.append((readings - before) / seconds)
        stages = {name: round(s / seconds, 4) for name, s in daemon.metrics.stage_seconds().items()}
        daemon.shut_down()
        rates = f"bare {bare[-1]:,.0f} records/s, daemon {ours[-1]:,.0f} readings/s"
        say(f"kafka: {topic}, round {round_ + 1} of {_ROUNDS}: {rates}")
    return {
        "bare_consume_per_s": round(statistics.median(bare)),
        "readings_per_s": round(statistics.median(ours)),
        "ratio": round(statistics.median(o / b for o, b in zip(ours, bare, strict=True)), 2),
        "stages": stages,
    }


def _latency(load: Load, servers: str, rate: float, seconds: int) -> dict[str, Any]:
    """Append readings at ``rate`` and time from the append that completes a step to the acknowledged alerts about it.

    In every step one entity is far off, so that every step has something to say. The load's clock follows the appends.
    """
    sink = StampedSink(KafkaSink(servers, "vedette.alerts"))
    feeder = Feeder(load, servers, rate, seconds)
    daemon = _daemon(load, servers, "live", "bench-live", feeder.now_us, sink)
    while not daemon.source.assignment():
        daemon.turn()
    daemon.commit_every_s = 0.0
    feeder.start()
    while feeder.is_alive() or daemon.metrics.readings_seen() < feeder.appended:
        daemon.turn()
    daemon.shut_down()
    waits = [seen - feeder.completed[time_us] for time_us, seen in sink.seen if time_us in feeder.completed]
    if not waits:
        raise RuntimeError("not one alert came: the latency cannot be told")
    p50, p99 = np.percentile(np.array(waits) * 1e3, [50, 99]).tolist()
    return {"latency_p50_ms": round(p50, 1), "latency_p99_ms": round(p99, 1), "latency_alerts": len(waits)}


class Feeder(threading.Thread):
    """Appends the load's readings at a rate, tick by tick, and notes when each step was complete."""

    def __init__(self, load: Load, servers: str, rate: float, seconds: int) -> None:
        super().__init__(name="bench-feeder", daemon=True)
        per_tick = load.entities * load.channels
        self._pause_s = per_tick / rate
        ticks = STEP_US // TICK_US
        self._steps = max(10, round(seconds / self._pause_s / ticks))
        self._blocks = load.blocks(self._steps, off=True)
        self._servers = servers
        self._now_us = START_STEP * STEP_US
        self.appended = 0
        self.completed: dict[int, float] = {}
        """End of a step to when the reading that let it close was appended."""

    def now_us(self) -> int:
        """Return the load's clock."""
        return self._now_us

    def run(self) -> None:
        """Append everything; late ticks are not caught up with, so the rate is an upper bound."""
        due = time.perf_counter()
        for block in self._blocks:
            due = max(due + self._pause_s, time.perf_counter() - self._pause_s)
            while (left := due - time.perf_counter()) > 0:
                time.sleep(min(left, 0.01))
            time_us = int(block.timestamps_ms[0]) * 1000
            self._now_us = max(self._now_us, time_us)
            appended = fill(self._servers, "live", keyed([v for v in block.values if v is not None]))
            self.appended += appended
            # A step is complete with the first tick after its end: only then does anybody know that it is over.
            self.completed.setdefault(-(-time_us // STEP_US) * STEP_US - STEP_US, time.perf_counter())


def _daemon(
    load: Load, servers: str, topic: str, group: str, now_us: Callable[[], int], sink: Sink | None = None
) -> Daemon:
    stream = warmed_stream(load)
    metrics = Metrics()
    decoder = ReadingDecoder(*stream.stages.screen.vocabularies)
    source = KafkaSource(servers, [topic], group)
    outputs = Outputs(alerts=[sink or KafkaSink(servers, "vedette.alerts")])
    return Daemon(source, decoder, {topic: stream}, outputs, Keeper(None, {}, metrics), metrics, now_us=now_us)


def keyed(records: list[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """Give each record its entity as key and a partition by it, as a producer's hash would."""
    for record in records:
        entity = record[11 : record.index(b'"', 11)]
        yield entity, record, int(entity[-5:]) % PARTITIONS


def _lists(records: list[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    for i, first in enumerate(range(0, len(records), _LIST)):
        yield b"", b"[" + b",".join(records[first : first + _LIST]) + b"]", i % PARTITIONS
