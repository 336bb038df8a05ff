"""Kills a process at each of its file operations in turn while it changes a registry, and looks at what is left.

Run as a program, by ``test_registry_kills``: it forks, and no thread of a test runner is there to be forked with it.
What it does to files is counted by an audit hook and a profile function, so the product knows nothing of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from models.registry import Registry, RegistryError
from tests.models.stored_models import CREATED, manifest, save_days, weights

AUDITED = {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}
"""And "open" for writing; reading changes nothing, so a kill there leaves what the kill before left."""
CALLED = {"flush"}
"""C functions without an audit event: before it a file is there and empty, after it it is full."""
MOST = 2000


def change(registry: Registry) -> None:
    """Do all that changes a registry, once."""
    third = registry.save(weights(3), manifest(created=CREATED + timedelta(days=3)))
    registry.shadow("air", third)
    registry.promote("air", third)
    registry.rollback("air", reason="nan", by="daemon")
    fourth = registry.save(weights(4), manifest(created=CREATED + timedelta(days=4)))
    registry.promote("air", fourth)
    registry.prune("air", keep=0)


def killed_at(n: int, registry: Registry) -> bool:
    """Change a registry in a child that dies at its n-th file operation; return whether it died before it was done."""
    child = os.fork()
    if child == 0:
        left = n

        def count() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def audit(event: str, args: tuple[Any, ...]) -> None:
            if event in AUDITED or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
                count()

        def profile(_: FrameType, event: str, what: Any) -> None:
            if event == "c_call" and getattr(what, "__name__", "") in CALLED:
                count()

        sys.addaudithook(audit)
        sys.setprofile(profile)
        change(registry)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"the child failed at operation {n}")
    return False


def wrong_with(registry: Registry, known: set[str]) -> str:
    """Return what is not whole; empty when all is."""
    try:
        champion = registry.champion("air")
        versions = registry.versions("air")
        for version in versions:
            registry.load("air", version)
        registry.challenger_since("air")
    except RegistryError as error:
        return str(error)
    if champion is None or champion.version not in versions:
        return f"nobody is in charge: {registry.champion_version('air')}"
    if champion.version not in known | set(versions):
        return f"a stranger is in charge: {champion.version}"
    fifth = registry.save(weights(5), manifest(created=CREATED + timedelta(days=5)))  # the next process can go on
    registry.promote("air", fifth)
    registry.prune("air", keep=0)
    left = [p for p in Path(registry.directory).rglob(".*") if p.name.startswith((".writing", ".removing"))]
    return f"left behind: {left}" if left or registry.champion_version("air") != fifth else ""


def _unflushed(fd: Any) -> None:
    """Do nothing: a kill takes nothing from the kernel, and waiting for the disk takes most of the time."""


def main(folder: Path) -> None:
    """Kill at every operation, and write what was found to stdout as JSON."""
    os.fsync = _unflushed
    template = folder / "template"
    first, second = save_days(Registry(template), 2)
    for version in (first, second):
        Registry(template).promote("air", version)
    killed, wrong, champions = 0, [], set()
    for n in range(1, MOST):
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)
        registry = Registry(place)
        if not killed_at(n, registry):
            break
        killed += 1
        champions.add(registry.champion_version("air"))
        if problem := wrong_with(registry, {first, second}):
            wrong.append(f"killed at operation {n}: {problem}")
    sys.stdout.write(json.dumps({"killed": killed, "wrong": wrong, "champions": len(champions)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
