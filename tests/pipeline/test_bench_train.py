"""The benchmark of training: what it compares, what it reports, and that the other process does train."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.attention_lstm import AttentionLSTM
from models.training_gpu import many, measure
from models.training_options import TrainingOptions
from pipeline import bench, bench_beside, bench_train
from pipeline.bench_beside import beside
from pipeline.bench_load import START_STEP, STEP_US, WARM_STEPS, Load
from pipeline.bench_train import RECIPES, Recipe, bench_gpu, history, run_race, sizes_of
from pipeline.exit_codes import OK

torch.set_num_threads(1)
DAYS = 20.0


def quiet(text: str) -> None:
    """Say nothing."""


def spin(begun: Callable[[], None]) -> None:
    """Take a core until ended, as a training does; runs in another process."""
    begun()
    while True:
        pass


def fail(begun: Callable[[], None]) -> None:
    """End before anything has begun."""


def test_a_race_reports_both_curves_and_their_ratios() -> None:
    """Protects the report: ratios follow from the figures beside them, and all of it is JSON."""
    race = run_race(Recipe("events", 0, 2, 1, side_by_side=8), 8, 16, quiet, DAYS)
    assert json.loads(json.dumps(race)) == race
    ours, theirs = race["sequences"], race["windows"]
    ratio = ours["targets_per_s"] / theirs["targets_per_s"]  # of whole numbers, where the machine is slow of small ones
    assert race["targets_ratio"] == pytest.approx(ratio, abs=0.06, rel=0.02)
    assert [len(curve["curve"][0]) for curve in (ours, theirs)] == [2, 2]
    assert theirs["best_loss"] == race["equal_loss"] <= race["baseline_loss"]
    assert min(ours["updates"], theirs["updates"]) > 0


def test_the_races_cover_two_streams_and_two_seeds() -> None:
    """Protects from a figure that holds for one draw only."""
    assert {(recipe.stream, recipe.seed) for recipe in RECIPES} == {(s, n) for s in ("air", "events") for n in (0, 1)}


def test_a_network_that_windows_can_train_sees_recent_states_only() -> None:
    """Protects equal terms: nothing that a window does not hold is attended to."""
    sizes = sizes_of(history("air", 0, DAYS), 16, 32)
    assert (sizes.neighbours, sizes.representatives, sizes.window) == (0, 0, 32)
    assert sizes.entities == 6


def test_without_a_gpu_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from figures that were not measured."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu(8, 16, quiet) == (None, "torch finds no CUDA device here")


def test_a_device_is_measured_as_a_whole() -> None:
    """Protects the GPU's figures, on the device that there is: they are finite, and a share is a share."""
    sequences = many(history("air", 0, DAYS), 9)
    assert len(sequences.names) == 9
    assert not np.array_equal(sequences.inputs[0], sequences.inputs[6])  # made of the same station
    sizes = sizes_of(sequences, 8, 16)
    options = TrainingOptions(epochs=1, fewest_updates=0, device="cpu")
    figures = measure(lambda: AttentionLSTM(sizes), sequences, options)
    assert (figures.device, figures.entities, figures.epochs) == ("cpu", 9, 1)
    assert 0.0 < figures.entity_steps_per_s < np.inf
    assert 0.0 <= figures.waiting_share < 1.0


def test_scoring_is_measured_beside_a_process_that_works() -> None:
    """Protects the ratio: the other process is there, is nice, has its share of a core, and is gone afterwards."""
    pace = beside(20, 2, 2, spin, quiet)
    assert pace["ratio"] == pytest.approx(
        pace["readings_per_s_beside"] / pace["readings_per_s_alone"], rel=0.01, abs=0.001
    )
    assert pace["ratio_lowest"] <= pace["ratio_highest"]
    assert pace["nice"] > 0
    assert 1 <= pace["cores"] <= 2


def test_a_training_that_does_not_begin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from waiting for ever, and from measuring beside nothing."""
    monkeypatch.setattr(bench_beside, "_READY_S", 0.01)
    with pytest.raises(RuntimeError, match="the training did not begin within 0 s"), bench_beside._trainee(fail):
        raise AssertionError("it cannot have begun")


def test_the_load_goes_on_where_it_ended() -> None:
    """Protects the turns: no reading is late or from the future in the second one."""
    load = Load(entities=2)
    first, second = load.blocks(2), load.blocks(2, first=2)
    assert second[0].offsets[0] == first[-1].offsets[-1] + 1
    assert second[0].timestamps_ms[0] - first[-1].timestamps_ms[0] == 10_000
    assert second[0].timestamps_ms[0] > (START_STEP + 2) * STEP_US // 1000
    np.testing.assert_allclose(load.values(WARM_STEPS, 4)[2:], load.values(WARM_STEPS + 2, 2))


def test_the_command_prints_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects `vedette bench train --json`: the lowest ratios on top, races beside, null without a GPU."""
    races = iter([{"targets_ratio": 30.0, "time_ratio": 4.0}, {"targets_ratio": 25.0, "time_ratio": 5.0}])
    monkeypatch.setattr(bench_train, "RECIPES", RECIPES[:2])
    monkeypatch.setattr(bench_train, "run_race", lambda *_: next(races))
    monkeypatch.setattr(bench_beside, "beside", lambda *_: {"ratio": 0.9})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = argparse.Namespace(name="train", json=True, hidden=8, window=16, entities=None, rounds=1)
    assert bench.main(args) == OK
    result = json.loads(capsys.readouterr().out)
    assert (result["targets_ratio"], result["time_ratio"], result["beside_ratio"]) == (25.0, 4.0, 0.9)
    assert result["gpu"] is None
    assert result["gpu_reason"]
