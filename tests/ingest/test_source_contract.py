"""The contract suite itself: a source that keeps every promise passes, and each broken promise is caught."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.errors import SourceUnavailable
from connectors.reading import Reading, Reason, Rejected
from connectors.source import Outlet, ReadingSource
from pipeline.ingest import source_contract as contract
from pipeline.ingest.source_contract import CHECKS, Check, Identity

STEP_US = 60_000_000


class Shelf:
    """A system outside: rows that stay, and an address that may not answer."""

    keeps = True

    def __init__(self, kind: type[Reader]) -> None:
        self.kind = kind
        self.rows: list[Reading | None] = []
        self.up = True
        self._time_us = (time.time_ns() // 1000 // STEP_US - 100_000) * STEP_US

    def source(self) -> ReadingSource:
        return self.kind(self)

    def give(self, count: int) -> Sequence[Identity]:
        new = []
        for _ in range(count):
            self._time_us += STEP_US
            new.append(Reading("station-7", "pm25", self._time_us, 12.5, "ug/m3"))
        self.rows += new
        return [contract.identity(reading) for reading in new]

    def give_bad(self) -> None:
        self.rows.append(None)

    def go_away(self) -> None:
        self.up = False

    def come_back(self) -> None:
        self.up = True


class Reader:
    """Reads a shelf as a source should."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def run(self, outlet: Outlet) -> None:
        while not outlet.stopping:
            if not self.shelf.up:
                outlet.failing("the shelf does not answer")
                raise SourceUnavailable("the shelf does not answer")
            outlet.working()
            self.bring(outlet, int(outlet.cursor() or 0))
            outlet.wait(0.01)

    def bring(self, outlet: Outlet, at: int) -> None:
        rows = self.shelf.rows[at:]
        if rows:
            outlet.deliver(self.good(rows), cursor=str(at + len(rows)), rejected=self.bad(rows))

    def good(self, rows: Sequence[Reading | None]) -> list[Reading]:
        return [row for row in rows if row is not None]

    def bad(self, rows: Sequence[Reading | None]) -> list[Rejected]:
        return [Rejected(Reason.EMPTY, "an empty row", b"") for row in rows if row is None]


class Forgetful(Reader):
    """Keeps its place in itself, and not in the cursor; so it begins behind what it does not know."""

    def run(self, outlet: Outlet) -> None:
        self.at = len(self.shelf.rows)
        super().run(outlet)

    def bring(self, outlet: Outlet, at: int) -> None:
        super().bring(outlet, self.at)
        self.at = len(self.shelf.rows)


class Hasty(Reader):
    """Takes back what it offered as soon as it offered it: nothing is there to be offered again."""

    def bring(self, outlet: Outlet, at: int) -> None:
        rows, self.shelf.rows = self.shelf.rows, []
        if rows:
            outlet.offer(self.good(rows), rejected=self.bad(rows))


class Fragile(Reader):
    """Falls over a bad row."""

    def good(self, rows: Sequence[Reading | None]) -> list[Reading]:
        if None in rows:
            raise ValueError("a row is empty")
        return super().good(rows)


class Silent(Reader):
    """Drops bad rows and tells nobody."""

    def bad(self, rows: Sequence[Reading | None]) -> list[Rejected]:
        return []


class Deaf(Reader):
    """Does not look whether it is to leave."""

    def run(self, outlet: Outlet) -> None:
        outlet.working()
        while True:
            self.bring(outlet, int(outlet.cursor() or 0))
            time.sleep(0.01)
            if getattr(self.shelf, "enough", False):
                return


class Quiet(Reader):
    """Does not say that its peer is away."""

    def run(self, outlet: Outlet) -> None:
        outlet.working()
        while not outlet.wait(0.01):
            if self.shelf.up:
                self.bring(outlet, int(outlet.cursor() or 0))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_source_as_it_should_be_passes(check: Check, tmp_path: Path) -> None:
    """Protects the suite from asking for what nobody can give."""
    check(Shelf(Reader), tmp_path)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Forgetful, contract.check_a_second_life_goes_on),
        (Hasty, contract.check_what_was_not_durable_comes_again),
        (Hasty, contract.check_it_waits_while_there_is_no_room),
        (Fragile, contract.check_a_bad_record_stops_nothing),
        (Silent, contract.check_a_bad_record_stops_nothing),
        (Deaf, contract.check_it_leaves_soon_and_whole),
        (Quiet, contract.check_a_peer_may_go_away_and_come_back),
    ],
    ids=lambda thing: thing.__name__,
)
def test_a_broken_promise_is_caught(
    kind: type[Reader], check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the suite from passing whatever it is given."""
    monkeypatch.setattr(contract, "PATIENCE_S", 1.0)
    shelf = Shelf(kind)
    with pytest.raises((AssertionError, ValueError)):
        check(shelf, tmp_path)
    shelf.enough = True  # type: ignore[attr-defined]
