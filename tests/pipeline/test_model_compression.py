"""`vedette models compress`: smaller versions beside the original, from the history that a training would see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.manifest import StoredModel
from models.registry import Registry
from pipeline import cli
from pipeline.exit_codes import DATA, OK, USAGE
from pipeline.history import HistoryStore
from pipeline.model_compression import kinds_of, losses
from pipeline.model_shelf import look_at
from tests.pipeline.histories import part_of
from tests.pipeline.judging_parts import HOLDOUT, NAMES, STEP0, STEPS, chaos, config, frames, stored, trained, untrained

CONFIG_TEXT = """
streams:
  - name: s
    topics: [s]
    step: 1h
    channels: [{{name: x}}]
    horizons: [1, 3]
    retrain: {{holdout: 0.2, longest_holdout: 30d}}
    model: {{train: {{epochs: 2, device: cpu, dropout: 0}}}}
models: {{directory: '{folder}/models'}}
history: {{directory: '{folder}/history'}}
"""


@pytest.fixture(scope="module")
def teacher() -> StoredModel:
    """Return a network that has learned the rule of the history."""
    return trained(chaos()[:, : STEPS - HOLDOUT], "original")


@pytest.fixture
def place(tmp_path: Path, teacher: StoredModel) -> tuple[Path, Registry, str]:
    """A config, a registry with the network in it, and its version; the history holds what it learned from."""
    path = tmp_path / "vedette.yaml"
    path.write_text(CONFIG_TEXT.format(folder=tmp_path))
    registry = Registry(tmp_path / "models")
    version = registry.save(teacher.weights, replace(teacher.manifest, config={"hidden": 16}))
    registry.promote("s", version)
    store = HistoryStore(str(tmp_path / "history"))
    store.write("s", part_of(chaos(), NAMES, ["x"], step0=STEP0))
    return path, registry, version


def compress(path: Path, *arguments: str) -> int:
    return cli.main(["models", "compress", "--config", str(path), *arguments])


def test_smaller_versions_are_measured_beside_the_original(
    place: tuple[Path, Registry, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects the whole command: sizes, losses that follow from the forms, and only what holds quality is kept."""
    path, registry, version = place
    assert compress(path, "champion", "--to", "bf16,int8,h1", "--keep", "--json") == OK
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    original, (half, quarter, student) = found["original"], found["variants"]
    assert original["version"] == version
    assert original["crps"] < found["crps_linear"]
    assert [each["name"] for each in found["variants"]] == ["bf16", "int8", "h1"]
    assert half["size_bytes"] < 0.65 * original["size_bytes"]
    assert quarter["size_bytes"] < half["size_bytes"]
    assert abs(half["growth"]) < 0.01
    assert student["hidden"] == 1
    assert student["growth"] > 0.01  # one number cannot hold the rule
    assert all(each["entity_steps_per_s"] > 0 for each in (original, half, quarter, student))
    for each, kind in ((half, "bf16"), (quarter, "int8")):
        kept = registry.load("s", each["version"])
        assert (kept.manifest.kind, kept.manifest.parent) == (kind, version)
        assert kept.manifest.judgement["compression"]["crps"] == each["crps"]
        assert registry.size("s", each["version"]) == each["size_bytes"]
        listed = look_at(registry, "s").entry(each["version"])
        assert listed.crps == each["crps"]
        assert listed.over_champion == pytest.approx(-each["growth"])
    assert original["gain_kept"] == 1.0
    assert student["gain_kept"] < half["gain_kept"]
    assert student["version"] is None
    assert len(registry.versions("s")) == 3
    assert registry.champion_version("s") == version


def test_without_keep_nothing_is_kept_and_people_get_a_table(
    place: tuple[Path, Registry, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects the registry from a look, and the reader from a false hope: bf16 is told to be no faster."""
    path, registry, version = place
    assert compress(path, version, "--to", "bf16") == OK
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:3]] == [version, "bf16"]
    assert "not steps faster" in out
    assert "bf16 holds quality; --keep puts it into the registry" in out
    assert f"{version} has learned from part of that" not in out
    assert "replaying the linear forecast" in err
    assert registry.versions("s") == [version]


def test_a_student_is_kept_with_where_it_comes_from(
    place: tuple[Path, Registry, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a student's manifest: its entities, its data, its teacher, so that it can serve and be judged."""
    from pipeline import compression_words

    path, registry, version = place
    monkeypatch.setattr(compression_words, "MOST_GROWTH", 9.0)  # two epochs are not enough to hold quality
    assert compress(path, version, "--to", "h8", "--keep", "--json") == OK
    found = json.loads(capsys.readouterr().out)
    kept = registry.load("s", found["variants"][0]["version"])
    told, teacher = kept.manifest, registry.load("s", version).manifest
    assert (kept.weights.sizes.hidden, told.kind, told.parent) == (8, "f32", version)
    assert (told.entities, told.horizons, told.step_us) == (tuple(NAMES), teacher.horizons, teacher.step_us)
    assert told.data_to_us == (STEP0 + STEPS - HOLDOUT - 1) * told.step_us  # what is judged on was held out
    assert told.config == {"hidden": 16, "student_hidden": 8}
    assert told.report["epochs"] > 0
    assert told.report["device"] == told.device == "cpu"


def test_damage_shows_in_the_loss(teacher: StoredModel) -> None:
    """Protects the comparison itself: the same targets for all, and a network of noise is no better than linear."""
    noise = stored(untrained(), "noise")
    linear, good, bad = losses(config(), frames(chaos()), HOLDOUT, [teacher, noise])
    assert linear.targets == good.targets == bad.targets > 0
    assert good.crps < linear.crps
    assert bad.crps > 0.99 * linear.crps


def test_what_cannot_be_compressed_is_refused(
    place: tuple[Path, Registry, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects from minutes of work on a mistyped kind, and names a history that is missing or too short."""
    path, _, version = place
    assert compress(path, version, "--to", "bf16,int3") == USAGE
    assert "'int3' is neither bf16, int8 nor hN, such as h8" in capsys.readouterr().err
    assert compress(path, "nope") == USAGE
    assert f"it has {version}" in capsys.readouterr().err
    path.write_text(path.read_text().replace("/history", "/elsewhere"))
    assert compress(path, version) == DATA
    assert "history.directory" in capsys.readouterr().err
    short = HistoryStore(str(tmp_path / "elsewhere"))
    short.write("s", part_of(chaos(steps=100), NAMES, ["x"], step0=STEP0))
    assert compress(path, version) == DATA
    assert "the history holds 100 steps; 128 are needed" in capsys.readouterr().err
    path.write_text(path.read_text().replace("step: 1h", "step: 2h"))
    assert compress(path, version) == USAGE
    assert "does not fit stream 's' any more: its step is 1h" in capsys.readouterr().err


def test_kinds_are_read_with_care(teacher: StoredModel) -> None:
    """Protects the command line: each kind once, students smaller, and nothing that it is already."""
    assert kinds_of(" int8, h8,int8 ", teacher) == ["int8", "h8"]
    assert kinds_of("h16", teacher) == "--to h16 is not smaller than original, which has 16 hidden numbers"
    assert kinds_of(" , ", teacher) == "--to names nothing; say bf16, int8 or hN"
    assert "neither" in str(kinds_of("h0", teacher))
    half = replace(teacher, manifest=replace(teacher.manifest, kind="bf16"))
    assert kinds_of("bf16", half) == "original is stored as bf16 already"
    assert np.all([kinds_of(kind, half) == [kind] for kind in ("int8", "h15")])
