"""Readings of the past, let go at the pace at which they came, or any number of times faster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from connectors.reading import ReadingBatch


def paced(
    batches: Iterator[ReadingBatch], speed: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[ReadingBatch]:
    """Yield the readings when they are due: ``speed`` seconds of event time in a second of ``clock``; 0 is at once.

    Args:
        batches: in time order.
        speed: 1 is as it happened, 3600 an hour a second.
        clock: monotonic, in seconds.
        sleep: called with seconds; what is due afterwards is yielded together.
    """
    if speed <= 0:
        yield from batches
        return
    began_s = clock()
    first_us: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            first_us = int(batch.time_us[0]) if first_us is None else first_us
            due_us = first_us + (clock() - began_s) * speed * 1e6
            stop = int(np.searchsorted(batch.time_us, due_us, side="right"))
            if stop > start:
                part = pick(batch, slice(start, stop))
                yield dataclasses.replace(part, rejected=batch.rejected) if start == 0 else part
                start = stop
            else:
                sleep(max((int(batch.time_us[start]) - due_us) / (speed * 1e6), 1e-3))
        if not len(batch):
            yield batch


def pick(batch: ReadingBatch, rows: slice | NDArray[np.intp]) -> ReadingBatch:
    """Return some readings of a batch, without what it refused."""
    columns = ("entity", "channel", "time_us", "value", "unit", "quality", "result_time_us", "record")
    return dataclasses.replace(batch, rejected=[], **{name: getattr(batch, name)[rows] for name in columns})
