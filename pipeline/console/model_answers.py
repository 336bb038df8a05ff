"""Answers about models, and the actions that put one in charge, give one up, or ask for a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models.json_values import json_ready
from models.registry import LINEAR, Action, Decision, RegistryError
from pipeline.console.shapes import Models
from pipeline.console.sources import Sources
from pipeline.console.troubles import Away, NotThere, Refused
from pipeline.model_json import entry_json, shelf_json
from pipeline.model_shelf import Entry, Shelf, UnknownVersionError, look_at

_OPERATOR = "operator"
_FRESH_S = 3.0
"""So long an answer serves again: each look reads all versions."""
_MOST_DECISIONS = 200


class ModelAnswers:
    """Asks the registry. Raises ``Trouble``."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._shelves: dict[str, tuple[float, Shelf]] = {}

    def models(self, stream: str) -> Models:
        """Return a stream's versions, who is in charge, what was decided, and how its training stands."""
        self._sources.stream(stream)
        shelf = self._shelf(stream)
        now = self._sources.now()
        told: Any = shelf_json(shelf, now)
        told["versions"] = [entry_json(entry, now) | _told(entry) for entry in reversed(shelf.entries)]
        told["decisions"] = [d.to_json() for d in reversed(shelf.decisions)][:_MOST_DECISIONS]
        told["training"] = self._training(stream)
        models: Models = json_ready(told)
        return models

    def promote(self, stream: str, version: str, reason: str, who: str) -> tuple[str, dict[str, Any]]:
        """Put a version, or "linear", in charge; return what came of it, in words and as JSON."""
        self._sources.stream(stream)
        with _registry_errors():
            registry, shelf = self._sources.registry, look_at(self._sources.registry, stream)
            version = _resolved(shelf, version)
            if version == shelf.champion:
                return f"{version} is in charge already", {"champion": version, "changed": False}
            if version != LINEAR:
                trouble = self._sources.mismatch(stream, registry.load(stream, version))
                if trouble:
                    raise Refused(f"{version} does not fit stream {stream} any more: {trouble}; train a new one")
            words = (reason or "put in charge by hand",)
            decision = Decision(
                self._sources.now(), Action.PROMOTED, version, shelf.champion, words, {"user": who}, _OPERATOR
            )
            registry.promote(stream, version, decision)
        self._shelves.pop(stream, None)
        return f"{version} is in charge of {stream}", {"champion": version, "before": shelf.champion, "changed": True}

    def roll_back(self, stream: str, to: str | None, reason: str, who: str) -> tuple[str, dict[str, Any]]:
        """Give the champion up for its predecessor, or for ``to``; return what came of it."""
        self._sources.stream(stream)
        with _registry_errors():
            registry, shelf = self._sources.registry, look_at(self._sources.registry, stream)
            target = None if to is None else _resolved(shelf, to)
            if shelf.champion is None or (shelf.champion == LINEAR and target is None):
                raise Refused(f"no version is in charge of {stream}, so there is nothing to give up")
            words = f"{reason or 'rolled back by hand'} ({who})"
            now = registry.rollback(stream, to=target, reason=words, by=_OPERATOR, only_if=shelf.champion)
        self._shelves.pop(stream, None)
        text = f"{now} is in charge of {stream} again; {shelf.champion} was given up, and is barred"
        return text, {"champion": now, "before": shelf.champion, "changed": True}

    def train(self, stream: str | None) -> tuple[str, dict[str, Any]]:
        """Start a training of a stream, or of all; return what came of it."""
        if self._sources.train is None:
            raise Away("this daemon trains nothing")
        if stream is not None:
            self._sources.stream(stream)
        told = dict(self._sources.train(stream))
        if not told.get("accepted"):
            raise Refused(str(told.get("reason") or "no job was started"), told)
        return "a training has begun", told

    def _shelf(self, stream: str) -> Shelf:
        kept = self._shelves.get(stream)
        now_s = self._sources.monotonic()
        if kept is not None and now_s - kept[0] < _FRESH_S:
            return kept[1]
        with _registry_errors():
            shelf = look_at(self._sources.registry, stream)
        self._shelves[stream] = now_s, shelf
        return shelf

    def _training(self, stream: str) -> dict[str, Any] | None:
        if self._sources.training is None:
            return None
        streams = self._sources.training().get("streams", ())
        return next((dict(each) for each in streams if each.get("stream") == stream), None)


def _told(entry: Entry) -> dict[str, Any]:
    """Return a version's judgement and the curves of its training."""
    report: Mapping[str, Any] = {} if entry.model is None else entry.model.manifest.report
    losses = {
        "train": list(report.get("train_losses") or ()),
        "validation": list(report.get("validation_losses") or ()),
        "baseline": report.get("baseline"),
    }
    return {"losses": losses, "judgement": dict(entry.judged)}


def _resolved(shelf: Shelf, name: str) -> str:
    try:
        return shelf.resolve(name)
    except UnknownVersionError as error:
        raise NotThere(str(error)) from error


@contextmanager
def _registry_errors() -> Iterator[None]:
    """Turn the registry's errors into ours: a place that is away, or something that cannot be."""
    try:
        yield
    except RegistryError as error:
        kind = Away if isinstance(error.__cause__, OSError) else Refused
        raise kind(str(error)) from error
