"""What was decided about a stream's models, by whom and why; the record that people read a year later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from models.json_values import json_ready
from models.model_files import ModelFiles

OPERATOR = "operator"
"""The only one whose promotion lifts a bar."""
DECISIONS = "decisions"
"""Their folder."""
DECISIONS_KEPT = 1000
"""Of those that changed who is in charge, and as many of the others."""


class Action(StrEnum):
    """What was done about a version."""

    PROMOTED = "promoted"
    """It is in charge."""
    REFUSED = "refused"
    """It was judged, and not better."""
    SHADOWED = "shadowed"
    """It runs beside the champion."""
    KEPT = "kept"
    """It is in the registry and waits for a person."""
    ROLLED_BACK = "rolled_back"
    """It is in charge again, in place of the one that failed or was given up."""


CHANGES = (Action.PROMOTED, Action.ROLLED_BACK)
"""Those that change who is in charge."""
_FILE = re.compile(rf"\d{{8}}-\d{{8}}T\d{{6}}-({'|'.join(Action)})\.json")


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision and its grounds."""

    time: datetime
    """UTC, aware."""
    action: Action
    version: str
    """The version that it is about; of a promotion or rollback: the one in charge from now on, perhaps "linear"."""
    champion_before: str | None
    """Who was in charge when it was made; of a rollback: the one given up."""
    reasons: tuple[str, ...]
    """Sentences for people."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What it rests on, such as a judgement; JSON."""
    by: str = "job"
    """"job", "operator" or "daemon"."""

    def concerns(self, version: str) -> bool:
        """Return whether ``version`` came, stayed or went by it."""
        return version in (self.version, self.champion_before)

    def is_again(self, other: Decision) -> bool:
        """Return whether ``other`` is to do the same, from where things stood when this was to be done."""
        same = (self.action, self.version, self.champion_before)
        return same == (other.action, other.version, other.champion_before)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; NaN in the evidence becomes null."""
        return {
            "time": self.time.isoformat(),
            "action": str(self.action),
            "version": self.version,
            "champion_before": self.champion_before,
            "reasons": list(self.reasons),
            "evidence": json_ready(self.evidence),
            "by": self.by,
        }

    def to_bytes(self) -> bytes:
        """Return the decision as it is written down."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Decision:
        """Return the decision that ``to_bytes`` wrote.

        Raises:
            ValueError: if it is none.
        """
        try:
            return cls._from_json(json.loads(data))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a decision: {error}") from error

    @classmethod
    def _from_json(cls, raw: Mapping[str, Any]) -> Decision:
        time, before, reasons, evidence = (
            datetime.fromisoformat(raw["time"]), raw["champion_before"], raw["reasons"], raw["evidence"]
        )  # fmt: skip
        texts = [raw["version"], raw["by"], *reasons] + ([] if before is None else [before])
        if time.tzinfo is None or not isinstance(evidence, dict) or not all(isinstance(t, str) for t in texts):
            raise ValueError("not a decision: a field has another type than ours")
        return cls(time, Action(raw["action"]), raw["version"], before, tuple(reasons), evidence, raw["by"])


class DecisionFiles:
    """The decisions of all streams, one small file each: STREAM/decisions/NUMBER-TIME-ACTION.json.

    All raise OSError where the files' place refuses.
    """

    def __init__(self, files: ModelFiles) -> None:
        """Keep them among ``files``."""
        self._files = files

    def read(self, stream: str, action: Action | None = None) -> list[Decision]:
        """Return the decisions, perhaps only those of one kind, newest last; files that are none are left out."""
        found = []
        for name in self._names(stream):
            if action is not None and not name.endswith(f"-{action}.json"):
                continue
            try:
                found.append(Decision.from_bytes(self._files.read(f"{stream}/{DECISIONS}/{name}")))
            except (ValueError, FileNotFoundError):  # not ours, damaged, or just pruned: no ground to stop for
                continue
        return found

    def add(self, stream: str, decision: Decision) -> None:
        """Keep one more, as the newest, whatever the clocks say. Only under the lock.

        Raises:
            TypeError: if its evidence is not for JSON.
        """
        names = self._names(stream)
        number = int(names[-1].partition("-")[0]) + 1 if names else 1
        name = f"{number:08d}-{decision.time.astimezone(UTC):%Y%m%dT%H%M%S}-{decision.action}.json"
        self._files.put(f"{stream}/{DECISIONS}/{name}", decision.to_bytes())

    def add_once(self, stream: str, decision: Decision) -> None:
        """As ``add``, in place of the newest if that says the same: who wrote it was killed before it was carried out.

        Only where it cannot have been carried out, and only under the lock; raises as ``add`` does.
        """
        names = self._names(stream)
        if names and names[-1].endswith(f"-{decision.action}.json"):
            path = f"{stream}/{DECISIONS}/{names[-1]}"
            with suppress(ValueError):
                if Decision.from_bytes(self._files.read(path)).is_again(decision):
                    self._files.remove(path)
        self.add(stream, decision)

    def champions_before(self, stream: str) -> dict[str, str | None]:
        """Return, for each version that was ever promoted, who was in charge before; the newest promotion counts."""
        return {decision.version: decision.champion_before for decision in self.read(stream, Action.PROMOTED)}

    def prune(self, stream: str) -> None:
        """Remove all but the newest DECISIONS_KEPT of those that changed who is in charge, and of the others."""
        names = self._names(stream)
        endings = tuple(f"-{action}.json" for action in CHANGES)
        changes = [name for name in names if name.endswith(endings)]
        others = [name for name in names if not name.endswith(endings)]
        for name in changes[:-DECISIONS_KEPT] + others[:-DECISIONS_KEPT]:
            self._files.remove(f"{stream}/{DECISIONS}/{name}")

    def _names(self, stream: str) -> list[str]:
        return [name for name in self._files.names(f"{stream}/{DECISIONS}") if _FILE.fullmatch(name)]
