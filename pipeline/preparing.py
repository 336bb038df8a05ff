"""Preparing: a version from the registry loaded, checked, and stepped through the recent frames, beside the loop."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from models.features import input_width
from models.registry import Action, Registry, RegistryError, StoredModel
from pipeline.correcting import Correction, Rebuilding
from pipeline.stream import Stream

# Times that the thread goes after the frames that came meanwhile; a loop that reads much at once may be faster than it.
_PURSUITS = 100
# Looks until a version that could not be used is tried again: somebody may have repaired it.
_PAUSE_LOOKS = 12
_CHANGES = (Action.PROMOTED, Action.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a stream asks of its networks."""

    step_us: int
    horizons: tuple[int, ...]
    ring: Literal["f32", "bf16"]
    probation: timedelta
    """How long a network is watched after it was promoted."""


class Preparing:
    """Makes networks ready for one stream; belongs to one thread."""

    def __init__(self, stream: Stream, terms: Terms, registry: Registry, now: Callable[[], datetime]) -> None:
        """Prepare for ``stream`` what lies in ``registry``; ``now`` is UTC, aware."""
        self._stream = stream
        self._terms = terms
        self._registry = registry
        self._now = now
        self._models: dict[str, StoredModel] = {}
        self._unfinished: dict[str, Rebuilding] = {}
        self._pauses: dict[str, int] = {}

    def rebuilt(self, version: str) -> Rebuilding | None:
        """Return a network that has seen the recent frames, and those that came meanwhile.

        None for some calls after a version could not be used, so that a store is not asked for it at every look.

        Raises:
            RegistryError: if the version is not there, is damaged or does not fit.
            BrokenNetworkError: if its corrections are no numbers.
        """
        if self._pauses.get(version, 0) > 0:
            self._pauses[version] -= 1
            return None
        try:
            model = self._models.get(version) or self._registry.load(self._stream.name, version)
            require_fit(model, self._stream, self._terms)
        except RegistryError:
            self._pauses[version] = _PAUSE_LOOKS
            raise
        self._models[version] = model
        predictor = self._stream.predictor
        rebuilding = self._unfinished.pop(version, None)
        for _ in range(_PURSUITS):
            recent = predictor.recent
            frames = None if rebuilding is None else rebuilding.missing(recent)
            if rebuilding is None or frames is None:
                correction = Correction(
                    model.weights, version, recent.capacity, embedding_ids=model.embedding_ids,
                    neighbours_of=model.neighbours_of, ring=self._terms.ring,
                )  # fmt: skip
                rebuilding, frames = Rebuilding(correction, recent), recent.frames
            rebuilding.take(frames)
            if predictor.recent is recent:
                break
        return rebuilding

    def take_back(self, rebuilding: Rebuilding) -> None:
        """Go on later with a network that too many frames came after."""
        self._unfinished[rebuilding.correction.version] = rebuilding

    def forget_others(self, versions: Collection[str | None]) -> None:
        """Keep in memory only what belongs to ``versions``."""
        for known in (self._models, self._unfinished, self._pauses):
            for version in known.keys() - set(versions):
                del known[version]

    def created_s(self, version: str) -> float | None:
        """Return when a version was trained, seconds since 1970 UTC; None if it is not in memory."""
        model = self._models.get(version)
        return None if model is None else model.manifest.created.timestamp()

    def probation_steps(self, version: str) -> int:
        """Return for how many steps a version is still to be watched; one that was fallen back to is not."""
        try:
            changes = [d for d in self._registry.decisions(self._stream.name) if d.action in _CHANGES]
        except RegistryError:
            changes = []
        since = self._now()
        if changes and changes[-1].version == version:
            if changes[-1].action is Action.ROLLED_BACK:
                return 0
            since = min(since, changes[-1].time)
        left = self._terms.probation - (self._now() - since)
        return max(0, -(-left // timedelta(microseconds=self._terms.step_us)))


def require_fit(model: StoredModel, stream: Stream, terms: Terms) -> None:
    """Raise RegistryError unless the version was trained for this stream's channels, step and horizons."""
    about, sizes, C = model.manifest, model.weights.sizes, len(stream.channels)
    trained_for = (tuple(about.channels), about.step_us, tuple(about.horizons))
    wanted = (stream.channels, terms.step_us, terms.horizons)
    shape = (sizes.channels, sizes.horizons, sizes.inputs)
    if trained_for != wanted or shape != (C, len(terms.horizons), input_width(C)):
        raise RegistryError(
            f"stream {stream.name!r}: version {model.version} was trained for other channels, step or horizons; "
            "train anew or configure it as it was"
        )
