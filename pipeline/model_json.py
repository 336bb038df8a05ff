"""Models and decisions for machines: what `vedette models --json` prints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline.model_shelf import Entry, Shelf


def entry_json(entry: Entry, now: datetime) -> dict[str, Any]:
    """Return a version for machines."""
    plain: dict[str, Any] = {
        "version": entry.version,
        "roles": list(entry.roles),
        "trouble": entry.trouble or None,
        "size_bytes": entry.size_bytes,
        "gain_over_linear": entry.over_linear,
        "gain_over_champion": entry.over_champion,
        "crps": entry.crps,
    }
    if entry.model is None:
        return plain
    told = entry.model.manifest
    return plain | {
        "created": told.created.astimezone(UTC).isoformat(),
        "age_s": round((now - told.created).total_seconds()),
        "kind": told.kind,
        "hidden": entry.model.weights.sizes.hidden,
        "parent": told.parent,
    }


def shelf_json(shelf: Shelf, now: datetime) -> dict[str, Any]:
    """Return all versions, newest first, and who has which role, for machines."""
    since = shelf.challenger_since
    return {
        "stream": shelf.stream,
        "champion": shelf.champion,
        "challenger": shelf.challenger,
        "challenger_since": None if since is None else since.isoformat(),
        "previous": shelf.previous,
        "barred": dict(shelf.barred),
        "trouble": list(shelf.trouble),
        "versions": [entry_json(entry, now) for entry in reversed(shelf.entries)],
    }


def show_json(shelf: Shelf, entry: Entry, now: datetime) -> dict[str, Any]:
    """Return everything known of a version, for machines."""
    concerned = [d for d in shelf.decisions if d.concerns(entry.version)]
    plain = entry_json(entry, now) | {
        "stream": shelf.stream,
        "judgement": dict(entry.judged),
        "barred": shelf.barred.get(entry.version),
        "decisions": [decision.to_json() for decision in concerned],
    }
    if entry.model is None:
        return plain
    told = entry.model.manifest
    names = ("channels", "units", "step_us", "horizons", "entities", "data_from_us", "data_to_us", "data_hash", "seed",
             "device", "seconds", "config", "report", "libraries")  # fmt: skip
    return plain | {"network": entry.model.weights.to_dict()} | {name: getattr(told, name) for name in names}
