"""The compiled loops of the streaming attention-LSTM.

They take H and W at run time: as constants LLVM unrolls instead of vectorising. ``error_model="numpy"`` for
the same reason: a check for division by zero stops vectorisation.

Legend: E entity slots, b entities of a batch, D embedding, H hidden, A heads, W window, L lags, K neighbours,
R representatives, M = W + L + K + R.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from models.streaming_tiles import TILE, add_context, add_scores

NOTHING = np.float32(-1e30)  # score of a memory that is not there; finite, for the loops below assume finite numbers
NEGLIGIBLE = np.float32(1e-20)  # weight of a memory that need not be fetched
# States and weights are finite by construction (inputs are checked when they are packed), so these are safe here.
FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "reassoc", "afn"}
F32 = np.float32
ZERO, ONE, TWO = F32(0.0), F32(1.0), F32(2.0)


@intrinsic
def _bits_to_float(context: Any, bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _wide(context: Any, value: Any) -> Any:
    """A stored number as float32: itself, or the upper half of its bits (bfloat16)."""
    half = value == types.uint16

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if not half:
            return args[0]
        upper = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(upper, ir.FloatType())

    return types.float32(value), generate


@intrinsic
def _like(context: Any, value: Any, stored: Any) -> Any:
    """A float32 in the type of ``stored``; to bfloat16 by rounding half up (|h| < 1, so it cannot overflow)."""
    half = stored == types.uint16

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if not half:
            return args[0]
        word = ir.IntType(32)
        rounded = builder.add(builder.bitcast(args[0], word), ir.Constant(word, 0x8000))
        return builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), ir.IntType(16))

    return stored(types.float32, stored), generate


@njit(inline="always")
def _exp(x: Any) -> Any:
    """e^x to 2e-7 relative: 2^k·2^f, 2^f for |f| <= 1/2 by a Chebyshev fit of degree 5."""
    y = min(max(x, F32(-87.0)), F32(88.0)) * F32(1.4426950408889634)
    k = np.floor(y + F32(0.5))
    f = y - k
    p = F32(0.0013266970636) * f + F32(0.0096754599363)
    p = p * f + F32(0.0555074252188)
    p = p * f + F32(0.2402212172747)
    p = p * f + F32(0.6931469440460)
    p = p * f + F32(1.0000001192093)
    return p * _bits_to_float(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))


@njit(inline="always")
def _tanh(x: Any) -> Any:
    return ONE - TWO / (_exp(TWO * x) + ONE)


@njit(cache=True, nogil=True, error_model="numpy")
def pack(inputs: Any, embedding: Any, ids: Any, hidden: Any, first: int, packed: Any) -> None:
    """Write [x, embedding, h] of a batch; what is not finite counts as missing, which is 0."""
    width, D, H = inputs.shape[1], embedding.shape[1], hidden.shape[1]
    for b in range(packed.shape[0]):
        e = first + b
        for i in range(width):
            x = inputs[e, i]
            packed[b, i] = x if abs(x) <= F32(1e6) else ZERO
        v = ids[e] if 0 <= ids[e] < embedding.shape[0] else 0
        for d in range(D):
            packed[b, width + d] = embedding[v, d]
        for j in range(H):
            packed[b, width + D + j] = hidden[e, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def gates(gates: Any, cell: Any, hidden: Any, first: int, H: int) -> None:
    """Turn [b, 4H] gate sums (candidate doubled) into the new cell and hidden states, in place."""
    for b in range(gates.shape[0]):
        g = gates[b]
        c = cell[first + b]
        h = hidden[first + b]
        for j in range(4 * H):
            g[j] = ONE / (ONE + _exp(-g[j]))
        for j in range(H):
            c[j] = g[H + j] * c[j] + g[j] * (TWO * g[2 * H + j] - ONE)
        for j in range(H):
            h[j] = g[3 * H + j] * _tanh(c[j])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def gelu(x: Any, bias: Any) -> None:
    """Apply GELU, tanh form (Hendrycks and Gimpel 2016), to x + bias in place: 0.5(1 + tanh u) = σ(2u)."""
    for b in range(x.shape[0]):
        row = x[b]
        for j in range(row.shape[0]):
            v = row[j] + bias[j]
            row[j] = v / (ONE + _exp(F32(-1.5957691216057308) * (v + F32(0.044715) * v * v * v)))


@njit(inline="always")
def _dot(q: Any, at: int, row: Any, H: int) -> Any:
    total = ZERO
    for j in range(H):
        total += q[at + j] * _wide(row[j])
    return total


@njit(inline="always")
def _add_row(out: Any, at: int, weight: Any, row: Any, H: int) -> None:
    for j in range(H):
        out[at + j] += weight * _wide(row[j])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _scores(q: Any, at: int, ring: Any, bias: Any, scores: Any, H: int, W: int) -> None:
    """Write q·h_w + bias over the ring, which lies [H, W] so that one vector holds many places."""
    for w in range(W):
        scores[w] = bias[w]
    whole = W - W % TILE
    for start in range(0, whole, TILE):
        add_scores(q, at, ring, start, scores)
    if whole < W:
        for j in range(H):
            for w in range(whole, W):
                scores[w] += q[at + j] * _wide(ring[j, w])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _context(shares: Any, ring: Any, out: Any, to: int, H: int, W: int) -> None:
    """Write the sum of past states, weighted by ``shares``."""
    whole = W - W % TILE
    for j in range(H):
        total = ZERO
        for w in range(whole, W):
            total += shares[w] * _wide(ring[j, w])
        out[to + j] = total
    for start in range(0, whole, TILE):
        add_context(shares, ring, start, out, to)


@njit(cache=True, nogil=True, error_model="numpy")
def _write(e: int, h: Any, place: int, ring: Any, lags: Any, lag_write: Any, examples: Any, held: Any,
           admit: Any) -> None:
    """Put the state of the step before into the memories that want it."""
    for j in range(h.shape[0]):
        ring[e, j, place] = _like(h[j], ring[e, j, place])
    for i in range(lag_write.shape[0]):
        if lag_write[i] >= 0:
            for j in range(h.shape[0]):
                lags[e, lag_write[i], j] = _like(h[j], lags[e, lag_write[i], j])
    if admit[e] >= 0:
        slot = admit[e]
        for j in range(h.shape[0]):
            examples[e, slot, j] = _like(h[j], examples[e, slot, j])
        held[e, slot] = True


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def attend(first: int, queries: Any, bias: Any, slot_lag: Any, place: int, age: Any, hidden: Any, before: Any,
            age_before: Any, ring: Any, lags: Any, lag_read: Any, lag_back: Any, lag_write: Any, neighbours: Any,
            examples: Any, held: Any, admit: Any, out: Any, H: int, W: int) -> None:
    """Write [h, context of each head] of a batch to ``out``; the states of the step before enter the memories first."""
    L, K, R = lag_read.shape[0], neighbours.shape[1], held.shape[1]
    A = bias.shape[0]
    M = W + L + K + R
    scores = np.empty(M, np.float32)
    for b in range(out.shape[0]):
        e = first + b
        q = queries[b]
        o = out[b]
        memory = ring[e]
        if age[e] > 0:
            _write(e, before[e], place, ring, lags, lag_write, examples, held, admit)
        for j in range(H):
            o[j] = hidden[e, j]
        for a in range(A):
            at = a * H
            to = H + at
            _scores(q, at, memory, bias[a], scores, H, W)
            if age[e] < W:
                for w in range(W):
                    if slot_lag[w] > age[e]:
                        scores[w] = NOTHING
            for i in range(L):
                known = age[e] >= lag_back[i]
                scores[W + i] = bias[a, W + i] + _dot(q, at, lags[e, lag_read[i]], H) if known else NOTHING
            for k in range(K):
                v = neighbours[e, k]
                known = 0 <= v < age_before.shape[0] and age_before[v] > 0
                scores[W + L + k] = bias[a, W + L + k] + _dot(q, at, before[v], H) if known else NOTHING
            for r in range(R):
                known = held[e, r]
                scores[W + L + K + r] = bias[a, W + L + K + r] + _dot(q, at, examples[e, r], H) if known else NOTHING
            highest = NOTHING
            for m in range(M):
                highest = max(highest, scores[m])
            total = ZERO
            for m in range(M):  # what is not there gets e^-87, which is nothing beside the highest
                scores[m] = _exp(scores[m] - highest)
                total += scores[m]
            scale = ONE / total if highest > F32(-1e29) else ZERO
            for m in range(M):
                scores[m] *= scale
            _context(scores, memory, o, to, H, W)
            for i in range(L):
                if scores[W + i] > NEGLIGIBLE:
                    _add_row(o, to, scores[W + i], lags[e, lag_read[i]], H)
            for k in range(K):
                if scores[W + L + k] > NEGLIGIBLE:
                    _add_row(o, to, scores[W + L + k], before[neighbours[e, k]], H)
            for r in range(R):
                if scores[W + L + K + r] > NEGLIGIBLE:
                    _add_row(o, to, scores[W + L + K + r], examples[e, r], H)
