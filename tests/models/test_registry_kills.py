"""The registry under kill -9 and under writers at the same time."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models import model_files
from models.registry import ChampionChangedError, Registry, RegistryError
from tests.models.stored_models import save_days

ROOT = Path(__file__).parents[2]


def test_a_kill_at_any_file_operation_leaves_the_champion_whole(tmp_path: Path) -> None:
    """Protects service: SIGKILL at every step of saving, promoting, going back and pruning."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.registry_killed", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["killed"] >= 50
    assert found["champions"] == 3  # the old one, the new one, the newest: promotions did happen in between


def test_of_promotions_at_the_same_time_one_wins(tmp_path: Path) -> None:
    """Protects replicas that judge at the same time: compare-and-set lets one through, whatever the order."""
    registry = Registry(tmp_path)
    first, *others = save_days(registry, 5)
    registry.promote("air", first)
    start, lost = threading.Barrier(len(others)), []

    def promote(version: str) -> None:
        start.wait()
        try:
            Registry(tmp_path).promote("air", version, only_if=first)
        except ChampionChangedError:
            lost.append(version)

    threads = [threading.Thread(target=promote, args=(version,)) for version in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*lost, str(registry.champion_version("air"))]) == others
    assert len(registry.decisions("air")) == 2


def test_a_lock_that_is_never_given_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the daemon from waiting for ever on a process that is stopped; reading goes on meanwhile."""
    registry = Registry(tmp_path)
    (version,) = save_days(registry, 1)
    monkeypatch.setattr(model_files, "_LOCK_PATIENCE_S", 0.0)
    with (tmp_path / "air" / model_files.LOCK).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match="has been held by another process"):
            registry.promote("air", version)
        assert registry.versions("air") == [version]
    registry.promote("air", version)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Protects the message when the disk refuses: what could not be done, and why."""
    (tmp_path / "models").write_bytes(b"a file, not a directory")
    with pytest.raises(RegistryError, match=r"cannot keep version .* of 'air': .*models"):
        save_days(Registry(tmp_path / "models"), 1)
