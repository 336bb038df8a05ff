"""Protects the promise of a poll: nothing moves before its end, nothing is lost, nothing held without bound."""

from __future__ import annotations

from pathlib import Path

from connectors.reading import Reading, Reason, Rejected
from connectors.unchanged import Unchanged
from connectors.whole_polls import RejectedBefore, WholePoll
from pipeline.ingest.trial import Trial


def readings(*times_s: int) -> list[Reading]:
    """Return a reading for each time."""
    return [Reading("a", "stage", time_s * 1_000_000, float(time_s), "m") for time_s in times_s]


def refused(name: str) -> Rejected:
    """Return a refused row."""
    return Rejected(Reason.WRONG_TYPE, f"{name} is no number", name.encode())


def test_pages_come_out_in_the_order_of_time(tmp_path: Path) -> None:
    """Protects windows downstream from pages in any order."""
    with Trial(tmp_path) as trial:
        poll = WholePoll(trial.outlet, RejectedBefore())
        poll.add(readings(5, 6), [])
        poll.add(readings(2, 1), [refused("x")])
        assert trial.readings() == []
        poll.finish("done")
        assert [one.value for one in trial.readings()] == [1.0, 2.0, 5.0, 6.0]
        assert trial.outlet.cursor() == "done"
        assert len(trial.dead_letters()) == 1


def test_a_poll_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    """Protects from half a poll: the next one brings all of it, its refused rows too."""
    with Trial(tmp_path) as trial:
        known, unchanged = RejectedBefore(), Unchanged()
        broken = WholePoll(trial.outlet, known, unchanged=unchanged)
        broken.add(readings(1, 2), [refused("x")])
        again = WholePoll(trial.outlet, known, unchanged=unchanged)
        again.add(readings(1, 2, 3), [refused("x")])
        again.finish("done")
        assert len(trial.readings()) == 3
        assert len(trial.dead_letters()) == 1


def test_too_much_to_be_held_goes_on_without_the_cursor(tmp_path: Path) -> None:
    """Protects the memory; what went on early comes again with the repeated poll, and is known."""
    with Trial(tmp_path) as trial:
        known = RejectedBefore()
        broken = WholePoll(trial.outlet, known, most_held=3)
        broken.add(readings(1, 2, 3, 4), [])
        assert len(trial.readings()) == 4
        assert trial.outlet.cursor() is None
        again = WholePoll(trial.outlet, known, most_held=3)
        again.add(readings(1, 2, 3, 4), [])
        again.add(readings(5), [])
        again.finish("done")
        assert [one.value for one in trial.readings()] == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert trial.count("repeats") == 4


def test_refused_rows_are_told_once(tmp_path: Path) -> None:
    """Protects the dead-letter topic from the same row at every poll; the memory for that is bounded."""
    known = RejectedBefore()
    assert len(known.new_among([refused("x"), refused("y"), refused("x")])) == 2
    assert known.new_among([refused("y")]) == []
    for n in range(30_000):
        known.new_among([refused(str(n))])
    assert len(known._known) <= 20_000
