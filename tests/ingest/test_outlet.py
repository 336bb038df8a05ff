"""What a source brings goes through its outlet: names, units, repeats, corrections, and only durable is durable."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import RecordBlock
from connectors.decoding import ReadingDecoder
from connectors.errors import ConnectorError, SpoolFull
from connectors.reading import Quality, Reading, Reason, Rejected
from connectors.source import Outlet, Stopping
from connectors.timestamps import LATEST_US
from pipeline.ingest.encoding import MOST_BYTES, MOST_IN_ONE, messages_of
from pipeline.ingest.outlet import Rules
from pipeline.ingest.repeats import Known, Marks, Repeats
from pipeline.ingest.trial import DEAD_LETTERS, READINGS, Trial
from tests.connectors.blocks import block_of

NOW_US = time.time_ns() // 1000


def reading(value: float | None = 12.5, **changed: object) -> Reading:
    fields: dict[str, object] = {
        "entity": "station-7",
        "channel": "pm25",
        "time_us": NOW_US - 60_000_000,
        "value": value,
    }
    return Reading(**{**fields, **changed})  # type: ignore[arg-type]


def test_names_units_and_missing_values_become_canonical(tmp_path: Path) -> None:
    """Protects streams from a provider's spellings: channels as configured, UCUM units, NaN as missing."""
    rules = Rules(READINGS, DEAD_LETTERS, prefix="de/", rename={"PM2.5": "pm25"}, only=frozenset({"pm25"}))
    with Trial(tmp_path, rules=rules) as trial:
        given_ = [
            reading(channel="PM2.5", unit="µg/m³"),
            reading(math.nan, channel="PM2.5", entity="station-8"),
            reading(channel="PM10"),
        ]
        trial.outlet.deliver(given_)
        kept = trial.readings()
        assert [(r.entity, r.channel, r.value, r.unit, r.quality) for r in kept] == [
            ("de/station-7", "pm25", 12.5, "ug/m3", Quality.UNKNOWN),
            ("de/station-8", "pm25", None, "", Quality.MISSING),
        ]
        assert {r.source for r in kept} == {"trial"}
        assert trial.count("left_out") == 1
        assert given_[0].entity == "station-7", "what a source gave stays as it was: it may have to offer it again"


def test_repeats_corrections_and_outdated_versions_are_told_apart(tmp_path: Path) -> None:
    """Protects the stream: the same thing once, a later version through, an earlier version not."""
    with Trial(tmp_path) as trial:
        for value, result in [(1.0, 20), (1.0, 20), (2.0, 30), (3.0, 25), (2.0, 30)]:
            trial.outlet.deliver([reading(value, result_time_us=result)])
        trial.outlet.deliver([reading(5.0, channel="no2"), reading(5.0, channel="no2"), reading(6.0, channel="no2")])
        assert [r.value for r in trial.readings()] == [1.0, 2.0, 5.0, 6.0]
        names = ("readings", "repeats", "corrections", "outdated")
        assert [trial.count(name) for name in names] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (reading(math.inf), "not_finite"),
        (reading(entity=""), "missing_key"),
        (reading(channel="x" * 257), "missing_key"),
        (reading(time_us=-1), "bad_time"),
        (reading(time_us=LATEST_US), "bad_time"),
        (reading(result_time_us=-1), "bad_time"),
        (reading(time_us=NOW_US + 7_200_000_000), "too_far_ahead"),
    ],
)
def test_what_the_daemon_would_refuse_is_a_dead_letter_here(tmp_path: Path, bad: Reading, reason: str) -> None:
    """Protects the topic from what nobody can use; the reading beside it goes through."""
    with Trial(tmp_path) as trial:
        trial.outlet.deliver([bad, reading()])
        assert [r.value for r in trial.readings()] == [12.5]
        [(raw, headers)] = trial.dead_letters()
        assert (headers["vedette-reason"], headers["vedette-source"]) == (reason, "trial")
        assert raw


def test_what_was_not_durable_may_come_again(tmp_path: Path) -> None:
    """Protects against a repeat that is dropped though its first coming was lost: it failed, so it is new."""
    with Trial(tmp_path, max_spool=1) as trial:
        trial.kafka.up = False
        first = trial.outlet.offer([reading()])
        with pytest.raises(SpoolFull):
            first.result(60.0)
        trial.kafka.up = True
        trial.until(lambda: not trial.delivering.notes() or _offered(trial))
        assert [r.value for r in trial.readings()] == [12.5]
        assert trial.count("repeats") == 0


def _offered(trial: Trial) -> bool:
    try:
        trial.outlet.offer([reading()]).result(60.0)
    except SpoolFull:
        return False
    return True


def test_a_cursor_moves_only_with_what_it_stands_for(tmp_path: Path) -> None:
    """Protects resuming: no cursor before its readings, also for a second life while Kafka is away."""
    with Trial(tmp_path) as trial:
        assert trial.outlet.cursor() is None
        trial.outlet.deliver([reading()], cursor="1")
        trial.kafka.up = False
        trial.outlet.deliver([reading(13.0)], cursor="2")
        assert trial.outlet.cursor() == "2"
        assert trial.spooled() == 1
    with Trial(tmp_path) as trial:
        assert trial.outlet.cursor() == "2"
        trial.until(lambda: not trial.spooled())
        assert [r.value for r in trial.readings()] == [13.0]


READING = st.builds(
    Reading,
    entity=st.text(min_size=1, max_size=20),
    channel=st.text(min_size=1, max_size=20),
    time_us=st.integers(0, LATEST_US - 1),
    value=st.none() | st.floats(allow_infinity=False),
    unit=st.text(max_size=10),
    quality=st.sampled_from(Quality),
    result_time_us=st.none() | st.integers(0, LATEST_US - 1),
)


@given(st.lists(READING, max_size=12))
def test_messages_are_read_by_the_daemons_decoder(readings: list[Reading]) -> None:
    """Protects the wire: whatever a source says, lone surrogates included, the decoder takes all of it."""
    decoder = ReadingDecoder()
    messages = messages_of(readings, "air", "city")
    batch = decoder.decode(_block([message.value for message in messages]))
    assert batch.rejected == []
    assert sorted(batch.time_us.tolist()) == sorted(r.time_us for r in readings)
    assert [m.value for m in messages] == [m.value for m in messages_of(readings, "air", "city")], "ids are stable"


def _block(values: list[bytes]) -> RecordBlock:
    return block_of(*values)


def test_an_entitys_readings_travel_together_in_order() -> None:
    """Protects the broker from a message per reading, and from one that is too large."""
    readings = [reading(float(i), time_us=i, entity=f"e{i % 2}") for i in range(2 * MOST_IN_ONE + 2)]
    messages = messages_of(readings, "air", "city")
    assert [message.key for message in messages] == ["e0", "e0", "e1", "e1"]
    values = [one["value"] for message in messages[:2] for one in msgspec.json.decode(message.value + b"")
              if isinstance(one, dict)]  # fmt: skip
    assert values[:3] == [0.0, 2.0, 4.0]


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3), st.floats(0, 2)), max_size=40))
def test_what_is_let_through_is_always_the_newest_version(story: list[tuple[int, int | None, float]]) -> None:
    """Protects corrections: of versions with result times, each that is let through is later than those before."""
    repeats = Repeats(1000)
    newest: dict[int, int] = {}
    for time_us, result_us, value in story:
        marks: Marks = {}
        known = repeats.tell(reading(value, time_us=time_us, result_time_us=result_us), marks)
        repeats.remember(marks)
        if known in (Known.NEW, Known.CORRECTION) and result_us is not None:
            assert result_us > newest.get(time_us, -1)
            newest[time_us] = result_us
        elif result_us is None and known is Known.CORRECTION:
            newest.pop(time_us, None)


def test_memory_of_repeats_is_bounded() -> None:
    """Protects the process: it remembers what it was told to, and forgets the oldest."""
    repeats = Repeats(100)
    for time_us in range(1000):
        marks: Marks = {}
        repeats.tell(reading(time_us=time_us), marks)
        repeats.remember(marks)
    assert repeats.tell(reading(time_us=999), {}) is Known.REPEAT
    assert repeats.tell(reading(time_us=0), {}) is Known.NEW
    assert len(repeats._young) + len(repeats._old) <= 102


def test_what_is_refused_need_not_be_text(tmp_path: Path) -> None:
    """Protects the source from its peer's odd names: what has no UTF-8 becomes a dead letter, not a failure."""
    with Trial(tmp_path) as trial:
        trial.outlet.deliver([reading(math.inf, entity="station-\ud800"), reading(entity="\udfff")])
        assert [r.entity for r in trial.readings()] == ["?"]
        [(_, headers)] = trial.dead_letters()
        assert "\\ud800" in headers["vedette-detail"]


def test_no_message_is_larger_than_brokers_take(tmp_path: Path) -> None:
    """Protects all that waits behind it: long names make several messages, a huge refused record is cut."""
    long_ = [reading(channel=f"{i:05}" + "\x01" * 251, unit="µ" * 64) for i in range(450)]
    huge = Rejected(Reason.INVALID_JSON, "no JSON: " + "ä" * 5000, b"x" * 3_000_000, key=b"k" * 1_000_000)
    with Trial(tmp_path) as trial:
        trial.outlet.deliver(long_, rejected=[huge])
        assert len(trial.readings()) == len(long_)
        [(raw, headers)] = trial.dead_letters()
        assert (raw, headers["vedette-cut"]) == (b"x" * MOST_BYTES, "3000000")
        for message in trial.kafka.messages:
            size = len(message.value) + len(message.key) + sum(len(value) for _, value in message.headers)
            assert size < 600_000


def test_another_quality_is_a_correction(tmp_path: Path) -> None:
    """Protects from values that a provider calls bad afterwards: the word alone, with the same value, is news."""
    with Trial(tmp_path) as trial:
        for quality in (Quality.PROVISIONAL, Quality.PROVISIONAL, Quality.BAD):
            trial.outlet.deliver([reading(quality=quality)])
        assert [r.quality for r in trial.readings()] == [Quality.PROVISIONAL, Quality.BAD]
        assert len({r.id for r in trial.readings()}) == 2


def test_a_clock_that_was_never_set_refuses_nothing(tmp_path: Path) -> None:
    """Protects a machine that boots in 1970: readings are not from the future, its own clock is from the past."""
    with Trial(tmp_path, now_us=lambda: 60_000_000) as trial:
        trial.outlet.deliver([reading()])
        assert len(trial.readings()) == 1


def test_what_had_to_wait_is_counted_once(tmp_path: Path) -> None:
    """Protects the numbers: readings and refusals that found no room at first are counted when they are durable."""
    with Trial(tmp_path, max_spool=1) as trial:
        trial.kafka.up = False
        trial.run(Once([reading()], [Rejected(Reason.EMPTY, "empty", b"")]))
        trial.until(lambda: (trial.registry.get_sample_value("vedette_ingest_spool_full_total") or 0) >= 2)
        assert trial.count("readings") == 0
        trial.kafka.up = True
        trial.until(lambda: trial.ended)
        assert (trial.count("readings"), trial.count("rejected", reason="empty")) == (1, 1)
        assert trial.count("repeats") == 0


def test_a_source_leaves_though_kafka_hangs(tmp_path: Path) -> None:
    """Protects the stop: who waits for readings to be durable is told to leave, and what was offered is kept."""
    with Trial(tmp_path) as trial:
        hanging = threading.Event()

        def hang(messages: object) -> dict[str, ConnectorError]:
            hanging.wait(60.0)
            return {}

        trial.kafka.deliver = hang  # type: ignore[method-assign]
        trial.run(Once([reading()], []))
        trial.until(lambda: trial.delivering._queued_bytes == 0)
        assert trial.stop() < 20.0
        assert isinstance(trial.error, Stopping)
        hanging.set()


class Once:
    """Brings what it has, and ends."""

    def __init__(self, readings: list[Reading], rejected: list[Rejected]) -> None:
        self.readings = readings
        self.rejected = rejected

    def run(self, outlet: Outlet) -> None:
        outlet.deliver(self.readings, rejected=self.rejected)
