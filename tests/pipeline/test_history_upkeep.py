"""Upkeep loses nothing, whoever else is at it and wherever it is killed; what is too old goes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import history_upkeep
from pipeline.history import HistoryStore, NoHistoryError
from pipeline.history_upkeep import Upkeep, compact, retain, upkeep
from tests.pipeline.histories import HOUR_US, Row, assert_equal, naive, part_of, part_of_rows

CHANNELS = ("pm25",)
DAY_US = 24 * HOUR_US
EVER_US = 1000 * DAY_US


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def filled(store: HistoryStore, days: int = 2, parts_a_day: int = 4) -> list[Row]:
    """Write days of two entities, each row of every second step said twice, and return all that was said."""
    rows: list[Row] = []
    for step in range(24 * days):
        for entity in ("a", "b"):
            rows.append(Row(entity, step, (float(step),), (True,), step % 3, len(rows)))
            if step % 2:
                rows.append(Row(entity, step, (step + 0.5,), (False,), -1, len(rows)))
    per_part = len(rows) // (days * parts_a_day)
    for begin in range(0, len(rows), per_part):
        store.write("air", part_of_rows(rows[begin : begin + per_part], CHANNELS))
    return rows


def files(store: HistoryStore) -> list[str]:
    return [part.path for day in store.days("air") for part in day.parts]


def test_days_that_are_over_become_one_part_each(tmp_path: Path) -> None:
    """Protects the disk and reading speed: one file a day, rows by entity and step, each once; today stays as it is."""
    store = HistoryStore(str(tmp_path))
    rows = filled(store, days=3)
    assert compact(store, "air", 3 * DAY_US - 1) == 8
    assert [(len(day.parts), day.rows) for day in store.days("air")] == [(1, 48), (1, 48), (4, 72)]
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive(rows, 1))
    assert compact(store, "air", 3 * DAY_US - 1) == 0
    day = pd.read_parquet(tmp_path / files(store)[0])
    assert day[["entity", "step"]].apply(tuple, axis=1).is_monotonic_increasing


def test_a_late_revision_of_a_merged_day_counts(tmp_path: Path) -> None:
    """Protects corrections that come when their day was merged already, and keeps the level that was said then."""
    store = HistoryStore(str(tmp_path))
    rows = filled(store)
    compact(store, "air", EVER_US)
    late = Row("a", 5, (np.nan,), (False,), -1, 10_000)
    store.write("air", part_of_rows([late], CHANNELS))
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive([*rows, late], 1))
    assert compact(store, "air", EVER_US) == 2
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive([*rows, late], 1))


@pytest.mark.parametrize("survivors", range(6))
def test_a_kill_amid_a_merge_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    """Protects against kill -9 between the merged part and the removal of each of the old ones."""
    store = HistoryStore(str(tmp_path))
    rows = filled(store)
    remove, left = store.files.remove, [survivors]

    def remove_some(path: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "remove", remove_some)
        with pytest.raises(Killed):
            compact(store, "air", EVER_US)
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive(rows, 1))
    compact(store, "air", EVER_US)
    assert len(files(store)) == 2
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive(rows, 1))


@pytest.mark.parametrize("moment", ["get", "put", "remove"])
@pytest.mark.parametrize("call", [0, 1, 3])
def test_two_may_compact_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, call: int
) -> None:
    """Protects replicas that share a history: whenever the other one comes in between, every row stays."""
    store, other = HistoryStore(str(tmp_path)), HistoryStore(str(tmp_path))
    rows = filled(store)
    act, calls = getattr(store.files, moment), [0]

    def act_after_the_other(*arguments: object) -> object:
        if calls[0] == call:
            compact(other, "air", EVER_US)
        calls[0] += 1
        return act(*arguments)

    monkeypatch.setattr(store.files, moment, act_after_the_other)
    compact(store, "air", EVER_US)
    assert calls[0] > min(call, 1)
    assert_equal(other.read("air", CHANNELS, HOUR_US), naive(rows, 1))
    compact(other, "air", EVER_US)
    assert len(files(other)) == 2
    assert_equal(other.read("air", CHANNELS, HOUR_US), naive(rows, 1))


def test_a_day_too_large_for_memory_is_merged_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory of the daemon, in which upkeep runs; and merging comes to an end."""
    store = HistoryStore(str(tmp_path))
    rows = filled(store, days=1, parts_a_day=12)
    sizes = [part.size_bytes for part in store.days("air")[0].parts]
    monkeypatch.setattr(history_upkeep, "_MERGED_BYTES", 10 * sum(sizes[:5]))
    assert compact(store, "air", EVER_US) == 12
    assert 1 < len(files(store)) < 6
    for _ in range(3):
        compact(store, "air", EVER_US)
    assert compact(store, "air", EVER_US) == 0
    assert_equal(store.read("air", CHANNELS, HOUR_US), naive(rows, 1))


def test_days_beyond_the_retention_go(tmp_path: Path) -> None:
    """Protects the disk; a day goes when all of it is too old, and its folder with it."""
    store = HistoryStore(str(tmp_path))
    filled(store, days=4)
    assert retain(store, "air", 2 * DAY_US - 1) == 4
    assert [day.day for day in store.days("air")] == ["1970-01-02", "1970-01-03", "1970-01-04"]
    assert len(list((tmp_path / "stream=air").iterdir())) == 3
    assert retain(store, "air", EVER_US) == 12
    with pytest.raises(NoHistoryError):
        store.read("air", CHANNELS, HOUR_US)


def test_upkeep_does_all_of_it_for_all_streams(tmp_path: Path) -> None:
    """Protects the schedule's one call: old days go, days over since an hour are merged, the rest stays."""
    store = HistoryStore(str(tmp_path))
    filled(store, days=4)
    almost_us = 4 * DAY_US + HOUR_US - 1
    assert upkeep(store, ["air", "water"], almost_us, 2 * DAY_US) == Upkeep(merged=4, removed=8)
    assert [len(day.parts) for day in store.days("air")] == [1, 4]
    assert upkeep(store, ["air"], almost_us + 1, 2 * DAY_US) == Upkeep(merged=4)


def test_what_kills_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    """Protects the disk from halves of files, and the writer that is at one now from losing it."""
    store = HistoryStore(str(tmp_path))
    filled(store, days=1)
    day = tmp_path / "stream=air" / "day=1970-01-01"
    old, new = day / ".part_1.parquet.unfinished", day / ".part_2.parquet.unfinished"
    for path, written_s in ((old, 1_000.0), (new, 90_000.0)):
        path.write_bytes(b"half")
        os.utime(path, (written_s, written_s))
    upkeep(store, ["air"], 91_000 * 1_000_000, EVER_US)
    assert not old.exists()
    assert new.exists()


def test_upkeep_of_a_place_that_is_away_is_told_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the scheduler's thread: no error comes out, the other streams are done."""
    store = HistoryStore(str(tmp_path))
    filled(store)
    list_files = store.files.list_files

    def list_all_but_water(folder: str) -> object:
        if "water" in folder:
            raise OSError("no route")
        return list_files(folder)

    monkeypatch.setattr(store.files, "list_files", list_all_but_water)
    assert upkeep(store, ["water", "air"], EVER_US, EVER_US) == Upkeep(merged=8, failed=1)


def test_a_channel_more_is_merged_into_a_day_without_it(tmp_path: Path) -> None:
    """Protects the day on which a channel was added to the config."""
    store = HistoryStore(str(tmp_path))
    values = np.arange(20.0).reshape(1, 10, 2)
    store.write("air", part_of(values[:, :5, :1], ["a"], ["pm25"]))
    store.write("air", part_of(values[:, 5:], ["a"], ["pm25", "no2"], step0=5))
    before = store.read("air", ["no2", "pm25"], HOUR_US)
    compact(store, "air", EVER_US)
    assert len(files(store)) == 1
    assert_equal(store.read("air", ["no2", "pm25"], HOUR_US), before)
