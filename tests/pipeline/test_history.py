"""What is written to the history comes back, whatever names it has, and whatever happens to the files."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import history_parts
from pipeline.history import (
    NO_LEVEL,
    FrameArrays,
    HistoryError,
    HistoryStore,
    HistoryUnavailableError,
    NoHistoryError,
)
from pipeline.history_files import open_files
from pipeline.history_upkeep import compact
from tests.pipeline.histories import HOUR_US, Row, assert_equal, naive, part_of, part_of_rows

CHANNELS = ("pm25", "no2")
DAY_STEPS = 24
_fresh = itertools.count()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryStore]:
    """Yield an empty history on a disk, and one in an object store."""
    if request.param == "local":
        yield HistoryStore(str(tmp_path / "history"))
    else:
        location = f"memory://history-{next(_fresh)}"
        yield HistoryStore(location)
        fsspec.filesystem("memory").rm(location, recursive=True)


def table(E: int = 3, T: int = 50, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return [E, T, C] values with gaps in them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(40.0, 5.0, (E, T, len(CHANNELS)))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, [0, -1]] = 1.0
    return values


def names(E: int) -> list[str]:
    return [f"station-{e:03d}" for e in range(E)]


def read(store: HistoryStore, **limits: int) -> FrameArrays:
    return store.read("air", CHANNELS, HOUR_US, **limits)


# ---- there and back ----

values_of = st.one_of(st.just(np.nan), st.floats(-1e300, 1e300))
rows_of = st.builds(
    lambda entity, step, pairs, level: (entity, step, tuple(v for v, _ in pairs), tuple(m for _, m in pairs), level),
    st.sampled_from(["a", "b/../c", "d\n"]),
    st.integers(-30, 60),
    st.tuples(*[st.tuples(values_of, st.booleans())] * len(CHANNELS)),
    st.sampled_from([0, 1, 2, NO_LEVEL]),
)


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(rows_of, min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    repeated=st.lists(st.integers(0, 6), max_size=3),
    order=st.randoms(use_true_random=False),
    upkeep=st.lists(st.integers(-1, 4), max_size=2),
)
def test_any_way_of_writing_reads_as_what_was_said(
    said: list[Any], cuts: list[int], repeated: list[int], order: Any, upkeep: list[int]
) -> None:
    """Protects what is learned from: revisions, repetitions and merges in any order read as a dictionary would say."""
    location = f"memory://property-{next(_fresh)}"
    store = HistoryStore(location)
    rows = [Row._make((*each, revision)) for revision, each in enumerate(said)]
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [rows[begin:end] for begin, end in itertools.pairwise(bounds)]
    parts += [parts[i] for i in repeated if i < len(parts)]
    order.shuffle(parts)
    half = len(parts) // 2
    for part in parts[:half]:
        store.write("air", part_of_rows(part, CHANNELS))
    if half and upkeep:
        compact(store, "air", upkeep[0] * DAY_STEPS * HOUR_US)
    for part in parts[half:]:
        store.write("air", part_of_rows(part, CHANNELS))
    arrays = read(store)
    assert_equal(arrays, naive(rows, len(CHANNELS)))
    for day in upkeep:
        compact(store, "air", day * DAY_STEPS * HOUR_US)
        assert store.digest(read(store)) == store.digest(arrays)
    fsspec.filesystem("memory").rm(location, recursive=True)


HOSTILE = (
    "", "a/b", "..", "x\ny", "ü" * 5000, "time", "_learn", "_learn:time", "_channel:time", "stream", "day", "a", "a.b",
)  # fmt: skip


def test_no_name_is_too_odd(store: HistoryStore) -> None:
    """Protects from names that come from outside: as entities and as channels, those of our own columns included."""
    values = np.arange(float(len(HOSTILE) ** 2)).reshape(len(HOSTILE), 1, len(HOSTILE))
    store.write("air", part_of(values, HOSTILE, HOSTILE))
    store.write("air", part_of(values + 1, HOSTILE, HOSTILE, step0=1, revision=2))
    compact(store, "air", 10 * DAY_STEPS * HOUR_US)
    arrays = store.read("air", HOSTILE, HOUR_US)
    order = [HOSTILE.index(name) for name in arrays.names]
    np.testing.assert_array_equal(arrays.values, np.concatenate((values, values + 1), axis=1)[order])
    assert arrays.learn.all()


def test_half_a_surrogate_pair_cannot_stop_the_writing(store: HistoryStore) -> None:
    """Protects all other rows from one name that JSON can spell and UTF-8 cannot."""
    store.write("air", part_of(table(2), ["\ud800", "b"], CHANNELS))
    assert read(store).names == ["\\ud800", "b"]


def test_a_channel_that_was_never_kept_is_missing(store: HistoryStore) -> None:
    """Protects a stream that gets another channel: the old days are read with it, and without it."""
    store.write("air", part_of(table()[:, :, :1], names(3), CHANNELS[:1]))
    store.write("air", part_of(table(), names(3), CHANNELS, step0=100))
    arrays = read(store)
    assert np.isnan(arrays.values[:, :50, 1]).all()
    np.testing.assert_array_equal(arrays.values[:, 100:], table())
    np.testing.assert_array_equal(arrays.values[:, :50, 0], table()[:, :, 0])


def test_frames_of_another_step_are_another_history(store: HistoryStore) -> None:
    """Protects from mixing step numbers after the step was changed."""
    store.write("air", part_of(table(), names(3), CHANNELS, step_us=HOUR_US // 2))
    with pytest.raises(NoHistoryError, match="steps of 3600 s"):
        read(store)
    store.write("air", part_of(table(), names(3), CHANNELS))
    compact(store, "air", 10 * DAY_STEPS * HOUR_US)
    np.testing.assert_array_equal(read(store).values, table())
    np.testing.assert_array_equal(store.read("air", CHANNELS, HOUR_US // 2).values, table())


def test_streams_do_not_meet(store: HistoryStore) -> None:
    """Protects streams with different channels that lie side by side."""
    store.write("air", part_of(table(), names(3), CHANNELS))
    store.write("water", part_of(table()[:, :, :1], names(3), ["stage"]))
    assert store.streams() == ["air", "water"]
    np.testing.assert_array_equal(read(store).values, table())
    np.testing.assert_array_equal(store.read("water", ["stage"], HOUR_US).values[:, :, 0], table()[:, :, 0])


def test_the_digest_tells_any_difference(store: HistoryStore) -> None:
    """Protects the manifest's word on what a model was trained on."""
    store.write("air", part_of(table(), names(3), CHANNELS))
    arrays = read(store)
    digests = {store.digest(arrays)}
    assert store.digest(read(store)) in digests
    arrays.values[1, 2, 0] += 1e-9
    digests.add(store.digest(arrays))
    arrays.learn[0, 0, 0] ^= True
    digests.add(store.digest(arrays))
    arrays.level[0, 1] = 2
    digests.add(store.digest(arrays))
    arrays.names[0] = "other"
    digests.add(store.digest(arrays))
    arrays.step0 += 1
    digests.add(store.digest(arrays))
    assert len(digests) == 6


# ---- parts of it ----


@settings(max_examples=40, deadline=None)
@given(st.integers(-5, 130), st.integers(0, 140), st.one_of(st.none(), st.integers(2, 900)))
def test_a_part_of_it_is_as_the_whole(begin: int, length: int, max_cells: int | None) -> None:
    """Protects training on the newest part: the same values, within the room that was given, ending where it should."""
    store, T = _long_history()
    limits = {"from_us": begin * HOUR_US, "to_us": (begin + length) * HOUR_US}
    first, end = max(begin, 0), min(begin + length, T)
    if first >= end:
        with pytest.raises(NoHistoryError):
            read(store, **limits)
        return
    arrays = read(store, **limits) if max_cells is None else read(store, **limits, max_cells=max_cells)
    whole = read(store)
    E, steps, C = arrays.values.shape
    assert arrays.step0 + steps <= end
    rows = [whole.names.index(name) for name in arrays.names]
    np.testing.assert_array_equal(
        arrays.values, whole.values[rows, arrays.step0 : arrays.step0 + steps]
    )
    if max_cells is None:
        there = whole.values[:, first:end]
        assert arrays.names == [n for n, v in zip(whole.names, there, strict=True) if not np.isnan(v).all()]
        assert np.nansum(there) == pytest.approx(np.nansum(arrays.values))
    else:
        assert E * steps * C <= max_cells or steps == 1


_LONG: list[tuple[HistoryStore, int]] = []


def _long_history() -> tuple[HistoryStore, int]:
    """Return five days in parts, one entity of which is only there in the first two, and one in the last."""
    if not _LONG:
        values = table(4, 5 * DAY_STEPS)
        values[2, 40:], values[3, :100] = np.nan, np.nan
        store = HistoryStore(f"memory://history-{next(_fresh)}")
        for begin in range(0, 5 * DAY_STEPS, 7):
            store.write("air", part_of(values[:, begin : begin + 7], names(4), CHANNELS, step0=begin))
        compact(store, "air", 3 * DAY_STEPS * HOUR_US)
        _LONG.append((store, 5 * DAY_STEPS))
    return _LONG[0]


def test_span_and_days_ask_the_names_only(store: HistoryStore) -> None:
    """Protects the schedule, which asks often: what there is, is known without opening a file."""
    assert store.span("air") is None
    assert store.days("air") == []
    for begin in (0, 50):
        store.write("air", part_of(np.ones((2, 50, 2)), names(2), CHANNELS, step0=begin))
    assert store.span("air") == (0, 99 * HOUR_US, 200)
    days = store.days("air")
    assert [day.day for day in days] == ["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04", "1970-01-05"]
    assert [(day.rows, len(day.parts)) for day in days] == [(48, 1), (48, 1), (48, 2), (48, 1), (8, 1)]
    assert all(day.size_bytes > 0 for day in days)


# ---- for people ----


def test_pandas_reads_it(tmp_path: Path) -> None:
    """Protects people: one line of pandas gives a table with times, entities and channels by their names."""
    store = HistoryStore(str(tmp_path))
    store.write("air", part_of(table(), names(3), CHANNELS, step0=100))
    store.write("water", part_of(table()[:, :, :1], names(3), ["time"]))
    air = pd.read_parquet(tmp_path / "stream=air")
    rows = ~np.isnan(table()).all(axis=2)
    assert len(air) == rows.sum()
    wide = air.pivot(index="time", columns="entity", values="pm25")
    assert str(wide.index[0]) == "1970-01-05 04:00:00+00:00"
    np.testing.assert_array_equal(wide.to_numpy().T, table()[:, :, 0])
    water = pd.read_parquet(tmp_path / "stream=water")
    assert water["_channel:time"].notna().sum() == np.isfinite(table()[:, :, 0]).sum()
    both = pd.read_parquet(tmp_path)
    assert set(both["stream"]) == {"air", "water"}
    assert both["day"].astype(str).min() == "1970-01-01"


# ---- kills and faults ----


def test_a_process_killed_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    """Protects against kill -9 between the first byte and the rename."""
    store = HistoryStore(str(tmp_path))
    store.write("air", part_of(table(), names(3), CHANNELS))
    before = store.digest(read(store))
    program = (
        "import os, sys, signal\n"
        "from pipeline.history import HistoryStore\n"
        "from tests.pipeline.histories import part_of\n"
        "from tests.pipeline.test_history import table, names, CHANNELS\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "HistoryStore(sys.argv[1]).write('air', part_of(table(seed=1), names(3), CHANNELS, revision=9))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert list(tmp_path.rglob("*.unfinished"))
    assert store.digest(read(store)) == before
    assert len(pd.read_parquet(tmp_path)) == (~np.isnan(table()).all(axis=2)).sum()


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Protects the writer, which tries again after this error, from others."""
    store = HistoryStore(str(tmp_path))

    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr(Path if call == "rename" else os, call, broken)
        with pytest.raises(HistoryUnavailableError, match=os.strerror(number)) as caught:
            store.write("air", part_of(table(), names(3), CHANNELS))
    assert caught.value.retriable
    assert store.span("air") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _parts(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "other stream", "newer", "renamed"])
def test_a_damaged_part_is_passed_over_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Protects training from one bad file: it goes on without it, and says so."""
    store = HistoryStore(str(tmp_path))
    store.write("air", part_of(np.ones((2, 5, 2)), names(2), CHANNELS))
    (bad,) = _parts(tmp_path)
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:-100])
    elif damage == "flipped":
        data = bytearray(bad.read_bytes())
        data[len(data) // 3] ^= 1
        bad.write_bytes(data)
    elif damage == "foreign":
        bad.write_bytes(b"date,value\n")
    elif damage == "other stream":
        store.write("water", part_of(np.ones((2, 5, 2)), names(2), CHANNELS))
        shutil.copy(_parts(tmp_path / "stream=water")[0], bad.parent)
        bad.unlink()
    elif damage == "newer":
        bad.unlink()
        with monkeypatch.context() as newer:
            newer.setattr(history_parts, "FORMAT_VERSION", 2)
            store.write("air", part_of(np.ones((2, 5, 2)), names(2), CHANNELS))
    else:
        bad.rename(bad.with_name(bad.name.replace("_10_", "_11_")))
    with pytest.raises(HistoryError, match=r"none of the 1 parts .* is usable, such as stream=air/"):
        read(store)
    store.write("air", part_of(table(), names(3), CHANNELS, step0=5))
    arrays = read(store)
    assert arrays.skipped == 1
    np.testing.assert_array_equal(arrays.values, table())
    compact(store, "air", 10 * DAY_STEPS * HOUR_US)
    assert_equal(read(store), arrays)


def test_strangers_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """Protects people's own files, and the history from them."""
    store = HistoryStore(str(tmp_path))
    store.write("air", part_of(table(), names(3), CHANNELS))
    stranger = tmp_path / "stream=air" / "day=1970-01-01" / "mine.parquet"
    pd.DataFrame({"pm25": [1.0]}).to_parquet(stranger)
    assert store.strangers("air") == ["stream=air/day=1970-01-01/mine.parquet"]
    arrays = read(store)
    assert arrays.skipped == 0
    np.testing.assert_array_equal(arrays.values, table())


def test_parts_that_are_merged_while_they_are_read_are_read_again(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a training job from the daemon's upkeep: what was listed may be gone, its rows are not."""
    for t in range(0, 50, 10):
        store.write("air", part_of(table()[:, t : t + 10], names(3), CHANNELS, step0=t))
    get, calls = store.files.get, itertools.count()

    def get_late(path: str) -> bytes:
        if next(calls) == 2:
            compact(HistoryStore(store.location), "air", 10 * DAY_STEPS * HOUR_US)
        return get(path)

    monkeypatch.setattr(store.files, "get", get_late)
    np.testing.assert_array_equal(read(store).values, table())


def test_parts_that_vanish_for_ever_are_told(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from an endless loop where listing and reading disagree."""
    store.write("air", part_of(table(), names(3), CHANNELS))

    def gone(path: str) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "No such file", path)

    monkeypatch.setattr(store.files, "get", gone)
    with pytest.raises(HistoryUnavailableError, match="vanished 5 times"):
        read(store)


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    """Protects the operator from a location that can never work."""
    with pytest.raises(HistoryError, match="a package installed"):
        HistoryStore("nowhere://bucket/history")
    (tmp_path / "file").write_text("in the way")
    store = HistoryStore(str(tmp_path / "file"))
    with pytest.raises(HistoryUnavailableError, match="cannot write"):
        store.write("air", part_of(table(), names(3), CHANNELS))


def test_a_client_with_errors_of_its_own_is_understood() -> None:
    """Protects retries: what an object store's client raises is an OSError here, whatever it is called."""
    location = f"memory://history-{next(_fresh)}"
    files = open_files(location)

    class EndpointError(Exception):
        pass

    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fail(*arguments: object, **options: object) -> None:
                raise EndpointError("no route")

            return fail

    files.__dict__["_filesystem"] = Broken()
    for act in (
        lambda: files.put("a", memoryview(b"1")),
        lambda: files.get("a"),
        lambda: files.remove("a"),
        lambda: files.list_files("a"),
        files.folders,
    ):
        with pytest.raises(OSError, match="EndpointError: no route"):
            act()


def test_a_local_url_is_a_directory(tmp_path: Path) -> None:
    """Protects atomic writes: file:// must not be written to as an object store is."""
    store = HistoryStore(f"file://{tmp_path}/history")
    store.write("air", part_of(table(), names(3), CHANNELS))
    assert HistoryStore(str(tmp_path / "history")).span("air") == store.span("air")
    assert type(store.files).__name__ == "LocalFiles"


def test_no_stream_leads_out_of_the_location(tmp_path: Path) -> None:
    """Protects the disk from a stream's name with slashes."""
    store = HistoryStore(str(tmp_path / "history"))
    store.write("../../up", part_of(table(), names(3), CHANNELS))
    assert [path.name for path in tmp_path.iterdir()] == ["history"]
    assert store.streams() == ["../../up"]
