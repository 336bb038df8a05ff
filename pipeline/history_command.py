"""`vedette history`: what is kept of the closed frames, and the upkeep of it by hand."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from pipeline.config import Config, load
from pipeline.config_errors import ConfigError
from pipeline.durations import format_duration, microseconds
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE
from pipeline.history import Day, HistoryError, HistoryStore


def main(args: argparse.Namespace) -> int:
    """Run ``vedette history list`` or ``compact``; return the exit code."""
    try:
        config = load(args.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    if config.history.directory is None:
        sys.stderr.write("vedette history: none is kept: history.directory is null; set it to a directory or a URL\n")
        return CONFIG
    try:
        store = HistoryStore(config.history.directory)
        return _list(store, args.json) if args.action == "list" else _compact(store, config)
    except HistoryError as error:
        sys.stderr.write(f"vedette history: {error}\n")
        return UNAVAILABLE if error.retriable else CONFIG


def _list(store: HistoryStore, as_json: bool) -> int:
    streams = {name: store.days(name) for name in store.streams()}
    if as_json:
        kept = [_summary(name, days, store.strangers(name)) for name, days in streams.items()]
        sys.stdout.write(json.dumps({"location": store.location, "streams": kept}, indent=2) + "\n")
        return OK
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"history at {store.location}", title_justify="left")
    for column in ("stream", "first day", "last day"):
        table.add_column(column)
    for column in ("days", "rows", "files", "MiB"):
        table.add_column(column, justify="right")
    for name, days in streams.items():
        if days:
            rows, size_bytes = sum(day.rows for day in days), sum(day.size_bytes for day in days)
            files = sum(len(day.parts) for day in days)
            counts = (f"{len(days):,}", f"{rows:,}", f"{files:,}", f"{size_bytes / 2**20:,.1f}")
            table.add_row(name, days[0].day, days[-1].day, *counts)
    console = Console()
    console.print(table if table.row_count else f"history at {store.location}: nothing is kept yet")
    for name in streams:
        if strangers := store.strangers(name):
            text = f"{name}: {len(strangers)} files are not ours and are passed over, such as {strangers[0]}"
            console.print(text, markup=False, soft_wrap=True)
    return OK


def _summary(name: str, days: list[Day], strangers: list[str]) -> dict[str, Any]:
    return {
        "stream": name,
        "rows": sum(day.rows for day in days),
        "files": sum(len(day.parts) for day in days),
        "bytes": sum(day.size_bytes for day in days),
        "days": [
            {"day": day.day, "rows": day.rows, "files": len(day.parts), "bytes": day.size_bytes} for day in days
        ],
        "foreign_files": strangers,
    }


def _compact(store: HistoryStore, config: Config) -> int:
    from pipeline.history_upkeep import upkeep

    names = sorted({*store.streams(), *(stream.name for stream in config.streams)})
    retention = config.history.retention
    done = upkeep(store, names, time.time_ns() // 1000, microseconds(retention))
    sys.stdout.write(
        f"{done.merged} parts merged, {done.removed} removed that are older than {format_duration(retention)}\n"
    )
    if done.failed:
        sys.stderr.write(f"vedette history: {done.failed} streams could not be done; see the log\n")
    return UNAVAILABLE if done.failed else OK
