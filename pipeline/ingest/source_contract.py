"""What every source of readings owes the ingest process, as checks that run over any source, yours included.

A check is given a ``Peer``: the system outside, which a test holds in its hands. Run all of ``CHECKS``::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_mine_keeps_the_contract(check, tmp_path):
        with my_peer() as peer:
            check(peer, tmp_path)

They need nothing but the source, its peer and a directory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from connectors.errors import ConnectorError, SourceUnavailable
from connectors.reading import Reading
from connectors.source import ReadingSource
from pipeline.ingest.trial import Trial

PATIENCE_S = 60.0
LEAVES_WITHIN_S = 6.0
"""About two seconds, and what a busy machine adds."""

Identity = tuple[str, str, int]
"""Entity, channel and time."""


class Peer(Protocol):
    """The system outside, under control of a test."""

    keeps: bool
    """Whether it still has what it was given while nobody asked; False for MQTT at QoS 0 and the like."""

    def source(self) -> ReadingSource:
        """Return a new source on this peer, as after a start of the process."""

    def give(self, count: int) -> Sequence[Identity]:
        """Let it have ``count`` further readings, each of another time, and return what they are to become."""

    def give_bad(self) -> None:
        """Let it have something that no reading can come of; what is given before and after is good."""

    def go_away(self) -> None:
        """Stop answering."""

    def come_back(self) -> None:
        """Answer again."""


Check = Callable[[Peer, Path], None]


def _identities(trial: Trial) -> list[Identity]:
    return [identity(reading) for reading in trial.readings()]


def identity(reading: Reading) -> Identity:
    """Return what makes a reading one and not another."""
    return reading.entity, reading.channel, reading.time_us


def _came(trial: Trial, wanted: Sequence[Identity]) -> Callable[[], bool]:
    return lambda: set(wanted) <= set(_identities(trial))


def _was_full(trial: Trial) -> bool:
    return bool(trial.registry.get_sample_value("vedette_ingest_spool_full_total"))


def _running(trial: Trial, peer: Peer) -> None:
    trial.run(peer.source())
    if not peer.keeps:  # what is given before it listens is nobody's
        trial.until(lambda: None in trial.reasons, PATIENCE_S)


def check_everything_comes_once(peer: Peer, path: Path) -> None:
    """All that the peer has comes, and what it is given later; nothing comes twice."""
    with Trial(path) as trial:
        early = list(peer.give(20)) if peer.keeps else []
        _running(trial, peer)
        trial.until(_came(trial, early), PATIENCE_S)
        wanted = early + list(peer.give(20))
        trial.until(_came(trial, wanted), PATIENCE_S)
        assert sorted(_identities(trial)) == sorted(wanted)
        trial.until(lambda: None in trial.reasons, PATIENCE_S)  # it says that its peer answers


def check_a_second_life_goes_on(peer: Peer, path: Path) -> None:
    """A source that was stopped and is started again brings what is new, and next to nothing twice."""
    with Trial(path) as trial:
        _running(trial, peer)
        first = list(peer.give(10))
        trial.until(_came(trial, first), PATIENCE_S)
        trial.stop()
    between = list(peer.give(10)) if peer.keeps else []
    with Trial(path) as trial:
        _running(trial, peer)
        wanted = between + list(peer.give(10))
        trial.until(_came(trial, wanted), PATIENCE_S)
        assert set(_identities(trial)) <= set(first) | set(wanted)


def check_what_was_not_durable_comes_again(peer: Peer, path: Path) -> None:
    """A life that ends before anything could be made durable loses nothing that the peer keeps."""
    if not peer.keeps:
        return
    given = list(peer.give(10))
    with Trial(path, max_spool=1) as trial:
        trial.kafka.up = False
        trial.run(peer.source())
        trial.until(lambda: _was_full(trial) or trial.ended, PATIENCE_S)
        assert not trial.readings()
    with Trial(path) as trial:
        trial.run(peer.source())
        trial.until(_came(trial, given), PATIENCE_S)


def check_it_waits_while_there_is_no_room(peer: Peer, path: Path) -> None:
    """With Kafka away and the spool full the source waits or has its peer wait; when there is room all comes."""
    if not peer.keeps:
        return
    with Trial(path, max_spool=1) as trial:
        trial.kafka.up = False
        trial.run(peer.source())
        given = list(peer.give(10))
        trial.until(lambda: _was_full(trial), PATIENCE_S)
        trial.kafka.up = True
        trial.until(_came(trial, given), PATIENCE_S)


def check_kafka_away_is_not_its_business(peer: Peer, path: Path) -> None:
    """With Kafka away readings go to the spool, and come out of it in order when Kafka is back."""
    with Trial(path) as trial:
        _running(trial, peer)
        before = list(peer.give(5))
        trial.until(_came(trial, before), PATIENCE_S)
        trial.kafka.up = False
        given = list(peer.give(10))
        trial.until(lambda: trial.spooled() >= len(given), PATIENCE_S)
        trial.kafka.up = True
        trial.until(_came(trial, before + given), PATIENCE_S)
        times = [time_us for entity, channel, time_us in _identities(trial) if (entity, channel) == given[0][:2]]
        assert times == sorted(times)


def check_a_bad_record_stops_nothing(peer: Peer, path: Path) -> None:
    """What cannot be read becomes a dead letter with its reason; the good around it comes."""
    with Trial(path) as trial:
        _running(trial, peer)
        before = list(peer.give(3))
        trial.until(_came(trial, before), PATIENCE_S)
        peer.give_bad()
        after = list(peer.give(3))
        trial.until(_came(trial, before + after), PATIENCE_S)
        trial.until(trial.dead_letters, PATIENCE_S)
        assert all(headers["vedette-reason"] for _, headers in trial.dead_letters())
        assert not trial.ended


def check_a_peer_may_go_away_and_come_back(peer: Peer, path: Path) -> None:
    """The source says that its peer is away, or leaves with SourceUnavailable to be run again; then all goes on."""
    with Trial(path) as trial:
        _running(trial, peer)
        before = list(peer.give(3))
        trial.until(_came(trial, before), PATIENCE_S)
        peer.go_away()
        trial.until(lambda: _is_away(trial) or trial.ended, PATIENCE_S)
        peer.come_back()
        _run_until_it_answers(trial, peer)
        after = list(peer.give(3))
        trial.until(_came(trial, before + after), PATIENCE_S)


def _is_away(trial: Trial) -> bool:
    """Whether the last that was said of the peer is that it does not answer: one that is quiet may be away already."""
    return trial.reasons[-1:] not in ([], [None])


def _run_until_it_answers(trial: Trial, peer: Peer) -> None:
    """Run as the process does: what left because its peer is away is run again, until the peer answers."""
    allowed: type[ConnectorError] = SourceUnavailable

    def answers() -> bool:
        nonlocal allowed
        if trial.ended:  # it may have said that its peer is away, and be about to leave
            assert isinstance(trial.error, allowed), trial.error
            assert trial.error.retriable, trial.error
            allowed = ConnectorError
            trial.error = None
            trial.reasons.clear()
            trial.run(peer.source())
        return trial.reasons[-1:] == [None]

    trial.until(answers, PATIENCE_S)


def check_it_leaves_soon_and_whole(peer: Peer, path: Path) -> None:
    """Told to stop it leaves within about two seconds, in the middle of anything, and leaves no thread behind."""
    before = set(threading.enumerate())
    with Trial(path) as trial:
        _running(trial, peer)
        given = list(peer.give(3))
        trial.until(_came(trial, given), PATIENCE_S)
        assert trial.stop(PATIENCE_S) < LEAVES_WITHIN_S
        assert trial.error is None or type(trial.error).__name__ == "Stopping", trial.error
    left = [t for t in set(threading.enumerate()) - before if t.is_alive() and not t.name.startswith("peer")]
    for thread in left:
        thread.join(LEAVES_WITHIN_S)
    assert not [thread.name for thread in left if thread.is_alive()]


CHECKS: tuple[Check, ...] = (
    check_everything_comes_once,
    check_a_second_life_goes_on,
    check_what_was_not_durable_comes_again,
    check_it_waits_while_there_is_no_room,
    check_kafka_away_is_not_its_business,
    check_a_bad_record_stops_nothing,
    check_a_peer_may_go_away_and_come_back,
    check_it_leaves_soon_and_whole,
)
