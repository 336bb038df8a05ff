"""Novelty of whole states: how far the newest forecast errors, whitened, lie from every state remembered as normal.

The memory is gated: only a state that the level witness finds ordinary is admitted (else the memory learns the anomaly
itself), and it answers only some rows later (else every state resembles the one before). Measured on GECCO.
The nearest remembered state is what an operator is told: "the nearest moment was 3 March 04:00; it differs in NO2".

Legend: E entities, C channels, B blocks of M channels, R representatives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.state import RowState
from models.tails import PARETO, QUARTER_NAT, TAIL_SIZE, clustering, insert, surprise
from models.whitening import JOINT_CHANNELS, factorise, learn_covariance, whiten

REPRESENTATIVES = 128  # with twice as many GECCO falls from .76 to .73 and the search costs twice as much
CLIP = 30.0  # of whitened errors; measured on GECCO, CalIt2 and SKAB
CORRELATION_CLIP = 4.0
DELAY = 10  # rows until an admitted state answers
MOST_REFUSALS = 2_048  # in a row; then the next state is admitted whatever the gate says
GROWTH = 1.3  # of δ when the memory is full
COVARIANCE_GAIN = 1.0 - 0.5 ** (1.0 / 14_400.0)
TAIL_MEMORY = 1e5
LEAST = 40.0
UNGATED = 64  # first states, admitted as they come
SLOW_LEARNING = 0.05
FAR = np.float32(1e12)  # where forgotten states are put, so that no search finds them
NEVER = 1 << 62  # step of admission of an empty place: it never comes to answer


@njit(cache=True, nogil=True, error_model="numpy")
def _whitened(errors: Any, factor: Any, M: int, out: Any) -> bool:
    """Write the whitened errors (float32); return whether any channel is known."""
    C = errors.shape[0]
    z = np.empty(M)
    w = np.empty(M)
    known = False
    for b in range(C // M):
        for i in range(M):
            z[i] = errors[b * M + i]
            known = known or not math.isnan(z[i])
            if not math.isnan(z[i]):
                z[i] = min(max(z[i], -CLIP), CLIP)
        whiten(factor[b], z, w)
        for i in range(M):
            out[b * M + i] = min(max(w[i], -CLIP), CLIP)
    return known


@njit(cache=True, nogil=True, error_model="numpy")
def _search(known: Any, admitted: Any, used: int, step: int, state: Any, squares: Any) -> tuple[int, float]:
    """Return place and squared distance of the nearest state that may answer; −1 when there is none."""
    for r in range(used):
        squares[r] = 0.0
    for c in range(state.shape[0]):  # channel by channel: the inner loop is one vector operation
        for r in range(used):
            difference = known[c, r] - state[c]
            squares[r] += difference * difference
    best, nearest = math.inf, -1
    for r in range(used):
        if squares[r] < best and step - admitted[r] >= DELAY:
            best, nearest = float(squares[r]), r
    return nearest, best


@njit(cache=True, nogil=True, error_model="numpy")
def _most_different(remembered: Any, state: Any) -> int:
    """Return the channel in which two states differ most."""
    most = 0
    for c in range(state.shape[0]):
        if abs(remembered[c] - state[c]) > abs(remembered[most] - state[most]):
            most = c
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _free_place(known: Any, gap: Any, admitted: Any, used: Any, delta: Any, e: int) -> int:
    """Return a place for one more state, thinning the memory where none is left.

    Places are stable: what stays keeps its place, for the network's own memory goes by it.
    """
    if used[e] < known.shape[1]:
        used[e] += 1
        return used[e] - 1
    while True:
        for r in range(known.shape[1]):
            if admitted[r] == NEVER:
                return r
        delta[e] = max(GROWTH * delta[e], 1e-3)
        _thin(known, gap, admitted, delta[e])


@njit(cache=True, nogil=True, error_model="numpy")
def _thin(known: Any, gap: Any, admitted: Any, delta: float) -> None:
    """Forget every state within ``delta`` of one in an earlier place."""
    C, R = known.shape
    for r in range(R):
        for k in range(r):
            distance = np.float32(0.0)
            for c in range(C):
                distance += (known[c, r] - known[c, k]) ** 2
            if distance <= delta * delta:  # forgotten ones are too far away to count here
                gap[k] = min(gap[k], math.sqrt(distance))
                admitted[r] = NEVER
                known[:, r] = FAR * (r + 1)
                break


@njit(cache=True, nogil=True, error_model="numpy")
def _step(n: int, M: int, errors: Any, learn: Any, calm: Any, boundary: float, open_incident: Any, step: int,
          steps: Any, covariance: Any, factor: Any, state: Any, known: Any, gap: Any, admitted: Any, used: Any,
          delta: Any, refusals: Any, nearest: Any, differs: Any, distances: Any, tails: Any, out: Any,
          admit: Any) -> None:
    C = errors.shape[1]
    clipped = np.empty(M)
    squares = np.empty(known.shape[2], np.float32)
    for e in range(n):
        out[e] = 0.0
        admit[e] = -1
        if not _whitened(errors[e], factor[e], M, state[e]):
            continue
        steps[e] += 1
        place, square = _search(known[e], admitted[e], used[e], step, state[e], squares)
        nearest[e] = admitted[e, place] if place >= 0 else -1
        differs[e] = _most_different(known[e, :, place], state[e]) if place >= 0 else -1
        distance = math.sqrt(square) if place >= 0 else 0.0
        distances[e] = distance
        log_statistic = -5.0
        if distance > 0.0:
            log_statistic = max(2.0 * math.log(distance) - math.log(distance + gap[e, place]), -5.0)
        if place >= 0:
            out[e] = surprise(tails[e], log_statistic, PARETO, LEAST)
            if out[e] > 0.0:
                out[e] += clustering(tails[e], log_statistic)
        learned = False
        for c in range(C):
            learned = learned or (learn[e, c] and not math.isnan(errors[e, c]))
        if not learned:
            continue
        young = steps[e] <= UNGATED
        if place >= 0 and steps[e] > UNGATED // 2:
            slow = open_incident[e] or out[e] >= boundary
            insert(tails[e], log_statistic, SLOW_LEARNING if slow else 1.0, QUARTER_NAT, TAIL_MEMORY, PARETO)
        gain = max(1.0 / (steps[e] + 1.0), COVARIANCE_GAIN) * (0.1 if not (calm[e] or young) else 1.0)
        for b in range(C // M):
            for i in range(M):
                clipped[i] = min(max(errors[e, b * M + i], -CORRELATION_CLIP), CORRELATION_CLIP)
                if math.isnan(errors[e, b * M + i]):
                    clipped[i] = math.nan
            learn_covariance(covariance[e, b], clipped, gain, CORRELATION_CLIP)
            if young or steps[e] % 16 == 0:
                factorise(covariance[e, b], factor[e, b])
        if not (calm[e] or young or refusals[e] >= MOST_REFUSALS):
            refusals[e] += 1
            continue
        refusals[e] = 0
        if place >= 0 and distance <= delta[e]:
            gap[e, place] = min(gap[e, place], distance)
            continue
        r = _free_place(known[e], gap[e], admitted[e], used, delta, e)
        known[e, :, r] = state[e]
        gap[e, r] = distance
        admitted[e, r] = step
        admit[e] = r


class StateNovelty:
    """Says how surprising the distance from the nearest remembered state is, and names that state."""

    def __init__(self, capacity: int, channels: int, boundary: float, representatives: int = REPRESENTATIVES) -> None:
        """Make room for ``capacity`` entities; from a surprise of ``boundary`` on little is learned."""
        self._boundary = boundary
        self._block = channels if channels <= JOINT_CHANNELS else 1
        self.state = RowState(capacity)
        C, R, B, add = channels, representatives, channels // self._block, self.state.add
        packed = self._block * (self._block + 1) // 2
        unit = np.zeros(packed)
        unit[np.cumsum(np.arange(1, self._block + 1)) - 1] = 1.0
        add("steps", (), np.int64)
        add("covariance", (B, packed), np.float32, unit)
        add("factor", (B, packed), np.float32, unit)
        add("state", (C,), np.float32)
        add("known", (C, R), np.float32)
        add("gap", (R,), np.float32)
        add("admitted", (R,), np.int64, NEVER)  # the stream's step index
        add("used", (), np.int32)
        add("delta", (), np.float32)
        add("refusals", (), np.int32)
        add("nearest", (), np.int64, -1)
        add("differs", (), np.int32, -1)
        add("distances", (), np.float32)
        add("tails", (TAIL_SIZE,), np.float32)

    def step(
        self,
        errors: NDArray[np.float64],
        learn: NDArray[np.bool_],
        calm: NDArray[np.bool_],
        open_incident: NDArray[np.bool_],
        step: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Score one step, then remember it where that is allowed.

        Args:
            errors: [n, C] forecast errors in spreads; NaN where unknown.
            learn: [n, C] False where the value is scored and not learned.
            calm: [n] True where the level witness finds the step ordinary: the gate.
            open_incident: [n] True where learning is to be slow.
            step: the stream's step index, remembered with the state.

        Returns:
            [n] surprise −ln p >= 0, finite; and [n] the place that this step's state went to, −1 for none.
        """
        s = self.state.arrays
        n = len(errors)
        out, admit = np.empty(n), np.empty(n, np.int32)
        _step(n, self._block, errors, learn, calm, self._boundary, open_incident, step, s["steps"], s["covariance"],
              s["factor"], s["state"], s["known"], s["gap"], s["admitted"], s["used"], s["delta"], s["refusals"],
              s["nearest"], s["differs"], s["distances"], s["tails"], out, admit)
        return out, admit

    def nearest(
        self, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]:
        """Return step index (−1: none), distance and most different channel of the state nearest to the newest one."""
        s = self.state.arrays
        return s["nearest"][rows], s["distances"][rows], s["differs"][rows]
