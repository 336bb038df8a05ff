"""What is sent: score records without NaN, refusals with their origin, and all of it durable or none forgotten."""

from __future__ import annotations

import json

import pytest

from connectors.errors import SinkUnavailable
from connectors.memory import MemorySink
from connectors.reading import Reason, Rejected
from pipeline.data_quality import DeadLetterBreaker
from pipeline.outputs import Outputs
from tests.pipeline.daemon_parts import START_STEP, STEP_US, Rig, block_of, blocks_of, reading, wandering

REFUSED = Rejected(Reason.BAD_TIME, "no time: 'ü'", b"\xff{", "air", 3, 41, b"k\xff")


def test_score_records_have_null_where_nothing_is_known() -> None:
    """Protects readers of the scores: JSON has no NaN, and a first frame has no forecast."""
    time_us = (START_STEP + 1) * STEP_US
    rig = Rig([block_of([reading(0, 0, time_us, 5.0)], 0, 0, time_us)])
    assert rig.daemon.run() == 0
    (message,) = rig.scores.messages
    record = json.loads(message.value, parse_constant=pytest.fail)
    assert message.key == record["entity"] == "station-0"
    assert (record["step"], record["time_us"], record["warming"]) == (START_STEP + 1, time_us, True)
    assert record["observed"] == {"pm25": 5.0, "no2": None}
    assert record["expected"] == {"pm25": None, "no2": None}


def test_entities_without_a_reading_have_no_score_record() -> None:
    """Protects the topic of scores from records about steps in which nothing was measured."""
    values = wandering(2, 4)
    blocks = [b for b in blocks_of(values, 2) if b.partition == 0 or b.offsets[0] < 2]
    rig = Rig(blocks)
    rig.clock.us += 3_600_000_000
    rig.daemon.run()
    rig.daemon.finish()
    rig.daemon.outputs.flush()
    by_entity = [json.loads(m.value)["entity"] for m in rig.scores.messages]
    assert by_entity.count("station-0") == 4
    assert by_entity.count("station-1") == 1


def test_refusals_carry_bytes_that_are_no_text() -> None:
    """Protects dead letters of any bytes, in value and key alike."""
    letters = MemorySink()
    outputs = Outputs(dead_letters=[letters])
    outputs.dead_letters([REFUSED], 0)
    outputs.flush()
    (message,) = letters.messages
    assert message.value == b"\xff{"
    assert message.key == "k\N{REPLACEMENT CHARACTER}"
    assert dict(message.headers) == {
        "vedette-reason": b"bad_time",
        "vedette-detail": "no time: 'ü'".encode(),
        "vedette-topic": b"air",
        "vedette-partition": b"3",
        "vedette-offset": b"41",
    }


def test_a_flood_keeps_its_first_letters() -> None:
    """Protects the evidence: what is held back is the rest of a flood, and time lets new letters through."""
    letters = MemorySink()
    outputs = Outputs(dead_letters=[letters], breaker=DeadLetterBreaker(per_s=2.0, burst=3))
    outputs.dead_letters([REFUSED] * 10, 0)
    outputs.dead_letters([REFUSED], 400_000)
    outputs.dead_letters([REFUSED], 1_000_000)
    outputs.flush()
    assert len(letters.messages) == 4


def test_a_flush_that_fails_forgets_nothing() -> None:
    """Protects what the other sinks hold while one is away."""
    alerts, letters = MemorySink(), MemorySink()
    outputs = Outputs(alerts=[alerts], dead_letters=[letters])
    letters.available = False
    outputs.dead_letters([REFUSED], 0)
    with pytest.raises(SinkUnavailable):
        outputs.flush()
    letters.available = True
    outputs.flush()
    assert len(letters.messages) == 1
