"""All kinds of source that there are: ours, and those that other packages offer."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any

import structlog

from pipeline.ingest.kind import ENTRY_POINTS, SourceKind

log = structlog.get_logger("vedette.ingest")

OURS: tuple[str, ...] = (
    "http",
    "mqtt",
    "openaq",
    "sensor_community",
    "sparkplug",
    "onvif",
    "axis",
    "frigate",
    "hubeau",
    "uk_flood",
    "usgs",
    "usgs_archive",
    "files",
    "kafka",
)  # fmt: skip
"""Modules in ``pipeline.ingest.kinds``; each has a ``KIND``."""


@functools.cache
def source_kinds() -> dict[str, SourceKind[Any]]:
    """Return every kind by its name; one that cannot be loaded is logged and left out."""
    kinds: dict[str, SourceKind[Any]] = {}
    for module in OURS:
        kind = importlib.import_module(f"pipeline.ingest.kinds.{module}").KIND
        kinds[kind.name] = kind
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            kind = entry.load()
            if not isinstance(kind, SourceKind):
                raise TypeError(f"{entry.value} is no SourceKind")
        except Exception as error:  # somebody else's package may fail in any way; it must not stop ours
            log.error("a package offers a kind of source that cannot be loaded", name=entry.name, error=str(error))
            continue
        kinds.setdefault(kind.name, kind)
    return kinds
