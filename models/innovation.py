"""The innovation witness: the forecast's error, per channel and sign, each with its own tail (measured on GECCO,
CalIt2 and SKAB).

Separate tails matter: a valve that opens often and closes never is surprising in one direction only.

Legend: E entities, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.scale import bounded
from models.state import RowState
from models.tails import PARETO, QUARTER_NAT, TAIL_SIZE, clustering, insert, surprise

TAIL_MEMORY = 1e5
LEAST = 40.0  # statistics before the first opinion
SLOW_LEARNING = 0.05  # while an incident is open or the score is beyond the boundary
SQUARE_FLOOR = 0.01  # of the statistic; measured on GECCO, CalIt2 and SKAB
SCALELESS = 8  # first errors of a channel, whose spread is not worth dividing by
_MEDIAN = 0.6745  # of |e| over the standard deviation, for a normal law


@njit(cache=True, nogil=True, error_model="numpy")
def scaled_error(value: float, expected: float, spread: float) -> float:
    """Return the forecast error in spreads, within ±1e6; NaN where value or forecast is unknown."""
    error = (bounded(value) - bounded(expected)) / max(spread, 1e-30)
    return min(max(error, -1e6), 1e6) if not math.isnan(error) else math.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _step(n: int, values: Any, learn: Any, expected: Any, spread: Any, boundary: float, open_incident: Any, seen: Any,
          tails: Any, out: Any, errors: Any) -> None:
    for e in range(n):
        for c in range(values.shape[1]):
            out[e, c] = 0.0
            error = scaled_error(values[e, c], expected[e, c], spread[e, c])
            errors[e, c] = error
            if math.isnan(error):
                continue
            seen[e, c] += 1
            if seen[e, c] <= SCALELESS:  # one that is a million would pin its tail's bins far above all that follows
                continue
            for side in range(2):
                size = max(error if side == 0 else -error, 0.0) / _MEDIAN
                log_statistic = math.log(size * size + SQUARE_FLOOR)
                log_p = surprise(tails[e, c, side], log_statistic, PARETO, LEAST)
                if log_p > 0.0:
                    log_p += clustering(tails[e, c, side], log_statistic)
                if learn[e, c]:
                    slow = open_incident[e] or log_p >= boundary
                    insert(tails[e, c, side], log_statistic, SLOW_LEARNING if slow else 1.0, QUARTER_NAT, TAIL_MEMORY,
                           PARETO)
                out[e, c] = max(out[e, c], log_p)


class InnovationWitness:
    """Says how surprising each channel's forecast error is, in the direction that it has."""

    def __init__(self, capacity: int, channels: int, boundary: float) -> None:
        """Make room for ``capacity`` entities; from a surprise of ``boundary`` on little is learned."""
        self._boundary = boundary
        self.state = RowState(capacity)
        self.state.add("seen", (channels,), np.int64)
        self.state.add("tails", (channels, 2, TAIL_SIZE), np.float32)

    def step(
        self,
        values: NDArray[np.float64],
        learn: NDArray[np.bool_],
        expected: NDArray[np.float64],
        spread: NDArray[np.float32],
        open_incident: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score one step, then learn it.

        Args:
            values: [n, C]; NaN where missing.
            learn: [n, C] False where the value is scored and not learned.
            expected: [n, C] forecast made the step before; NaN where there was none.
            spread: [n, C] standard deviation of the forecast's error, > 0.
            open_incident: [n] True where learning is to be slow.

        Returns:
            [n, C] surprise −ln p >= 0 of the larger direction (not corrected for the 2C looks), 0 where unknown and
            for a channel's first errors; and
            [n, C] the errors in spreads, NaN where unknown.
        """
        out, errors = np.empty(values.shape), np.empty(values.shape)
        _step(len(values), values, learn, expected, spread, self._boundary, open_incident, self.state["seen"],
              self.state["tails"], out, errors)
        return out, errors
