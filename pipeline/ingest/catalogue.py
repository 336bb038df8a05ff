"""All kinds of source that there are: ours, and those that other packages offer."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any, Literal, NamedTuple, get_origin

from pipeline.ingest.kind import ENTRY_POINTS, SourceKind, SourceOptions

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


class _Catalogue(NamedTuple):
    kinds: dict[str, SourceKind[Any]]
    unusable: dict[str, str]


def source_kinds() -> dict[str, SourceKind[Any]]:
    """Return every kind by its name; what other packages offer and cannot be used is in ``unusable_kinds``."""
    return _catalogue().kinds


def unusable_kinds() -> dict[str, str]:
    """Return why kinds of other packages cannot be used, by the names of their entry points."""
    return _catalogue().unusable


@functools.cache
def _catalogue() -> _Catalogue:
    kinds: dict[str, SourceKind[Any]] = {}
    for module in OURS:
        kind = importlib.import_module(f"pipeline.ingest.kinds.{module}").KIND
        kinds[kind.name] = kind
    unusable: dict[str, str] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            kind = _offered(entry)
            if kind.name in kinds:
                raise ValueError(f"there is a kind {kind.name} already")
            kinds[kind.name] = kind
        except (Exception, SystemExit) as error:  # somebody else's package may fail in any way; that harms only it
            unusable[entry.name] = f"{entry.value}: {type(error).__name__}: {error}"
    return _Catalogue(kinds, unusable)


def _offered(entry: importlib.metadata.EntryPoint) -> SourceKind[Any]:
    """Return what another package's entry point names; raise whatever is wrong with it."""
    kind = entry.load()
    if not isinstance(kind, SourceKind):
        raise TypeError(f"it is a {type(kind).__name__}, not a SourceKind")
    if not (isinstance(kind.options, type) and issubclass(kind.options, SourceOptions)):
        raise TypeError(f"its options are no SourceOptions but {kind.options!r}")
    if get_origin(kind.options.model_fields["kind"].annotation) is not Literal:
        raise TypeError(f'its options do not say what their kind is, as in kind: Literal["{entry.name}"]')
    if kind.name != entry.name:
        raise ValueError(f"its kind is {kind.name!r}; the entry point is to have the same name")
    return kind
