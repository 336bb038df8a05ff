"""A stream's state: everything that it knows of an entity travels with its partition, whatever slot it gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.base import RecordBlock
from connectors.decoding import ReadingDecoder
from models.attention_lstm import export
from models.features import input_width
from pipeline.build import build_stream
from pipeline.incident import AlertMessage, Phase
from pipeline.stream import Stream
from tests.models.networks import network
from tests.pipeline.daemon_parts import (
    START_STEP,
    STEP_US,
    WARMUP_STEPS,
    block_of,
    blocks_of,
    reading,
    stream_config,
    wandering,
)

LATE_CONFIG = "    revise: 10m\n"


class Line:
    """A stream, its decoder, and what it said."""

    def __init__(self, more: str = "", version: str | None = None) -> None:
        self.decoder = ReadingDecoder()
        codes = (self.decoder.entities, self.decoder.channels, self.decoder.units)
        config = stream_config(more)
        self.stream: Stream = build_stream(config, vocabularies=codes, warmup_steps=WARMUP_STEPS)
        self.messages: list[AlertMessage] = []
        self.expected: dict[tuple[int, str], NDArray[np.float64]] = {}
        if version is not None:
            module = network(inputs=input_width(2), channels=2, horizons=2, window=6, neighbours=0)
            self.stream.predictor.adopt(export(module), version, [])
            self.trust()

    def trust(self) -> None:
        """Have the network's corrections used from now on: an untrained one would not be trusted."""
        champion = self.stream.predictor.champion
        assert champion is not None
        champion.trust["linear"][...] = 1e6

    def feed(self, blocks: list[RecordBlock]) -> None:
        """Take blocks the whole way."""
        for block in blocks:
            now_us = int(block.timestamps_ms[0]) * 1000
            readings = self.stream.screen_batch(self.decoder.decode(block), block, now_us)
            self.stream.window(readings, block.partition, now_us)
            for frames in self.stream.closed(now_us):
                expected, _, messages = self.stream.process(frames, now_us)
                self.messages += messages
                for row, values in enumerate(expected.values):
                    self.expected[frames.step, self.stream.entities[row]] = values
            self.messages += self.stream.revise(now_us)

    def moved_to(self, other: Line, partitions: list[int]) -> None:
        """Move partitions as a checkpoint would."""
        for partition in partitions:
            meta, arrays = self.stream.snapshot(partition)
            other.stream.restore(partition, meta, {name: array.copy() for name, array in arrays.items()})


def said(*lines: Line) -> dict[str, dict[str, Any]]:
    """Return what was said, by message; without the wall clock."""
    fields = [f for f in AlertMessage.__dataclass_fields__ if f != "told_us"]
    return {m.id: {f: getattr(m, f) for f in fields} for line in lines for m in line.messages}


def late_blocks() -> list[RecordBlock]:
    """Return readings with a jump that a late correction takes back: the last reading of entity 1 in step 100."""
    values = wandering(4, 130)
    blocks = blocks_of(values, 2)
    spoiled = []
    for block in blocks:
        time_us = int(block.timestamps_ms[0]) * 1000
        records: list[bytes | None] = list(block.values)
        if block.partition == 1 and time_us == (START_STEP + 100) * STEP_US:
            records[0] = reading(1, 0, time_us, 4000.0)
        spoiled.append(block_of(records, block.partition, int(block.offsets[0]), time_us))
        if records != list(block.values):
            right = reading(1, 0, time_us, 40.0)[:-1] + b', "result_time": "2026-01-01T00:00:00Z"}'
            spoiled.append(block_of([right], 1, int(block.next_offset), time_us))
    return spoiled


def test_a_correction_survives_a_restart() -> None:
    """Protects late corrections across a restart: what was forecast then must be known to take an alarm back."""
    whole, first, second = Line(LATE_CONFIG), Line(LATE_CONFIG), Line(LATE_CONFIG)
    blocks = late_blocks()
    whole.feed(blocks)
    cut = next(
        i for i, b in enumerate(blocks) if len(b.values) == 1
    )  # the step is closed, the correction still to come
    first.feed(blocks[:cut])
    first.moved_to(second, [0, 1])
    second.stream.assign(0, int(blocks[cut].timestamps_ms[0]) * 1000)
    second.stream.assign(1, int(blocks[cut].timestamps_ms[0]) * 1000)
    second.feed(blocks[cut:])
    assert any(m.phase is Phase.CORRECTED for m in whole.messages)
    assert said(first, second) == said(whole)


@pytest.mark.parametrize("cut", [21, 200, 201, 333])
def test_a_network_goes_on_where_it_was(cut: int) -> None:
    """Protects the network's memory across a restart: forecasts are those of a stream that never stopped."""
    blocks = blocks_of(wandering(5, 100), 2)
    whole, first, second = Line(version="v1"), Line(version="v1"), Line(version="v1")
    whole.feed(blocks)
    first.feed(blocks[:cut])
    first.moved_to(second, [1, 0])  # so that every entity gets another slot
    second.feed(blocks[cut:])
    together = first.expected | second.expected
    assert together.keys() == whole.expected.keys()
    for at, values in whole.expected.items():
        np.testing.assert_allclose(together[at], values, rtol=1e-5, equal_nan=True)


def test_state_of_another_network_is_left_behind() -> None:
    """Protects forecasts from hidden states that another network's weights made; the linear part goes on."""
    blocks = blocks_of(wandering(3, 60))
    old, new = Line(version="v1"), Line(version="v2")
    old.feed(blocks)
    old.moved_to(new, [0])
    adopted = new.stream.predictor.champion
    assert adopted is not None
    assert not adopted.network.state["h"].any()
    assert not adopted.trusted(3).any()
    for name in ("linear_next", "linear_error"):
        np.testing.assert_array_equal(new.stream.predictor.state[name][:3], old.stream.predictor.state[name][:3])


def test_releasing_a_partition_forgets_its_entities_only() -> None:
    """Protects those who stay in a rebalance: the same forecasts as before, in other slots."""
    blocks = blocks_of(wandering(5, 100), 2)
    whole, line = Line(), Line()
    whole.feed(blocks)
    line.feed(blocks[:100])
    line.stream.release(0)
    assert line.stream.entities == ["station-1", "station-3"]
    line.feed([b for b in blocks[100:] if b.partition == 1])
    mine = {at: values for at, values in line.expected.items() if at[0] > START_STEP + 60}
    assert {name for _, name in mine} == {"station-1", "station-3"}
    for at, values in mine.items():
        np.testing.assert_array_equal(values, whole.expected[at])


def test_everything_known_of_a_partition_is_in_its_snapshot() -> None:
    """Protects against state that a checkpoint forgets: a snapshot of what was restored is the same again."""
    line, other = Line(LATE_CONFIG), Line(LATE_CONFIG)
    line.feed(late_blocks()[:207])
    meta, arrays = line.stream.snapshot(1)
    other.stream.restore(1, meta, arrays)
    meta_again, arrays_again = other.stream.snapshot(1)
    assert meta_again == meta
    assert arrays_again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(arrays_again[name], array, err_msg=name)


def test_event_time_goes_on_after_a_restart_without_data() -> None:
    """Protects silence after a restart: the clock alone closes steps, from where the state had come to."""
    line, other = Line("    idle_timeout: 2m\n"), Line("    idle_timeout: 2m\n")
    blocks = blocks_of(wandering(2, 30))
    line.feed(blocks)
    line.moved_to(other, [0])
    now_us = int(blocks[-1].timestamps_ms[0]) * 1000
    other.stream.assign(0, now_us)
    assert list(other.stream.closed(now_us + 60_000_000)) == []
    closed = list(other.stream.closed(now_us + 5 * 60_000_000))
    assert [frames.step for frames in closed] == [START_STEP + 30 + i for i in range(1, 6)]
