"""The recorder: what goes in comes out again, and what it holds is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.attention import AttentionPosition
from pipeline.incident import AlertMessage, Kind, Phase, incident_id
from pipeline.recording import Recorder
from tests.pipeline.recordings import POSITIONS, StepFrame, StepScores, message

STEP = 600_000_000


def feed(
    recorder: Recorder,
    t: int,
    entities: Sequence[str],
    messages: Sequence[AlertMessage] = (),
    positions: Sequence[AttentionPosition] = (),
) -> NDArray[np.float64]:
    """Record step ``t`` of two channels whose values tell step, entity and channel; return them."""
    n = len(entities)
    values: NDArray[np.float64] = 100.0 * t + np.array([[10.0 * e, 10.0 * e + 1.0] for e in range(n)])
    score = np.full(n, 0.1 * t, np.float32)
    scores = StepScores(
        score, score, np.tile(score[:, None], 3), np.full((n, 2), 0.5, np.float32), np.ones((n, 2), np.int8)
    )
    weights = np.full((n, 2, len(positions)), float(t), np.float32) if positions else None
    recorder.record(
        "air", entities, StepFrame(t * STEP, values), values + 1, np.full((n, 2), 2.0, np.float32), scores,
        np.ones(n, np.int8), messages, weights, positions,
    )  # fmt: skip
    return values


def test_table_gives_back_what_was_recorded() -> None:
    """Protects the report's numbers: observed, expected, band, score and level of each step."""
    recorder = Recorder(band_spreads=3.0)
    values = np.stack([feed(recorder, t, ["a", "b"])[1] for t in range(1, 4)])
    table = recorder.table("air", "b")
    assert table.time_us.tolist() == [STEP, 2 * STEP, 3 * STEP]
    np.testing.assert_allclose(table.observed, values)
    np.testing.assert_allclose(table.expected, values + 1)
    np.testing.assert_allclose(table.upper - table.lower, 2 * 3.0 * 2.0)
    np.testing.assert_allclose(table.score, [0.1, 0.2, 0.3], rtol=1e-6)
    assert table.incident.tolist() == [1, 1, 1]


def test_inputs_are_not_aliased() -> None:
    """Protects the past from a caller that reuses its arrays."""
    recorder = Recorder()
    values = feed(recorder, 1, ["a"])
    values[:] = -1.0
    assert recorder.table("air", "a").observed[0, 0] == 100.0


def test_entities_may_come_later() -> None:
    """Protects streams whose sensors appear one after another: before it was known an entity has NaN and level 0."""
    recorder = Recorder()
    feed(recorder, 1, ["a"])
    feed(recorder, 2, ["a", "b"])
    table = recorder.table("air", "b")
    assert np.isnan(table.observed[0]).all()
    assert table.observed[1, 0] == 210.0
    assert table.incident.tolist() == [0, 1]
    with pytest.raises(KeyError, match="air/c"):
        recorder.table("air", "c")


def test_memory_is_bounded() -> None:
    """Protects long runs: old steps, messages, attention and moments go or are refused when there are too many."""
    recorder = Recorder(max_steps=5, attention_before=3, max_moments=2, max_messages=4)
    for t in range(1, 21):
        feed(recorder, t, ["a"], [message("air", "a", Kind.ANOMALY, t * STEP)], POSITIONS)
    record = recorder.streams["air"]
    assert recorder.table("air", "a").time_us.tolist() == [t * STEP for t in range(16, 21)]
    assert (len(recorder.messages), len(record.moments), len(record.attended)) == (4, 2, 3)


def test_attention_is_kept_around_the_first_message() -> None:
    """Protects the heat map: the steps before the incident spoke, that step, and the ones after; heads averaged."""
    recorder = Recorder(attention_before=3, attention_after=2)
    told = message("air", "a", Kind.ANOMALY, 5 * STEP)
    ended = message("air", "a", Kind.ANOMALY, 6 * STEP, phase=Phase.RESOLVED, opened_us=5 * STEP)
    said = {5: [told], 6: [ended]}
    for t in range(1, 11):
        feed(recorder, t, ["a"], said.get(t, []), POSITIONS)
    moment = recorder.streams["air"].moments[told.incident_id]
    assert moment.time_us == 5 * STEP
    assert moment.attention_us == [t * STEP for t in (3, 4, 5, 6, 7)]
    assert [float(row[0]) for row in moment.attention] == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert moment.attention[0].shape == (len(POSITIONS),)


def test_a_new_network_starts_a_new_map() -> None:
    """Protects the heat map's columns: rows that are about other positions are not put under the old labels."""
    recorder = Recorder(attention_before=4, attention_after=4)
    told = message("air", "a", Kind.ANOMALY, 3 * STEP)
    for t in range(1, 6):
        positions = POSITIONS[:3] if t == 1 else POSITIONS if t < 5 else POSITIONS[:2]
        feed(recorder, t, ["a"], [told] if t == 3 else [], positions)
    assert recorder.streams["air"].moments[told.incident_id].attention_us == [2 * STEP, 3 * STEP, 4 * STEP]


def test_without_a_network_there_is_a_moment_without_attention() -> None:
    """Protects the cold start: shares and witnesses are kept although nothing attends yet."""
    recorder = Recorder()
    feed(recorder, 1, ["a"], [message("air", "a", Kind.ANOMALY, STEP)])
    moment = recorder.streams["air"].moments[incident_id("air", "a", Kind.ANOMALY, STEP)]
    assert moment.attention == []
    assert moment.share.tolist() == [0.5, 0.5]


def test_messages_become_plain_and_finite() -> None:
    """Protects the report's JSON from enums, numpy scalars and NaN inside an explanation."""
    recorder = Recorder()
    recorder.message(message("air", "*", Kind.DATA_QUALITY, STEP, score=float("nan")))
    plain = recorder.messages[0]
    assert plain["score"] is None
    assert (plain["kind"], plain["tier"]) == ("data_quality", 2)
