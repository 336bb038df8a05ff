"""The registry of networks: versions, who is in charge, who may be again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import fsspec
import numpy as np
import pytest

from models.decisions import DECISIONS_KEPT
from models.model_files import LOCK
from models.pointers import CHALLENGER, CHAMPION, Pointers
from models.registry import LINEAR, Action, ChampionChangedError, DamagedModelError, Decision, Registry, RegistryError
from tests.models.stored_models import CREATED, change_manifest, manifest, save_days, weights

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def registry_at(location: str | Path) -> Registry:
    return Registry(location, now=lambda: NOW)


@pytest.fixture(params=["local", "object store"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """A registry in a directory that is not there yet, and one in an object store in memory."""
    if request.param == "local":
        yield registry_at(tmp_path / "not" / "there")
    else:
        name = uuid.uuid4().hex
        yield registry_at(f"memory://{name}/models")
        store = fsspec.filesystem("memory")
        if store.exists(f"/{name}"):
            store.rm(f"/{name}", recursive=True)


def decision(action: Action = Action.PROMOTED, by: str = "job", **changes: object) -> Decision:
    return replace(Decision(NOW, action, "?", None, ("because",), {"gain": 0.1}, by), **changes)  # type: ignore[arg-type]


def test_what_is_saved_is_what_is_loaded(registry: Registry) -> None:
    """Protects the served network: weights bit by bit, program, sizes and origin."""
    about = manifest(config={"hidden": 8}, data_hash="ab", parent="p", device="cpu", seconds=1.5, judgement={"a": [1]})
    version = registry.save(weights(), about)
    stored = registry.load("air", version)
    assert (stored.weights.sizes, stored.weights.program) == (weights().sizes, weights().program)
    for name, array in weights().to_arrays().items():
        np.testing.assert_array_equal(stored.weights.to_arrays()[name], array)
    assert stored.manifest.libraries["numpy"] == np.__version__
    assert replace(stored.manifest, libraries={}) == about
    assert stored.embedding_ids == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_neighbours_are_found_by_name(registry: Registry) -> None:
    """Protects neighbours across restarts: slots change, names do not; who is not here is nobody."""
    stored = registry.load("air", registry.save(weights(), manifest()))
    np.testing.assert_array_equal(stored.neighbours_of(["b", "a", "z"]), [[-1, 1], [0, -1], [-1, -1]])


def test_versions_are_listed_by_age_whatever_zone_they_were_made_in(registry: Registry) -> None:
    """Protects "the newest": order is that of creation, to the millisecond, and saving twice keeps one."""
    assert (registry.versions("air"), registry.champion("air"), registry.champion_version("air")) == ([], None, None)
    times = [CREATED + timedelta(milliseconds=ms) for ms in (2, 0, 1)]
    zones = [UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=9))]
    made = [registry.save(weights(i), manifest(created=times[i].astimezone(zones[i]))) for i in range(3)]
    assert registry.versions("air") == [made[1], made[2], made[0]]
    assert registry.save(weights(0), manifest(created=times[0])) == made[0]
    assert len(registry.versions("air")) == 3


def test_a_champion_is_who_was_promoted_last(registry: Registry) -> None:
    """Protects the pointer: any version can be put in charge, and linear, which is nobody on purpose."""
    first, second = save_days(registry, 2)
    for version in (second, first):
        registry.promote("air", version)
        champion = registry.champion("air")
        assert champion is not None
        assert champion.version == version == registry.champion_version("air")
    registry.promote("air", LINEAR)
    assert (registry.champion("air"), registry.champion_version("air")) == (None, LINEAR)


def test_a_promotion_may_depend_on_who_is_in_charge(registry: Registry) -> None:
    """Protects from a job that judged against a champion who is not in charge any more."""
    first, second, third = save_days(registry, 3)
    registry.promote("air", first, only_if=None)
    with pytest.raises(ChampionChangedError, match=f"{first} is in charge of 'air' by now, not nobody; look again"):
        registry.promote("air", second, only_if=None)
    registry.promote("air", second, only_if=first)
    with pytest.raises(ChampionChangedError):
        registry.promote("air", third, only_if=first)
    with pytest.raises(ChampionChangedError):
        registry.rollback("air", reason="late", by="daemon", only_if=first)
    assert registry.champion_version("air") == second
    assert len(registry.decisions("air")) == 2


def test_a_challenger_is_in_shadow_until_it_takes_charge_or_goes(registry: Registry) -> None:
    """Protects shadow: one challenger, known with its beginning, gone once it is champion, barred or dismissed."""
    first, second = save_days(registry, 2)
    registry.promote("air", first)
    assert (registry.challenger_version("air"), registry.challenger_since("air")) == (None, None)
    began = datetime(2026, 4, 1, 12, tzinfo=UTC)
    registry.shadow("air", second, decision(Action.SHADOWED, time=began))
    assert (registry.challenger_version("air"), registry.challenger_since("air")) == (second, began)
    assert registry.decisions("air")[-1] == decision(Action.SHADOWED, time=began, version=second, champion_before=first)
    registry.promote("air", second)
    assert registry.challenger_version("air") is None
    registry.shadow("air", first)
    assert registry.challenger_since("air") == NOW
    registry.bar("air", second, "another one")
    assert registry.challenger_version("air") == first
    registry.bar("air", first, "nan")
    assert registry.challenger_version("air") is None
    with pytest.raises(RegistryError, match=r"is barred \(nan\)"):
        registry.shadow("air", first)
    registry.dismiss("air", decision(Action.REFUSED, version=first))
    assert registry.decisions("air")[-1].action is Action.REFUSED
    for version in (second, LINEAR):
        with pytest.raises(RegistryError, match=r"cannot be the challenger|is barred"):
            registry.shadow("air", version)


def test_rollback_puts_the_predecessor_in_charge_and_bars_the_one_given_up(registry: Registry) -> None:
    """Protects service from a failing model: back to who was in charge before, further back next time, linear last."""
    first, second, third = save_days(registry, 3)
    for version in (first, second, third):
        registry.promote("air", version, decision())
    assert registry.predecessor("air") == second
    assert registry.rollback("air", reason="alert flood", by="daemon", only_if=third) == second
    assert registry.champion_version("air") == second
    assert registry.barred("air") == {third: "alert flood"}
    last = registry.decisions("air")[-1]
    assert (last.action, last.version, last.champion_before) == (Action.ROLLED_BACK, second, third)
    assert (last.by, last.reasons, last.time) == ("daemon", ("alert flood",), NOW)
    assert registry.rollback("air", reason="nan", by="daemon") == first
    assert registry.predecessor("air") is None
    assert registry.rollback("air", reason="nan", by="daemon") == LINEAR
    assert registry.champion("air") is None
    with pytest.raises(RegistryError, match="linear is in charge of 'air': nothing to roll back to"):
        registry.rollback("air", reason="once more", by="operator")


def test_a_barred_version_comes_back_only_by_an_operator(registry: Registry) -> None:
    """Protects from a job that promotes again what has failed in service; a person may."""
    first, second = save_days(registry, 2)
    registry.promote("air", first)
    registry.promote("air", second)
    registry.rollback("air", reason="nan", by="daemon")
    for by in ("job", "daemon"):
        with pytest.raises(RegistryError, match=rf"{second} of 'air' is barred \(nan\); only an operator"):
            registry.promote("air", second, decision(by=by))
    with pytest.raises(RegistryError, match="is barred"):
        registry.promote("air", second)
    with pytest.raises(RegistryError, match="is barred"):
        registry.rollback("air", to=second, reason="x", by="daemon")
    registry.promote("air", second, decision(by="operator"))
    assert registry.champion_version("air") == second
    assert registry.barred("air") == {}
    assert registry.rollback("air", to=first, reason="a person says so", by="operator") == first
    assert registry.rollback("air", to=second, reason="no, that one", by="operator") == second
    assert registry.barred("air") == {first: "no, that one"}


def test_a_damaged_predecessor_is_passed_over(tmp_path: Path) -> None:
    """Protects rollback itself: it ends at a version that loads, never at one that was damaged or removed."""
    registry = registry_at(tmp_path)
    first, second, third, fourth = save_days(registry, 4)
    for version in (first, second, third, fourth):
        registry.promote("air", version)
    (tmp_path / "air" / third / "weights.safetensors").write_bytes(b"")
    (tmp_path / "air" / second / "manifest.json").unlink()
    assert registry.rollback("air", reason="nan", by="daemon") == first


def test_rollback_needs_somebody_in_charge(registry: Registry) -> None:
    """Protects the message for an operator who rolls back too early, or to where it is already."""
    (first,) = save_days(registry, 1)
    with pytest.raises(RegistryError, match="nobody is in charge of 'air'"):
        registry.rollback("air", reason="", by="operator")
    registry.promote("air", first)
    with pytest.raises(RegistryError, match=f"{first} is in charge"):
        registry.rollback("air", to=first, reason="", by="operator")
    assert registry.rollback("air", reason="", by="operator") == LINEAR
    assert registry.barred("air") == {first: "no reason given"}


def test_decisions_are_kept_in_order_with_their_evidence(registry: Registry) -> None:
    """Protects the record: newest last whatever clocks say, NaN becomes null, foreign files do not stop it."""
    (first,) = save_days(registry, 1)
    refused = decision(Action.REFUSED, version=first, evidence={"gain": np.float32(0.5), "low": float("nan")})
    registry.record("air", refused)
    registry.record("air", replace(refused, time=NOW - timedelta(days=400), reasons=("clock went back",)))
    found = registry.decisions("air")
    assert [d.reasons for d in found] == [("because",), ("clock went back",)]
    assert found[0].evidence == {"gain": 0.5, "low": None}
    assert found[0] == replace(refused, evidence=found[0].evidence)
    with pytest.raises(RegistryError, match="JSON cannot hold a object"):
        registry.record("air", replace(refused, evidence={"x": object()}))
    store, root = fsspec.core.url_to_fs(str(registry.directory))
    for name in ("notes.txt", "00000000-20260101T000000-refused.json", "00000009-20260101T000000-refused.json"):
        store.pipe_file(f"{root}/air/decisions/{name}", b'{"time": 3}')
    assert registry.decisions("air") == found


@pytest.mark.parametrize(("what", "stroke"), [("promote", "crown"), ("shadow", "challenge"), ("rollback", "crown")])
def test_an_attempt_that_was_cut_short_gives_way_to_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, what: str, stroke: str
) -> None:
    """Protects the record from telling twice what was done once; what was done again stays told twice."""
    first, second = save_days(registry, 2)
    registry.promote("air", first)
    known = registry.decisions("air")

    def do() -> None:
        if what == "rollback":
            registry.rollback("air", reason="nan", by="daemon")
        else:
            getattr(registry, what)("air", second)

    def full(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Pointers, stroke, full)
        with pytest.raises(RegistryError, match="disk full"):
            do()
    assert len(registry.decisions("air")) == len(known) + 1
    do()
    assert registry.decisions("air")[: len(known)] == known
    assert len(registry.decisions("air")) == len(known) + 1
    if what == "shadow":
        do()
        assert len(registry.decisions("air")) == len(known) + 2


def test_prune_leaves_who_matters(registry: Registry) -> None:
    """Protects rollback and shadow from retention: champion, predecessor and challenger stay beyond the newest."""
    made = save_days(registry, 7)
    registry.promote("air", made[1])
    registry.promote("air", made[0])
    registry.shadow("air", made[2])
    registry.bar("air", made[3], "nan")
    assert registry.prune("air", keep=2, dry_run=True) == [made[3], made[4]]
    assert registry.versions("air") == made
    assert registry.prune("air", keep=2) == [made[3], made[4]]
    assert registry.versions("air") == [*made[:3], *made[5:]]
    assert registry.barred("air") == {}
    assert registry.prune("air", keep=0) == made[5:]
    assert registry.predecessor("air") == made[1]
    assert registry.champion("air") is not None
    with pytest.raises(RegistryError, match="cannot keep -1"):
        registry.prune("air", keep=-1)


def test_prune_bounds_the_decisions_but_not_the_way_back() -> None:
    """Protects a year of hourly refusals from filling the disk, and the predecessor from being forgotten over them."""
    registry = registry_at(f"memory://{uuid.uuid4().hex}")
    first, second = save_days(registry, 2)
    registry.promote("air", first)
    registry.promote("air", second)
    for _ in range(DECISIONS_KEPT + 5):
        registry.record("air", decision(Action.REFUSED, version=second, evidence={}))
    registry.prune("air", keep=2)
    assert len(registry.decisions("air")) == DECISIONS_KEPT + 2
    assert registry.predecessor("air") == first


def test_prune_removes_nothing_when_it_cannot_tell_who_stays(tmp_path: Path) -> None:
    """Protects from removing the champion because its pointer cannot be read."""
    registry = registry_at(tmp_path)
    made = save_days(registry, 3)
    for name in (CHAMPION, CHALLENGER):
        (tmp_path / "air" / name).write_bytes(b"\xff\x00")
        with pytest.raises(RegistryError, match=f"{name} is damaged"):
            registry.prune("air", keep=1)
        assert registry.versions("air") == made
        (tmp_path / "air" / name).unlink()


@pytest.mark.parametrize("text", [b"", b"../../etc", b"\x00\xff", b"a b", b".hidden", b"x" * 200])
def test_a_damaged_pointer_is_named_and_repaired_by_a_promotion(tmp_path: Path, text: bytes) -> None:
    """Protects against pointers that lead nowhere or out of the directory: refused, and the advice given works."""
    registry = registry_at(tmp_path)
    (first,) = save_days(registry, 1)
    (tmp_path / "air" / CHAMPION).write_bytes(text)
    (tmp_path / "air" / CHALLENGER).write_bytes(text)
    with pytest.raises(RegistryError, match="vedette models promote VERSION"):
        registry.champion("air")
    assert registry.challenger_damage("air") is None
    assert (registry.challenger_version("air"), registry.challenger_since("air")) == (None, None)
    assert "CHALLENGER is damaged" in str(registry.challenger_damage("air"))
    registry.promote("air", first)
    assert registry.champion_version("air") == first
    assert (registry.challenger_version("air"), registry.challenger_damage("air")) == (None, None)


def test_names_that_are_no_names_are_refused(registry: Registry, tmp_path: Path) -> None:
    """Protects everything outside the directory, and files of ours that are no versions."""
    (version,) = save_days(registry, 1)
    with pytest.raises(RegistryError, match=f"no whole version 'other'; there are: {version}"):
        registry.load("air", "other")
    for name in ("../x", "", ".", "..", "a/b", "/etc", "linear", CHAMPION, "decisions", "barred", "x" * 129, "a\n"):
        with pytest.raises(RegistryError, match="is no version"):
            registry.load("air", name)
        with pytest.raises(RegistryError, match="is no version"):
            registry.bar("air", name, "x")
    for stream in ("a/b", "..", "", "/etc", "a\n"):
        for ask in (registry.versions, registry.champion, registry.decisions, registry.barred, registry.predecessor):
            with pytest.raises(RegistryError, match="cannot name a directory"):
                ask(stream)
        with pytest.raises(RegistryError, match="cannot name a directory"):
            registry.save(weights(), manifest(stream=stream))


def test_what_cannot_be_kept_is_refused(registry: Registry) -> None:
    """Protects the registry from manifests that would not load again."""
    for changes, message in (
        ({"created": CREATED.replace(tzinfo=None)}, "must be aware"),
        ({"entities": ("a",)}, "1 entities, the weights 4"),
        ({"units": ("ug/m3",)}, "1 units, the weights 2"),
        ({"kind": "int3"}, "'int3' is not known"),
        ({"config": {"x": object()}}, "JSON cannot hold"),
    ):
        with pytest.raises(RegistryError, match=message):
            registry.save(weights(), manifest(**changes))
    assert registry.versions("air") == []


def test_files_of_another_stream_or_version_are_refused(tmp_path: Path) -> None:
    """Protects a stream from a network that was made for another, or from a folder that was renamed."""
    registry = registry_at(tmp_path)
    (version,) = save_days(registry, 1)
    (tmp_path / "water").mkdir()
    (tmp_path / "air" / version).rename(tmp_path / "water" / version)
    with pytest.raises(DamagedModelError, match="made for stream 'air', not 'water'"):
        registry.promote("water", version)
    (tmp_path / "water" / version).rename(tmp_path / "air" / "renamed")
    with pytest.raises(DamagedModelError, match=f"these are the files of version {version}"):
        registry.load("air", "renamed")
    assert registry.champion_version("water") is None


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Protects the directory: no temporary files after anything, and what a killed writer left is cleared away."""
    registry = registry_at(tmp_path)
    air = tmp_path / "air"
    first, second, third = save_days(registry, 3)
    (air / ".writing-killed").mkdir()
    (air / ".writing-killed" / "weights.safetensors").write_bytes(b"half")
    registry.promote("air", first)
    (air / "decisions" / ".writing-killed.json").write_bytes(b"half")
    (air / ".removing-killed").mkdir()
    registry.promote("air", second)
    registry.shadow("air", third)
    registry.rollback("air", reason="x", by="operator")
    registry.prune("air", keep=1)
    hidden = [p.name for p in air.rglob(".*")]
    assert hidden == [LOCK]
    assert sorted(p.name for p in air.iterdir()) == sorted(
        [LOCK, CHAMPION, CHALLENGER, "barred", "decisions", first, second, third]
    )


def test_a_foreign_format_is_told_apart_from_damage(tmp_path: Path) -> None:
    """Protects an operator who went back to an older Vedette: the message says to update, not that files are broken."""
    registry = registry_at(tmp_path)
    (version,) = save_days(registry, 1)
    path = tmp_path / "air" / version / "manifest.json"
    for told, advice in ((99, "a newer Vedette wrote it; update this one"), (1, "it is older; train again")):
        change_manifest(path, lambda d, told=told: d | {"format_version": told})
        with pytest.raises(DamagedModelError, match=f"format version {told} is not 2, the one known here: {advice}"):
            registry.load("air", version)
