"""A wide table as history: columns `time` and `entity`, and one for each channel of the stream, in its unit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from connectors.errors import Misconfigured
from connectors.replay import Replay
from connectors.table_mapping import Times, Wide
from pipeline.build import build_stream
from pipeline.config_streams import StreamConfig
from pipeline.history import FrameArrays
from pipeline.retraining import FrameHistory
from pipeline.stream import Stream


def read_table(config: StreamConfig, path: Path) -> FrameArrays:
    """Return the frames of a table; its rows go through screen and windows as live readings would.

    Nothing was open then as far as a table knows: scores and levels are 0.

    Raises:
        Misconfigured: if the file or a column is not there, or nothing in it can be used.
    """
    channels = {c.name: c.name for c in config.channels}
    units = {c.name: c.unit for c in config.channels}
    replay = Replay(path, Wide(time=Times(column="time"), entity="entity", channels=channels, units=units))
    stream = build_stream(config, vocabularies=(replay.entities, replay.channels, replay.units))
    history = FrameHistory()
    for batch in replay.batches():
        readings = stream.screen_batch(batch, None, time.time_ns() // 1000)
        if len(readings.slot) == 0:
            continue
        stream.window(readings, 0, readings.max_time_us)
        _collect(stream, history, readings.max_time_us - 2 * config.step_us)
    _collect(stream, history, stream.stages.windows.last_time_us())
    if len(history) == 0:
        raise Misconfigured(f"{path}: there is not one usable reading in it")
    values, learn, step0 = history.arrays()
    names = stream.entities[: len(values)]
    order = np.argsort(names)  # as the history has them, so that the same readings give the same network
    E, T, _ = values.shape
    score, level = np.zeros((E, T), np.float32), np.zeros((E, T), np.int8)
    return FrameArrays([names[i] for i in order], step0, values[order], learn[order], score, level)


def _collect(stream: Stream, history: FrameHistory, watermark_us: int) -> None:
    while frames := stream.stages.windows.close(watermark_us):
        for each in frames:
            history.add(each, np.zeros(len(each.values), np.bool_))
