"""The load of the benchmarks: stations that are read every ten seconds, as JSON bytes, one reading a message."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.base import RecordBlock, TopicPartition
from connectors.decoding import ReadingDecoder
from connectors.memory import MemorySink, MemorySource
from models.features import input_width
from models.rerun import WindowRerun
from models.weights import Sizes, Weights
from pipeline.build import build_stream
from pipeline.checkpointing import CheckpointStore
from pipeline.config import loads
from pipeline.config_streams import StreamConfig
from pipeline.daemon import Daemon
from pipeline.frames import Frames
from pipeline.keeping import Keeper
from pipeline.metrics import Metrics
from pipeline.outputs import Outputs
from pipeline.stream import Stream

STEP_US = 60_000_000
TICK_US = 10_000_000
START_STEP = 29_000_000
WARM_STEPS = 400
"""More than the detector's longest warm-up."""
_CHANNELS = ("pm25", "temperature", "humidity")
_UNITS = ("ug/m3", "Cel", "%")


@dataclass(frozen=True, slots=True)
class Load:
    """So many entities with three channels each, read every ten seconds, step one minute."""

    entities: int
    channels: int = 3

    def config(self) -> StreamConfig:
        """Return the stream's configuration."""
        return loads(f"streams:\n{self.yaml()}").streams[0]

    def yaml(self) -> str:
        """Return the stream's part of a configuration: all witnesses on, network of H 32 and W 64."""
        channels = "".join(f"\n      - {{name: {c}, unit: {u!r}}}" for c, u in zip(_CHANNELS, _UNITS, strict=True))
        return (
            "  - name: load\n    topics: [load]\n    step: 1m\n    grace: 0s\n    max_entities: 1000000\n"
            f"    horizons: [1]\n    model: {{ring: bf16}}\n    channels:{channels}\n"
        )

    def stream(self) -> Stream:
        """Return a cold stream with a network in charge (untrained weights cost the same as trained ones)."""
        stream = build_stream(self.config())
        adopt_untrained(stream)
        return stream

    def values(self, first: int, steps: int) -> NDArray[np.float64]:
        """Return [steps, E, C] values of quiet sensors from step ``first`` on: they wander around a level."""
        rng = np.random.default_rng(1)
        x = rng.normal(0.0, 2.0, (self.entities, self.channels))
        values = np.empty((steps, self.entities, self.channels))
        for step in range(first + steps):
            x = 0.95 * x + rng.normal(0.0, 2.0 * math.sqrt(1.0 - 0.95**2), x.shape)
            if step >= first:
                values[step - first] = 20.0 + x
        return values

    def blocks(self, steps: int, off: bool = False, first: int = 0) -> list[RecordBlock]:
        """Return blocks of JSON readings, one a tick of ten seconds, from the ``first`` step after the warm-up on.

        ``off``: in each step one entity is far off.
        """
        ticks = STEP_US // TICK_US
        rng = np.random.default_rng(3 + first)
        values = np.repeat(self.values(WARM_STEPS + first, steps), ticks, axis=0)
        values += rng.normal(0.0, 0.5, values.shape)
        if off:
            for step in range(steps):
                values[step * ticks : (step + 1) * ticks, (step * 37) % self.entities] += 40.0
        offset = first * ticks * self.entities * self.channels
        blocks = []
        for tick in range(steps * ticks):
            time_us = (START_STEP + first) * STEP_US + (tick + 1) * TICK_US
            stamp = np.datetime_as_string(np.datetime64(time_us, "us").astype("datetime64[s]")) + "Z"
            records = [
                b'{"entity":"station-%05d","channel":"%s","time":"%s","value":%.2f,"unit":"%s","quality":"good"}'
                % (e, c.encode(), stamp.encode(), values[tick, e, i], u.encode())
                for e in range(self.entities)
                for i, (c, u) in enumerate(zip(_CHANNELS, _UNITS, strict=True))
            ]
            n = len(records)
            offsets = np.arange(offset, offset + n, dtype=np.int64)
            blocks.append(RecordBlock("load", 0, records, offsets, np.full(n, time_us // 1000), offset + n))
            offset += n
        return blocks


def adopt_untrained(stream: Stream) -> None:
    """Put a network with random weights, H 32 and W 64, in charge of ``stream``'s corrections."""
    stream.predictor.adopt(untrained(len(stream.channels)), "untrained", stream.entities, ring="bf16")


def untrained(channels: int) -> Weights:
    """Return a network with random weights, H 32 and W 64."""
    return WindowRerun(Sizes(input_width(channels), channels, 1, hidden=32, window=64)).weights()


def warmed_stream(load: Load, steps: int = WARM_STEPS) -> Stream:
    """Return a stream whose witnesses have warmed up on ``steps`` frames of the load."""
    stream = load.stream()
    warm(stream, load, steps)
    return stream


def warm(stream: Stream, load: Load, steps: int = WARM_STEPS) -> None:
    """Let a cold stream warm up on ``steps`` frames of the load."""
    stream.add_entities([f"station-{e:05d}" for e in range(load.entities)])
    values = load.values(WARM_STEPS - steps, steps)
    values += np.random.default_rng(2).normal(0.0, 0.5 / math.sqrt(STEP_US / TICK_US), values.shape)
    learn = np.ones((load.entities, load.channels), np.bool_)
    count = np.ones((load.entities, load.channels), np.int32)
    for i in range(steps):
        step = START_STEP - steps + i + 1
        frames = Frames(step, step * STEP_US, values[i], learn, count)
        stream.process(frames, frames.time_us)


def make_daemon(stream: Stream, blocks: Sequence[RecordBlock]) -> tuple[Daemon, MemorySink]:
    """Return the real daemon over a source in memory, and the sink its alerts go to."""
    metrics = Metrics()
    sink = MemorySink()
    decoder = ReadingDecoder(*stream.stages.screen.vocabularies)
    outputs = Outputs(alerts=[sink])
    keeper = Keeper(None, {}, metrics)
    last_us = last_block_us(blocks)
    source = MemorySource(blocks)
    return Daemon(source, decoder, {"load": stream}, outputs, keeper, metrics, now_us=lambda: last_us), sink


def last_block_us(blocks: Sequence[RecordBlock]) -> int:
    """Return the time of the newest reading: what the clock must show for none to lie in the future."""
    return int(blocks[-1].timestamps_ms[-1]) * 1000


def witness_costs(stream: Stream, load: Load, steps: int = 20) -> dict[str, float]:
    """Return µs per entity-step of each part of the detector, over frames that continue the warm-up's."""
    values = load.values(WARM_STEPS, steps)
    learn = np.ones((load.entities, load.channels), np.bool_)
    quiet = np.zeros(load.entities, np.bool_)
    seconds: dict[str, float] = {}
    last = [0.0]

    def done(part: str) -> None:
        now = time.perf_counter()
        seconds[part] = seconds.get(part, 0.0) + now - last[0]
        last[0] = now

    detector = stream.stages.detector
    detector.done = done
    for i in range(steps):
        step = START_STEP + 1_000 + i
        expected, spread = stream.predictor.expected(load.entities)
        detector.detect(values[i], learn, expected, spread, step * STEP_US, step, quiet)
    detector.done = lambda part: None
    del seconds["start"]  # the time between steps
    return {name: round(1e6 * s / (steps * load.entities), 3) for name, s in seconds.items()}


def decode_rate(blocks: Sequence[RecordBlock]) -> float:
    """Return the readings per second of decoding alone, over the same blocks."""
    decoder = ReadingDecoder()
    for block in blocks[:2]:
        decoder.decode(block)
    started = time.perf_counter()
    readings = sum(len(decoder.decode(block)) for block in blocks)
    return readings / (time.perf_counter() - started)


def keeper_for(stream: Stream, folder: Path) -> tuple[Keeper, dict[str, Stream], dict[TopicPartition, int]]:
    """Return a keeper that writes into ``folder``, and what it is told to keep."""
    keeper = Keeper(CheckpointStore(folder), {stream.name: "bench"}, Metrics())
    return keeper, {"load": stream}, {TopicPartition("load", 0): 1}
