"""Upkeep of the history: the parts of days that are over are merged, and days beyond the retention are removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from pipeline.history import Day, HistoryError, HistoryStore, reaching
from pipeline.history_files import PartFile, stream_folder

log = structlog.get_logger("vedette.history")

# After midnight parts of the day before still come, from late readings; merging waits for most of them.
_SETTLING_US = 3_600_000_000
# A merge holds about three times this in memory: it may run beside the loop.
_MERGED_BYTES = 256 * 1024 * 1024
# What is unfinished for so long belongs to a process that is gone.
_UNFINISHED_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done."""

    merged: int = 0
    """Parts that became part of a larger one."""
    removed: int = 0
    """Parts that were too old."""
    failed: int = 0
    """Streams whose upkeep could not be done; the log says why, and the next call tries again."""


def upkeep(store: HistoryStore, streams: Iterable[str], now_us: int, retention_us: int) -> Upkeep:
    """Remove what is older than ``retention_us``, then merge days that are over since an hour; never raises.

    Args:
        store: the history.
        streams: names.
        now_us: the wall clock.
        retention_us: how long days are kept after they are over.
    """
    merged = removed = failed = 0
    for stream in streams:
        started_s = time.monotonic()
        try:
            gone = retain(store, stream, now_us - retention_us)
            became = compact(store, stream, now_us - _SETTLING_US)
            store.files.remove_unfinished(stream_folder(stream), now_us / 1e6 - _UNFINISHED_S)
        except (HistoryError, OSError) as error:
            failed += 1
            log.warning("upkeep of the history failed; will try again", stream=stream, error=str(error))
            continue
        merged, removed = merged + became, removed + gone
        if gone or became:
            took_s = round(time.monotonic() - started_s, 3)
            log.info("history tidied", stream=stream, parts_merged=became, parts_removed=gone, took_s=took_s)
    return Upkeep(merged, removed, failed)


def retain(store: HistoryStore, stream: str, oldest_us: int) -> int:
    """Remove the days that were over at ``oldest_us``; return how many parts that were.

    Raises:
        HistoryUnavailableError: if the place cannot be reached or written to.
    """
    old = [part for day in store.days(stream) if day.end_us <= oldest_us for part in day.parts]
    _remove(store, old)
    return len(old)


def compact(store: HistoryStore, stream: str, before_us: int) -> int:
    """Merge the parts of each day that was over at ``before_us``; return how many became part of a larger one.

    A kill leaves at worst rows that are there twice, which read as once. Several may compact at the same time: a part
    is only removed by who has made all its rows durable elsewhere before, so a row is always in at least one.

    Raises:
        HistoryUnavailableError: if the place cannot be reached or written to.
    """
    return sum(
        _merge_group(store, stream, group)
        for day in store.days(stream)
        if day.end_us <= before_us and len(day.parts) > 1
        for group in _groups(day)
    )


def _groups(day: Day) -> Iterator[list[PartFile]]:
    """Yield parts to merge, in the order of time, as many at once as memory allows."""
    group: list[PartFile] = []
    size_bytes = 0
    for part in day.parts:
        # The larger a part is, the better it is compressed; a tenth is typical of noisy values.
        weight_bytes = max(part.rows * 64, part.size_bytes * 10)
        if group and size_bytes + weight_bytes > _MERGED_BYTES:
            if len(group) > 1:
                yield group
            group, size_bytes = [], 0
        group.append(part)
        size_bytes += weight_bytes
    if len(group) > 1:
        yield group


def _merge_group(store: HistoryStore, stream: str, group: list[PartFile]) -> int:
    """Merge parts, those with steps of one length and readable ones; return how many became part of a larger one."""
    from pipeline.history_merging import merge
    from pipeline.history_parts import DamagedPartError, StoredPart, decode

    by_step: dict[int, list[tuple[PartFile, StoredPart]]] = {}
    for file in group:
        try:
            with reaching(store.location, f"read {file.path}", may_be_gone=True):
                data = store.files.get(file.path)
        except FileNotFoundError:
            return 0  # another process is at this day
        try:
            part = decode(file, data, stream, None, None, forecasts=True)
        except DamagedPartError as error:
            log.warning("part of the history not usable; left as it is", path=file.path, error=str(error))
            continue
        if part is not None:
            by_step.setdefault(part.step_us, []).append((file, part))
    became = 0
    for pairs in by_step.values():
        if len(pairs) > 1:
            store.write(stream, merge([part for _, part in pairs]), merged=True)
            _remove(store, [file for file, _ in pairs])
            became += len(pairs)
    return became


def _remove(store: HistoryStore, files: Sequence[PartFile]) -> None:
    for file in files:
        with reaching(store.location, f"remove {file.path}"):
            store.files.remove(file.path)
