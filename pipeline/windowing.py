"""Windows: readings go into tumbling steps of event time; steps come out as frames once the watermark is past them.

Legend: E entity slots, R ring positions, C channels, Q channels of aggregator ``rate``, K counter readings kept,
n readings, k rows.

A step's cells lie at ring position ``step % R`` and carry their step number: so no position needs clearing when time
moves on, rows mean the same in another process, and a cell of another step counts as empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.closing import Added, Bounds, Closing, Taken
from pipeline.frames import Aggregator, Frames
from pipeline.held import ReadingColumns
from pipeline.window_cells import CODES, collect_cells, scatter_cells
from pipeline.window_counters import collect_rates, scatter_counters
from pipeline.window_state import NO_STEP, cells, empty_state, heads

# Steps a partition may be ahead of the slowest one, beyond the grace, before its readings are held aside.
_AHEAD_STEPS = 3


class Windows(Closing):
    """Accumulates readings per entity, channel and step, and closes steps in order.

    Guarantees: for readings that come within the grace, frames depend neither on their order nor on batches (sums but
    for rounding). A repetition of the newest reading of a cell changes nothing; a reading of the same time replaces it
    unless its result time is earlier, and takes it away if it says "missing" with a later result time.

    Limits: a repetition or correction of an *older* reading of the step counts as another reading. The newest 16
    readings of a counter in a step are known by time and free of that; before those the order of arrival matters.
    """

    def __init__(
        self,
        aggregators: Sequence[Aggregator],
        step_us: int,
        grace_us: int,
        revise_us: int,
        capacity: int = 64,
        max_open: int | None = None,
        least: Sequence[int] | None = None,
    ) -> None:
        """Start empty.

        Args:
            aggregators: one per channel.
            step_us: length of a step, > 0.
            grace_us: how long after its end, by the watermark, a step stays open.
            revise_us: how long after its closing a step may still change, in whole steps, rounded up.
            capacity: entity slots to make room for at first.
            max_open: steps that can be open at once; readings further ahead are held aside until their step comes.
                None: as many as the grace needs, and 3.
            least: one per channel: of fewer values in a step its value is missing. None: one is enough. A sum of the
                few minutes that are known would look like a fall. Of no effect on rates.
        """
        if step_us <= 0 or grace_us < 0 or revise_us < 0:
            raise ValueError(f"step_us must be > 0, the others >= 0; got {step_us=}, {grace_us=}, {revise_us=}")
        C, revisable = len(aggregators), -(-revise_us // step_us)
        self._aggregators = np.array([CODES[Aggregator(name)] for name in aggregators], np.int8)
        self._least = np.maximum(np.ones(C, np.int64) if least is None else np.array(least, np.int64), 1)
        self._counters = np.flatnonzero(self._aggregators == CODES[Aggregator.RATE])
        open_steps = -(-grace_us // step_us) + 1 + _AHEAD_STEPS if max_open is None else max(1, max_open)
        ring = revisable + open_steps
        state = empty_state(capacity, ring, C, len(self._counters), revisable > 0)
        super().__init__(state, C, step_us, grace_us, revisable, ring)

    def add(
        self,
        slot: NDArray[np.int32],
        channel: NDArray[np.int32],
        time_us: NDArray[np.int64],
        value: NDArray[np.float64],
        learnable: NDArray[np.bool_],
        result_time_us: NDArray[np.int64],
    ) -> Added:
        """Take n readings in, in order of arrival; the state grows to hold their slots.

        Args:
            slot: [n] entity slots.
            channel: [n] channel indexes.
            time_us: [n] end of each reading's interval.
            value: [n] finite, or NaN for a value that is known to be missing.
            learnable: [n] False for suspect readings.
            result_time_us: [n] when the value was made, NO_TIME where unknown.

        Raises:
            IndexError: if a slot is negative or a channel is not one of the C; nothing was taken in then.
        """
        if len(slot) == 0:
            return Added(0)
        # The compiled loop checks no bounds, so a wrong index would write anywhere.
        if slot.min() < 0 or channel.min() < 0 or channel.max() >= len(self._aggregators):
            raise IndexError(f"slots must be >= 0 and channels in 0..{len(self._aggregators) - 1}")
        needed = int(slot.max()) + 1
        if needed > self.state.capacity:
            self.grow(max(needed, 2 * self.state.capacity))
        return self._take(ReadingColumns(slot, channel, time_us, value, learnable, result_time_us))

    # ---- for Closing ----

    def _put(self, readings: ReadingColumns, bounds: Bounds) -> Taken:
        s, r = self.state, readings
        revised = np.full(self._ring, NO_STEP, np.int64)
        ahead = np.empty(len(r.slot), np.int64)
        if len(self._counters):
            lists = (s["counter_time"], s["counter_result"], s["counter_value"], s["carry_time"], s["carry_value"])
            counted = (r.slot, r.channel, r.time_us, r.value, r.result_time_us)
            scatter_counters(heads(s), *lists, self._counters, s["touched"], revised, self.step_us, *bounds, *counted)
        columns = (r.slot, r.channel, r.time_us, r.value, r.learnable, r.result_time_us)
        late, n_ahead, first, newest = scatter_cells(
            cells(s), s["used"], s["touched"], revised, ahead, self.step_us, *bounds, *columns
        )
        steps = sorted(revised[revised != NO_STEP].tolist())
        return Taken(late, ahead[:n_ahead], first, newest, tuple(steps))

    def _collect(self, step: int, rows: NDArray[np.intp]) -> Frames:
        shape, s = (len(rows), len(self._aggregators)), self.state
        values, learn, count = np.empty(shape), np.empty(shape, np.bool_), np.empty(shape, np.int32)
        collect_cells(cells(s), rows, step, self._aggregators, self._least, values, learn, count)
        if len(self._counters):
            lists = (s["counter_time"], s["counter_value"], s["carry_time"], s["carry_value"])
            collect_rates(heads(s), *lists, self._counters, rows, step, values, learn)
        return Frames(step, step * self.step_us, values, learn, count)

    def _reaches_on(self) -> bool:
        return len(self._counters) > 0
