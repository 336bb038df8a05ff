"""A daemon over memory with clocks by hand, and the readings that it is fed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.base import RecordBlock, TopicPartition
from connectors.decoding import ReadingDecoder
from connectors.errors import SourceUnavailable
from connectors.memory import MemorySink, MemorySource
from pipeline.build import build_stream
from pipeline.checkpointing import CheckpointStore
from pipeline.config import loads
from pipeline.config_streams import StreamConfig
from pipeline.daemon import Daemon
from pipeline.data_quality import DeadLetterBreaker
from pipeline.incident import AlertMessage, decode, rfc3339
from pipeline.keeping import Keeper
from pipeline.metrics import Metrics
from pipeline.outputs import Outputs

TOPIC = "air"
CHANNELS = ("pm25", "no2")
STEP_US = 60_000_000
START_STEP = 29_000_000
WARMUP_STEPS = 80
"""Steps until the detectors speak, in these tests."""


def stream_config(more: str = "") -> StreamConfig:
    """Return the configuration of stream ``air``; ``more`` is further YAML of it, indented by four."""
    return loads(
        f"streams:\n  - name: air\n    topics: [{TOPIC}]\n    step: 1m\n    grace: 0s\n    horizons: [1, 3]\n{more}"
        "    channels:\n"
        "      - {name: pm25, unit: ug/m3, limits: [{name: legal, above: 500}]}\n"
        "      - {name: no2, unit: ug/m3}\n"
    ).streams[0]


def wandering(entities: int, steps: int, shifts: Mapping[int, int] | None = None, seed: int = 0) -> NDArray[np.float64]:
    """Return [T, E, C] values that wander around 40; ``shifts`` maps an entity to the step at which it jumps by 400."""
    rng = np.random.default_rng(seed)
    x = np.zeros((entities, len(CHANNELS)))
    values = np.empty((steps, entities, len(CHANNELS)))
    for t in range(steps):
        x = 0.9 * x + rng.normal(0.0, 1.0, x.shape)
        values[t] = 40.0 + x
    for entity, step in (shifts or {}).items():
        values[step : step + 30, entity] += 400.0
    return values


def name_of(entity: int) -> str:
    """Return the name of an entity."""
    return f"station-{entity}"


def reading(entity: int, channel: int, time_us: int, value: float) -> bytes:
    """Return one canonical reading."""
    record = {"entity": name_of(entity), "channel": CHANNELS[channel], "time": rfc3339(time_us), "value": value}
    return json.dumps(record).encode()


def blocks_of(
    values: NDArray[np.float64], partitions: int = 1, per_step: int = 2, first_step: int = START_STEP
) -> list[RecordBlock]:
    """Return the readings of ``values`` [T, E, C], ``per_step`` of each a step, a block per tick and partition."""
    T, E, C = values.shape
    next_offset = [0] * partitions
    blocks = []
    for tick in range(T * per_step):
        time_us = first_step * STEP_US + (tick + 1) * STEP_US // per_step
        for p in range(partitions):
            now = values[tick // per_step]
            records = [reading(e, c, time_us, float(now[e, c])) for e in range(p, E, partitions) for c in range(C)]
            blocks.append(block_of(records, p, next_offset[p], time_us))
            next_offset[p] += len(records)
    return blocks


def block_of(records: Sequence[bytes | None], partition: int, offset: int, time_us: int) -> RecordBlock:
    """Return a block of ``records`` at ``offset``."""
    n = len(records)
    offsets = np.arange(offset, offset + n, dtype=np.int64)
    return RecordBlock(TOPIC, partition, records, offsets, np.full(n, time_us // 1000), offset + n)


class Clock:
    """The wall clock and the clock for waiting, by hand."""

    def __init__(self, now_us: int = START_STEP * STEP_US) -> None:
        self.us = now_us
        self.s = 0.0
        self.paused: list[float] = []

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.s

    def pause(self, seconds: float) -> None:
        """Wait, as far as the daemon can tell."""
        self.paused.append(seconds)
        self.s += seconds


class Feed(MemorySource):
    """A source in memory that takes the wall clock along with its records, and can be away."""

    def __init__(
        self,
        blocks: Iterable[RecordBlock],
        clock: Clock,
        committed: Mapping[TopicPartition, int] | None = None,
        poll_s: float = 0.25,
        away_for: int = 0,
    ) -> None:
        super().__init__(blocks, committed=committed)
        self.clock = clock
        self.poll_s = poll_s
        self.away_for = away_for
        self.closed = False

    def poll(self, timeout_s: float) -> list[RecordBlock]:
        """Return the next blocks, or fail ``away_for`` times."""
        self.clock.s += self.poll_s
        if self.away_for > 0:
            self.away_for -= 1
            raise SourceUnavailable("no broker listens")
        blocks = super().poll(timeout_s)
        for block in blocks:
            self.clock.us = max(self.clock.us, int(block.timestamps_ms.max()) * 1000)
        return blocks

    def first_time_us(self) -> int:
        """Return the time of the first record."""
        return int(self._blocks[0].timestamps_ms[0]) * 1000

    def close(self) -> None:
        self.closed = True


class Rig:
    """One life of a daemon: its parts, for tests to look at."""

    def __init__(
        self,
        blocks: Iterable[RecordBlock],
        folder: Path | None = None,
        *,
        committed: Mapping[TopicPartition, int] | None = None,
        config: StreamConfig | None = None,
        checkpoint_every_s: float = 1e9,
        away_for: int = 0,
        startup_timeout_s: float = 120.0,
        breaker: DeadLetterBreaker | None = None,
        commit_every_s: float = 1.0,
        warmup_steps: int | None = WARMUP_STEPS,
        topics: Sequence[str] = (TOPIC,),
    ) -> None:
        config = config or stream_config()
        self.clock = Clock()
        self.source = Feed(blocks, self.clock, committed, away_for=away_for)
        self.alerts, self.scores, self.dead_letters = MemorySink(), MemorySink(), MemorySink()
        self.metrics = Metrics()
        decoder = ReadingDecoder()
        vocabularies = (decoder.entities, decoder.channels, decoder.units)
        self.stream = build_stream(config, vocabularies=vocabularies, warmup_steps=warmup_steps)
        store = None if folder is None else CheckpointStore(folder)
        keeper = Keeper(
            store, {"air": config.fingerprint()}, self.metrics, checkpoint_every_s, monotonic=self.clock.monotonic
        )
        outputs = Outputs([self.alerts], [self.scores], [self.dead_letters], breaker)
        self.daemon = Daemon(
            self.source,
            decoder,
            dict.fromkeys(topics, self.stream),
            outputs,
            keeper,
            self.metrics,
            commit_every_s=commit_every_s,
            startup_timeout_s=startup_timeout_s,
            now_us=self.clock.now_us,
            monotonic=self.clock.monotonic,
            pause=self.clock.pause,
        )

    def turns(self, count: int) -> None:
        """Take so many turns of the loop."""
        for _ in range(count):
            self.daemon.turn()

    def until(self, done: Callable[[], bool], most: int = 10_000) -> None:
        """Take turns until ``done``."""
        for _ in range(most):
            if done():
                return
            self.daemon.turn()
        raise AssertionError(f"not done after {most} turns")

    def committed(self) -> dict[TopicPartition, int]:
        """Return what was committed."""
        found = {p: self.source.committed(p) for p in self.source.assignment()}
        return {p: offset for p, offset in found.items() if offset is not None}

    def messages(self) -> list[AlertMessage]:
        """Return the alert messages that are durable."""
        return [decode(message.value) for message in self.alerts.messages]

    def value(self, metric: str, **labels: str) -> float:
        """Return a metric; 0 where it was never counted."""
        return self.metrics.registry.get_sample_value(f"vedette_{metric}", labels) or 0.0


def said(*rigs: Rig) -> dict[str, dict[str, Any]]:
    """Return what all of the alert messages say, by message id; saying it again must say the same."""
    by_id: dict[str, dict[str, Any]] = {}
    for rig in rigs:
        for message in rig.alerts.messages:
            data = json.loads(message.value)["data"]
            del data["told"], data["told_us"]  # the wall clock is no part of what is said
            identity = f"{data['incident_id']}:{data['sequence']}"
            assert by_id.setdefault(identity, data) == data
    return by_id


def scored(*rigs: Rig) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the score records by entity and step; scoring again must give the same."""
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for rig in rigs:
        for message in rig.scores.messages:
            record = json.loads(message.value)
            assert records.setdefault((record["entity"], record["step"]), record) == record
    return records
