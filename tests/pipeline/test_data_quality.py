"""Floods of refused records, clocks that run ahead, and the breaker."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_quality import DataQuality, DeadLetterBreaker
from pipeline.incident import AlertMessage, Kind, Phase
from tests.pipeline.incident_parts import facts

MINUTE_US = 60_000_000
NOW_US = 1_800_000_000_000_000


def minute(subject: DataQuality, index: int, total: int, refused: int, ahead: int = 0) -> list[AlertMessage]:
    """Count what came in a minute and let it end."""
    subject.step(NOW_US + index * MINUTE_US)
    subject.count(total, refused, ahead)
    return subject.step(NOW_US + (index + 1) * MINUTE_US)


def test_a_flood_of_refused_records_is_an_incident_of_the_stream() -> None:
    """Protects from losing data in silence: a tenth refused opens, two calm minutes end it."""
    subject = DataQuality(facts())
    assert minute(subject, 0, 1000, 3) == []
    (opened,) = minute(subject, 1, 1000, 100)
    assert (opened.entity, opened.kind, opened.name) == ("*", Kind.DATA_QUALITY, "dead_letters")
    assert opened.reason == (
        "100 of 1000 records (10 %) of stream air were refused within 1 min: perhaps a sender has changed its format."
    )
    assert minute(subject, 2, 1000, 30) == []  # 3 % is not below half of 5 %
    assert minute(subject, 3, 1000, 3) == []
    assert minute(subject, 4, 0, 0) == []  # nothing came: not calm
    (resolved,) = minute(subject, 5, 1000, 3)
    assert (resolved.incident_id, resolved.phase) == (opened.incident_id, Phase.RESOLVED)


def test_a_few_refused_records_are_not_worth_a_word() -> None:
    """Protects small streams: 19 refused are none, whatever their share."""
    subject = DataQuality(facts())
    assert minute(subject, 0, 19, 19) == []
    assert len(minute(subject, 1, 20, 20)) == 1


def test_a_clock_that_runs_ahead_is_told_apart() -> None:
    """Protects the one who has to find the cause: readings from the future are a clock's fault, not a format's."""
    said = minute(DataQuality(facts()), 0, 100, 50, ahead=50)
    assert [m.name for m in said] == ["dead_letters", "clock_skew"]
    assert "perhaps a sender's clock runs ahead" in said[1].reason


def test_within_a_window_and_with_a_clock_that_stands_nothing_is_said() -> None:
    """Protects the loop, which asks many times a second, and sees clocks go backwards."""
    subject = DataQuality(facts())
    subject.step(NOW_US)
    subject.count(100, 100)
    assert subject.step(NOW_US) == subject.step(NOW_US + 1) == subject.step(NOW_US - 5 * MINUTE_US) == []


def test_a_restart_within_a_window_changes_nothing() -> None:
    """Protects checkpoints: counts, window and open incident go on."""
    first, second = DataQuality(facts()), DataQuality(facts())
    minute(first, 0, 100, 50)
    first.count(100, 50)
    second.restore_shared(json.loads(json.dumps(first.shared())))
    assert [i.id for i in second.open_incidents()] == [i.id for i in first.open_incidents()]
    for index in range(1, 5):
        assert minute(first, index, 100, 0) == minute(second, index, 100, 0)
    assert first.open_incidents() == second.open_incidents() == []


def test_the_breaker_lets_a_burst_through_then_a_trickle() -> None:
    """Protects the disk: a thousand at once, then ten a second, and the rest is counted."""
    breaker = DeadLetterBreaker(per_s=10.0, burst=1000)
    assert breaker.allow(5000, NOW_US) == 1000
    assert breaker.open
    assert breaker.allow(5000, NOW_US + 1_000_000) == 10
    assert breaker.held_back == 8990
    assert breaker.allow(5, NOW_US) == 0  # a clock that goes backwards gives nothing
    assert breaker.allow(5, NOW_US + 2_000_000) == 5
    assert not breaker.open


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10_000)), max_size=30))
def test_the_breaker_never_lets_more_through_than_promised(flood: list[tuple[int, int]]) -> None:
    """Protects the bound for any flood: the burst, plus the trickle over the time that has passed."""
    breaker, now_us, allowed = DeadLetterBreaker(per_s=7.0, burst=50), NOW_US, 0
    for gap_us, letters in flood:
        now_us += gap_us
        one = breaker.allow(letters, now_us)
        assert 0 <= one <= letters
        allowed += one
    first_us = NOW_US + flood[0][0] if flood else NOW_US
    assert allowed <= 50 + 7.0 * (now_us - first_us) / 1e6 + 1e-6
    assert allowed + breaker.held_back == sum(letters for _, letters in flood)
