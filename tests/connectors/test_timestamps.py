"""One text means one moment, on the fast way and on the slow one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import NO_TIME, Reason
from connectors.refusal import Refusal
from connectors.timestamps import LATEST_US, TimeParser, parse, to_text, to_texts, to_us

ODD_TEXTS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A[12][019][0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?"
                  r"(Z|z|[+-][0-2][0-9]:?[0-6][0-9]|)\s?\Z"),
)  # fmt: skip


@given(st.lists(ODD_TEXTS, max_size=8))
def test_together_is_as_one_by_one(texts: list[str]) -> None:
    """Protects against two parsers that disagree: arrow's for columns, msgspec's for single texts."""
    time_us, refused = TimeParser().parse_many(texts)
    for text, stamp in zip(texts, time_us.tolist(), strict=True):
        alone = parse(text)
        if isinstance(alone, Refusal):
            assert stamp == NO_TIME
            assert refused[text] == alone
        else:
            assert stamp == alone


@given(ODD_TEXTS)
def test_a_single_column_text_is_as_alone(text: str) -> None:
    """Protects the fast way, which the lists above seldom take as a whole."""
    time_us, _ = TimeParser().parse_many([text])
    alone = parse(text)
    assert time_us[0] == (NO_TIME if isinstance(alone, Refusal) else alone)


@given(st.integers(0, LATEST_US - 1), st.integers(-14 * 60, 14 * 60))
def test_text_and_back(time_us: int, offset_min: int) -> None:
    """Protects exactness to the microsecond, in any offset."""
    assert parse(to_text(time_us)) == time_us
    assert parse(to_texts(np.array([time_us, 0]))[0]) == time_us
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).astimezone(
        timezone(timedelta(minutes=offset_min))
    )
    assert parse(local.isoformat()) == time_us == to_us(local)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("yesterday", Reason.BAD_TIME),
        ("", Reason.BAD_TIME),
        ("2026-11-21", Reason.BAD_TIME),
        ("2026-02-30T00:00:00Z", Reason.BAD_TIME),
        ("1969-12-31T23:59:59Z", Reason.BAD_TIME),
        ("2200-01-01T00:00:00Z", Reason.BAD_TIME),
        ("0001-01-01T00:00:00+23:59", Reason.BAD_TIME),
        ("9999-12-31T23:59:59.9999999Z", Reason.BAD_TIME),
        ("9" * 1_000_000, Reason.BAD_TIME),
        ("2026-11-21T10:00:00", Reason.NAIVE_TIME),
    ],
)
def test_what_is_no_time_is_refused(text: str, reason: Reason) -> None:
    """Protects the range, and that a time without an offset is never guessed."""
    outcome = parse(text)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == reason
    assert "1970 to 2200" in outcome.detail
    assert TimeParser().parse_many([text])[1] == {text: outcome}


def test_the_cache_is_bounded_and_changes_nothing() -> None:
    """Protects the memory under ever new times, and the results when the cache is emptied."""
    parser = TimeParser(max_cached=10)
    for start in range(0, 100, 4):
        stamps = [(start + i) * 1_000_000 for i in range(8)]
        time_us, refused = parser.parse_many([to_text(stamp) for stamp in stamps])
        assert time_us.tolist() == stamps
        assert not refused
        assert len(parser._cache) <= 10
