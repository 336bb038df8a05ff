"""What the registry holds for a stream, with everything that people want to know of it, and how they name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from models.registry import LINEAR, Decision, Registry, RegistryError, StoredModel

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ROLES = (CHAMPION, CHALLENGER, PREVIOUS)
"""Names that stand for the version that has the role now."""


class UnknownVersionError(Exception):
    """There is no such version, or no such role is taken; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version as people see it."""

    version: str
    roles: tuple[str, ...]
    """Of champion, challenger, previous, barred."""
    model: StoredModel | None
    """None where its files are damaged."""
    trouble: str
    """Why it cannot be loaded; empty where it can."""
    size_bytes: int | None
    judged: Mapping[str, Any]
    """The newest judgement of it, as ``Judgement.to_json`` gives it; empty if it never was judged."""

    @property
    def crps(self) -> float | None:
        """The loss that it was judged by, in units of the linear forecast's spread."""
        return _number(_challenger(self.judged).get("crps"))

    @property
    def over_linear(self) -> float | None:
        """Its gain over the linear forecast as judged; where it never was, as its training saw it."""
        if self.judged:
            return _number(self.judged.get("gain_over_linear"))
        return None if self.model is None else _number(self.model.manifest.report.get("gain"))

    @property
    def over_champion(self) -> float | None:
        """Its gain over who was in charge when it was judged."""
        return _number(self.judged.get("gain"))


@dataclass(frozen=True, slots=True)
class Shelf:
    """All versions of a stream, oldest first, who has which role, and what was decided."""

    stream: str
    entries: tuple[Entry, ...]
    champion: str | None
    """Perhaps "linear"; None: nobody ever."""
    challenger: str | None
    challenger_since: datetime | None
    previous: str | None
    barred: Mapping[str, str]
    decisions: tuple[Decision, ...]
    trouble: tuple[str, ...] = field(default=())
    """What of the pointers could not be read."""

    def entry(self, name: str) -> Entry:
        """Return the version that ``name`` means: its name or beginning, or a role.

        Raises:
            UnknownVersionError: if there is none, or more than one begins so.
        """
        name = self.resolve(name)
        found = next((entry for entry in self.entries if entry.version == name), None)
        if found is None:
            raise UnknownVersionError(f"stream '{self.stream}' has no version '{name}'; {self.known()}")
        return found

    def resolve(self, name: str) -> str:
        """Return the version, or "linear", that ``name`` means; a name that means nothing raises as ``entry`` does."""
        if name in ROLES:
            there = {CHAMPION: self.champion, CHALLENGER: self.challenger, PREVIOUS: self.previous}[name]
            if there is None:
                raise UnknownVersionError(f"stream '{self.stream}' has no {name} now; {self.known()}")
            return there
        versions = [entry.version for entry in self.entries]
        if name in versions or name == LINEAR:
            return name
        begin = [version for version in versions if name and version.startswith(name)]
        if len(begin) > 1:
            raise UnknownVersionError(f"'{name}' is not one version: {', '.join(begin)} begin so")
        if not begin:
            raise UnknownVersionError(f"stream '{self.stream}' has no version '{name}'; {self.known()}")
        return begin[0]

    def known(self) -> str:
        """Return what there is, in words."""
        versions = [entry.version for entry in reversed(self.entries)]
        return f"it has {', '.join(versions)}" if versions else "it has none yet: vedette train makes one"


def look_at(registry: Registry, stream: str) -> Shelf:
    """Return what the registry holds for a stream; damage is told, not raised.

    Raises:
        RegistryError: if the place itself cannot be read.
    """
    trouble: list[str] = []
    champion = challenger = since = None
    versions, decisions, barred = registry.versions(stream), registry.decisions(stream), registry.barred(stream)
    try:
        champion = registry.champion_version(stream)
    except RegistryError as error:
        trouble.append(str(error))
    try:
        challenger, since = registry.challenger_version(stream), registry.challenger_since(stream)
    except RegistryError as error:
        trouble.append(str(error))
    if (damage := registry.challenger_damage(stream)) is not None:
        trouble.append(f"{damage}; until then nobody is in shadow")
    previous = registry.predecessor(stream)
    taken = {CHAMPION: champion, CHALLENGER: challenger, PREVIOUS: previous}
    entries = []
    for version in versions:
        roles = [role for role, who in taken.items() if who == version] + ["barred"] * (version in barred)
        entries.append(_entry(registry, stream, version, tuple(roles), decisions))
    if champion not in (None, LINEAR, *versions):
        trouble.append(f"the version in charge, {champion}, is not there; vedette models promote another one")
    return Shelf(
        stream, tuple(entries), champion, challenger, since, previous, barred, tuple(decisions), tuple(trouble)
    )


def _entry(
    registry: Registry, stream: str, version: str, roles: tuple[str, ...], decisions: Sequence[Decision]
) -> Entry:
    model, trouble, size = None, "", None
    try:
        model = registry.load(stream, version)
        size = registry.size(stream, version)
    except RegistryError as error:
        trouble = str(error)
    judged = judgement_of(version, decisions)
    if not judged and model is not None:
        judged = model.manifest.judgement if _challenger(model.manifest.judgement) else {}
    return Entry(version, roles, model, trouble, size, judged)


def judgement_of(version: str, decisions: Sequence[Decision]) -> Mapping[str, Any]:
    """Return the newest judgement in which ``version`` was the challenger; empty if there is none."""
    for decision in reversed(decisions):
        if _challenger(decision.evidence).get("version") == version:
            return decision.evidence
    return {}


def met(first: str, second: str, decisions: Sequence[Decision]) -> Mapping[str, Any]:
    """Return the newest judgement of one of two versions against the other; empty if they never met."""
    for decision in reversed(decisions):
        challenger = _challenger(decision.evidence).get("version")
        if {challenger, decision.evidence.get("against")} == {first, second}:
            return decision.evidence
    return {}


def _challenger(judged: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the challenger's figures of a judgement as JSON, whatever it really is."""
    contenders = judged.get("contenders")
    own = contenders.get("challenger") if isinstance(contenders, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
