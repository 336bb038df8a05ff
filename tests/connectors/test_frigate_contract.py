"""Frigate keeps the contract of every source: over MQTT alone, where what nobody hears is lost, and with a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.frigate_objects import end_of
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from pipeline.ingest.trial import Trial
from tests.connectors.frigate_peer import FrigateWorld, NotingSource


class FrigatePeer(FrigateWorld):
    """One object a minute at one camera; a reading is a minute's."""

    def __init__(self, folder: Path, keeps: bool) -> None:
        super().__init__(folder, http=keeps, cameras={"dock": []}, reviews=False)
        self.keeps = keeps
        self._away = False
        self._fresh = False

    def source(self, **options: object) -> NotingSource:
        """Return a new source; without a database it does not tell of the minute that it begins in."""
        self._fresh = not self.keeps
        return super().source(labels=("person",), cameras=("dock",), **options)

    def give(self, count: int) -> Sequence[Identity]:
        """Let a person come and go in each of the next minutes."""
        if self.running is not None and not self.running.left and not self._away:
            self.await_listening()  # else it would be told by the database, when that is asked a minute later
            if self._fresh:
                self.minute()
        self._fresh = False
        given: list[Identity] = []
        for _ in range(count):
            now = self.clock.now
            name = self.frigate.begin("dock", "person", now + 1.0)
            self.frigate.tell(name, 3, now + 5.0)
            self.frigate.end(name, now + 20.0)
            given += [("dock", channel, end_of(self.clock.minute)) for channel in CHANNELS]
            if self.listens():
                self.heard()
            self.clock.next_minute()
        return given

    def give_bad(self) -> None:
        """Say something that is no event."""
        self.frigate.say("events", b'{"type": "new", "after": {"id": 7, "sub_label": "Ada Lovelace"}}')

    def go_away(self) -> None:
        """Let broker and database vanish."""
        self._away = True
        if self.api is not None:
            self.api.status = 503
        self.broker.kill()

    def come_back(self) -> None:
        """Let them return, and Frigate find its broker."""
        self.broker.start()
        if self.api is not None:
            self.api.status = None
        self.frigate.link.await_up()
        self._away = False


CHANNELS = ("person", "person.active", "person.dwell")


@pytest.mark.parametrize("keeps", [False, True], ids=["alone", "with database"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_frigate_keeps_the_contract(check: Check, keeps: bool, tmp_path: Path) -> None:
    """Protects each promise of ``connectors.source.ReadingSource``."""
    with FrigatePeer(tmp_path, keeps) as peer:
        check(peer, tmp_path)


def test_what_is_refused_says_nothing_of_people(tmp_path: Path) -> None:
    """Protects persons: a dead letter holds what was wrong, and no name."""
    with FrigatePeer(tmp_path, False) as peer, Trial(tmp_path) as trial:
        trial.run(peer.source())
        peer.await_listening()
        peer.give_bad()
        peer.frigate.say("events", b'{"type": "new", "after": {"sub_label": "Ada Lovelace", "id": "179519041')
        trial.until(lambda: len(trial.dead_letters()) == 2)
        assert not [raw for raw, _ in trial.dead_letters() if b"Ada" in raw]
