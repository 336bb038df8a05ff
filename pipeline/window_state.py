"""What windows remember of an entity: a 64-byte cell per open step and channel, and more for counters.

Legend: R ring positions, C channels, Q counter channels, K counter readings kept by time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectors.reading import NO_TIME
from models.state import RowState

NO_STEP = int(NO_TIME)
"""The step number of an empty cell: below every step."""

COUNTER_DEPTH = 16
"""Counter readings of one step that are kept by time, so that their order of arrival does not matter."""

# The newest reading (by event time) stays apart from the rest, so that a correction replaces it exactly, instead of
# subtracting from a sum (which is wrong after large values) or being impossible (in a minimum).
CELL = np.dtype(
    [
        ("step", np.int64),
        ("last_time", np.int64),
        ("last_result", np.int64),
        ("last", np.float64),  # NaN: it was withdrawn
        ("rest", np.float64),  # sum of the other values
        ("rest_min", np.float64),
        ("rest_max", np.float64),
        ("values", np.int32),  # how many, the newest included
        ("missing", np.uint16),  # readings that say that the value is missing; stays at its maximum
        ("suspects", np.uint8),  # values not to be learned from; likewise
        ("last_suspect", np.uint8),
    ]
)

# A counter's readings older than the newest K are folded into one increase from the first to the last of them.
HEAD = np.dtype(
    [
        ("step", np.int64),
        ("kept", np.int64),  # readings in the lists beside
        ("folded", np.int64),  # readings folded away
        ("first_time", np.int64),
        ("last_time", np.int64),
        ("first_value", np.float64),
        ("last_value", np.float64),
        ("increase", np.float64),
    ]
)


def empty_state(capacity: int, ring: int, channels: int, counters: int, revisable: bool) -> RowState:
    """Return the state of ``capacity`` empty rows. Structures are kept as int64 words: a checkpoint carries plain
    numbers, and the bits survive as they are."""
    published = ring if revisable else 0
    state = RowState(capacity)
    state.add("cells", (ring, channels, 8), np.int64, _empty(CELL))
    state.add("used", (), np.bool_, False)
    state.add("touched", (ring,), np.bool_, False)
    state.add("published_step", (published,), np.int64, NO_STEP)
    state.add("published_value", (published, channels), np.float64, np.nan)
    state.add("published_learn", (published, channels), np.bool_, False)
    state.add("published_count", (published, channels), np.int32, 0)
    state.add("counter_head", (ring, counters, 8), np.int64, _empty(HEAD))
    state.add("counter_time", (ring, counters, COUNTER_DEPTH), np.int64, 0)
    state.add("counter_result", (ring, counters, COUNTER_DEPTH), np.int64, 0)
    state.add("counter_value", (ring, counters, COUNTER_DEPTH), np.float64, 0.0)
    state.add("carry_time", (counters,), np.int64, NO_STEP)
    state.add("carry_value", (counters,), np.float64, 0.0)
    return state


def cells(state: RowState) -> NDArray[np.void]:
    """Return [E, R, C] cells; a view."""
    return state["cells"].view(CELL)[..., 0]


def heads(state: RowState) -> NDArray[np.void]:
    """Return [E, R, Q] heads of the counters' readings; a view."""
    return state["counter_head"].view(HEAD)[..., 0]


def _empty(layout: np.dtype[np.void]) -> NDArray[np.int64]:
    words = np.zeros(1, layout)
    words["step"] = NO_STEP
    return words.view(np.int64)
