"""What a training job learns from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from models.training_memory import MemoryNeed
from models.training_options import TooLittleHistoryError
from pipeline.config import loads
from pipeline.config_streams import StreamConfig
from pipeline.history import FrameArrays
from pipeline.labels import Label, LabelKind
from pipeline.training_data import MARGIN_STEPS, excluded, first_us, held_out_steps, select
from tests.pipeline import training_parts
from tests.pipeline.training_parts import CONFIG, STEP0, STEP_US

SMALL = MemoryNeed(per_step=1.0, per_entity=1.0)
PLENTY = 1e9


def frames(steps: int = 1200, names: tuple[str, ...] = ("a", "b", "c")) -> FrameArrays:
    """Return a history of so many steps."""
    return training_parts.frames(steps, names=names)


def stream(**retrain: object) -> StreamConfig:
    """Return the stream with some of its retraining changed."""
    config = loads(CONFIG, {}).stream("air")
    return config.model_copy(update={"retrain": config.retrain.model_copy(update=retrain)})


def label(kind: LabelKind, first: int, last: int | None, entity: str = "a", until: int | None = None) -> Label:
    """Return a label of an incident from row ``first`` to ``last``, of state that lasts until row ``until``."""

    def us(row: int | None) -> int | None:
        return None if row is None else (STEP0 + row) * STEP_US

    start = us(first)
    assert start is not None
    return Label("l", "i", kind, "", us(until), "me", 0, "air", entity, "anomaly", start, us(last), 2.0)


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        (label(LabelKind.TRUE, 100, 110), 100, 110),
        (label(LabelKind.EXPECTED, 100, 110), 100, 110),
        (label(LabelKind.EXPECTED, 100, 110, until=150), 100, 150),
        (label(LabelKind.EXPECTED, 100, None, until=150), 100, 150),
        (label(LabelKind.TRUE, 100, None), 100, 1199),
        (label(LabelKind.TRUE, -50, 4), 0, 4),
    ],
)
def test_labelled_anomalies_are_left_out_with_a_margin(said: Label, first: int, last: int) -> None:
    """Protects the network from learning that anomalies are normal: from before the first to after the last step."""
    out = excluded(frames(), [said], STEP_US)
    expected = np.zeros(1200, np.bool_)
    expected[max(0, first - MARGIN_STEPS) : last + MARGIN_STEPS + 1] = True
    np.testing.assert_array_equal(out[0], expected)
    assert not out[1:].any()


def test_open_alerts_are_left_out_unless_they_were_false() -> None:
    """Protects both sides: unexplained alerts teach nothing, false alarms are normal data, watches are learned from."""
    arrays = frames()
    arrays.level[0, 50:60] = 2
    arrays.level[1, 50:60] = 2
    arrays.level[2, 50:60] = 1
    out = excluded(arrays, [label(LabelKind.FALSE_ALARM, 50, 59, "b"), label(LabelKind.TRUE, 1, 2, "unknown")], STEP_US)
    assert np.flatnonzero(out[0]).tolist() == list(range(50, 60))
    assert not out[1:].any()


def test_a_true_alarm_within_a_false_one_counts() -> None:
    """Protects against a careless label: what somebody called an anomaly stays out, whoever called its time normal."""
    said = [label(LabelKind.TRUE, 100, 110), label(LabelKind.FALSE_ALARM, 90, 120)]
    assert excluded(frames(), said, STEP_US)[0, 100:111].all()


def test_what_is_left_out_stays_an_input() -> None:
    """Protects the states after an anomaly: its values are seen, but not learned from."""
    arrays = frames()
    data = select(stream(), arrays, [label(LabelKind.TRUE, 100, 110)], SMALL, PLENTY)
    np.testing.assert_array_equal(data.frames.values, arrays.values)
    assert not data.frames.learn[0, 100:111].any()
    assert arrays.learn.all()
    assert data.notes == ("17 steps of entities left out: labelled, or an alert was open",)


def test_the_newest_part_is_held_out() -> None:
    """Protects the judging: the configured share is apart from what is learned from, and in the frames to judge on."""
    data = select(stream(holdout=0.25), frames(), [], SMALL, PLENTY)
    assert data.holdout == 300
    assert data.learned.values.shape == (3, 900, 1)
    assert data.frames.values.shape == (3, 1200, 1)
    assert data.learned.step0 == STEP0
    assert select(stream(holdout=0.0), frames(), [], SMALL, PLENTY).holdout == 64  # fewer cannot be judged on


def test_a_long_history_does_not_keep_its_newest_months_from_being_learned() -> None:
    """Protects from a share of a year that no training ever sees."""
    step = stream().step
    year = round(timedelta(days=365) / step)
    assert held_out_steps(stream(holdout=0.15), year) == round(timedelta(days=14) / step)


@pytest.mark.parametrize(("since_steps", "expected"), [(None, 20_000), (3000, 6000), (10, 1000), (50_000, 20_000)])
def test_after_a_drift_the_history_begins_with_what_it_is_about(since_steps: int | None, expected: int) -> None:
    """Protects from a year of another regime that outweighs the days of the new one."""
    config = stream(history=20_000 * stream().step, least_history=1000)
    last_us = 10**15
    since_us = None if since_steps is None else last_us - since_steps * config.step_us
    assert last_us - first_us(config, last_us, since_us) == expected * config.step_us


def test_who_is_known_is_decided_without_the_newest_part() -> None:
    """Protects from a leak: an entity that only appears in the held-out part is not among those learned from."""
    arrays = frames()
    arrays.values[1, :1020], arrays.learn[1, :1020] = np.nan, False
    data = select(stream(), arrays, [], SMALL, PLENTY)
    assert data.learned.names == ["a", "c"]
    assert data.frames.names == ["a", "b", "c"]
    np.testing.assert_array_equal(data.learned.values, arrays.values[[0, 2], :1020])


def test_too_little_history_is_refused_with_the_numbers() -> None:
    """Protects the first days: what there is, what is asked for, and why it is less than it seems."""
    with pytest.raises(TooLittleHistoryError, match=r"holds 120 steps of 3 entities .*least_history asks for 300"):
        select(stream(), frames(120), [], SMALL, PLENTY)
    everything = [label(LabelKind.TRUE, 0, None, name) for name in "abc"]
    with pytest.raises(TooLittleHistoryError, match=r"holds 0 steps .*3600 steps of entities left out: labelled"):
        select(stream(), frames(), everything, SMALL, PLENTY)
    with pytest.raises(TooLittleHistoryError, match=r"of 100 steps, 64 would be held out; 64 and as many others"):
        select(stream(least_history=50), frames(100), [], SMALL, PLENTY)


def test_only_the_configured_history_is_used() -> None:
    """Protects from the distant past: steps older than retrain.history, and entities gone since, take no part."""
    arrays = frames()
    arrays.values[2, 600:], arrays.learn[2, 600:] = np.nan, False
    data = select(stream(history=timedelta(minutes=4000)), arrays, [], SMALL, PLENTY)
    assert data.frames.names == ["a", "b"]
    assert data.frames.step0 == STEP0 + 800
    np.testing.assert_array_equal(data.frames.values, arrays.values[:2, 800:])


def test_a_history_that_does_not_fit_is_cut_to_its_newest_part() -> None:
    """Protects the machine: memory is reckoned before, and what is left out is said."""
    need = MemoryNeed(per_step=1000.0, per_entity=100_000.0)
    data = select(stream(), frames(), [], need, 3 * 100_000.0 + 3 * 800 * 1000.0)
    assert data.frames.values.shape == (3, 800, 1)
    assert data.frames.step0 == STEP0 + 400
    assert data.notes == ("the newest 800 of 1200 steps are used: more would not fit into memory",)


def test_many_entities_give_way_to_a_long_enough_history() -> None:
    """Protects large streams: a sample that fits is learned from, those with most values, and the labelled are kept."""
    names = tuple(f"e{i:03}" for i in range(200))
    arrays = frames(700, names=names)
    arrays.learn[:100, :400] = False
    need = MemoryNeed(per_step=1000.0, per_entity=1000.0)
    data = select(stream(), arrays, [label(LabelKind.TRUE, 650, 660, "e007")], need, 100 * 601 * 1000.0)
    assert len(data.rows) == 100
    assert data.learned.names == list(names[100:])
    assert data.frames.names == ["e007", *names[100:]]
    assert "100 of 200 entities are learned from" in data.notes[-1]


def test_the_history_itself_is_never_changed() -> None:
    """Protects callers that go on with their arrays."""
    arrays = frames()
    before = replace(arrays, values=arrays.values.copy(), learn=arrays.learn.copy(), level=arrays.level.copy())
    select(stream(), arrays, [label(LabelKind.TRUE, 3, 9)], SMALL, 2e5)
    for name in ("values", "learn", "level"):
        np.testing.assert_array_equal(getattr(arrays, name), getattr(before, name))
