"""What the codecs of pushed bodies give: readings and refusals, in pieces of bounded size.

A body may hold many more readings than memory should: codecs yield pieces, and a piece is durable before the next one
is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.reading import Reading, Reason, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal

PIECE_READINGS = 20_000
"""A piece is given away as soon as it has so many."""
MOST_LISTED = 1_000
"""Refusals of one piece that are kept with their bytes; further ones are only counted."""
KEPT_BYTES = 65_536
"""Of what was refused; what a dead-letter topic can take."""
HOPELESS = 10_000
"""A piece is given away with so many refusals too; a body that begins with so many and nothing else is given up."""


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
    note: str = ""
    """What its sender has to know first."""

    @property
    def full(self) -> bool:
        """Whether this piece is to be given away before more is read."""
        return len(self.readings) + self.ignored >= PIECE_READINGS or self.refused >= HOPELESS

    @property
    def refused(self) -> int:
        """How many refusals there are, those that are only counted included."""
        return len(self.rejected) + self.unlisted

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


def until_hopeless(pieces: Iterator[Pushed], body: bytes) -> Iterator[Pushed]:
    """Yield pieces; once ``HOPELESS`` rows were refused and none was any good, refuse the rest of ``body`` as a whole.

    Whoever sends something else than it says is told so soon, and costs little; one good row, and all is read.
    """
    refused = 0
    for piece in pieces:
        yield piece
        refused += piece.refused
        if piece.readings or piece.ignored:
            yield from pieces
        elif refused >= HOPELESS:
            if next(pieces, None) is not None:
                yield _given_up(refused, body)
            return


def _given_up(refused: int, body: bytes) -> Pushed:
    detail = f"none of the first {refused} rows can be read; what follows was not looked at, and is refused as a whole"
    rest = Pushed()
    rest.note = f"{detail}; look at how the sender writes"
    rest.refuse(Refusal(Reason.TOO_LARGE, detail), body[-KEPT_BYTES:])
    return rest
