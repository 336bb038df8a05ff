"""Backtest: what the alerts would have said then, with what was known then.

The rows of a file go through the very stages of the daemon, in time order; scores are causal, label-free and
deterministic for a seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.reading import NO_TIME
from models.detection import WITNESSES
from pipeline.build import build_stream
from pipeline.config import load, loads
from pipeline.config_errors import ConfigError
from pipeline.config_streams import StreamConfig
from pipeline.durations import parse_duration
from pipeline.exit_codes import CONFIG, OK, USAGE
from pipeline.frames import Frames
from pipeline.logs import configure
from pipeline.recording import Recorder
from pipeline.retraining import InRunTraining
from pipeline.stream import Stream

BAND_SPREADS = 3.0
"""Half the width of the expected band, in spreads of the forecast."""

_CHUNK_ROWS = 4096

Result: TypeAlias = pd.DataFrame
"""The columns of the backtest contract, a row per entity and step."""


class BadDataError(Exception):
    """The file cannot be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows in time order. n rows, C channels."""

    entities: list[str]
    slot: NDArray[np.int32]
    time_us: NDArray[np.int64]
    values: NDArray[np.float64]
    """[n, C], NaN where empty."""

    def cells(self) -> NDArray[np.bool_]:
        """Return [n, C] where there is something to say of: the values, and one cell of the first and the last row of
        each entity, so that steps which are empty at either end of the file have their rows too."""
        cells = ~np.isnan(self.values)
        first = np.unique(self.slot, return_index=True)[1]
        last = len(self.slot) - 1 - np.unique(self.slot[::-1], return_index=True)[1]
        cells[first, 0] = cells[last, 0] = True
        return cells


@dataclass(slots=True)
class Columns:
    """The result of a backtest as columns, one row per entity and step, in time order."""

    entity: list[NDArray[np.int32]] = field(default_factory=list)
    time_us: list[NDArray[np.int64]] = field(default_factory=list)
    numbers: list[NDArray[np.float64]] = field(default_factory=list)
    """Per step [n, 4 + 4C]: score, p_value, emitted, incident, then observed, expected, lower, upper per channel."""


def main(args: argparse.Namespace) -> int:
    """Run ``vedette backtest``; return the exit code."""
    console = Console(stderr=True)
    channels = [c.strip() for c in args.channels.split(",") if c.strip()]
    try:
        table = read_table(Path(args.data), args.time, args.entity, channels)
        config = stream_config(args, channels)
        train_steps = _train_steps(args, table, config.step_us)
    except BadDataError as error:
        console.print(f"vedette backtest: {error}", style="red", markup=False, highlight=False)
        return USAGE
    except ConfigError as error:
        console.print(str(error), markup=False, highlight=False)
        return CONFIG
    retrain_steps = round(parse_duration(args.retrain_every) / config.step) if args.retrain_every else None
    configure("warning", "logfmt")
    recorder = _recorder(config) if args.report else None
    with _progress(console) as progress:
        result = run(config, table, train_steps, retrain_steps, args.seed, recorder, progress)
    result.to_csv(args.out, index=False, float_format="%.9g")
    opened = int(((result["emitted"] >= 1) | (result["incident"].diff() > 0)).sum())
    console.print(f"{len(result)} rows, {opened} openings → {args.out}", markup=False, highlight=False)
    if recorder is not None:
        from pipeline.report import render

        Path(args.report).write_text(render(recorder, [], f"Backtest of {Path(args.data).name}"), encoding="utf-8")
        console.print(f"report → {args.report}", markup=False, highlight=False)
    return OK


def _recorder(config: StreamConfig) -> Recorder:
    recorder = Recorder()
    names, units = [c.name for c in config.channels], [c.unit for c in config.channels]
    recorder.describe(config.name, names, units, config.step_us, witnesses=WITNESSES)
    return recorder


def read_table(path: Path, time: str, entity: str | None, channels: Sequence[str]) -> Table:
    """Read the named columns of a CSV (or gzip-compressed CSV) file; other columns are ignored.

    Raises:
        BadDataError: if the file or a column is not there, a time cannot be read, or there are no rows.
    """
    try:
        header = pd.read_csv(path, nrows=0)
    except (OSError, ValueError) as error:
        raise BadDataError(f"cannot read {path}: {error}") from error
    wanted = [time, *([entity] if entity else []), *channels]
    for name in wanted:
        if name not in header.columns:
            near = get_close_matches(name, list(map(str, header.columns)), 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(map(str, header.columns))}"
            raise BadDataError(f"{path} has no column '{name}'{hint}")
    frame = pd.read_csv(path, usecols=wanted)
    if frame.empty:
        raise BadDataError(f"{path} has no rows")
    times = pd.to_datetime(frame[time], utc=True, errors="coerce", format="ISO8601")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise BadDataError(f"{path}, row {row + 2}: '{frame[time].iloc[row]}' is no time; write 2026-11-21T04:00:00Z")
    values = np.column_stack([pd.to_numeric(frame[c], errors="coerce").to_numpy(np.float64) for c in channels])
    values[~np.isfinite(values)] = np.nan
    time_us = times.to_numpy(dtype="datetime64[us]").astype(np.int64)
    codes, names = pd.factorize(frame[entity].astype(str)) if entity else (np.zeros(len(frame), int), ["series"])
    order = np.argsort(time_us, kind="stable")
    slots = np.asarray(codes, np.int32)[order]
    return Table([str(n) for n in names], slots, time_us[order], values[order])


def stream_config(args: argparse.Namespace, channels: Sequence[str]) -> StreamConfig:
    """Return the stream's configuration: from ``--config`` if given, with what the command line says on top."""
    base: dict[str, Any] = {"name": "backtest", "topics": ["backtest"]}
    if args.config:
        base = load(Path(args.config)).streams[0].model_dump(mode="json", exclude_unset=True)
    named = {c["name"]: c for c in base.get("channels", [])}
    base["channels"] = [named.get(c, {"name": c}) for c in channels]
    base["step"] = args.step
    if args.budget:
        base["budget"] = args.budget
    return loads(yaml.safe_dump({"streams": [base]}), source="vedette backtest").streams[0]


def run(
    config: StreamConfig,
    table: Table,
    train_steps: int,
    retrain_steps: int | None = None,
    seed: int = 0,
    recorder: Recorder | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run ``table`` through a stream; return the columns of the backtest contract.

    Args:
        config: the stream's configuration.
        table: the rows.
        train_steps: steps at the start that are only learned from; then the network is trained on them.
        retrain_steps: train again every so many steps, on the past only.
        seed: for the training.
        recorder: collects what a report shows.
        progress: shows a bar.
    """
    step_us = config.step_us
    # The grid goes through the first row, so that a regular grid's rows keep their own times.
    shift_us = int(table.time_us[0] % step_us)
    training = InRunTraining(config, seed=seed, first_after=train_steps, every=retrain_steps, progress=progress)
    stream = build_stream(config, training=training, recorder=recorder, warmup_steps=train_steps)
    stream.add_entities(table.entities)
    columns = Columns()
    first_step = -(-int(table.time_us[0] - shift_us) // step_us)
    cells = table.cells()
    task = progress.add_task("backtest", total=len(table.time_us)) if progress else None
    for start in range(0, len(table.time_us), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        _window(stream, table, cells, rows, shift_us)
        # Rows of the same time may lie in the next chunk, so the chunk's last step is not closed yet.
        watermark_us = int(table.time_us[rows][-1]) - shift_us - step_us
        if start + _CHUNK_ROWS >= len(table.time_us):
            watermark_us = stream.stages.windows.last_time_us()
        for frames in _closed(stream, watermark_us):
            _process(stream, frames, columns, shift_us, warming=frames.step < first_step + train_steps)
        if progress is not None and task is not None:
            progress.update(task, completed=min(start + _CHUNK_ROWS, len(table.time_us)))
    return _to_frame(columns, table.entities, [c.name for c in config.channels])


def _window(stream: Stream, table: Table, cells: NDArray[np.bool_], rows: slice, shift_us: int) -> None:
    """Add rows to the stream's windows, a reading per cell."""
    values = table.values[rows]
    row, channel = np.nonzero(cells[rows])
    stream.stages.windows.add(
        table.slot[rows][row],
        channel.astype(np.int32),
        table.time_us[rows][row] - shift_us,
        values[row, channel],
        np.ones(len(row), np.bool_),
        np.full(len(row), NO_TIME, np.int64),
    )


def _closed(stream: Stream, watermark_us: int) -> Iterator[Frames]:
    while frames := stream.stages.windows.close(watermark_us):
        yield from frames


def _process(stream: Stream, frames: Frames, columns: Columns, shift_us: int, warming: bool) -> None:
    """Take one frame through the stages and keep what the contract asks for."""
    frames.time_us += shift_us
    expected, detection, _ = stream.process(frames, frames.time_us)
    n, C = frames.values.shape
    numbers = np.zeros((n, 4 + 4 * C))
    if not warming:
        quiet = detection.warming
        numbers[:, 0] = np.where(quiet, 0.0, detection.score)
        numbers[:, 1] = np.where(quiet, 1.0, np.exp(detection.log_p))
        numbers[:, 2] = np.where(quiet, 0.0, detection.emitted)
        numbers[:, 3] = np.where(quiet, 0, stream.level(n))
    else:
        numbers[:, 1] = 1.0
    band = BAND_SPREADS * expected.spread
    for i, block in enumerate((frames.values, expected.values, expected.values - band, expected.values + band)):
        numbers[:, 4 + i :: 4] = block
    columns.entity.append(np.arange(n, dtype=np.int32))
    columns.time_us.append(np.full(n, frames.time_us))
    columns.numbers.append(numbers)


def _to_frame(columns: Columns, entities: Sequence[str], channels: Sequence[str]) -> Result:
    names = ["score", "p_value", "emitted", "incident"]
    names += [f"{c}_{what}" for c in channels for what in ("observed", "expected", "lower", "upper")]
    frame = pd.DataFrame(np.concatenate(columns.numbers), columns=names)
    time_us = np.concatenate(columns.time_us)
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if (time_us % 1_000_000).any() else "%Y-%m-%dT%H:%M:%SZ"
    frame.insert(0, "time", pd.to_datetime(time_us, unit="us", utc=True).strftime(form))
    frame.insert(0, "entity", np.asarray(entities, object)[np.concatenate(columns.entity)])
    frame["incident"] = frame["incident"].astype(int)
    return frame


def _train_steps(args: argparse.Namespace, table: Table, step_us: int) -> int:
    """Return how many steps from the first row on are only learned from."""
    first_us, last_us = int(table.time_us[0]), int(table.time_us[-1])
    if args.train_until:
        until = pd.Timestamp(args.train_until)
        until = until.tz_localize("UTC") if until.tzinfo is None else until
        return max(0, -(-(until.value // 1000 - first_us) // step_us))
    total = (last_us - first_us) // step_us + 1
    return int(args.train_fraction * total)


def _progress(console: Console) -> Progress:
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*parts, console=console, disable=not sys.stderr.isatty())
