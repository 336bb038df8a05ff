"""What goes into the outbox and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Entry(NamedTuple):
    """A message that one queue is to get."""

    queue: str
    incident: str
    sequence: int
    ends: bool
    """Whether the incident is over with it."""
    body: bytes


class Waiting(NamedTuple):
    """A message that waits."""

    id: int
    incident: str
    sequence: int
    ends: bool
    body: bytes
    added_us: int
    tries: int


class Told(NamedTuple):
    """The newest message about an incident that a queue's receiver has."""

    incident: str
    body: bytes
    open: bool
    since_us: int
    """Since when it is open there; 0 where it is not."""


class Depth(NamedTuple):
    """How much waits in a queue."""

    waiting: int
    oldest_us: int | None
    """When the oldest of it was added; None where nothing waits."""
    refused: int
    """Messages kept that the receiver did not take."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that a receiver did not take."""

    incident: str
    sequence: int
    body: bytes
    at_us: int
    error: str
