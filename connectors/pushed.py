"""What the codecs of pushed bodies give: readings and refusals, in pieces of bounded size.

A body may hold many more readings than memory should: codecs yield pieces, and a piece is durable before the next one
is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.reading import Reading, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal

PIECE_READINGS = 20_000
"""A piece is given away as soon as it has so many."""
MOST_LISTED = 1_000
"""Refusals of one piece that are kept with their bytes; further ones are only counted."""
KEPT_BYTES = 65_536
"""Of what was refused; what a dead-letter topic can take."""


@dataclass(slots=True)
class Pushed:
    """A piece of what one body held."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    """At most ``MOST_LISTED``; ``offset`` is the number of the line, series or element in the body, from 1."""
    unlisted: int = 0
    """Refused beyond those in ``rejected``."""
    ignored: int = 0
    """Passed over as the mapping asks, or as the format means: texts, ends of series."""

    @property
    def full(self) -> bool:
        """Whether this piece is to be given away before more is read."""
        return len(self.readings) >= PIECE_READINGS

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.readings or self.rejected or self.ignored)

    def refuse(self, refusal: Refusal, raw: bytes, number: int = 0, place: str = "") -> None:
        """Note that what stands at ``number`` was refused; ``place`` says where in words."""
        if len(self.rejected) >= MOST_LISTED:
            self.unlisted += 1
            return
        detail = (f"{place}: {refusal.detail}" if place else refusal.detail)[:LONGEST_DETAIL]
        self.rejected.append(Rejected(refusal.reason, detail, raw[:KEPT_BYTES], offset=number or -1))
