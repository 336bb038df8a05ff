"""Protects what a time means: zones, clock changes, formats, and that nothing in a field raises."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import Reason
from connectors.record_times import RecordTimes
from connectors.refusal import Refusal
from connectors.timestamps import to_us

NOON_US = to_us(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({}, "2026-11-20T12:00:00Z"),
        ({}, "2026-11-20T13:00:00+01:00"),
        ({"zone": "Europe/Berlin"}, "2026-11-20 13:00"),
        ({"zone": "Europe/Berlin", "format": "%d.%m.%Y %H:%M"}, "20.11.2026 13:00"),
        ({"format": "%Y%m%d%H%M%z"}, "202611201300+0100"),
        ({"zone": "Asia/Kolkata"}, datetime(2026, 11, 20, 17, 30)),  # noqa: DTZ001
        ({}, datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ({}, NOON_US // 1000),
        ({}, str(NOON_US // 1_000_000)),
        ({"epoch": "s"}, NOON_US / 1e6),
        ({"zone": "UTC", "shift_us": 12 * 3_600_000_000}, date(2026, 11, 20)),
        ({"shift_us": 3_600_000_000}, "2026-11-20T11:00:00Z"),
    ],
)
def test_a_time_is_read_as_it_was_meant(settings: dict[str, object], value: object) -> None:
    """Protects from times that are an hour, or a zone, off."""
    assert RecordTimes(**settings).read(value) == NOON_US  # type: ignore[arg-type]


def test_the_end_of_a_day_is_the_beginning_of_the_next() -> None:
    """Protects the last hour of every day in files that write 24:00."""
    times = RecordTimes(zone="UTC", format="%d.%m.%Y %H:%M")
    assert times.read("30.11.2026 24:00") == to_us(datetime(2026, 12, 1, tzinfo=UTC))
    assert RecordTimes(zone="UTC").read("2026-12-31T24:00:00") == to_us(datetime(2027, 1, 1, tzinfo=UTC))
    assert isinstance(times.read("30.11.2026 24:30"), Refusal)


def test_an_hour_that_was_twice_is_refused_unless_it_is_said_which() -> None:
    """Protects the night in autumn: Berlin's 02:30 of 25 October 2026 was at 00:30 and at 01:30 UTC."""
    text = "2026-10-25 02:30"
    refused = RecordTimes(zone="Europe/Berlin").read(text)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.BAD_TIME
    assert "twice" in refused.detail
    earlier = RecordTimes(zone="Europe/Berlin", clock_change="earlier").read(text)
    later = RecordTimes(zone="Europe/Berlin", clock_change="later").read(text)
    assert earlier == to_us(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    assert later == to_us(datetime(2026, 10, 25, 1, 30, tzinfo=UTC))


@pytest.mark.parametrize("rule", ["refuse", "earlier", "later"])
def test_an_hour_that_never_was_is_always_refused(rule: str) -> None:
    """Protects from readings invented where clocks went forward: Berlin had no 02:30 on 29 March 2026."""
    outcome = RecordTimes(zone="Europe/Berlin", clock_change=rule).read("2026-03-29 02:30")  # type: ignore[arg-type]
    assert isinstance(outcome, Refusal)
    assert "never was" in outcome.detail


def test_a_time_without_offset_needs_a_zone() -> None:
    """Protects from guessing that a station's clock is in UTC."""
    outcome = RecordTimes().read("2026-11-20 12:00")
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.NAIVE_TIME


@given(st.integers(0, 7 * 10**15), st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]))
def test_local_times_come_back(time_us: int, zone: str) -> None:
    """Protects every hour that a zone had once: written there and read again it is the same."""
    from zoneinfo import ZoneInfo

    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).astimezone(ZoneInfo(zone))
    outcomes = [
        RecordTimes(zone=zone, clock_change=rule).read(moment.replace(tzinfo=None).isoformat())
        for rule in ("refuse", "earlier", "later")
    ]  # fmt: skip
    assert outcomes[0] == time_us or isinstance(outcomes[0], Refusal)
    assert time_us in outcomes[1:]


@given(
    st.one_of(st.text(max_size=80), st.integers(), st.floats(), st.none(), st.booleans(), st.datetimes(), st.dates()),
    st.sampled_from([None, "%Y-%m-%d %H:%M", "%d/%m/%y"]),
    st.sampled_from([None, "Europe/Berlin"]),
)
def test_nothing_in_a_field_raises(value: object, form: str | None, zone: str | None) -> None:
    """Protects the source from what people type."""
    outcome = RecordTimes(format=form, zone=zone, shift_us=60_000_000).read(value)
    assert isinstance(outcome, int | Refusal)
