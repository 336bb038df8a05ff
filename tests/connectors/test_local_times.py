"""Times without an offset, of payloads and of records, mean one thing: both readers agree in every hour of a year.

Zones are chosen for what they do: Kolkata never changes and is half an hour off, Berlin changes by an hour, Lord Howe
Island by half of one, Santiago at midnight, Chatham is three quarters off.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connectors.payload_times import PayloadTimes
from connectors.record_times import RecordTimes
from connectors.refusal import Refusal
from connectors.timestamps import to_us

ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Pacific/Chatham")
BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001  # on the wall, wherever that is


@pytest.mark.parametrize("zone", ZONES)
def test_both_readers_agree_in_every_quarter_of_an_hour_of_a_year(zone: str) -> None:
    """Protects from a station whose readings move when they come by another way; what is refused is refused by both,
    and is exactly what clocks skip and repeat."""
    payloads, records, refused = PayloadTimes(zone=zone), RecordTimes(zone=zone), 0
    times: list[int] = []
    for n in range(365 * 96):
        text = (BEGIN + timedelta(minutes=15 * n)).isoformat(sep=" ")
        of_payload, of_record = payloads.read(text), records.read(text)
        if isinstance(of_payload, Refusal) or isinstance(of_record, Refusal):
            assert isinstance(of_payload, Refusal) and isinstance(of_record, Refusal), text  # noqa: PT018
            refused += 1
            continue
        assert of_payload == of_record, text
        times.append(of_payload)
    assert times == sorted(set(times))
    # An hour skipped and one repeated are eight quarters; Lord Howe's half hours are four.
    assert refused == {"UTC": 0, "Asia/Kolkata": 0, "Australia/Lord_Howe": 4}.get(zone, 8)


@pytest.mark.parametrize(
    ("zone", "wall", "utc"),
    [
        ("Asia/Kolkata", "2026-07-01 05:30", datetime(2026, 7, 1, 0, 0, tzinfo=UTC)),
        ("Europe/Berlin", "2026-03-29 01:59", datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("Europe/Berlin", "2026-03-29 03:00", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("Europe/Berlin", "2026-10-25 03:00", datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
        # Lord Howe is 11 hours ahead in summer and 10:30 in winter; clocks go back at 02:00 on 5 April 2026.
        ("Australia/Lord_Howe", "2026-04-05 01:29", datetime(2026, 4, 4, 14, 29, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-04-05 02:00", datetime(2026, 4, 4, 15, 30, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-10-04 01:59", datetime(2026, 10, 3, 15, 29, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-10-04 02:30", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ],
)
def test_days_on_which_clocks_change(zone: str, wall: str, utc: datetime) -> None:
    """Protects both readers by moments that are worked out from the zones' rules."""
    assert PayloadTimes(zone=zone).read(wall) == to_us(utc)
    assert RecordTimes(zone=zone).read(wall) == to_us(utc)


@pytest.mark.parametrize(
    ("zone", "wall", "earlier", "later"),
    [
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"),
    ],
)
def test_a_time_that_was_twice(zone: str, wall: str, earlier: str, later: str) -> None:
    """Protects the rule: refused unless it is said which is meant, also where clocks go back by half an hour."""
    refused = RecordTimes(zone=zone).read(wall)
    assert isinstance(refused, Refusal)
    assert "twice" in refused.detail
    assert RecordTimes(zone=zone, clock_change="earlier").read(wall) == to_us(datetime.fromisoformat(earlier))
    assert RecordTimes(zone=zone, clock_change="later").read(wall) == to_us(datetime.fromisoformat(later))


def test_a_time_that_never_was() -> None:
    """Protects the half hour that Lord Howe skips in spring, whatever rule is chosen for the other."""
    for rule in ("refuse", "earlier", "later"):
        outcome = RecordTimes(zone="Australia/Lord_Howe", clock_change=rule).read("2026-10-04 02:15")
        assert isinstance(outcome, Refusal)
        assert "never was" in outcome.detail
    assert isinstance(PayloadTimes(zone="Australia/Lord_Howe").read("2026-10-04 02:15"), Refusal)
