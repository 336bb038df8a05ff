"""A checkpoint comes back whole or not at all, and the newest whole one is found."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from pipeline import checkpoint_format
from pipeline.checkpoint_format import Unusable
from pipeline.checkpointing import CheckpointError, CheckpointStore

KEY = "air/sensors.air/3"
META = {"config_hash": "c1", "model_version": "m1", "offset": 41, "entities": ["a", "b"], "odd": [None, 1.5, "ü"]}


def some_arrays() -> dict[str, NDArray[Any]]:
    return {
        "values": np.array([[1.5, np.nan], [-0.0, np.inf]]),
        "steps": np.array([-1, 2**62], np.int64),
        "open": np.array([True, False]),
        "ring": np.arange(12, dtype=np.uint16).reshape(2, 3, 2),
        "scalar": np.array(7, np.int32),
        "nobody": np.zeros((0, 4), np.float32),
    }


def newest(store: CheckpointStore) -> Path:
    return max(store.directory.rglob("*.checkpoint"))


def listening_store(folder: Path) -> tuple[CheckpointStore, list[Unusable]]:
    heard: list[Unusable] = []
    return CheckpointStore(folder, on_unusable=heard.append), heard


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path) -> None:
    """Protects the state across a restart: values, types, shapes, NaN and the JSON part."""
    store = CheckpointStore(tmp_path)
    size = store.write(KEY, META, some_arrays())
    checkpoint = store.read(KEY, config_hash="c1", model_version="m1", max_offset=41)
    assert checkpoint is not None
    assert checkpoint.meta == META
    assert checkpoint.path.stat().st_size == size
    assert list(checkpoint.arrays) == list(some_arrays())
    for name, array in some_arrays().items():
        back = checkpoint.arrays[name]
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert back.flags.writeable


@given(
    array=arrays_of.arrays(
        dtype=st.one_of(arrays_of.integer_dtypes(endianness="?"), arrays_of.floating_dtypes(sizes=(16, 32, 64))),
        shape=arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    transposed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_array_of_numbers_survives(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[Any], transposed: bool
) -> None:
    """Protects odd shapes, byte orders and memory layouts."""
    array = array.T if transposed else array
    store = CheckpointStore(tmp_path_factory.mktemp("any"))
    store.write("k", {}, {"a": array})
    checkpoint = store.read("k")
    assert checkpoint is not None
    np.testing.assert_array_equal(checkpoint.arrays["a"], array)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_no_flipped_bit_is_ever_loaded(tmp_path_factory: pytest.TempPathFactory, where: float, bit: int) -> None:
    """Protects against silent damage anywhere in the file: header, JSON, arrays and padding."""
    store, heard = listening_store(tmp_path_factory.mktemp("flip"))
    store.write(KEY, META, some_arrays())
    raw = bytearray(newest(store).read_bytes())
    raw[int(where * len(raw))] ^= 1 << bit
    newest(store).write_bytes(raw)
    assert store.read(KEY) is None
    assert len(heard) == 1


@given(share=st.floats(0, 1, exclude_max=True), extra=st.binary(max_size=80))
@settings(max_examples=150, deadline=None)
def test_no_truncated_or_grown_file_is_ever_loaded(
    tmp_path_factory: pytest.TempPathFactory, share: float, extra: bytes
) -> None:
    """Protects against half-written files and files with something behind them."""
    store, heard = listening_store(tmp_path_factory.mktemp("cut"))
    store.write(KEY, META, some_arrays())
    raw = newest(store).read_bytes()
    newest(store).write_bytes(raw + extra if extra else raw[: int(share * len(raw))])
    assert store.read(KEY) is None
    assert heard[0] in (Unusable.TRUNCATED, Unusable.DAMAGED)


@given(junk=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_foreign_bytes_are_refused_without_an_error(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    """Protects the start of the daemon from whatever lies in its directory."""
    store = CheckpointStore(tmp_path_factory.mktemp("junk"))
    store.write(KEY, META, {})
    newest(store).write_bytes(junk)
    assert store.read(KEY) is None


def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Protects against losing the whole state to one bad sector."""
    store, heard = listening_store(tmp_path)
    store.write(KEY, META | {"offset": 1}, some_arrays())
    store.write(KEY, META | {"offset": 2}, some_arrays())
    newest(store).write_bytes(b"VEDETTE\nnonsense")
    checkpoint = store.read(KEY)
    assert checkpoint is not None
    assert checkpoint.meta["offset"] == 1
    assert heard == [Unusable.TRUNCATED]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"config_hash": "c2"}, Unusable.OTHER_CONFIG),
        ({"model_version": "m2"}, Unusable.OTHER_MODEL),
        ({"max_offset": 40}, Unusable.TOO_NEW),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, wanted: dict[str, Any], reason: Unusable) -> None:
    """Protects from taking up a state that the config, the model or the committed offset contradict."""
    store, heard = listening_store(tmp_path)
    store.write(KEY, META, some_arrays())
    assert store.read(KEY, **wanted) is None
    assert heard == [reason]


def test_a_checkpoint_of_another_partition_is_refused(tmp_path: Path) -> None:
    """Protects from a file that was copied to the wrong place."""
    store, heard = listening_store(tmp_path)
    store.write("air/t/0", META, {})
    store.write("air/t/1", META, {})
    one, other = (tmp_path / f"air/t/{partition}/000000000001.checkpoint" for partition in (0, 1))
    other.write_bytes(one.read_bytes())
    assert store.read("air/t/1") is None
    assert heard == [Unusable.OTHER_KEY]


def test_another_version_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a rollback: a file of a newer Vedette is told from a damaged one."""
    store, heard = listening_store(tmp_path)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint_format, "VERSION", 2)
        store.write(KEY, META, {})
    assert store.read(KEY) is None
    assert heard == [Unusable.OTHER_VERSION]


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    """Protects the disk."""
    store = CheckpointStore(tmp_path)
    for offset in range(12):
        store.write(KEY, META | {"offset": offset}, {})
    assert len(list(tmp_path.rglob("*.checkpoint"))) == 2
    checkpoint = store.read(KEY)
    assert checkpoint is not None
    assert checkpoint.meta["offset"] == 11


def test_what_a_kill_left_unfinished_is_neither_read_nor_kept(tmp_path: Path) -> None:
    """Protects from half a file that was never renamed."""
    store = CheckpointStore(tmp_path)
    store.write(KEY, META, {})
    unfinished = newest(store).with_name("000000000009.unfinished")
    unfinished.write_bytes(b"half")
    assert store.read(KEY) is not None
    store.write(KEY, META, {})
    assert not unfinished.exists()


def test_a_process_killed_while_writing_leaves_the_old_one(tmp_path: Path) -> None:
    """Protects against kill -9 between the first byte and the rename."""
    store = CheckpointStore(tmp_path)
    store.write(KEY, META, some_arrays())
    program = (
        "import os, sys, signal\n"
        "from pipeline.checkpointing import CheckpointStore\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "CheckpointStore(sys.argv[1]).write(sys.argv[2], {'offset': 99}, {})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path), KEY], check=False)
    assert killed.returncode == -9
    checkpoint = store.read(KEY)
    assert checkpoint is not None
    assert checkpoint.meta == META


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_or_broken_disk_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Protects the older checkpoints, and the loop: the one error that it handles is raised."""
    store = CheckpointStore(tmp_path)
    store.write(KEY, META, some_arrays())

    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr(Path if call == "rename" else os, call, broken)
        with pytest.raises(CheckpointError, match=os.strerror(number)):
            store.write(KEY, META | {"offset": 99}, some_arrays())
    checkpoint = store.read(KEY)
    assert checkpoint is not None
    assert checkpoint.meta == META
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    """Protects `vedette check` and the first checkpoint from a path through a file."""
    (tmp_path / "file").write_text("in the way")
    store = CheckpointStore(tmp_path / "file" / "below")
    with pytest.raises(CheckpointError, match="Not a directory"):
        store.probe()
    with pytest.raises(CheckpointError, match="Not a directory"):
        store.write(KEY, META, {})


def test_no_key_leads_out_of_the_directory(tmp_path: Path) -> None:
    """Protects the disk from topic names with dots and slashes."""
    store = CheckpointStore(tmp_path / "state")
    for key in ("../../up", "./x", "a/../../b", "//etc", "ü\0/x"):
        store.write(key, {"key": key}, {})
        checkpoint = store.read(key)
        assert checkpoint is not None
        assert checkpoint.meta == {"key": key}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_objects_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Protects from pickles: only numbers and booleans can be in a checkpoint."""
    store = CheckpointStore(tmp_path)
    with pytest.raises(ValueError, match="array names of object cannot be kept"):
        store.write(KEY, {}, {"names": np.array(["a", None], object)})
    assert store.read(KEY) is None


def test_keeping_none_is_refused(tmp_path: Path) -> None:
    """Protects from a store that throws away what it has just written."""
    with pytest.raises(ValueError, match="keep must be 1 or more"):
        CheckpointStore(tmp_path, keep=0)
