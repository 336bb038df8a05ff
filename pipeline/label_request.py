"""What an operator asks for when labelling an incident, and what is wrong with it in plain words.

The command line and the feedback topic ask through this, so the same is allowed everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from connectors.alert_store_rows import LabelRow
from pipeline.durations import DURATION_ALLOWED, microseconds, parse_duration
from pipeline.incident import rfc3339
from pipeline.labels import LabelKind

NONE = "none"
"""Takes the incident's label back."""
UNTIL_ALLOWED = f"an ISO 8601 time, such as 2026-03-01T00:00:00Z, or {DURATION_ALLOWED}"
_LONGEST_REASON = 2_000
_LONGEST_AUTHOR = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LabelStore(Protocol):
    """What is asked of a database; each call may block and may raise ``ConnectorError``."""

    def label(
        self,
        incident_id: str,
        kind: str,
        reason: str,
        until_us: int | None,
        author: str,
        now_us: int,
        *,
        label_id: str | None = None,
    ) -> LabelRow | None:
        """Label an incident; None where there is no such incident."""

    def withdraw(
        self, incident_id: str, author: str, now_us: int, *, withdrawal_id: str | None = None
    ) -> bool | None:
        """Take its label back; None where there is no such incident."""


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """One operator's word about one incident, not yet said to the database."""

    incident_id: str
    kind: LabelKind | None
    """None takes the label back."""
    reason: str
    until_us: int | None
    author: str

    def apply(self, store: LabelStore, now_us: int, label_id: str | None = None) -> bool:
        """Say it; return whether there is such an incident. ``label_id`` makes it idempotent."""
        if self.kind is None:
            return store.withdraw(self.incident_id, self.author, now_us, withdrawal_id=label_id) is not None
        said = store.label(
            self.incident_id, str(self.kind), self.reason, self.until_us, self.author, now_us, label_id=label_id
        )
        return said is not None


def label_request(
    incident_id: str, label: str, reason: str, until: str | None, author: str, now_us: int
) -> LabelRequest:
    """Return what is asked for.

    Args:
        incident_id: the whole id.
        label: "true", "false_alarm", "expected" or "none"; a hyphen does as well.
        reason: why; "expected" needs one.
        until: when it ends, an ISO 8601 time (UTC where it names no zone) or a duration from now; "expected" needs it.
        author: who says so.
        now_us: the wall clock.

    Raises:
        ValueError: in words for whoever asked.
    """
    kind = _kind(label)
    reason, author = reason.strip(), author.strip()
    if len(reason) > _LONGEST_REASON or len(author) > _LONGEST_AUTHOR:
        raise ValueError(f"too long: a reason has at most {_LONGEST_REASON} characters, an author {_LONGEST_AUTHOR}")
    if not author:
        raise ValueError("nobody says so: an author is needed")
    if kind is LabelKind.EXPECTED and not reason:
        raise ValueError("expected needs a reason: what was going on there, for those who come after you")
    if kind is LabelKind.EXPECTED and until is None:
        raise ValueError(f"expected needs an end: say until when it goes on ({UNTIL_ALLOWED})")
    if kind in (LabelKind.TRUE, None) and until is not None:
        raise ValueError(f"{label} has no end: only expected and false alarms have one")
    return LabelRequest(incident_id, kind, reason, None if until is None else until_us(until, now_us), author)


def _kind(label: str) -> LabelKind | None:
    word = label.strip().lower().replace("-", "_").replace(" ", "_")
    if word == NONE:
        return None
    try:
        return LabelKind(word)
    except ValueError:
        allowed = ", ".join([*(str(kind) for kind in LabelKind), NONE])
        raise ValueError(f'"{label[:40]}" is no label; allowed: {allowed}') from None


def until_us(text: str, now_us: int) -> int:
    """Return the moment that ``text`` says; raises ValueError where it says none, or one that is over."""
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        end_us = (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        try:
            end_us = now_us + microseconds(parse_duration(text))
        except ValueError:
            raise ValueError(f'"{text[:40]}" is no time; allowed: {UNTIL_ALLOWED}') from None
    if end_us <= now_us:
        raise ValueError(f"the end {rfc3339(end_us)} is over already")
    return end_us
