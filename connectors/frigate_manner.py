"""How a Frigate is watched: the settings of its source, as its parts share them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How Frigate is watched."""

    prefix: str
    """Before all topics."""
    cameras: tuple[str, ...]
    """Those that are looked at; empty: all."""
    labels: tuple[str, ...]
    """Those that are counted; empty: all."""
    reviews: bool
    """Whether reviews are counted."""
    asks: bool
    """Whether its database can be asked."""
    grace_us: int
    """How long after its end a minute is told."""
    every_us: int
    """How often the database is asked without a reason."""
    silent_us: int
    """An object that says nothing for so long is looked into."""
    history_us: int
    """How far back the very first start asks."""
    reach_us: int
    """How far back any start asks, and how long a minute stays correctable."""
