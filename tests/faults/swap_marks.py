"""What daemons have left behind, in a form that can be compared, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import IncidentQuery
from pipeline.checkpoint_format import Unusable
from pipeline.checkpointing import CheckpointStore
from pipeline.history import HistoryStore
from tests.faults.daemon_lives import Place
from tests.faults.wholeness import database_troubles, line_troubles, registry_troubles
from tests.pipeline.daemon_parts import CHANNELS, STEP_US

_TOLD = ("told", "told_us")
"""When something was said, by the wall clock: no part of what was said."""
_OF_THE_MODEL = ("model_version", "attention", "attention_shares", "reason")
"""Who was in charge, and what its memory looked at, also in words."""


def troubles(place: Place, allowed: Collection[str]) -> list[str]:
    """Return what a kill has broken; ``allowed`` may be in charge.

    Raises:
        HistoryError: if the history cannot be read.
    """
    found = registry_troubles(place.registry, allowed) + database_troubles(place.database)
    found += line_troubles(place.scores) + line_troubles(place.alerts)
    unusable: list[Unusable] = []
    store = CheckpointStore(place.checkpoints, on_unusable=unusable.append)
    if store.read("air/air/0") is None or unusable:
        found.append(f"no checkpoint to go on from, or one that is damaged: {unusable}")
    HistoryStore(str(place.history)).read("air", CHANNELS, STEP_US)
    return found


def marks(place: Place) -> dict[str, Any]:
    """Return scores and messages by what they are about, digests of history and database, and contradictions."""
    contradictions: list[str] = []
    scores: dict[str, str] = {}
    messages: dict[str, str] = {}
    models: set[str] = set()
    for record in _records(place.scores):
        models.add(record.pop("model"))
        record.pop("shadow_score", None)
        _put(scores, f"{record['entity']} {record['step']}", record, contradictions)
    for record in _records(place.alerts):
        data = record["data"]
        for name in (*_TOLD, *_OF_THE_MODEL):
            data.pop(name, None)
            data["explanation"].pop(name, None)
        _put(messages, f"{data['incident_id']}:{data['sequence']}", data, contradictions)
    return {
        "scores": scores,
        "messages": messages,
        "history": _history(place.history),
        "incidents": _incidents(place.database),
        "models": len(models),
        "contradictions": contradictions,
    }


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _put(known: dict[str, str], key: str, record: dict[str, Any], contradictions: list[str]) -> None:
    """Keep a record; said twice, it has to say the same."""
    text = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    if known.setdefault(key, text) != text:
        contradictions.append(f"{key} is there in two versions")


def _history(folder: Path) -> str:
    arrays = HistoryStore(str(folder)).read("air", CHANNELS, STEP_US)
    digest = hashlib.sha256(f"{arrays.names} {arrays.step0} {arrays.values.shape}".encode())
    for array in (arrays.values, arrays.learn, arrays.score, arrays.level):
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def _incidents(path: Path) -> dict[str, str]:
    with closing(AlertStore(f"sqlite:///{path}", create=False)) as store:
        rows = store.incidents(IncidentQuery(limit=10_000))
    return {
        row.id: f"{row.entity} {row.kind} {row.phase} {row.sequence} {row.started_us} {row.resolved_us}" for row in rows
    }
