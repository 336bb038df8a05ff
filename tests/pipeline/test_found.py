"""Reckoning found, missed and false: the demo's figures rest on these rules."""

from __future__ import annotations

import pytest

from pipeline.found import Raised, budget_use, reckon
from pipeline.incident import WHOLE_STREAM
from pipeline.planted import Fault, FaultKind

HOUR = 3_600_000_000


def fault(start_h: float = 100, end_h: float = 104, found_by: frozenset[str] = frozenset({"anomaly"})) -> Fault:
    times = [round(h * HOUR) for h in (start_h, end_h, end_h + 1)]
    return Fault("air", "harbour", FaultKind.LEVEL_SHIFT, ("no2",), times[0], times[1], times[2], found_by)


def raised(
    opened_h: float,
    *,
    kind: str = "anomaly",
    entity: str = "harbour",
    stream: str = "air",
    alert: bool = True,
    told_h: float | None = None,
) -> Raised:
    told = () if told_h is None else (round(told_h * HOUR),)
    return Raised(f"{stream}{entity}{kind}{opened_h}", stream, entity, kind, round(opened_h * HOUR), alert, told)


def test_first_counting_incident_finds_the_fault() -> None:
    """Protects the delay: it is that of the first incident of a kind that counts, in event time."""
    late, early, other = raised(103), raised(101), raised(100.5, kind="silence")
    verdict = reckon([late, early, other], [fault()]).verdicts[0]
    assert verdict.by is early
    assert verdict.delay_s == 3600.0


@pytest.mark.parametrize(
    "incident",
    [raised(99.9), raised(105.1), raised(101, kind="silence"), raised(101, entity="market"), raised(101, stream="x")],
    ids=["before", "after tolerance", "other kind", "other entity", "other stream"],
)
def test_what_does_not_count(incident: Raised) -> None:
    """Protects from flattering figures: an incident elsewhere, too early, too late or of another kind is no find."""
    verdict = reckon([incident], [fault()]).verdicts[0]
    assert not verdict.found
    assert verdict.delay_s is None


def test_bounds_count() -> None:
    """Protects the edges: the first faulty step and the last of the tolerance both count."""
    assert reckon([raised(100)], [fault()]).found == 1
    assert reckon([raised(105)], [fault()]).found == 1


def test_a_watch_that_becomes_an_alert_during_the_fault_counts() -> None:
    """Protects growing incidents: opened as a false watch before the fault, it finds the fault by alerting in it."""
    grown = raised(98, told_h=101)
    reckoning = reckon([grown], [fault()])
    assert reckoning.verdicts[0].delay_s == 3600.0


def test_echo_is_neither_find_nor_false() -> None:
    """Protects the false count from return jumps, and from excusing more than twelve hours."""
    echo, beyond = raised(115.9), raised(116.1)
    reckoning = reckon([echo, beyond], [fault()])
    assert reckoning.found == 0
    assert reckoning.false_alerts == (beyond,)


def test_an_incident_about_the_whole_stream_is_about_each_entity() -> None:
    """Protects grouped silences: all stations silent together is one incident and finds each one's gap."""
    whole = raised(101, entity=WHOLE_STREAM)
    reckoning = reckon([whole], [fault()])
    assert reckoning.verdicts[0].by is whole
    assert reckoning.false_alerts == ()


def test_tiers_are_counted_apart() -> None:
    """Protects the budget: it is about alerts; a false watch costs a look, not a night's sleep."""
    alert, watch = raised(10), raised(20, alert=False)
    reckoning = reckon([watch, alert], [fault()])
    assert reckoning.false_alerts == (alert,)
    assert reckoning.false_watches == (watch,)


def test_missed_kinds_and_streams() -> None:
    """Protects the summary's lines: what was missed by kind, and each stream by itself."""
    elsewhere = raised(5, stream="water", entity="branch")
    reckoning = reckon([elsewhere], [fault()])
    assert reckoning.missed_kinds == {"level_shift"}
    assert reckoning.of_stream("water").false_alerts == (elsewhere,)
    assert reckoning.of_stream("air").false_alerts == ()
    assert len(reckoning.of_stream("air").verdicts) == 1


def test_budget_is_per_entity_and_time() -> None:
    """Protects the promise's arithmetic: one per 30 days and entity allows 9 over 45 days on six stations."""
    use = budget_use(12, budget=1.0, period_s=30 * 86_400, entities=6, observed_s=45 * 86_400)
    assert use.promised == 9.0
    assert use.ratio == pytest.approx(12 / 9)
    assert budget_use(0, 1.0, 86_400, 0, 0).ratio == 0.0
    assert budget_use(1, 1.0, 86_400, 0, 0).ratio == float("inf")
