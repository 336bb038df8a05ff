"""What operators may say about an incident, and what they are told where they may not."""

from __future__ import annotations

import pytest

from pipeline.label_request import LabelRequest, label_request, until_us
from pipeline.labels import LabelKind
from tests.pipeline.alert_parts import START_US

DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("label", "reason", "until", "expected"),
    [
        ("true", "", None, LabelRequest("id", LabelKind.TRUE, "", None, "kim")),
        ("false-alarm", " fog ", None, LabelRequest("id", LabelKind.FALSE_ALARM, "fog", None, "kim")),
        ("False alarm", "", "1d", LabelRequest("id", LabelKind.FALSE_ALARM, "", START_US + DAY_US, "kim")),
        ("expected", "fair", "3d", LabelRequest("id", LabelKind.EXPECTED, "fair", START_US + 3 * DAY_US, "kim")),
        ("none", "", None, LabelRequest("id", None, "", None, "kim")),
    ],
)
def test_what_may_be_said(label: str, reason: str, until: str | None, expected: LabelRequest) -> None:
    """Protects each of the four words."""
    assert label_request("id", label, reason, until, " kim ", START_US) == expected


@pytest.mark.parametrize(
    ("label", "reason", "until", "author", "said"),
    [
        ("wrong", "", None, "kim", '"wrong" is no label; allowed: true, false_alarm, expected, none'),
        ("expected", " ", "3d", "kim", "expected needs a reason"),
        ("expected", "fair", None, "kim", "expected needs an end"),
        ("true", "", "3d", "kim", "true has no end"),
        ("none", "", "3d", "kim", "none has no end"),
        ("false_alarm", "", "soon", "kim", '"soon" is no time'),
        ("false_alarm", "", "2026-03-01", "kim", "the end 2026-03-01T00:00:00Z is over already"),
        ("false_alarm", "x" * 2_001, None, "kim", "too long"),
        ("false_alarm", "", None, " ", "an author is needed"),
    ],
)
def test_what_may_not_is_explained(label: str, reason: str, until: str | None, author: str, said: str) -> None:
    """Protects operators from guessing."""
    with pytest.raises(ValueError, match=said):
        label_request("id", label, reason, until, author, START_US)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-03-03", DAY_US),
        ("2026-03-03T00:00:00Z", DAY_US),
        ("2026-03-03T02:00:00+02:00", DAY_US),
        ("36h", 36 * DAY_US // 24),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999 - START_US),
    ],
)
def test_an_end_is_a_time_or_a_duration(text: str, us: int) -> None:
    """Protects ends from time zones: what names none is UTC."""
    assert until_us(text, START_US) == START_US + us
