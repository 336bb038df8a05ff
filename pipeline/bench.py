"""Benchmarks: each figure beside its reference, both measured in the same run.

One JSON object per benchmark on stdout; progress on stderr. Machines are noisy: quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.exit_codes import OK, UNAVAILABLE, USAGE
from pipeline.logs import configure

_RERUN_BATCH = 512
"""Windows that stay in the cache: torch is faster over so many at a time than over all entities in one call."""


def main(args: argparse.Namespace) -> int:
    """Run ``vedette bench NAME``; return the exit code."""
    benchmarks: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "step": bench_step,
        "pipeline": bench_pipeline,
        "restore": bench_restore,
        "kafka": bench_kafka,
        "detection": bench_detection,
        "train": bench_train,
        "faces": bench_faces,
        "ingest": bench_ingest,
    }
    if args.name == "kafka" and "KAFKA_HOME" not in os.environ:
        _say("bench kafka needs a Kafka: set KAFKA_HOME to the folder of an unpacked Apache Kafka")
        return UNAVAILABLE
    if args.name == "detection" and not args.data:
        _say("bench detection needs --data: the folder in which nab/ and gecco2018/ lie")
        return USAGE
    configure("warning", "logfmt")
    result = benchmarks[args.name](args)
    sys.stdout.write(json.dumps(result, indent=None if args.json else 2) + "\n")
    return OK


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _pin_to_one_core() -> None:
    """Keep this process, and the libraries' thread pools, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def bench_step(args: argparse.Namespace) -> dict[str, Any]:
    """Time the streaming network's step against re-running the network over its window in torch; one thread."""
    _pin_to_one_core()
    from models.rerun import WindowRerun
    from models.streaming import StreamingAttentionLSTM
    from models.weights import Sizes

    entities, hidden, window = args.entities or 4096, args.hidden, args.window
    sizes = Sizes(inputs=16, channels=3, horizons=1, hidden=hidden, window=window)
    rerun = WindowRerun(sizes)
    streaming = StreamingAttentionLSTM(rerun.weights(), entities, ring_dtype="bf16")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((entities, sizes.inputs)).astype(np.float32)
    windows = rng.standard_normal((entities, window, sizes.inputs)).astype(np.float32)
    nobody = np.full((entities, 0), -1, np.int32)
    none, unknown = np.full(entities, -1, np.int32), np.zeros(entities, np.int32)
    step = 0

    def stream(steps: int) -> list[float]:
        nonlocal step
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            streaming.step(x, step, nobody, none, unknown)
            seconds.append(time.perf_counter() - started)
            step += 1
        return seconds

    def again(batch: int) -> float:
        started = time.perf_counter()
        for first in range(0, entities, batch):
            rerun.run(windows[first : first + batch])
        return time.perf_counter() - started

    stream(window + 3)
    again(entities)
    streaming_s: list[float] = []
    whole_s: list[float] = []
    batches_s: list[float] = []
    for round_ in range(args.rounds):
        streaming_s += stream(30)
        whole_s.append(again(entities))
        batches_s.append(again(_RERUN_BATCH))
        _say(f"step: round {round_ + 1} of {args.rounds}")
    fast, slow, batched = (entities / statistics.median(s) for s in (streaming_s, whole_s, batches_s))
    return {
        "streaming_steps_per_s": round(fast),
        "recompute_steps_per_s": round(slow),
        "ratio": round(fast / slow, 1),
        "recompute_in_batches_steps_per_s": round(batched),
        "ratio_in_batches": round(fast / batched, 1),
        "batch": _RERUN_BATCH,
        "hidden": hidden,
        "window": window,
        "entities": entities,
    }


def bench_pipeline(args: argparse.Namespace) -> dict[str, Any]:
    """Time the daemon's loop from JSON bytes in to alerts out, in memory, on one core, with all witnesses on."""
    _pin_to_one_core()
    from pipeline.bench_load import Load, decode_rate, make_daemon, warmed_stream, witness_costs

    load = Load(entities=args.entities or 2000, channels=3)
    _say(f"pipeline: warming {load.entities} entities")
    stream = warmed_stream(load)
    steps = args.steps
    _say(f"pipeline: making {steps} steps of readings")
    blocks = load.blocks(steps)
    readings = sum(len(b.values) for b in blocks)
    decode_per_s = decode_rate(blocks)
    daemon, alerts = make_daemon(stream, blocks)
    _say(f"pipeline: running {readings} readings")
    started = time.perf_counter()
    while not daemon.source.exhausted():
        daemon.turn()
    wall_s = time.perf_counter() - started
    stages = daemon.metrics.stage_seconds()
    steps_done = sum(s for s in daemon.metrics.frames_closed().values()) * load.entities
    return {
        "readings_per_s": round(readings / wall_s),
        "decode_readings_per_s": round(decode_per_s),
        "stages": {name: round(s / wall_s, 4) for name, s in stages.items()},
        "stage_us_per_entity_step": {
            name: round(1e6 * stages.get(name, 0.0) / max(1, steps_done), 3) for name in ("predict", "score", "alert")
        },
        "witness_us_per_entity_step": witness_costs(stream, load),
        "entities": load.entities,
        "channels": load.channels,
        "readings": readings,
        "entity_steps": steps_done,
        "alert_messages": len(alerts.messages),
    }


def bench_restore(args: argparse.Namespace) -> dict[str, Any]:
    """Time writing and restoring a checkpoint of many warm entities from a local disk."""
    from pipeline.bench_load import Load, keeper_for, warmed_stream

    load = Load(entities=args.entities or 100_000, channels=3)
    _say(f"restore: warming {load.entities} entities")
    stream = warmed_stream(load, steps=12)
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        keeper, topics, offsets = keeper_for(stream, Path(folder))
        started = time.perf_counter()
        keeper.keep(topics, offsets)
        write_s = time.perf_counter() - started
        fresh = load.stream()
        restored_s: list[float] = []
        started = time.perf_counter()
        offset = keeper.restore(fresh, next(iter(offsets)))
        restored_s.append(time.perf_counter() - started)
        if offset is None or fresh.entities != stream.entities:
            raise RuntimeError("the checkpoint was not restored")
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {
        "entities": load.entities,
        "channels": load.channels,
        "write_s": round(write_s, 3),
        "restore_s": round(min(restored_s), 3),
        "bytes_per_entity": round(size / load.entities),
    }


def bench_kafka(args: argparse.Namespace) -> dict[str, Any]:
    """Time the daemon over a real Kafka against a bare kafka-python consumer of the same topic, in the same run."""
    from pipeline.bench_kafka import run

    return run(args, _say, _pin_to_one_core)


def bench_detection(args: argparse.Namespace) -> dict[str, Any]:
    """Score public labelled sets with one configuration, floors beside."""
    from pipeline.bench_detection import detection

    return detection(Path(args.data), ("nab", "gecco2018"), 0, _say)


def bench_train(args: argparse.Namespace) -> dict[str, Any]:
    """Race training on sequences against training on windows, and score beside a training."""
    from pipeline.bench_train import bench_train as run

    return run(args, _say)


def bench_faces(args: argparse.Namespace) -> dict[str, Any]:
    """Time the daemon with all faces against one without any, over a real Kafka where ``KAFKA_HOME`` names one."""
    from pipeline.bench_faces import bench_faces as run

    return run(args.rounds, _say, entities=args.entities, steps=args.steps)


def bench_ingest(args: argparse.Namespace) -> dict[str, Any]:
    """Time the ingest process on one core, HTTP push and MQTT, against bare servers and clients of the same kind."""
    from pipeline.bench_ingest import bench_ingest as run

    return run(args, _say)
