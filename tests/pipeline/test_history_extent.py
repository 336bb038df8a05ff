"""Whether there is history enough is known without listing it all the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.history import Day, HistoryStore, HistoryUnavailableError
from pipeline.history_extent import HistoryExtent
from tests.pipeline.daemon_parts import Clock
from tests.pipeline.histories import HOUR_US, part_of

LEAST_US = 48 * HOUR_US


class CountingStore(HistoryStore):
    """Counts how often it was listed, and can be away."""

    listed = 0
    away = False

    def days(self, stream: str) -> list[Day]:
        """List."""
        self.listed += 1
        if self.away:
            raise HistoryUnavailableError("nobody answers")
        return super().days(stream)


def write(store: HistoryStore, first: int, steps: int = 1) -> None:
    """Keep so many hours of one entity."""
    store.write("air", part_of(np.ones((1, steps, 1)), ["a"], ["pm25"], step0=first))


def test_what_this_process_writes_is_not_listed(tmp_path: Path) -> None:
    """Protects object stores with years of parts: asked every 30 s for a week, a stream is listed once an hour."""
    store, clock = CountingStore(str(tmp_path)), Clock(0)
    write(CountingStore(str(tmp_path)), 0, 10)  # by an earlier run
    extent = HistoryExtent(store, list_every_s=3600.0, monotonic=clock.monotonic)
    answers = []
    for hour in range(10, 60):
        write(store, hour)
        for _ in range(120):
            answers.append(extent.reaches("air", LEAST_US))
            clock.pause(30.0)
    assert answers == [hour >= 48 for hour in range(10, 60) for _ in range(120)]
    assert store.listed <= 51


def test_what_others_write_and_remove_is_seen(tmp_path: Path) -> None:
    """Protects the first training from a view that is out of date: within the hour it is listed again."""
    store, clock = CountingStore(str(tmp_path)), Clock(0)
    extent = HistoryExtent(store, list_every_s=3600.0, monotonic=clock.monotonic)
    assert not extent.reaches("air", LEAST_US)
    write(HistoryStore(str(tmp_path)), 0, 60)
    assert not extent.reaches("air", LEAST_US)
    clock.pause(3600.0)
    assert extent.reaches("air", LEAST_US)
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    clock.pause(3600.0)
    assert not extent.reaches("air", LEAST_US)


def test_a_store_that_is_away_is_not_pressed(tmp_path: Path) -> None:
    """Protects the scheduler: what is known counts meanwhile, and the store is asked again after a pause."""
    store, clock = CountingStore(str(tmp_path)), Clock(0)
    write(HistoryStore(str(tmp_path)), 0, 60)
    extent = HistoryExtent(store, list_every_s=3600.0, try_again_s=300.0, monotonic=clock.monotonic)
    store.away = True
    assert not any(extent.reaches("air", LEAST_US) for _ in range(10))
    assert store.listed == 1
    store.away = False
    clock.pause(300.0)
    assert extent.reaches("air", LEAST_US)
    store.away = True
    clock.pause(3600.0)
    assert extent.reaches("air", LEAST_US)
