"""The blocked road is found at any seed, not at chosen ones; in memory, without the protocols."""

from __future__ import annotations

import pytest

from pipeline.city_replay import Replayed, main, replayed
from pipeline.city_scene import STREAM, city

_DAYS, _SEEDS = 11, (0, 1, 2)


@pytest.fixture(scope="module")
def found() -> list[Replayed]:
    """Return what is found at each seed."""
    return [replayed(city(_DAYS, seed), seed) for seed in _SEEDS]


def test_the_blocked_road_is_an_alert_within_the_first_hour_at_any_seed(found: list[Replayed]) -> None:
    """Protects the demo from being a demo of one seed."""
    for one in found:
        assert one.alerted
        assert (one.reckoning.verdicts[0].delay_s or 0.0) <= 3600.0


def test_vehicles_and_no2_lead_at_any_seed(found: list[Replayed]) -> None:
    """Protects the explanation: the channels that the event is in, not some other one."""
    for one in found:
        assert one.explained, one.shares
        assert next(iter(one.shares)) == "car"


def test_false_alerts_are_few(found: list[Replayed]) -> None:
    """Protects the other half of the promise: found, and not by crying all the time; twice the budget at most."""
    days, entities = _DAYS - 2, 4  # from the second day on the detector speaks
    false = sum(len(one.reckoning.false_alerts) for one in found)
    assert false <= 2 * len(found) * entities * days / 30


def test_the_same_seed_is_found_the_same(found: list[Replayed]) -> None:
    """Protects comparisons: a changed result comes of a changed program."""
    again = replayed(city(_DAYS, _SEEDS[0]), _SEEDS[0])
    assert again.shares == found[0].shares
    assert again.models[STREAM] == found[0].models[STREAM]


def test_a_line_a_seed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects whoever looks at many seeds."""
    main(["--seeds", "3", "--days", str(_DAYS)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ 3 ")]
    assert len(lines) == 1
    assert "alert" in lines[0]
