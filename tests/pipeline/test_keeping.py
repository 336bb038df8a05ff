"""When checkpoints are written, and that a state is taken up only where it fits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from connectors.base import TopicPartition
from pipeline.checkpointing import CheckpointStore
from pipeline.keeping import Keeper
from pipeline.metrics import Metrics
from tests.pipeline.daemon_parts import TOPIC, Rig, blocks_of, stream_config, wandering

P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


@pytest.fixture(scope="module")
def rig() -> Rig:
    """A daemon that has read some steps of two partitions."""
    made = Rig(blocks_of(wandering(3, 12), 2))
    made.turns(40)
    return made


class Hand:
    """A clock for waiting, by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def keeper(folder: Path | None, clock: Hand, config_hash: str = "a", metrics: Metrics | None = None) -> Keeper:
    """Return a keeper that writes every 60 seconds."""
    store = None if folder is None else CheckpointStore(folder)
    return Keeper(store, {"air": config_hash}, metrics or Metrics(), 60.0, monotonic=clock)


def test_a_new_partition_is_kept_at_once_and_then_in_turn(tmp_path: Path, rig: Rig) -> None:
    """Protects the first minute: what is committed without a checkpoint would lose its open windows at a kill."""
    clock = Hand()
    kept = keeper(tmp_path, clock)
    assert kept.due({P0})
    kept.keep({TOPIC: rig.stream}, {P0: 7})
    assert not kept.due({P0})
    assert kept.due({P0, P1})
    clock.s = 59.0
    assert not kept.due({P0})
    clock.s = 60.0
    assert kept.due({P0})


def test_without_a_store_nothing_is_ever_due(rig: Rig) -> None:
    """Protects benchmarks and embedders that want no checkpoints."""
    kept = keeper(None, Hand())
    assert not kept.due({P0})
    kept.keep({TOPIC: rig.stream}, {P0: 7})
    assert kept.restore(rig.stream, P0) is None


def test_a_partition_comes_back_with_its_entities_and_its_offset(tmp_path: Path, rig: Rig) -> None:
    """Protects the tie between state and offset: each partition brings its own."""
    kept = keeper(tmp_path, Hand())
    kept.keep({TOPIC: rig.stream}, {P0: 7, P1: 9})
    fresh = Rig([]).stream
    assert kept.restore(fresh, P1) == 9
    assert fresh.entities == ["station-1"]
    assert kept.restore(fresh, P0) == 7
    assert sorted(fresh.entities) == ["station-0", "station-1", "station-2"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_kill_between_two_partitions_tears_nothing(tmp_path: Path, restart: bool) -> None:
    """Protects the readings of the partition that was not kept any more: none of its steps may be closed already."""

    class Killed(CheckpointStore):
        """Is killed before it writes the second partition of its second turn."""

        writes = 0

        def write(self, key: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> int:
            self.writes += 1
            if self.writes == 4:
                raise KeyboardInterrupt
            return super().write(key, meta, arrays)

    rig = Rig(blocks_of(wandering(3, 12), 2))
    rig.turns(20)
    times = iter(range(100, 200))
    first = Keeper(Killed(tmp_path), {"air": "a"}, Metrics(), 60.0, now_us=lambda: next(times))
    first.keep({TOPIC: rig.stream}, {P0: 5, P1: 5})
    before = rig.stream.stages.windows.next_step
    rig.turns(20)
    assert rig.stream.stages.windows.next_step != before
    with pytest.raises(KeyboardInterrupt):
        first.keep({TOPIC: rig.stream}, {P0: 9, P1: 9})
    store = CheckpointStore(tmp_path)
    second = Keeper(store, {"air": "a"}, Metrics(), 60.0, now_us=lambda: next(times))
    fresh = Rig([]).stream
    assert [second.restore(fresh, partition) for partition in (P0, P1)] == [5, 5]
    assert fresh.stages.windows.next_step == before
    if restart:
        second.keep({TOPIC: fresh}, {P0: 7, P1: 7})
        third = Keeper(store, {"air": "a"}, Metrics(), 60.0)
        assert [third.restore(Rig([]).stream, partition) for partition in (P0, P1)] == [7, 7]


def test_a_partition_without_another_of_its_age_is_taken_up_all_the_same(tmp_path: Path, rig: Rig) -> None:
    """Protects from a cold start where there is no older checkpoint to go back to."""
    kept = keeper(tmp_path, Hand())
    kept.keep({TOPIC: rig.stream}, {P0: 7, P1: 9})
    shutil.rmtree(tmp_path / "air" / TOPIC / "1")
    assert kept.restore(Rig([]).stream, P0) == 7


def test_a_state_of_another_configuration_is_not_taken_up(tmp_path: Path, rig: Rig) -> None:
    """Protects against state whose channels or step mean something else now: it starts cold instead."""
    keeper(tmp_path, Hand()).keep({TOPIC: rig.stream}, {P0: 7})
    assert stream_config().fingerprint() != stream_config("    model: {hidden: 8}\n").fingerprint()
    fresh = Rig([]).stream
    assert keeper(tmp_path, Hand(), "b").restore(fresh, P0) is None
    assert fresh.entities == []


def test_a_full_disk_is_counted_and_stops_nothing(tmp_path: Path, rig: Rig) -> None:
    """Protects alerting from a disk that cannot be written: it goes on, and the next try waits its turn."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    metrics = Metrics()
    kept = keeper(blocked, Hand(), metrics=metrics)
    kept.keep({TOPIC: rig.stream}, {P0: 7})
    assert metrics.registry.get_sample_value("vedette_checkpoint_errors_total") == 1
    assert not kept.due({P0})
