"""The quality of a stream's data as a whole: floods of refused records, clocks that run ahead.

Unlike everything else this goes by the wall clock: records that cannot be read have no event time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.state import RowState
from models.wording import clean, duration_text, number_text
from pipeline.casebook import Casebook, Finding, Moment, StreamFacts
from pipeline.incident import WHOLE_STREAM, AlertMessage, Incident, Json, Kind, Phase, Severity
from pipeline.lifecycle import LifePolicy

_LANES = ("dead_letters", "clock_skew")
_ROW = np.zeros(1, np.intp)


@dataclass(frozen=True, slots=True)
class DataQualityPolicy:
    """When refused records are worth an incident."""

    window_us: int = 60_000_000
    """Records are counted over such windows."""
    least_refused: int = 20
    """Fewer refused records in a window are never an incident."""
    share: float = 0.05
    """Of all records in a window, refused: more is an incident; below half of it the window is calm."""
    severity: Severity = Severity.WARNING


class DataQuality:
    """Tells when too many records are refused, and when a clock runs ahead. Windows without records are not calm."""

    def __init__(
        self, facts: StreamFacts, policy: DataQualityPolicy | None = None, life: LifePolicy | None = None
    ) -> None:
        """Watch one stream; ``life`` counts windows, not steps, and by default wants two calm ones for an end."""
        self.policy = policy or DataQualityPolicy()
        whole = StreamFacts(
            facts.name, self.policy.window_us, lambda _: WHOLE_STREAM, lambda _: facts.name, facts.maintenance,
            facts.model_version,
        )  # fmt: skip
        self._state = RowState(1)
        self._book = Casebook(Kind.DATA_QUALITY, _LANES, whole, life or LifePolicy(clear_after=2), self._state)
        self._window: int | None = None
        self._total = 0
        self._refused = np.zeros(len(_LANES), np.int64)

    @property
    def books(self) -> tuple[Casebook]:
        """The book of its incidents."""
        return (self._book,)

    def open_incidents(self) -> list[Incident]:
        """Return all open incidents."""
        return self._book.open_incidents()

    def count(self, total: int, refused: int, ahead: int = 0) -> None:
        """Count records.

        Args:
            total: how many came, readable or not.
            refused: how many of them went to the dead letters, for any reason.
            ahead: how many of those because their time lies too far in the future.
        """
        self._total += total
        self._refused += (refused, ahead)

    def step(self, now_us: int) -> list[AlertMessage]:
        """Return what there is to say when a window has ended; nothing before. The clock may stand still."""
        window = now_us // self.policy.window_us
        if self._window is None:
            self._window = window
        if window <= self._window:
            return []
        moment = Moment(window, window * self.policy.window_us, now_us)
        self._window = window
        total, refused = self._total, self._refused
        self._total, self._refused = 0, np.zeros(len(_LANES), np.int64)
        share = refused / max(total, 1)  # [2]
        bad = (share >= self.policy.share) & (refused >= self.policy.least_refused)
        held = bad | (share >= self.policy.share / 2)
        observed = np.full((1, len(_LANES)), total > 0)

        def describe(_row: int, lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            return self._describe(lane, phase, incident, total, int(refused[lane]))

        return self._book.advance(moment, bad[None], held[None], observed, describe)

    def shared(self) -> dict[str, Json]:
        """Return all its state for a checkpoint, as JSON can hold it."""
        return {
            "life": {name: array.tolist() for name, array in self._state.arrays.items()},
            "incidents": self._book.rows_shared(_ROW),
            "window": self._window,
            "total": self._total,
            "refused": self._refused.tolist(),
        }

    def restore_shared(self, saved: dict[str, Any]) -> None:
        """Take up what ``shared`` gave."""
        for name, values in saved["life"].items():
            self._state[name][...] = values
        self._book.restore_rows_shared(_ROW, saved["incidents"])
        self._window, self._total = saved["window"], saved["total"]
        self._refused = np.array(saved["refused"], np.int64)

    def _describe(self, lane: int, phase: Phase, incident: Incident | None, total: int, refused: int) -> Finding:
        what = "were refused" if lane == 0 else "bear a time too far in the future"
        window = duration_text(self.policy.window_us / 1e6)
        stream = clean(self._book.facts.name)
        if phase is Phase.RESOLVED:
            explanation = incident.explanation if incident is not None else {}
            return Finding(f"Stream {stream} is well again: {refused} of {total} records {what}.", explanation)
        share = number_text(100 * refused / max(total, 1))
        cause = "a sender has changed its format" if lane == 0 else "a sender's clock runs ahead"
        reason = f"{refused} of {total} records ({share} %) of stream {stream} {what} within {window}: perhaps {cause}."
        explanation = {"total": total, "refused": refused, "window_s": self.policy.window_us / 1e6}
        return Finding(reason, explanation, severity=self.policy.severity)


class DeadLetterBreaker:
    """Lets so many dead letters through that a flood of them cannot fill the disk or drown the rest.

    A bucket of tokens: ``burst`` at once, ``per_s`` for ever. What it holds back is counted, not kept.
    """

    def __init__(self, per_s: float = 100.0, burst: int = 10_000) -> None:
        self.per_s = per_s
        self.burst = burst
        self.held_back = 0
        self._tokens = float(burst)
        self._last_us: int | None = None

    @property
    def open(self) -> bool:
        """Return True while letters are being held back."""
        return self._tokens < 1.0

    def allow(self, letters: int, now_us: int) -> int:
        """Return how many of ``letters`` may be written now; a clock that goes backwards adds nothing."""
        if self._last_us is not None:
            elapsed_s = max(0, now_us - self._last_us) / 1e6
            self._tokens = min(float(self.burst), self._tokens + elapsed_s * self.per_s)
        self._last_us = now_us if self._last_us is None else max(now_us, self._last_us)
        allowed = min(letters, int(self._tokens))
        self._tokens -= allowed
        self.held_back += letters - allowed
        return allowed
