"""Screen: what is let through, in whose codes and units, and what is said of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from connectors.base import RecordBlock
from connectors.reading import NO_TIME, Quality, ReadingBatch, Reason, Vocabulary
from pipeline.screen import Screen

NOW = 1_700_000_000_000_000
HOUR = 3_600_000_000
Row = tuple[str, str, float, str]
FACTORS = {("mg/m3", "ug/m3"): (1000.0, 0.0), ("[degF]", "Cel"): (5 / 9, -160 / 9)}


def convert(from_unit: str, to_unit: str) -> tuple[float, float] | None:
    return (1.0, 0.0) if from_unit in ("", to_unit) else FACTORS.get((from_unit, to_unit))


def make_screen(max_entities: int = 100, strict_units: bool = True, max_names: int = 1_000) -> Screen:
    entities, channels, units = (Vocabulary(max_size=max_names) for _ in range(3))
    return Screen(
        ["pm25", "temperature"],
        ["ug/m3", "Cel"],
        entities,
        channels,
        units,
        convert,
        max_ahead_us=HOUR,
        max_entities=max_entities,
        strict_units=strict_units,
        capacity=2,
    )


def batch_of(
    screen: Screen,
    rows: list[Row],
    times: list[int] | None = None,
    quality: Quality = Quality.GOOD,
    records: list[int] | None = None,
    partition: int = 3,
) -> ReadingBatch:
    entities, channels, units = screen.vocabularies
    n = len(rows)
    return ReadingBatch(
        np.array([entities.code(r[0]) for r in rows], np.int32),
        np.array([channels.code(r[1]) for r in rows], np.int32),
        np.array(times if times is not None else [NOW] * n, np.int64),
        np.array([r[2] for r in rows], np.float64),
        np.array([units.code(r[3]) for r in rows], np.int32),
        np.full(n, quality, np.int8),
        np.full(n, NO_TIME, np.int64),
        np.array(records if records is not None else list(range(n)), np.int32),
        topic="air",
        partition=partition,
    )


def block_of(n: int) -> RecordBlock:
    values = [f"record {i}".encode() for i in range(n)]
    keys = [f"key {i}".encode() for i in range(n)]
    offsets = np.arange(100, 100 + n)
    return RecordBlock("air", 3, values, offsets, np.zeros(n, np.int64), 100 + n, keys)


def test_good_readings_come_in_the_streams_codes_and_units() -> None:
    """Protects the windows from a decoder's codes and from foreign units."""
    screen = make_screen()
    screen.vocabularies[0].code("another stream's")
    rows = [("b", "temperature", 50.0, "[degF]"), ("a", "pm25", 0.02, "mg/m3"), ("b", "pm25", 7.0, "")]
    screened = screen.screen(batch_of(screen, rows, [NOW, NOW + HOUR, NOW - 9]), block_of(3), NOW)
    assert screened.rejected == []
    assert screen.entities == ["b", "a"]
    assert screened.slot.tolist() == [0, 1, 0]
    assert screened.channel.tolist() == [1, 0, 0]
    assert screened.value == pytest.approx([10.0, 20.0, 7.0])
    assert screened.learnable.all()
    assert screened.max_time_us == NOW + HOUR


def test_an_empty_batch_passes() -> None:
    """Protects the loop from a block of nothing but refused records."""
    screened = make_screen().screen(batch_of(make_screen(), []), None, NOW)
    assert len(screened.slot) == 0
    assert screened.max_time_us == NO_TIME


def test_state_knows_partition_and_newest_time() -> None:
    """Protects checkpoints, which slice by partition, and silence, which asks for the newest time."""
    screen = make_screen()
    rows = [("a", "pm25", 1.0, ""), ("b", "pm25", 1.0, ""), ("a", "pm25", 1.0, "")]
    screen.screen(batch_of(screen, rows, [NOW, NOW - 5, NOW - 7], partition=3), None, NOW)
    screen.screen(batch_of(screen, [("c", "pm25", 1.0, "")], partition=4), None, NOW)
    assert screen.rows_of(3).tolist() == [0, 1]
    assert screen.rows_of(4).tolist() == [2]
    assert screen.state["last_time_us"][:3].tolist() == [NOW, NOW - 5, NOW]


def test_unknown_channels_are_refused_with_the_nearest_name() -> None:
    """Protects the person who mistyped a channel from guessing which one is meant."""
    screen = make_screen()
    rows = [("a", "pm2.5", 1.0, ""), ("a", "pm25", 2.0, ""), ("a", "xyz", 3.0, "")]
    screened = screen.screen(batch_of(screen, rows), block_of(3), NOW)
    assert screened.value.tolist() == [2.0]
    first, second = screened.rejected
    assert first.reason is second.reason is Reason.UNKNOWN_CHANNEL
    assert first.detail == "channel 'pm2.5' of entity 'a' is not configured; did you mean 'pm25'?"
    assert second.detail == "channel 'xyz' of entity 'a' is not configured; known: pm25, temperature"


def test_a_refusal_carries_the_record_and_its_origin() -> None:
    """Protects dead letters from losing what a person needs to find and repair the sender."""
    screen = make_screen()
    rows = [("a", "pm25", 1.0, ""), ("a", "pm25", 1.0, "furlong")]
    (refused,) = screen.screen(batch_of(screen, rows), block_of(2), NOW).rejected
    assert refused.reason is Reason.UNIT_MISMATCH
    assert refused.detail == "unit 'furlong' of entity 'a', channel 'pm25', does not convert to 'ug/m3'"
    assert (refused.raw, refused.key) == (b"record 1", b"key 1")
    assert (refused.topic, refused.partition, refused.offset) == ("air", 3, 101)


def test_a_record_is_refused_once_per_reason_and_its_good_readings_pass() -> None:
    """Protects the dead-letter topic from a thousand copies of one list, and the list's good readings from its bad."""
    screen = make_screen()
    channels = [("pm25", ""), ("x", ""), ("y", ""), ("pm25", "s"), ("x", "")]
    rows = [("a", channel, 1.0, unit) for channel, unit in channels]
    screened = screen.screen(batch_of(screen, rows, records=[0, 0, 0, 0, 1]), block_of(2), NOW)
    assert len(screened.slot) == 1
    assert [(r.reason, r.raw) for r in screened.rejected] == [
        (Reason.UNKNOWN_CHANNEL, b"record 0"),
        (Reason.UNIT_MISMATCH, b"record 0"),
        (Reason.UNKNOWN_CHANNEL, b"record 1"),
    ]
    assert screened.rejected[0].detail.endswith("(and 1 more in this record)")


def test_absurd_times_are_refused_and_do_not_move_time() -> None:
    """Protects the watermark from one sensor with a wrong clock."""
    screen = make_screen()
    rows = [("a", "pm25", 1.0, ""), ("b", "pm25", 1.0, "")]
    screened = screen.screen(batch_of(screen, rows, [NOW + HOUR, NOW + HOUR + 2_000_000]), block_of(2), NOW)
    assert screened.max_time_us == NOW + HOUR
    assert screen.entities == ["a"], "a refused reading gives nobody a slot"
    (refused,) = screened.rejected
    assert refused.reason is Reason.TOO_FAR_AHEAD
    assert refused.detail == "time of entity 'b', channel 'pm25', is 3602 s ahead of now; allowed: 3600 s"


def test_entities_are_bounded() -> None:
    """Protects the memory from names that never end; entities already let in go on."""
    screen = make_screen(max_entities=2)
    rows = [(name, "pm25", 1.0, "") for name in "abcab"]
    screened = screen.screen(batch_of(screen, rows), block_of(5), NOW)
    assert screened.slot.tolist() == [0, 1, 0, 1]
    (refused,) = screened.rejected
    assert refused.reason is Reason.TOO_MANY_ENTITIES
    assert refused.detail == "entity 'c' would be one more than the 2 that max_entities allows"


def test_a_full_vocabulary_refuses_by_its_code() -> None:
    """Protects against code -1, which plain indexing would take for the last known name."""
    screen = make_screen(max_names=2)
    screen.screen(batch_of(screen, [("a", "pm25", 1.0, "ug/m3"), ("b", "temperature", 1.0, "Cel")]), None, NOW)
    rows = [("c", "pm25", 1.0, "ug/m3"), ("a", "new", 1.0, "Cel"), ("a", "pm25", 1.0, "new")]
    screened = screen.screen(batch_of(screen, rows), block_of(3), NOW)
    assert [r.reason for r in screened.rejected] == [
        Reason.TOO_MANY_ENTITIES,
        Reason.UNKNOWN_CHANNEL,
        Reason.UNIT_MISMATCH,
    ]
    assert len(screened.slot) == 0


def test_vocabularies_may_grow_between_batches() -> None:
    """Protects the lookup tables from falling behind the decoder."""
    screen = make_screen()
    for i in range(50):
        e = f"e{i}"
        rows: list[Row] = [(e, "pm25", 1.0, "mg/m3"), (e, f"c{i}", 1.0, ""), (e, "pm25", 1.0, f"u{i}")]
        screened = screen.screen(batch_of(screen, rows), None, NOW)
        assert screened.slot.tolist() == [i]
        assert screened.value.tolist() == [1000.0]
        assert [r.reason for r in screened.rejected] == [Reason.UNKNOWN_CHANNEL, Reason.UNIT_MISMATCH]
    assert screen.state.capacity >= 50


def test_units_may_be_taken_as_they_are() -> None:
    """Protects streams that are set to trust their senders' numbers."""
    screen = make_screen(strict_units=False)
    rows = [("a", "pm25", 1.5, "furlong"), ("a", "pm25", 1.5, "mg/m3")]
    assert screen.screen(batch_of(screen, rows), None, NOW).value.tolist() == [1.5, 1500.0]


def test_values_that_overflow_in_the_channels_unit_are_refused() -> None:
    """Protects everything behind the screen, which relies on finite values."""
    screen = make_screen()
    screened = screen.screen(batch_of(screen, [("a", "pm25", 1e307, "mg/m3")]), block_of(1), NOW)
    (refused,) = screened.rejected
    assert refused.reason is Reason.NOT_FINITE
    assert refused.detail == "1e+307 'mg/m3' of entity 'a', channel 'pm25', is no finite number in 'ug/m3'"


@pytest.mark.parametrize(
    ("quality", "scored", "learned"),
    [
        (Quality.GOOD, True, True),
        (Quality.PROVISIONAL, True, True),
        (Quality.ESTIMATED, True, True),
        (Quality.UNKNOWN, True, True),
        (Quality.SUSPECT, True, False),
        (Quality.BAD, False, False),
        (Quality.MISSING, False, False),
    ],
)
def test_quality_decides_what_is_scored_and_learned(quality: Quality, scored: bool, learned: bool) -> None:
    """Protects the models from learning what the sender itself doubts."""
    screen = make_screen()
    screened = screen.screen(batch_of(screen, [("a", "pm25", 1.0, "")], quality=quality), None, NOW)
    assert np.isfinite(screened.value[0]) == scored
    assert screened.learnable[0] == learned


def test_a_missing_value_is_no_unit_mismatch() -> None:
    """Protects known gaps from being refused because NaN has failed a comparison."""
    screen = make_screen()
    screened = screen.screen(batch_of(screen, [("a", "pm25", np.nan, "mg/m3")]), None, NOW)
    assert screened.rejected == []
    assert np.isnan(screened.value[0])
    assert not screened.learnable[0]


def test_the_batch_is_left_as_it_was() -> None:
    """Protects other streams that screen the same batch."""
    screen = make_screen()
    batch = batch_of(screen, [("a", "pm25", 1.0, "mg/m3"), ("a", "x", 1.0, "")], quality=Quality.BAD)
    before = batch.value.copy()
    screen.screen(batch, None, NOW)
    np.testing.assert_array_equal(batch.value, before)


def test_entities_of_a_checkpoint_get_their_slots_back() -> None:
    """Protects restored rows from being given to other names, also beyond ``max_entities``."""
    screen = make_screen(max_entities=2)
    screen.screen(batch_of(screen, [("b", "pm25", 1.0, "")], partition=1), None, NOW)
    slots = screen.restore_entities(["c", "b", "a"], [5, 6, 7])
    assert slots.tolist() == [1, 0, 2]
    assert screen.entities == ["b", "c", "a"]
    assert screen.state["partition"][:3].tolist() == [6, 5, 7]
    screened = screen.screen(batch_of(screen, [("a", "pm25", 1.0, ""), ("c", "pm25", 1.0, "")]), None, NOW)
    assert screened.slot.tolist() == [2, 1]


def test_a_cleared_screen_starts_anew() -> None:
    """Protects slots from being given twice after partitions were released."""
    screen = make_screen()
    screen.screen(batch_of(screen, [("a", "pm25", 1.0, ""), ("b", "pm25", 1.0, "")]), None, NOW)
    screen.clear()
    assert screen.entities == []
    assert len(screen.rows_of(3)) == 0
    screened = screen.screen(batch_of(screen, [("b", "pm25", 1.0, "")]), None, NOW)
    assert screened.slot.tolist() == [0]
    assert screen.entities == ["b"]


def test_channels_need_units() -> None:
    """Protects from a configuration of which half was lost."""
    with pytest.raises(ValueError, match="2 channels, but 1 units"):
        Screen(["a", "b"], [""], Vocabulary(), Vocabulary(), Vocabulary(), convert, HOUR, 10)
