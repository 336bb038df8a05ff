"""Trainings that are interrupted, limited, or go wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import training_devices
from models.training import train
from models.training_batches import segments
from models.training_options import Limits, TrainingDivergedError, TrainingInterrupted
from models.training_state import STATE, Checkpoint, fingerprint
from tests.models.trainings import OPTIONS, maker, minutes, same, sequences, trained

FOUR = replace(OPTIONS, epochs=4)


@pytest.mark.parametrize("chunks", [3, 13])
def test_a_killed_training_goes_on_and_ends_the_same(tmp_path: Path, chunks: int) -> None:
    """Protects nights of work from kill -9 at any chunk: resumed weights and losses are as if it had run through."""
    killed = subprocess.run([sys.executable, "-m", "tests.models.trainings", str(tmp_path), str(chunks)], check=False)
    assert killed.returncode == -9
    assert (tmp_path / STATE).is_file()
    whole, expected = train(maker(), sequences(200), FOUR)
    resumed, report = train(maker(), sequences(200), FOUR, checkpoint=Checkpoint(tmp_path, "k"))
    assert report.resumed
    assert same(whole, resumed)
    assert report.train_losses == expected.train_losses
    assert report.validation_losses == expected.validation_losses
    assert report.worthwhile == expected.worthwhile


def test_stopping_between_chunks_keeps_the_state(tmp_path: Path) -> None:
    """Protects a polite end: told to stop, it saves, says so, and goes on to the same weights however often."""
    whole, _ = train(maker(), sequences(200), FOUR)
    checkpoint = Checkpoint(tmp_path, "k")
    for _ in range(3):
        asked = iter([False] * 4 + [True])
        with pytest.raises(TrainingInterrupted, match="of 4"):
            train(maker(), sequences(200), FOUR, checkpoint=checkpoint, limits=Limits(stop=lambda a=asked: next(a)))  # type: ignore[misc]
    resumed, _ = train(maker(), sequences(200), FOUR, checkpoint=checkpoint)
    assert same(whole, resumed)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    """Protects a job killed after its training: the checkpoint holds the result, no chunk is trained twice."""
    whole, _ = train(maker(), sequences(200), FOUR, checkpoint=Checkpoint(tmp_path, "k"))
    asked: list[int] = []
    limits = Limits(stop=lambda: bool(asked.append(1)))  # type: ignore[func-returns-value]
    again, _ = train(maker(), sequences(200), FOUR, checkpoint=Checkpoint(tmp_path, "k"), limits=limits)
    assert same(whole, again)
    assert not asked


@pytest.mark.parametrize("damage", ["other key", "cut", "garbage", "other network"])
def test_a_checkpoint_of_something_else_is_ignored(tmp_path: Path, damage: str) -> None:
    """Protects from weights of other data, and from damaged files: training begins anew."""
    wrong = replace(FOUR, epochs=1)
    train(
        maker(3) if damage == "other network" else maker(), sequences(200), wrong, checkpoint=Checkpoint(tmp_path, "k")
    )
    path = tmp_path / STATE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "garbage":
        path.write_bytes(b"\x00" * 300)
    checkpoint = Checkpoint(tmp_path, "other" if damage == "other key" else "k")
    module, report = train(maker(), sequences(200), FOUR, checkpoint=checkpoint)
    assert not report.resumed
    assert same(module, train(maker(), sequences(200), FOUR)[0])


def test_the_fingerprint_tells_data_and_settings_apart() -> None:
    """Protects the key of checkpoints: a value, a shape, a setting or a missing array changes it; a copy does not."""
    data = np.arange(6.0)
    keys = [
        fingerprint((FOUR,), (data,)),
        fingerprint((OPTIONS,), (data,)),
        fingerprint((FOUR,), (data.reshape(2, 3),)),
        fingerprint((FOUR,), (np.where(data == 3.0, 3.5, data),)),
        fingerprint((FOUR,), (None,)),
    ]
    assert len(set(keys)) == len(keys)
    assert fingerprint((FOUR,), (data[::2].copy(),)) == fingerprint((FOUR,), (data[::2],))


def test_a_time_limit_takes_the_best_so_far() -> None:
    """Protects the night's end: within the first epoch or later, what was learned until then is validated and taken."""
    module, report = train(maker(), sequences(200), FOUR, clock=minutes(), limits=Limits(seconds=600.0))
    assert report.stopped == "time"
    assert report.epochs == len(report.validation_losses) < 4
    assert all(torch.isfinite(p).all() for p in module.parameters())
    _, whole = train(maker(), sequences(200), FOUR, limits=Limits(seconds=1e9))
    assert whole.stopped == ""


def test_a_training_that_diverges_says_so() -> None:
    """Protects the registry from networks of NaN: no epoch was finite, so there is none; else the best one is taken."""
    broken = sequences(200)
    broken.inputs[:, :150] = np.nan
    with pytest.raises(TrainingDivergedError, match="within 1 epochs"):
        train(maker(), broken, FOUR)


def test_too_little_memory_is_told_as_such() -> None:
    """Protects from "a defect of ours": what torch's allocator refuses is a MemoryError, and nothing else is."""

    def greedy() -> torch.nn.Module:
        return torch.nn.Linear(1 << 30, 1 << 25)  # 2^57 bytes

    with pytest.raises(MemoryError, match="cpu: "):
        train(greedy, sequences(200), FOUR)

    def wrong() -> torch.nn.Module:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        train(wrong, sequences(200), FOUR)


def test_half_precision_learns_the_same() -> None:
    """Protects trainings on a GPU, which run in bf16: forward and backward pass work, and the loss falls alike."""
    _, whole = trained(sequences(), epochs=6)
    module, half = trained(sequences(), epochs=6, precision="bf16")
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert half.gain == pytest.approx(whole.gain, abs=0.05)
    assert half.train_losses != whole.train_losses


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects trainings where torch.compile cannot work: it is said once, and training goes on as without it."""

    def failing(module: torch.nn.Module, **_: Any) -> Any:
        def run(*_: object, **__: object) -> None:
            raise RuntimeError("no compiler")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.warns(UserWarning, match="not compiled: RuntimeError: no compiler"):
        module, _ = trained(sequences(200), epochs=1, compile="on")
    assert same(module, trained(sequences(200), epochs=1)[0])


def test_compiling_is_for_long_trainings_on_a_gpu() -> None:
    """Protects short trainings from a minute of compiling."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    wanted = training_devices.compile_now
    assert not wanted("auto", cpu, 1e6)
    assert not wanted("off", gpu, 1e6)
    assert not wanted("auto", gpu, 60.0)
    assert wanted("auto", gpu, 3600.0)
    assert wanted("on", cpu, 0.0)


def test_pieces_cover_the_history_once() -> None:
    """Protects the cutting: every step from the start comes once, in order, with its own targets."""
    data = sequences(100)
    batch = segments(data, 80, 2, 16, torch.device("cpu"))
    pieces = list(batch.pieces(5, 32))
    assert [(p.start, p.inputs.shape[1]) for p in pieces] == [(5, 32), (37, 32), (69, 11)]
    np.testing.assert_array_equal(torch.cat([p.inputs for p in pieces], dim=1).numpy(), data.inputs[:, 5:80])
    np.testing.assert_array_equal(torch.cat([p.targets for p in pieces], dim=1).numpy(), data.targets[:, 5:80])
