"""What Frigate's messages and rows say of tracked objects and reviews, and nothing more.

Read are identity, camera, label, zones, times and whether an object moves. Names of people (``sub_label``), plates,
descriptions and pictures are never looked at, and what is refused is kept without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from connectors.json_documents import parsed, written
from connectors.reading import Reason, Rejected
from connectors.refusal import Refusal, shortened
from connectors.timestamps import in_range

LONGEST_NAME = 60
"""Characters of a camera, zone or label: three of them make an entity and a channel."""
MOST_ZONES = 50
SEVERITIES = ("alert", "detection")
_KEPT = (
    "id", "camera", "label", "severity", "start_time", "end_time", "frame_time", "zones", "entered_zones", "active",
)  # fmt: skip
_LONGEST_TEXT = 100
_UNREADABLE_BYTES = 40
"""Kept of what is no JSON: enough to recognise it, too little for a name or a plate."""
_PAD_LEAST_US = 500_000


class Phase(Enum):
    """Where a sighting comes from."""

    NEW = "new"
    UPDATE = "update"
    END = "end"
    ROW = "row"
    """From the database, by HTTP."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is said of one tracked object at one moment."""

    phase: Phase
    id: str
    camera: str
    label: str
    start_us: int
    end_us: int | None = None
    frame_us: int | None = None
    """Of the frame that it is about; None in rows."""
    active: bool | None = None
    """Whether it moves; None: not said."""
    zones: tuple[str, ...] = ()
    """In which it has ever been."""
    current_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """One activity that somebody may want to look at."""

    id: str
    camera: str
    start_us: int
    severity: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What a page of rows holds."""

    sightings: Sequence[Sighting]
    reviews: Sequence[Review]
    rejected: Sequence[Rejected]
    n: int
    """How many rows it has, whatever became of them; and their ids."""
    ids: frozenset[str]
    oldest_s: float | None
    """The earliest start, as the service wrote it."""


def event_message(payload: bytes) -> Sighting | Refusal | None:
    """Return what a message on ``events`` says; None for what is no object. Never raises."""
    after, kind = _envelope(payload)
    if isinstance(after, Refusal):
        return after
    if kind not in ("new", "update", "end"):
        return Refusal(Reason.UNSUPPORTED, f"type {shortened(kind)}; known: new, update, end")
    return _sighting(after, Phase(kind))


def review_message(payload: bytes) -> Review | Refusal | None:
    """Return what a message on ``reviews`` says; None for a severity that is not counted. Never raises."""
    after, _ = _envelope(payload)
    return after if isinstance(after, Refusal) else _review(after)


def event_rows(body: bytes) -> Rows | Refusal:
    """Return the objects in an answer of ``/api/events`` or ``/api/event_ids``. Never raises."""
    return _rows(body, lambda row: _sighting(row, Phase.ROW))


def review_rows(body: bytes) -> Rows | Refusal:
    """Return the reviews in an answer of ``/api/review``. Never raises."""
    return _rows(body, _review)


def redacted(payload: bytes) -> bytes:
    """Return what may be kept of a payload that was refused: no names, no plates, no descriptions."""
    document = parsed(payload)
    if not isinstance(document, dict):
        return payload[:_UNREADABLE_BYTES]
    after = document.get("after")
    kept: dict[str, object] = {"type": _short(document.get("type"))} if "type" in document else {}
    if isinstance(after, dict):
        kept["after"] = _allowed(after)
    else:
        kept.update(_allowed(document))
    return written(kept)


def name_of(value: object) -> str | None:
    """Return a camera's, zone's or label's name; None if it is none.

    >>> name_of("front_door"), name_of("a/b"), name_of(7)
    ('front_door', None, None)
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or "/" in value or not value.isprintable():
        return None
    return value


def moment_us(value: object) -> int | None:
    """Return epoch seconds as microseconds; None if it is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e11:
        return None
    time_us = round(value * 1e6)
    return time_us if in_range(time_us) else None


# ---- inner ----


def _envelope(payload: bytes) -> tuple[Mapping[str, object] | Refusal, object]:
    document = parsed(payload)
    if isinstance(document, Refusal):
        # What the parser quotes may be a name: it says where it stopped, and that is enough.
        return Refusal(document.reason, f"no JSON, {len(payload)} bytes"), None
    if not isinstance(document, dict) or not isinstance(document.get("after"), dict):
        return Refusal(Reason.WRONG_TYPE, f"{_kind(document)} without an object 'after'"), None
    return document["after"], document.get("type")


def _rows(body: bytes, read: Callable[[Mapping[str, object]], Sighting | Review | Refusal | None]) -> Rows | Refusal:
    document = parsed(body)
    if not isinstance(document, list):
        return Refusal(Reason.WRONG_TYPE, f"{_kind(document)} where a list of rows is expected")
    sightings: list[Sighting] = []
    reviews: list[Review] = []
    rejected: list[Rejected] = []
    ids: set[str] = set()
    oldest_s: float | None = None
    for row in document:
        found = read(row) if isinstance(row, dict) else Refusal(Reason.WRONG_TYPE, f"a row is {_kind(row)}")
        if isinstance(found, Refusal):
            rejected.append(
                Rejected(found.reason, found.detail, written(_allowed(row) if isinstance(row, dict) else _kind(row)))
            )
        elif isinstance(found, Sighting):
            sightings.append(found)
        elif isinstance(found, Review):
            reviews.append(found)
        if isinstance(row, dict):
            ids.add(str(row.get("id"))[:_LONGEST_TEXT])
            start_us = moment_us(row.get("start_time"))
            if start_us is not None and (oldest_s is None or start_us < oldest_s * 1e6):
                oldest_s = start_us / 1e6
    return Rows(sightings, reviews, rejected, len(document), frozenset(ids), oldest_s)


def _sighting(said: Mapping[str, object], phase: Phase) -> Sighting | Refusal | None:
    data = said.get("data")
    if said.get("false_positive") is True or (isinstance(data, dict) and data.get("type", "object") != "object"):
        return None  # sounds, and what was entered by hand
    found = _identity(said, "label")
    if isinstance(found, Refusal):
        return found
    identity, camera, label, start_us, padded_us = found
    end_us: int | None = None
    if said.get("end_time") is not None:
        end_us = moment_us(said["end_time"])
        if end_us is None:
            return Refusal(Reason.BAD_TIME, f"end_time {shortened(said['end_time'])} is no time in epoch seconds")
        end_us = max(end_us - padded_us, start_us)
    if phase is Phase.END and end_us is None:
        end_us = moment_us(said.get("frame_time"))  # seen in the wild: an end without its time
        if end_us is None:
            return Refusal(Reason.BAD_TIME, "an end without end_time and frame_time")
        end_us = max(end_us, start_us)
    current = _names(said.get("current_zones"))
    entered = _names(said.get("zones" if phase is Phase.ROW else "entered_zones"))
    zones = tuple(dict.fromkeys((*entered, *current)))[:MOST_ZONES]
    frame_us = moment_us(said.get("frame_time"))
    return Sighting(phase, identity, camera, label, start_us, end_us, frame_us, _moves(said), zones, current)


def _review(said: Mapping[str, object]) -> Review | Refusal | None:
    found = _identity(said, "severity")
    if isinstance(found, Refusal):
        return found
    identity, camera, severity, start_us, _ = found
    return Review(identity, camera, start_us, severity) if severity in SEVERITIES else None


def _identity(said: Mapping[str, object], what: str) -> tuple[str, str, str, int, int] | Refusal:
    """Return id, camera, ``what``, start, and by how much the row was widened at both ends."""
    identity = said.get("id")
    if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST_TEXT:
        return Refusal(Reason.MISSING_KEY, f"id {shortened(identity)}; allowed: 1 to {_LONGEST_TEXT} characters")
    camera, name = name_of(said.get("camera")), name_of(said.get(what))
    if camera is None or name is None:
        missing = "camera" if camera is None else what
        return Refusal(
            Reason.MISSING_KEY,
            f"{missing} {shortened(said.get(missing))}; allowed: 1 to {LONGEST_NAME} characters, no slash",
        )
    start_us = moment_us(said.get("start_time"))
    if start_us is None:
        return Refusal(Reason.BAD_TIME, f"start_time {shortened(said.get('start_time'))} is no time in epoch seconds")
    # The id holds when the object was first seen; up to 0.13 rows begin earlier by what was recorded before it.
    first_us = _time_in(identity)
    pad_us = 0 if first_us is None else first_us - start_us
    if not _PAD_LEAST_US < pad_us < 120_000_000:
        return identity, camera, name, start_us, 0
    return identity, camera, name, start_us + pad_us, pad_us


def _time_in(identity: str) -> int | None:
    try:
        return moment_us(float(identity.partition("-")[0]))
    except ValueError:
        return None


def _moves(said: Mapping[str, object]) -> bool | None:
    active, stationary = said.get("active"), said.get("stationary")
    if isinstance(active, bool):
        return active
    return not stationary if isinstance(stationary, bool) else None


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(name for one in value[:MOST_ZONES] if (name := name_of(one)) is not None)


def _allowed(row: Mapping[str, object]) -> dict[str, object]:
    """Return of a row what says nothing of a person."""
    return {name: _short(row[name]) for name in _KEPT if name in row}


def _short(value: object) -> object:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, list):
        return [str(one)[:_LONGEST_TEXT] for one in value[:MOST_ZONES]]
    return value if value is None or isinstance(value, bool | int | float) else _kind(value)


def _kind(value: object) -> str:
    return "text" if isinstance(value, str) else "null" if value is None else f"a {type(value).__name__}"
