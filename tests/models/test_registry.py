"""The registry of networks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.attention_lstm import export
from models.registry import CHAMPION, DamagedModelError, Manifest, Registry, RegistryError
from models.weights import Weights
from tests.models.networks import network

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def manifest(**changes: object) -> Manifest:
    plain = Manifest(
        stream="air",
        channels=("pm25", "no2"),
        units=("ug/m3", "ug/m3"),
        step_us=600_000_000,
        horizons=(1, 6, 36),
        entities=("a", "b", "c", "d"),
        neighbours={"a": ["b", "c"], "b": ["x", "a"]},
        data_from_us=0,
        data_to_us=10**12,
        created=CREATED,
        seed=3,
        report={"gain": 0.05, "worthwhile": True},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return export(network())


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, weights: Weights) -> None:
    """Protects the served network: weights bit by bit, program, sizes and origin."""
    registry = Registry(tmp_path / "not" / "there")
    version = registry.save(weights, manifest())
    stored = registry.load("air", version)
    assert (stored.weights.sizes, stored.weights.program) == (weights.sizes, weights.program)
    for name, array in weights.to_arrays().items():
        np.testing.assert_array_equal(stored.weights.to_arrays()[name], array)
    assert stored.manifest.libraries["numpy"] == np.__version__
    assert replace(stored.manifest, libraries={}) == manifest()
    assert stored.embedding_ids == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_neighbours_are_found_by_name(weights: Weights, tmp_path: Path) -> None:
    """Protects neighbours across restarts: slots change, names do not; who is not here is nobody."""
    registry = Registry(tmp_path)
    stored = registry.load("air", registry.save(weights, manifest()))
    np.testing.assert_array_equal(stored.neighbours_of(["b", "a", "z"]), [[-1, 1], [0, -1], [-1, -1]])


def test_versions_are_listed_by_age_and_one_is_in_charge(tmp_path: Path, weights: Weights) -> None:
    """Protects roll-back: any version can be put in charge, and the list shows them in order."""
    registry = Registry(tmp_path)
    assert (registry.versions("air"), registry.champion("air")) == ([], None)
    first = registry.save(weights, manifest())
    second = registry.save(weights, manifest(created=CREATED + timedelta(days=1)))
    assert registry.versions("air") == [first, second]
    assert registry.champion("air") is None
    for version in (second, first):
        registry.promote("air", version)
        champion = registry.champion("air")
        assert champion is not None
        assert champion.version == version
    assert registry.versions("air") == [first, second]
    assert registry.save(weights, manifest()) == first


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_flipped_bit_is_refused(tmp_path: Path, weights: Weights, at: int) -> None:
    """Protects the daemon from a damaged disk: the message names the file and both checksums."""
    registry = Registry(tmp_path)
    version = registry.save(weights, manifest())
    path = tmp_path / "air" / version / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedModelError, match=r"weights.safetensors has checksum .*the manifest says"):
        registry.promote("air", version)
    assert registry.champion("air") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"format": "other"}, "not that of a network of ours"),
        (lambda d: d | {"format_version": 99}, "format version 99 is not 1"),
        (lambda d: [], "not that of a network of ours"),
        (lambda d: d | {"about": d["about"] | {"entities": ["a"]}}, "do not fit the weights"),
        (lambda d: d | {"about": {}}, "channels"),
        (lambda d: d | {"network": {}}, "description of the network is damaged"),
        (lambda d: d | {"network": d["network"] | {"sizes": d["network"]["sizes"] | {"hidden": 13}}}, "wanted float32"),
    ],
)
def test_a_foreign_manifest_is_refused(tmp_path: Path, weights: Weights, change: object, message: str) -> None:
    """Protects against files of another program or version: refused with the reason, never half loaded."""
    registry = Registry(tmp_path)
    version = registry.save(weights, manifest())
    path = tmp_path / "air" / version / "manifest.json"
    assert callable(change)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DamagedModelError, match=message):
        registry.load("air", version)


def test_broken_files_and_names_are_refused_clearly(tmp_path: Path, weights: Weights) -> None:
    """Protects against half-written files, paths in names, and champions that are gone."""
    registry = Registry(tmp_path)
    version = registry.save(weights, manifest())
    with pytest.raises(RegistryError, match=f"no whole version 'other'; there are: {version}"):
        registry.load("air", "other")
    with pytest.raises(RegistryError, match=r"'\.\./x' is no version"):
        registry.load("air", "../x")
    with pytest.raises(RegistryError, match="'a/b' cannot name a directory"):
        registry.save(weights, manifest(stream="a/b"))
    (tmp_path / "air" / version / "manifest.json").write_text('{"format": ')
    with pytest.raises(DamagedModelError, match="remove it and train again"):
        registry.load("air", version)
    (tmp_path / "air" / CHAMPION).write_text("gone")
    with pytest.raises(RegistryError, match="no whole version 'gone'"):
        registry.champion("air")


def test_weights_that_do_not_fit_are_named(weights: Weights) -> None:
    """Protects the compiled loops, which check no bounds: shape, type and finiteness are checked before."""
    arrays = weights.to_arrays()
    with pytest.raises(ValueError, match="arrays are missing: bias"):
        Weights.from_parts(weights.to_dict(), {k: v for k, v in arrays.items() if k != "bias"})
    with pytest.raises(ValueError, match=r"gates is float32 \(3, 3\), wanted float32"):
        Weights.from_parts(weights.to_dict(), arrays | {"gates": np.zeros((3, 3), np.float32)})
    with pytest.raises(ValueError, match="query holds values that are not finite"):
        Weights.from_parts(weights.to_dict(), arrays | {"query": np.full_like(arrays["query"], np.nan)})
    with pytest.raises(ValueError, match="bias holds values that are not finite"):
        Weights.from_parts(weights.to_dict(), arrays | {"bias": np.full_like(arrays["bias"], np.inf)})


def test_nothing_is_left_behind(tmp_path: Path, weights: Weights) -> None:
    """Protects the directory: no temporary files after saving and promoting."""
    registry = Registry(tmp_path)
    version = registry.save(weights, manifest())
    registry.promote("air", version)
    assert sorted(p.name for p in (tmp_path / "air").iterdir()) == sorted([version, CHAMPION])
