"""What must be whole after any kill: the registry, the history, the alert database, checkpoints, what was put out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from models.registry import LINEAR, Registry, RegistryError


def registry_troubles(registry: Registry, allowed: Collection[str]) -> list[str]:
    """Return what is wrong with the registry of the stream ``air``; ``allowed`` may be in charge."""
    try:
        champion = registry.champion_version("air")
        if champion not in allowed:
            return [f"{champion or 'nobody'} is in charge, not one of {sorted(allowed)}"]
        if champion != LINEAR and registry.champion("air") is None:
            return ["the champion is not there"]
        for version in registry.versions("air"):
            registry.load("air", version)
        registry.challenger_since("air")
        registry.barred("air")
        told = len(registry.decisions("air"))
    except RegistryError as error:
        return [str(error)]
    files = [p for p in (Path(registry.directory) / "air" / "decisions").glob("*.json") if not p.name.startswith(".")]
    return [f"{len(files) - told} decisions cannot be read"] if len(files) != told else []


def database_troubles(path: Path) -> list[str]:
    """Return what SQLite says is wrong with a database file; nothing if there is none yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    return [] if said == ["ok"] else [f"{path.name}: {said}"]


def line_troubles(path: Path) -> list[str]:
    """Return what is wrong with a file of JSON lines; its last line may be cut short."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError:
            return [f"{path.name}: line {number} is none"]
    return []
