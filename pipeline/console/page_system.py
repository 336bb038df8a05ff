"""The system page, from answers to what its template shows: the few figures that matter first, the rest below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.wording import number_text
from pipeline.console.shapes import AuditPage, System

_TIMES = (
    ("vedette_checkpoint_timestamp_seconds", "Last checkpoint"),
    ("vedette_history_flushed_timestamp_seconds", "History written"),
    ("vedette_scheduler_tick_timestamp_seconds", "Scheduler seen"),
    ("process_start_time_seconds", "Started"),
)
_BYTES = (("process_resident_memory_bytes", "Memory"), ("vedette_checkpoint_size_bytes", "Checkpoint size"))
_COUNTS = (
    ("vedette_checkpoint_errors_total", "Checkpoint errors"),
    ("vedette_database_waiting", "Waiting for the database"),
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def system_view(
    system: System, receivers: Sequence[Mapping[str, Any]], audit: AuditPage | None, troubles: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what the template needs."""
    return {
        "system": system,
        "streams": system["streams"],
        "tiles": _tiles(system),
        "audit": audit,
        "troubles": list(troubles),
        "receivers": receivers,
        "version": system["version"],
    }


def _tiles(system: System) -> list[dict[str, Any]]:
    figures = system["figures"]
    lags = [partition["lag"] for partition in system["partitions"] if partition["lag"] is not None]
    tiles: list[dict[str, Any]] = [
        {"name": "Partitions", "text": str(len(system["partitions"]))},
        {"name": "Lag, records", "text": number_text(sum(lags)) if lags else "–"},
        {"name": "Undelivered alerts", "text": "–" if system["undelivered"] is None else str(system["undelivered"])},
    ]
    for name, words in _TIMES:
        value = figures.get(name)
        tiles.append({"name": words, "time": round(value * 1e6)} if value else {"name": words, "text": "not known"})
    for name, words in _BYTES:
        value = figures.get(name)
        tiles.append({"name": words, "text": "–" if value is None else _size(value)})
    for name, words in _COUNTS:
        value = figures.get(name)
        if value is not None:
            tiles.append({"name": words, "text": number_text(value)})
    return tiles


def _size(count: float) -> str:
    """Return bytes in words.

    >>> [_size(n) for n in (0.0, 2048.0, 5.5e9)]
    ['0 B', '2 KiB', '5.1 GiB']
    """
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"
