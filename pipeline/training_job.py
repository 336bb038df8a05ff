"""`vedette train`: a network from a file of history, put into the registry, and in charge if it is worth it.

The file is a wide table: a column `time`, a column `entity`, and one column per channel of the stream, in its unit.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.errors import Misconfigured
from connectors.replay import Replay
from connectors.table_mapping import Times, Wide
from models.learning import Learned, learn
from models.registry import Manifest, Registry
from models.training_options import TooLittleHistoryError
from pipeline.build import build_stream
from pipeline.config import load
from pipeline.config_errors import ConfigError
from pipeline.config_streams import StreamConfig
from pipeline.exit_codes import CONFIG, OK, USAGE
from pipeline.retraining import FrameHistory, architecture_of, named_neighbours, options_of
from pipeline.stream import Stream


def main(args: argparse.Namespace) -> int:
    """Run ``vedette train``; return the exit code."""
    console = Console(stderr=True)
    try:
        config = load(args.config)
        stream_config = config.stream(args.stream)
    except ConfigError as error:
        console.print(str(error), markup=False, highlight=False)
        return CONFIG
    except KeyError:
        known = ", ".join(s.name for s in config.streams)
        console.print(f"vedette train: no stream '{args.stream}' in {args.config}; it has {known}", markup=False)
        return USAGE
    try:
        history, names = read_history(stream_config, Path(args.data))
        learned = _learn(stream_config, history, names, args.seed, console)
    except (Misconfigured, TooLittleHistoryError) as error:
        console.print(f"vedette train: {args.data}: {error}", markup=False, highlight=False, soft_wrap=True)
        return USAGE
    registry = Registry(config.models.directory)
    version = keep(registry, stream_config, learned, history)
    report = learned.report
    verdict = "put in charge" if report.worthwhile else "kept, not in charge: the linear forecast alone is as good"
    console.print(
        f"{version}: {report.gain:+.1%} against the linear forecast on the newest"
        f" {stream_config.model.train.validation:.0%} ({report.epochs} epochs,"
        f" {report.seconds:.0f} s on {report.device}); {verdict}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return OK


def read_history(config: StreamConfig, path: Path) -> tuple[FrameHistory, list[str]]:
    """Return the frames of a table and the entities' names; rows go through the windows as live readings would.

    Raises:
        Misconfigured: if the file or a column is not there, or nothing in it can be used.
    """
    channels = {c.name: c.name for c in config.channels}
    units = {c.name: c.unit for c in config.channels}
    replay = Replay(path, Wide(time=Times(column="time"), entity="entity", channels=channels, units=units))
    stream = build_stream(config, vocabularies=(replay.entities, replay.channels, replay.units))
    history = FrameHistory()
    for batch in replay.batches():
        readings = stream.screen_batch(batch, None, time.time_ns() // 1000)
        if len(readings.slot) == 0:
            continue
        stream.window(readings, 0, readings.max_time_us)
        _collect(stream, history, readings.max_time_us - 2 * config.step_us)
    _collect(stream, history, stream.stages.windows.last_time_us())
    if len(history) == 0:
        raise Misconfigured("there is not one usable reading in it")
    return history, stream.entities


def keep(registry: Registry, config: StreamConfig, learned: Learned, history: FrameHistory) -> str:
    """Put a network into the registry, in charge if it is worth it; return its version."""
    values, _, step0 = history.arrays()
    manifest = Manifest(
        stream=config.name,
        channels=tuple(c.name for c in config.channels),
        units=tuple(c.unit for c in config.channels),
        step_us=config.step_us,
        horizons=config.horizons,
        entities=learned.names,
        neighbours=learned.neighbour_names(),
        data_from_us=step0 * config.step_us,
        data_to_us=(step0 + values.shape[1] - 1) * config.step_us,
        created=datetime.now(UTC),
        seed=learned.report.seed,
        report=asdict(learned.report),
    )
    version = registry.save(learned.weights, manifest)
    if learned.report.worthwhile:
        registry.promote(config.name, version)
    return version


def _collect(stream: Stream, history: FrameHistory, watermark_us: int) -> None:
    while frames := stream.stages.windows.close(watermark_us):
        for each in frames:
            history.add(each, np.zeros(len(each.values), np.bool_))


def _learn(config: StreamConfig, history: FrameHistory, names: list[str], seed: int, console: Console) -> Learned:
    values, may, step0 = history.arrays()
    options = options_of(config.model, seed)
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=console, transient=True) as progress:
        bar = progress.add_task(f"training {config.name}", total=options.epochs)

        def show(epoch: int, epochs: int, train_loss: float, validation_loss: float, baseline: float) -> None:
            text = f"training {config.name}: loss {train_loss:.4f}, validation {validation_loss:.4f} of {baseline:.4f}"
            progress.update(bar, completed=epoch, total=epochs, description=text)

        names = names[: len(values)]
        neighbours = named_neighbours(config.model, names)
        return learn(
            values, may, step0, config.step_us, names, architecture_of(config), options,
            neighbours, config.model.neighbours.k, show,
        )  # fmt: skip
