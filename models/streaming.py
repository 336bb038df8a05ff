"""The attention-LSTM one step at a time, for all entities at once: carried state, ring of past states, no torch.

A step costs O(H² + W·H) per entity, however long the history. BLAS does the four products (gates, query, the two of the
head) in batches that stay in the cache; compiled loops do the rest. States are written to the ring at the *next* step,
so that the memory of the newest step can be looked at until then.

Legend: E entity slots, n of them in use, b of a batch, I inputs, H hidden, A heads, W window, L lags, K neighbours,
R representatives, M = W + L + K + R, C channels, N horizons.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.attention import AttentionPosition
from models.state import RowState
from models.streaming_loops import NOTHING, attend, gates, gelu, pack
from models.weights import EMBEDDING, Weights

BATCH_STATES = 49_152  # hidden numbers at once: a tenth faster than a third of it where the second-level cache is 1 MB
COLD = np.iinfo(np.int64).min  # newest step of an entity that has had none


class StreamingAttentionLSTM:
    """Steps the network for every entity; equals ``AttentionLSTM`` over the whole sequence to 1e-5 (float32 ring).

    Per entity it keeps h and c, the ring of the last W states, strided states for the seasonal lags, and R examples.
    All of it lies in ``state``; nothing is shared between entities but the weights.
    """

    def __init__(self, weights: Weights, capacity: int, ring_dtype: Literal["f32", "bf16"] = "f32") -> None:
        """Make room for ``capacity`` entities, all cold.

        Args:
            weights: of the network.
            capacity: entity slots.
            ring_dtype: how past states are held: ``f32``, or ``bf16`` in half the memory, three digits exact.

        Raises:
            ValueError: if the ring's type is unknown.
        """
        if ring_dtype not in ("f32", "bf16"):
            raise ValueError(f"a ring holds f32 or bf16, not {ring_dtype!r}")
        self.weights = weights
        self.sizes = weights.sizes
        self.layout = weights.sizes.layout(weights.program)
        self._seasonal = weights.program.seasonal
        self._lag_first = np.cumsum([0] + [lag.slots for lag in self._seasonal])  # [L + 1] first slot of each lag
        self._half = ring_dtype == "bf16"
        stored = np.uint16 if self._half else np.float32
        s = self.sizes
        self.state = RowState(capacity)
        self.state.add("step", (), np.int64, COLD)
        self.state.add("age", (), np.int64)
        self.state.add("h", (s.hidden,), np.float32)
        self.state.add("c", (s.hidden,), np.float32)
        self.state.add("before", (s.hidden,), np.float32)
        self.state.add("ring", (s.hidden, s.window), stored)
        self.state.add("lags", (int(self._lag_first[-1]), s.hidden), stored)
        self.state.add("examples", (s.representatives, s.hidden), stored)
        self.state.add("held", (s.representatives,), np.bool_)
        self.state.add("admit", (), np.int32, -1)
        self.state.add("neighbours", (s.neighbours,), np.int32, -1)
        self._prepare()

    def _prepare(self) -> None:
        """Lay out the weights for the products, and the buffers that hold a batch."""
        s, w = self.sizes, self.weights
        self._batch = max(64, BATCH_STATES // s.hidden)
        self._bias = np.maximum(w.bias, NOTHING)  # [A, M], finite
        self._head_in = np.ascontiguousarray(w.head_in[:-1])
        self._head_out = np.ascontiguousarray(w.head_out[:-1])
        # The last column stays 1.
        self._packed = np.ones((self._batch, s.inputs + EMBEDDING + s.hidden + 1), np.float32)
        self._gate_sums = np.empty((self._batch, 4 * s.hidden), np.float32)
        self._queries = np.empty((self._batch, s.heads * s.hidden), np.float32)
        self._features = np.empty((self._batch, (1 + s.heads) * s.hidden), np.float32)
        self._inner = np.empty((self._batch, self._head_in.shape[1]), np.float32)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` entities; what is known stays."""
        self.state.grow(capacity)

    def step(
        self,
        inputs: NDArray[np.float32],
        step_index: int,
        neighbours: NDArray[np.int32],
        admit: NDArray[np.int32],
        embedding_id: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Take one step of the first n entities and return what their new states say.

        Every entity is stepped at every step, also when it sent nothing. Steps left out all the same are taken to have
        changed nothing: the state of the step before them stands for each of them.

        Args:
            inputs: [n, I]; what is not finite counts as 0.
            step_index: absolute index of the step.
            neighbours: [n, K] slots; -1 for none.
            admit: [n] slot, modulo R, that this step's state is kept in as an example; -1 for none.
            embedding_id: [n] row of the embedding; 0, and any row there is not, is the unknown entity.

        Returns:
            [n, C, N] corrections of the linear forecast in units of its spread; a new array.

        Raises:
            ValueError: if the step is not after every entity's newest one, or shapes do not fit.
        """
        n, s = len(inputs), self.sizes
        wanted = (n, s.inputs), (n, s.neighbours)
        if (inputs.shape, neighbours.shape) != wanted:
            raise ValueError(f"inputs and neighbours are {inputs.shape} and {neighbours.shape}, wanted {wanted}")
        inputs = np.ascontiguousarray(inputs, np.float32)
        out = np.empty((n, s.channels * s.horizons), np.float32)
        self._catch_up(step_index, n)
        state = self.state
        state["before"][:n] = state["h"][:n]
        state["neighbours"][:n] = np.where(neighbours < n, neighbours, -1)
        for first in range(0, n, self._batch):
            self._step_batch(inputs, step_index, embedding_id, first, out[first : min(first + self._batch, n)], n)
        state["step"][:n] = step_index
        state["age"][:n] += 1
        state["admit"][:n] = np.where(admit >= 0, admit % max(s.representatives, 1), -1) if s.representatives else -1
        return out.reshape(n, s.channels, s.horizons)

    def _step_batch(
        self,
        inputs: NDArray[np.float32],
        step: int,
        embedding_id: NDArray[np.int32],
        first: int,
        out: NDArray[np.float32],
        n: int,
    ) -> None:
        b, s, state = len(out), self.sizes, self.state
        packed, sums, queries = self._packed[:b], self._gate_sums[:b], self._queries[:b]
        features, inner = self._features[:b], self._inner[:b]
        pack(inputs, self.weights.embedding, embedding_id, state["h"], first, packed[:, :-1])
        np.matmul(packed, self.weights.gates, out=sums)
        gates(sums, state["c"], state["h"], first, s.hidden)
        np.matmul(state["h"][first : first + b], self.weights.query, out=queries)
        lag_read, lag_back, lag_write = self._lags_at(step)
        place, slot_lag, bias = self._ring_at(step)
        attend(first, queries, bias, slot_lag, place, state["age"], state["h"], state["before"], state["age"][:n],
                state["ring"], state["lags"], lag_read, lag_back, lag_write, state["neighbours"], state["examples"],
                state["held"], state["admit"], features, s.hidden, s.window)  # fmt: skip
        np.matmul(features, self._head_in, out=inner)
        gelu(inner, self.weights.head_in[-1])
        np.matmul(inner, self._head_out, out=out)
        out += self.weights.head_out[-1]

    def _ring_at(self, step: int) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        """Return where step - 1 goes in the ring, the lag of each place [W] seen from ``step``, and [A, M] the bias."""
        W = self.sizes.window
        place = (step - 1) % W
        slot_lag = (place - np.arange(W)) % W + 1
        bias = self._bias.copy()
        bias[:, :W] = self._bias[:, slot_lag - 1]
        return place, slot_lag, bias

    def _lags_at(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return [L] each: the slot a lag reads at ``step``, how far back that is, the slot that step - 1 goes to."""
        read, back, write = [], [], []
        for first, lag in zip(self._lag_first.tolist(), self._seasonal, strict=False):
            back.append(lag.back(step))
            read.append(first + (step - back[-1]) // lag.stride % lag.slots)
            write.append(first + (step - 1) // lag.stride % lag.slots if (step - 1) % lag.stride == 0 else -1)
        return np.array(read, np.int64), np.array(back, np.int64), np.array(write, np.int64)

    def _catch_up(self, step: int, n: int) -> None:
        """Let steps that were left out stand still: their places in the memories get the state before them."""
        newest = self.state["step"][:n]
        if (newest >= step).any():
            raise ValueError(f"step {step} does not come after the newest step {newest.max()}")
        behind = np.flatnonzero((newest != COLD) & (newest != step - 1))
        if not len(behind):
            return
        state = self.state
        kept = state["h"][behind]
        if self._half:
            kept = _to_bf16(kept)
        last = newest[behind]
        for skipped in range(max(int(last.min()), step - 1 - self.layout.reach), step - 1):
            stands = last <= skipped
            rows = behind[stands]
            place, _, _ = self._ring_at(skipped + 1)
            state["ring"][rows, :, place] = kept[stands]
            for slot in self._lags_at(skipped + 1)[2]:
                if slot >= 0:
                    state["lags"][rows, slot] = kept[stands]
        state["age"][behind] += step - 1 - last
        state["step"][behind] = step - 1  # so that they are not counted twice where this step is not brought to its end

    def positions(self) -> list[AttentionPosition]:
        """Return what each of the M memory positions is, in the order of ``attention``."""
        return self.layout.positions()

    def attention(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return [k, A, M] the weights that the newest step of ``rows`` gave to its memories; changes nothing.

        They sum to one over M, or are all zero where there was no memory yet.
        """
        s = self.sizes
        out = np.zeros((len(rows), s.heads, self.layout.size), np.float32)
        for i, row in enumerate(rows.tolist()):
            if self.state["age"][row] > 0:
                out[i] = self._attention_of(row)
        return out

    def _attention_of(self, row: int) -> NDArray[np.float32]:
        state, s = self.state, self.sizes
        step, age = int(state["step"][row]), int(state["age"][row]) - 1
        _, slot_lag, _ = self._ring_at(step)
        read, back, _ = self._lags_at(step)
        others = state["neighbours"][row]
        met = np.array([v >= 0 and state["age"][v] > 1 for v in others.tolist()], np.bool_)
        recent = np.empty((s.window, s.hidden), np.float32)
        recent[slot_lag - 1] = self._stored(state["ring"][row]).T  # by lag
        memory = np.concatenate([
            recent,
            self._stored(state["lags"][row, read]),
            state["before"][np.maximum(others, 0)],
            self._stored(state["examples"][row]),
        ])  # fmt: skip  [M, H]
        known = np.concatenate([np.arange(1, s.window + 1) <= age, age >= back, met, state["held"][row]])
        query = (state["h"][row] @ self.weights.query).reshape(s.heads, s.hidden)
        scores = np.where(known, query @ memory.T + self.weights.bias, -np.inf)
        highest = scores.max(axis=1, keepdims=True)
        shares = np.exp(scores - np.where(np.isinf(highest), 0.0, highest))
        return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-30), np.float32)

    def _stored(self, array: NDArray[Any]) -> NDArray[np.float32]:
        if not self._half:
            return array
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    return ((array.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)
