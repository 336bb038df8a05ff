"""The registry before damaged and hostile files: never anything but a RegistryError."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from models.decisions import Action, Decision
from models.manifest import MANIFEST, WEIGHTS, seal, unseal
from models.registry import DamagedModelError, Registry, RegistryError
from tests.models.stored_models import change_manifest, manifest, save_days, weights

VERSION, FILES = seal(weights(), manifest())
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of a version that is whole."""
    (name,) = save_days(Registry(tmp_path), 1)
    return tmp_path / "air" / name


def loaded(folder: Path) -> Any:
    return Registry(folder.parents[1]).load(folder.parent.name, folder.name)


@pytest.mark.parametrize("at", [0, 8, 100, -1])
def test_a_flipped_bit_in_the_weights_is_refused(version: Path, at: int) -> None:
    """Protects the daemon from a damaged disk: the message names the file and both checksums."""
    data = bytearray((version / WEIGHTS).read_bytes())
    data[at] ^= 1
    (version / WEIGHTS).write_bytes(data)
    with pytest.raises(DamagedModelError, match=r"weights.safetensors .* has checksum .*the manifest says"):
        Registry(version.parents[1]).promote("air", version.name)
    assert Registry(version.parents[1]).champion("air") is None


def test_every_flipped_bit_in_the_manifest_is_refused_or_changes_nothing() -> None:
    """Protects from a manifest that lies: names, horizons, dates and the checksum itself are all sealed."""
    raw, data = FILES[MANIFEST], FILES[WEIGHTS]
    whole = unseal("air", VERSION, raw, data).manifest
    refused = 0
    for at in range(0, len(raw), 3):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << at % 7
        try:
            assert unseal("air", VERSION, bytes(flipped), data).manifest == whole  # blanks between fields
        except DamagedModelError:
            refused += 1
    assert refused > 0.7 * len(raw) / 3


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_truncated_and_missing_files_are_refused(version: Path, name: str) -> None:
    """Protects from a copy that was cut short: wherever it was cut, the message says which file and what to do."""
    data = (version / name).read_bytes()
    for length in (0, 1, 8, len(data) // 2, len(data) - 1):
        (version / name).write_bytes(data[:length])
        with pytest.raises(DamagedModelError, match=rf"{name}.*; remove it and train again"):
            loaded(version)
    (version / name).unlink()
    with pytest.raises(RegistryError, match="has no whole version"):
        loaded(version)


def about(**changes: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: document | {"about": document["about"] | changes}


def sizes(**changes: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda d: d | {"network": d["network"] | {"sizes": d["network"]["sizes"] | changes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"format": "other"}, "not that of a network of ours"),
        (lambda d: [], "not that of a network of ours"),
        (lambda d: d | {"about": {}}, "missing stream, channels"),
        (lambda d: d | {"about": 3}, "does not say what the network is about"),
        (lambda d: d | {"network": {}}, "description of the network is damaged"),
        (about(entities=["a"]), "1 entities, the weights 4"),
        (about(channels="ab"), "channels cannot be 'ab'"),
        (about(neighbours={"a": "bc"}), "neighbours cannot be"),
        (about(created="2026-03-04T05:06:07"), "created cannot be"),
        (about(seconds=1e999), "seconds cannot be 'inf'"),
        (about(step_us=0), "makes no sense"),
        (about(seed=True), "seed cannot be 'True'"),
        (about(surprise=1), "unknown surprise"),
        (about(kind="int3"), "'int3' is not known here"),
        (about(kind="bf16"), "is float32, wanted uint16"),
        (sizes(hidden=13), "wanted float32"),
        (sizes(hidden=8.0), "hidden must be a whole number, got 8.0"),
        (sizes(window=10**30), "wanted float32"),
        (sizes(kind=["x"]), "damaged|unknown attention kind"),
    ],
)
def test_a_foreign_manifest_is_refused(version: Path, change: object, message: str) -> None:
    """Protects against files of another program or version, sealed as they may be: refused with the reason."""
    change_manifest(version / MANIFEST, change)
    with pytest.raises(DamagedModelError, match=message):
        loaded(version)


def test_a_changed_manifest_is_refused(version: Path) -> None:
    """Protects against edits by hand, which would make a version that nobody trained."""
    change_manifest(version / MANIFEST, about(data_to_us=5), reseal=False)
    with pytest.raises(DamagedModelError, match="was changed after it was written"):
        loaded(version)


@pytest.mark.parametrize("name", ["gates", "bias"])
def test_weights_that_are_no_numbers_are_refused(version: Path, name: str) -> None:
    """Protects the compiled loops from NaN in files whose checksums were made to fit."""
    arrays = dict(load((version / WEIGHTS).read_bytes()))
    arrays[name] = np.full_like(arrays[name], np.nan)
    with pytest.raises(DamagedModelError, match=f"{name} holds values that are not finite"):
        _sealed_again(version, save(arrays))


def _sealed_again(version: Path, data: bytes) -> Any:
    """Load what results when the weights' file becomes ``data`` and everything that names its checksum follows."""
    digest = hashlib.sha256(data).hexdigest()
    (version / WEIGHTS).write_bytes(data)
    change_manifest(version / MANIFEST, lambda d: d | {"weights_sha256": digest})
    renamed = version.with_name(version.name.partition("-")[0] + "-" + digest[:8])
    if renamed != version:
        version.rename(renamed)
    try:
        return loaded(renamed)
    finally:
        if renamed != version:
            renamed.rename(version)


@SETTINGS
@given(data=st.binary(max_size=300) | st.binary(max_size=60).map(lambda b: FILES[WEIGHTS][: len(b) * 20] + b))
def test_arbitrary_weights_raise_nothing_but_registry_errors(version: Path, data: bytes) -> None:
    """Protects the daemon's thread that loads models: whatever lies in the file, it gets one kind of error."""
    with pytest.raises(RegistryError):
        _sealed_again(version, data)


@SETTINGS
@given(raw=st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()) | st.just(b"[" * 100_000))
def test_arbitrary_manifests_raise_nothing_but_registry_errors(raw: bytes) -> None:
    """Protects likewise from whatever lies in place of the manifest, deep nesting included."""
    with pytest.raises(RegistryError):
        unseal("air", VERSION, raw, FILES[WEIGHTS])


@SETTINGS
@given(st.sampled_from(["about", "network", "sizes", "program"]), st.data())
def test_arbitrary_fields_raise_nothing_but_registry_errors(version: Path, where: str, data: Any) -> None:
    """Protects from sealed manifests in which one field is something else: refused, or the network is usable."""
    original = (version / MANIFEST).read_bytes()
    document = json.loads(original)
    place = document["about"] if where == "about" else document["network"]
    place = place if where in ("about", "network") else place[where]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    change_manifest(version / MANIFEST, lambda _: document)
    try:
        stored = loaded(version)
    except RegistryError:
        return
    finally:
        (version / MANIFEST).write_bytes(original)
    assert stored.neighbours_of(["a", "b"]).shape == (2, stored.weights.sizes.neighbours)
    assert len(stored.embedding_ids) <= stored.weights.sizes.entities


@SETTINGS
@given(raw=st.binary(max_size=100) | JSON.map(lambda v: json.dumps(v).encode()))
def test_arbitrary_decisions_are_left_out(tmp_path: Path, raw: bytes) -> None:
    """Protects rollback from a damaged record of decisions: what cannot be read is passed over."""
    folder = tmp_path / "air" / "decisions"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00000001-20260101T000000-promoted.json").write_bytes(raw)
    registry = Registry(tmp_path)
    assert registry.decisions("air") == []
    assert registry.predecessor("air") is None


@SETTINGS
@given(field=st.sampled_from(["time", "action", "version", "champion_before", "reasons", "evidence", "by"]), value=JSON)
def test_a_decision_with_a_strange_field_is_none(field: str, value: object) -> None:
    """Protects people and rollback from decisions of another shape: ValueError, or every field has our type."""
    plain = Decision(datetime(2026, 1, 1, tzinfo=UTC), Action.PROMOTED, "v", "u", ("why",), {}, "job")
    document = plain.to_json() | {field: value}
    try:
        read = Decision.from_bytes(json.dumps(document).encode())
    except ValueError:
        return
    assert isinstance(read.version, str)
    assert read.champion_before is None or isinstance(read.champion_before, str)
    assert all(isinstance(reason, str) for reason in read.reasons)
    assert read.time.tzinfo is not None
