"""The loop: what goes in comes out scored, nothing is lost, and a restart is not to be seen in what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectors.base import RecordBlock, TopicPartition
from pipeline.data_quality import DeadLetterBreaker
from pipeline.exit_codes import OK, UNAVAILABLE
from pipeline.incident import Kind, Phase
from pipeline.status import NotReady
from tests.pipeline.daemon_parts import (
    START_STEP,
    STEP_US,
    TOPIC,
    WARMUP_STEPS,
    Rig,
    block_of,
    blocks_of,
    name_of,
    reading,
    said,
    scored,
    stream_config,
    wandering,
)

P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
STEPS = 150
SHIFT = 110
"""The step at which station 1 jumps, after all have warmed up."""


def run_whole(rig: Rig) -> int:
    """Run to the end of the source, as ``vedette run`` would; return the exit code."""
    return rig.daemon.run()


def eventful(partitions: int = 1, entities: int = 4) -> list[RecordBlock]:
    """Return the readings of quiet stations, one of which jumps."""
    return blocks_of(wandering(entities, STEPS, {1: SHIFT}), partitions)


@pytest.fixture(scope="module")
def uninterrupted() -> Rig:
    """One daemon over all of it, one partition."""
    rig = Rig(eventful())
    assert run_whole(rig) == OK
    return rig


def test_the_slower_of_two_topics_is_not_late() -> None:
    """Protects streams with several topics: their partitions of one number are told apart, each with its event time."""
    fast = blocks_of(wandering(2, 40))
    slow = [replace(block, topic="cameras") for block in blocks_of(wandering(2, 40))]
    behind = 7  # half steps
    order = [*fast[:behind], *(block for pair in zip(fast[behind:], slow, strict=False) for block in pair)]
    rig = Rig(order, topics=[TOPIC, "cameras"], config=stream_config("    idle_timeout: 10m\n"))
    assert run_whole(rig) == OK
    assert rig.metrics.registry.get_sample_value("vedette_readings_late_total", {"stream": "air"}) in (None, 0.0)


def test_readings_become_scores_and_alerts(uninterrupted: Rig) -> None:
    """Protects the whole way: every entity is scored at every closed step, and the planted jump is an incident."""
    steps = range(START_STEP + 1, START_STEP + STEPS + 1)
    assert set(scored(uninterrupted)) == {(name_of(e), s) for e in range(4) for s in steps}
    opened = [m for m in uninterrupted.messages() if m.phase is Phase.OPENED]
    anomalies = [m for m in opened if m.kind is Kind.ANOMALY and m.entity == name_of(1)]
    assert anomalies
    assert all(m.first_step >= START_STEP + SHIFT + 1 for m in anomalies)
    assert anomalies[0].opened_us <= (START_STEP + SHIFT + 4) * STEP_US
    assert not any(record["incident"] for record in scored(uninterrupted).values() if record["warming"])


def test_readings_and_frames_are_counted(uninterrupted: Rig) -> None:
    """Protects the metrics that "nothing is lost" is judged by."""
    assert uninterrupted.value("readings_total", stream="air") == STEPS * 2 * 4 * 2
    assert uninterrupted.value("frames_closed_total", stream="air") == STEPS
    assert uninterrupted.value("readings_late_total", stream="air") == 0


def test_a_source_that_ends_is_left_in_order(uninterrupted: Rig) -> None:
    """Protects the end of a run: all is committed, the source was left."""
    assert uninterrupted.committed() == {P0: STEPS * 2 * 4 * 2}
    assert uninterrupted.source.closed


# ---- commits ----


def test_nothing_is_committed_while_a_sink_is_away() -> None:
    """Protects against commit before effects are durable: offsets wait for the sink, and then all of it is there."""
    rig = Rig(eventful(), commit_every_s=0.0)
    rig.turns(5)
    before = rig.committed()
    rig.alerts.available = False
    rig.turns(STEPS)
    assert rig.committed() == before
    assert rig.value("readings_total", stream="air") == 6 * 8  # nothing more is read, so that nothing piles up
    assert rig.metrics.status.reasons() == [NotReady.SOURCE]
    assert rig.metrics.status.alive()
    rig.alerts.available = True
    assert run_whole(rig) == OK
    whole = Rig(eventful())
    run_whole(whole)
    assert said(rig) == said(whole)
    assert rig.committed() == whole.committed()


def test_leaving_with_a_sink_away_is_no_success() -> None:
    """Protects the operator from believing that all was said: exit 69, and the offsets stay."""
    rig = Rig(eventful())
    rig.turns(3)
    rig.alerts.available = False
    rig.daemon.stop()
    assert rig.daemon.run() == UNAVAILABLE
    assert rig.committed() == {}


def test_offsets_follow_within_the_interval() -> None:
    """Protects the bound on what is read again after a kill."""
    rig = Rig(eventful(), commit_every_s=1.0)
    rig.turns(4)  # a quarter of a second each
    assert rig.committed() == {P0: 4 * 8}
    rig.turns(2)
    assert rig.committed() == {P0: 4 * 8}


# ---- a source that is away ----


def test_a_source_that_is_away_is_asked_less_and_less() -> None:
    """Protects a broker that comes back from being hammered, and the probes: not ready, but alive."""
    rig = Rig(eventful(), away_for=7)
    rig.turns(7)
    assert rig.clock.paused == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert NotReady.SOURCE in rig.metrics.status.reasons()
    assert rig.metrics.status.alive()
    rig.turns(1)
    assert rig.metrics.status.reasons() == []
    rig.source.away_for = 1
    rig.turns(1)
    assert rig.clock.paused[-1] == 0.5


def test_an_outage_loses_nothing(uninterrupted: Rig) -> None:
    """Protects the data of an outage in the middle of the run."""
    rig = Rig(eventful())
    rig.turns(130)
    rig.source.away_for = 5
    assert run_whole(rig) == OK
    assert said(rig) == said(uninterrupted)


def test_a_source_that_never_comes_ends_the_start() -> None:
    """Protects whoever restarts us from a daemon that waits for ever: exit 69 after the deadline."""
    rig = Rig(eventful(), away_for=10_000, startup_timeout_s=60.0)
    assert run_whole(rig) == UNAVAILABLE
    assert 60.0 < rig.clock.s < 75.0


# ---- restart ----


def test_stop_drains_and_a_start_goes_on(tmp_path: Path, uninterrupted: Rig) -> None:
    """Protects a planned restart: nothing is read twice, and together the two lives say what one would have said."""
    first = Rig(eventful(), tmp_path)
    first.turns(2 * SHIFT + 3)  # in the middle of a step, with the incident open
    first.daemon.stop()
    assert first.daemon.run() == OK
    assert NotReady.DRAINING in first.metrics.status.reasons()
    committed = first.committed()
    assert committed == {P0: (2 * SHIFT + 3) * 8}
    second = Rig(eventful(), tmp_path, committed=committed)
    assert run_whole(second) == OK
    assert said(first, second) == said(uninterrupted)
    assert scored(first, second) == scored(uninterrupted)
    assert set(said(first)).isdisjoint(said(second))
    assert first.value("readings_total", stream="air") + second.value("readings_total", stream="air") == STEPS * 16


@pytest.mark.parametrize("turns", [2, 7, 2 * WARMUP_STEPS + 1, 2 * SHIFT + 1, 2 * SHIFT + 2, 2 * SHIFT + 20, 299])
def test_a_kill_is_not_to_be_seen_in_what_is_said(tmp_path: Path, uninterrupted: Rig, turns: int) -> None:
    """Protects a restart after a kill: what is read again is scored again to the bit, and said with the same ids."""
    killed = Rig(eventful(), tmp_path, checkpoint_every_s=5.0, commit_every_s=0.0)
    killed.turns(turns)
    second = Rig(eventful(), tmp_path, committed=killed.committed())
    assert run_whole(second) == OK
    assert said(killed, second) == said(uninterrupted)
    assert scored(killed, second) == scored(uninterrupted)


def test_a_kill_with_several_partitions(tmp_path: Path) -> None:
    """Protects restarts over several partitions, whose entities get other slots in the second life."""
    whole = Rig(eventful(2, entities=5))
    assert run_whole(whole) == OK
    assert whole.value("readings_late_total", stream="air") == 0
    killed = Rig(eventful(2, entities=5), tmp_path, checkpoint_every_s=7.0, commit_every_s=0.0)
    killed.turns(4 * SHIFT + 9)
    second = Rig(eventful(2, entities=5), tmp_path, committed=killed.committed())
    assert run_whole(second) == OK
    assert said(killed, second) == said(whole)
    assert scored(killed, second) == scored(whole)


def test_a_lost_checkpoint_starts_cold_from_the_committed_offset(tmp_path: Path) -> None:
    """Protects from reading the whole topic again: without state the daemon goes by the committed offset, and warms."""
    first = Rig(eventful(), tmp_path / "lost")
    first.turns(200)
    first.daemon.stop()
    assert first.daemon.run() == OK
    second = Rig(eventful(), tmp_path / "new", committed=first.committed())
    assert run_whole(second) == OK
    assert second.value("readings_total", stream="air") == STEPS * 16 - first.committed()[P0]
    records = scored(second)
    assert min(step for _, step in records) == START_STEP + 101
    assert all(record["warming"] for record in records.values())


def test_an_idle_partition_is_kept_up_to_date(tmp_path: Path) -> None:
    """Protects a partition that brings nothing after a restart: its state goes on with the clock, and is kept so."""
    values = wandering(4, STEPS)
    gone_ms = (START_STEP + 60) * STEP_US // 1000
    blocks = [b for b in blocks_of(values, 2) if b.partition == 0 or b.timestamps_ms[0] <= gone_ms]
    config = stream_config("    idle_timeout: 2m\n    silence_after: 5m\n")

    def life(turns: int, committed: dict[TopicPartition, int]) -> Rig:
        rig = Rig(blocks, tmp_path, committed=committed, config=config)
        rig.turns(turns)
        rig.daemon.stop()
        assert rig.daemon.run() == OK
        return rig

    first = life(2 * 120 + 10, {})
    second = life(30, first.committed())
    third = life(30, second.committed())
    silent = [m for rig in (first, second, third) for m in rig.messages() if m.kind is Kind.SILENCE]
    assert {m.entity for m in silent} == {name_of(1), name_of(3)}
    assert len({m.incident_id for m in silent if m.phase is Phase.OPENED}) == 2


# ---- partitions ----


def test_a_partition_that_moves_takes_its_entities_along(tmp_path: Path) -> None:
    """Protects a rebalance: who moves goes on where it was, who stays does not notice."""
    blocks = blocks_of(wandering(4, STEPS, {1: SHIFT, 2: SHIFT + 10}), 2)
    whole = Rig(blocks)
    assert run_whole(whole) == OK
    old = Rig(blocks, tmp_path)
    old.turns(4 * (SHIFT + 5) + 1)
    old.source.rebalance({P1}, set())
    old.turns(1)
    assert set(old.stream.entities) == {name_of(0), name_of(2)}
    new = Rig([b for b in blocks if b.partition == 1], tmp_path)
    assert run_whole(new) == OK
    assert set(new.stream.entities) == {name_of(1), name_of(3)}
    assert run_whole(old) == OK
    assert said(old, new) == said(whole)
    assert scored(old, new) == scored(whole)


def test_partitions_that_arrive_one_after_the_other_are_not_late() -> None:
    """Protects a catch-up: the first partition to deliver must not close the steps of the others."""
    blocks = blocks_of(wandering(4, 20), 2)
    ahead = sorted(blocks, key=lambda b: (b.timestamps_ms[0] // 300_000, b.partition))
    rig = Rig(ahead)
    rig.clock.us += 3_600_000_000  # all of it lies in the past
    assert run_whole(rig) == OK
    assert rig.value("readings_late_total", stream="air") == 0
    assert len(scored(rig)) >= 4 * 19


def test_an_empty_partition_holds_nothing_up() -> None:
    """Protects a topic with fewer keys than partitions: event time does not wait for the empty ones."""
    blocks = blocks_of(wandering(2, 10))
    rig = Rig([*blocks, block_of([], 1, 0, STEP_US)])
    rig.turns(10)
    assert rig.value("frames_closed_total", stream="air") >= 4


# ---- what cannot be read ----


def test_dead_letters_carry_what_came_and_why() -> None:
    """Protects whoever has to find the culprit: the raw bytes, the reason and the origin."""
    time_us = START_STEP * STEP_US
    bad = b'{"entity": "station-0", "channel": "pm52", "time": "2026-01-01T00:00:00Z", "value": 1}'
    rig = Rig([block_of([reading(0, 0, time_us, 1.0), b"{oops", bad, None], 0, 70, time_us)])
    assert run_whole(rig) == OK
    letters = {dict(m.headers)["vedette-reason"]: m for m in rig.dead_letters.messages}
    assert set(letters) == {b"invalid_json", b"unknown_channel", b"tombstone"}
    assert letters[b"invalid_json"].value == b"{oops"
    headers = dict(letters[b"unknown_channel"].headers)
    assert letters[b"unknown_channel"].value == bad
    assert headers["vedette-topic"] == TOPIC.encode()
    assert (headers["vedette-partition"], headers["vedette-offset"]) == (b"0", b"72")
    assert b"did you mean 'pm25'" in headers["vedette-detail"]
    assert rig.value("readings_total", stream="air") == 1
    assert rig.value("dead_letters_total", stream="air", reason="unknown_channel") == 1


def test_a_flood_of_dead_letters_is_held_back_and_counted() -> None:
    """Protects the dead-letter topic from a sender gone mad; the metric still counts every one."""
    time_us = START_STEP * STEP_US
    rig = Rig([block_of([b"{"] * 500, 0, 0, time_us)], breaker=DeadLetterBreaker(per_s=1.0, burst=100))
    assert run_whole(rig) == OK
    assert len(rig.dead_letters.messages) == 100
    assert rig.value("dead_letters_total", stream="air", reason="invalid_json") == 500


def test_bad_records_change_nothing_for_the_others(uninterrupted: Rig) -> None:
    """Protects the good readings beside bad ones: scores and alerts are as if the bad ones had never come."""
    rng = np.random.default_rng(5)
    blocks = []
    offset = 0
    for block in eventful():
        records: list[bytes | None] = list(block.values)
        for at in rng.integers(0, len(records) + 1, 3).tolist():
            records.insert(at, [b"", b"{", b'{"channel": 3}', None, b'[{"entity": "a"}]'][int(rng.integers(5))])
        blocks.append(block_of(records, 0, offset, int(block.timestamps_ms[0]) * 1000))
        offset += len(records)
    rig = Rig(blocks)
    assert run_whole(rig) == OK
    assert scored(rig) == scored(uninterrupted)
    assert {m["incident_id"] for m in said(rig).values() if m["kind"] != "data_quality"} == {
        m["incident_id"] for m in said(uninterrupted).values()
    }
