"""Reasons in plain words, from any numbers and names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.explanation import (
    BAND_SPREADS,
    AttentionMoment,
    AttentionSummary,
    ChannelEvidence,
    MemoryNames,
    NearestMoment,
    explain,
    summarise_attention,
)
from models.wording import channel_text, clean, duration_text, lag_text, moment_text, number_text, unit_text

NOW_US = 1_772_582_400_000_000
"""2026-03-04T00:00:00Z."""
HOUR_US = 3_600_000_000
NAN = math.nan
LEFT_LEVEL = "PM2.5 is 50 µg/m³, within its expected 41 to 77, but has left its usual level."


@dataclass(frozen=True)
class MemoryPosition:
    """A place in the network's memory."""

    kind: str
    lag_steps: int = 0
    index: int = 0


def channel(
    name: str, observed: float, share: float, sign: int, lower: float = 41.0, upper: float = 77.0
) -> ChannelEvidence:
    """Return evidence in µg/m³."""
    return ChannelEvidence(name, "ug/m3", observed, (lower + upper) / 2, lower, upper, share, sign)


def test_the_whole_sentence() -> None:
    """Protects the words an operator reads: lead, company, nearest moment and attention, as the issue asks for."""
    channels = [channel("no2", 90.0, 0.22, 1), channel("pm25", 182.0, 0.69, 1), channel("pm10", 99.0, 0.09, 1)]
    summary = AttentionSummary(
        (
            AttentionMoment("recent", "10 min before", None, 0.3, 600.0),
            AttentionMoment("recent", "2 h before", None, 0.3, 7200.0),
            AttentionMoment("lag", "the same hour yesterday", None, 0.35, 86_400.0),
            AttentionMoment("neighbour", "north/b", None, 0.05),
        ),
        NearestMoment(NOW_US - 20 * HOUR_US, 2.0, "pm25"),
    )
    assert explain(channels, summary, NOW_US) == (
        "PM2.5 is 182 µg/m³, expected 41 to 77; NO2 and PM10 rose with it (share 22 %, 9 %). "
        "The nearest moment on record was 3 March 04:00 UTC; it differs most in PM2.5. "
        "The model looked mainly at the last 2 h and the same hour yesterday."
    )


def test_channels_that_went_the_other_way_are_told_apart() -> None:
    """Protects the physics: ozone falls when nitrogen dioxide rises, and that is part of the reason."""
    channels = [channel("no2", 182.0, 0.6, 1), channel("o3", 3.0, 0.3, -1), channel("co", 50.0, 0.06, 0)]
    assert explain(channels, None, NOW_US) == (
        "NO2 is 182 µg/m³, expected 41 to 77; O3 fell (share 30 %), CO changed (share 6 %)."
    )


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (channel("pm25", NAN, 1.0, 0), "PM2.5 is missing."),
        (channel("pm25", 5.0, 1.0, 0, NAN, NAN), "PM2.5 is 5 µg/m³; there is no forecast for it yet."),
        (channel("pm25", 50.0, 1.0, 0), LEFT_LEVEL),
        (channel("pm25", 1e300, 1.0, 1), "PM2.5 is 1e300 µg/m³, expected 41 to 77."),
        (channel("pm25", -math.inf, 1.0, -1), "PM2.5 is -infinite µg/m³, expected 41 to 77."),
    ],
)  # fmt: skip
def test_odd_numbers_have_words(evidence: ChannelEvidence, sentence: str) -> None:
    """Protects the sentence where a number is missing, huge, or inside its band although it was called odd."""
    assert explain([evidence], None, NOW_US, "level") == sentence


def test_without_shares_the_channel_furthest_from_its_band_leads() -> None:
    """Protects detections whose shares are not known: NaN shares are nothing, not everything."""
    channels = [channel("no2", 60.0, NAN, 1), channel("pm25", 182.0, NAN, 1)]
    assert explain(channels, None, NOW_US).startswith("PM2.5 is 182")
    assert explain([], None, NOW_US) == "The pattern of this step is unusual."


ANY = st.floats()
HOSTILE = st.text(max_size=300) | st.sampled_from(
    ["{0.__class__}", "%s%n", "\x1b[31mred", "a\nb", "\u202eevil", "\ud800"]
)
EVIDENCE = st.builds(
    ChannelEvidence, name=HOSTILE, unit=HOSTILE, observed=ANY, expected=ANY, lower=ANY, upper=ANY, share=ANY,
    sign=st.integers(-1, 1),
)  # fmt: skip
MOMENT = st.builds(
    AttentionMoment, kind=st.sampled_from(["recent", "lag", "neighbour", "example"]),
    text=st.sampled_from(["1 h before", "the same hour yesterday"]), time_us=st.none(), weight=ANY, lag_s=ANY,
)  # fmt: skip
SUMMARY = st.builds(
    AttentionSummary,
    moments=st.lists(MOMENT, max_size=5).map(tuple),
    nearest=st.none() | st.builds(NearestMoment, st.integers(-(2**62), 2**62), ANY, HOSTILE),
)


@given(st.lists(EVIDENCE, max_size=4), st.none() | SUMMARY, st.integers(-(2**62), 2**62))
def test_any_numbers_and_names_give_one_clean_line(
    channels: list[ChannelEvidence], summary: AttentionSummary | None, time_us: int
) -> None:
    """Protects terminals, logs and pages: no control characters, bounded length, never an exception."""
    text = explain(channels, summary, time_us)
    assert text
    assert text.isprintable()
    assert len(text) < 1200
    text.encode("utf-8")


def test_names_are_data_and_not_formats() -> None:
    """Protects from injection: braces and percent signs come out as they went in."""
    hostile = ChannelEvidence("{0.__class__}%s", "%d{x}", 1.0, 0.0, -0.5, 0.5, 1.0, 1)
    assert explain([hostile], None, NOW_US) == "{0. class }%s is 1 %d{x}, expected -0.5 to 0.5."


def test_attention_weights_become_moments() -> None:
    """Protects the heat map and the words: heads are averaged, each position gets its time and name."""
    positions = [
        MemoryPosition("recent", 1), MemoryPosition("lag", 144), MemoryPosition("neighbour", index=0),
        MemoryPosition("example", index=1), MemoryPosition("example", index=7),
    ]  # fmt: skip
    weights = np.array([[0.6, 0.1, 0.1, 0.1, 0.1], [0.2, 0.5, 0.1, 0.1, 0.1]])
    names = MemoryNames(["south/b"], [None, NOW_US - HOUR_US])
    moments = summarise_attention(weights, positions, NOW_US, 600.0, names).moments
    assert [m.weight for m in moments] == pytest.approx([0.4, 0.3, 0.1, 0.1, 0.1])
    assert [m.text for m in moments] == [
        "10 min before", "the same hour yesterday", "south/b", "3 March 23:00 UTC", "example 8",
    ]  # fmt: skip
    assert [m.time_us for m in moments[:2]] == [NOW_US - HOUR_US // 6, NOW_US - 24 * HOUR_US]
    strongest = summarise_attention(weights, positions, NOW_US, 600.0).strongest(2)
    assert [m.kind for m in strongest] == ["recent", "lag"]


def test_nan_attention_is_none() -> None:
    """Protects a network that has gone wrong: NaN weights say nothing, and nothing fails."""
    summary = summarise_attention(np.full((2, 1), NAN), [MemoryPosition("recent", 1)], NOW_US, 600.0)
    assert summary.strongest() == []
    assert explain([channel("pm25", 182.0, 1.0, 1)], summary, NOW_US) == "PM2.5 is 182 µg/m³, expected 41 to 77."


def test_the_band_is_the_central_95_percent_of_the_stated_distribution() -> None:
    """Protects the meaning of "expected": 2.7764 units of t with 4 degrees of freedom, of √(2/π) spreads each."""
    assert pytest.approx(2.7764 * 0.797885, rel=1e-5) == BAND_SPREADS


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (1234.0, "1234"), (12345.0, "12340"), (0.00012345, "0.0001234"), (1e-9, "1e-9"),
     (5e-324, "4.941e-324"), (1.7976931348623157e308, "1.798e308"), (99995.0, "100000"), (-41.25, "-41.25")],
)  # fmt: skip
def test_numbers_have_four_digits(value: float, text: str) -> None:
    """Protects readability: four significant digits, plain notation where people read it, never "-0"."""
    assert number_text(value) == text


def test_units_and_channels_are_written_as_people_write_them() -> None:
    """Protects the words: UCUM codes are for machines; what is unknown is shown as it came."""
    assert [unit_text(u) for u in ("Cel", "ug/m3", "1", "", "{person}", "deg", "furlong")] == [
        " °C", " µg/m³", "", "", "", "°", " furlong",
    ]  # fmt: skip
    assert [channel_text(c) for c in ("pm25", "person_count", "\n")] == ["PM2.5", "person count", "unnamed"]
    assert clean("x" * 100) == "x" * 59 + "…"


def test_times_are_spoken_of_as_people_do() -> None:
    """Protects the words for lags, durations and moments at their edges."""
    assert [lag_text(s) for s in (600.0, 86_400.0, 604_800.0, 90_000.0)] == [
        "10 min before", "the same hour yesterday", "the same hour last week", "25 h before",
    ]  # fmt: skip
    assert [duration_text(s) for s in (0.0, 59.0, 60.0, 172_799.0, 172_800.0)] == [
        "0 s",
        "59 s",
        "1 min",
        "48 h",
        "2 days",
    ]
    assert moment_text(NOW_US, NOW_US) == "4 March 00:00 UTC"
    assert moment_text(NOW_US - 90 * 24 * HOUR_US, NOW_US) == "4 December 2025 00:00 UTC"
    assert moment_text(2**62) == "31 December 9999 23:59:59 UTC"
