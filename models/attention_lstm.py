"""The attention-LSTM over whole sequences, in torch: what is trained. ``models.streaming`` is the same, step by step.

    h_t, c_t = LSTM([x_t, embedding], h_{t-1}, c_{t-1})
    a_t      = softmax over the memory of q(h_t)·h_m + bias[position]       (Luong et al. 2015; Vaswani et al. 2017)
    y_t      = head([h_t, Σ a_t h_m])      corrections of the linear forecast in units of its spread; 0 when untrained

One forward pass over T steps gives T predictions: recent states are attended to in a band, not window by window.

Legend: B sequences (one entity each), T steps, I inputs, D embedding, H hidden, A heads, W window, L seasonal lags,
K neighbours, R representatives, X = L + K + R, P past states carried along, C channels, N horizons.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from models.attention import AttentionProgram
from models.attention_scorers import SCORERS
from models.weights import EMBEDDING, Sizes, Weights

BLOCK = 64  # rows attended to at once: more need a wider band of scores, most of it masked
NOWHERE = -1e30  # the score of what must not be looked at: finite, so that a row without any memory makes no NaN
UNKNOWN_SHARE = 0.1  # of the sequences in training that hide which entity they are, so that new entities work at once


@dataclass(slots=True)
class Carry:
    """What a sequence hands on to its continuation."""

    h: Tensor  # [B, H]
    c: Tensor  # [B, H]
    past: Tensor  # [B, P, H] the newest states, oldest first
    age: Tensor  # [B] steps done
    examples: Tensor  # [B, R, H]
    held: Tensor  # [B, R] whether the slot was ever written

    def detach(self) -> Carry:
        """Return the same state, through which no gradient flows."""
        return Carry(*(getattr(self, field.name).detach() for field in fields(self)))


class Dropout(nn.Dropout):
    """Dropout that on a CPU draws uniform numbers, twice as fast as Bernoulli's. In evaluation it does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, in training with a share p of it zero and the rest larger by 1 / (1 - p)."""
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        return x * (torch.rand(x.shape) >= self.p).to(x.dtype).div_(1.0 - self.p)


class AttentionLSTM(nn.Module):
    """The network over sequences. In one go or in chunks with a carried state, it gives the same result."""

    program_bias: Tensor

    def __init__(self, sizes: Sizes, program: AttentionProgram | None = None, dropout: float = 0.2) -> None:
        """Initialise from torch's current seed.

        Args:
            sizes: of everything.
            program: what operators know about where to look; None for nothing.
            dropout: share of the head's inputs dropped in training.
        """
        super().__init__()
        self.sizes = sizes
        self.program = program if program is not None else AttentionProgram()
        self.layout = sizes.layout(self.program)
        self._sees_all = bool((self.layout.program_bias() > -np.inf).all())
        H, A = sizes.hidden, sizes.heads
        self.embedding = nn.Embedding(sizes.entities + 1, EMBEDDING)
        self.lstm = nn.LSTM(sizes.inputs + EMBEDDING, H, batch_first=True)
        self.scorer = SCORERS[sizes.kind](H, A)
        self.bias = nn.Parameter(torch.zeros(A, self.layout.size))
        self.register_buffer("program_bias", torch.from_numpy(self.layout.program_bias()))
        self.dropout = Dropout(dropout)
        self.head_in = nn.Linear((1 + A) * H, H)
        self.head_out = nn.Linear(H, sizes.channels * sizes.horizons)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.lstm.bias_hh_l0)
        with torch.no_grad():
            self.lstm.bias_ih_l0[H : 2 * H] = 1.0  # forget little at first (Gers et al. 2000)
        nn.init.zeros_(self.head_out.weight)
        nn.init.zeros_(self.head_out.bias)

    def cold(self, sequences: int) -> Carry:
        """Return the state before anything was seen."""
        H, R = self.sizes.hidden, self.sizes.representatives
        new = self.bias.new_zeros
        return Carry(
            new(sequences, H),
            new(sequences, H),
            new(sequences, self.layout.reach, H),
            new(sequences, dtype=torch.int64),
            new(sequences, R, H),
            new(sequences, R, dtype=torch.bool),
        )

    def forward(
        self,
        inputs: Tensor,
        carry: Carry | None = None,
        *,
        step0: Tensor | None = None,
        entity: Tensor | None = None,
        neighbours: Tensor | None = None,
        admit: Tensor | None = None,
        first: Tensor | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return the corrections that each step's state gives, and the state to go on with.

        Args:
            inputs: [B, T, I], finite.
            carry: of the steps before; None to begin cold.
            step0: [B] absolute index of the first step; None for 0.
            entity: [B] row of the embedding; None for 0, the unknown entity.
            neighbours: [B, K] which sequences are neighbours; -1 for none. None where K = 0.
            admit: [B, T] slot, modulo R, that the step's state is kept in as an example; -1: none.
            first: [B] absolute index of the entity's first step, where it joins later than step0; what it gives before
                means nothing.

        Returns:
            [B, T, C, N] corrections, and the carry.
        """
        B, T, _ = inputs.shape
        carry = self.cold(B) if carry is None else carry
        step0 = carry.age.new_zeros(B) if step0 is None else step0
        late = None if first is None else (first - step0).clamp(0, T)  # [B] rows before the entity is there
        states, (h, c) = self._states(inputs, entity, carry, late)
        rows = torch.arange(T, device=inputs.device).expand(B, T)
        done = rows + 1 if late is None else (rows - late[:, None] + 1).clamp(min=0)  # [B, T] steps, this one included
        age = carry.age[:, None] + (done - 1).clamp(min=0)  # [B, T] steps done before each
        if admit is not None and late is not None:
            admit = torch.where(rows >= late[:, None], admit, -1)
        past = torch.cat([carry.past, states], dim=1)  # [B, P + T, H]
        extra, there = self._beside(past, states, carry, step0, age, neighbours, admit)
        context = torch.cat(
            [
                self._attend(states, past, extra, there, age, start, min(start + BLOCK, T))
                for start in range(0, T, BLOCK)
            ],
            dim=1,
        )  # [B, T, A·H]
        features = self.dropout(torch.cat([states, context], dim=2))
        out = self.head_out(gelu(self.head_in(features), approximate="tanh"))
        examples, held = self._examples_after(states, carry, admit)
        after = Carry(h, c, past[:, T:], carry.age + done[:, -1], examples, held)
        return out.view(B, T, self.sizes.channels, self.sizes.horizons), after

    def _states(
        self, inputs: Tensor, entity: Tensor | None, carry: Carry, late: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return [B, T, H] the states (zero before an entity joins) and the last h and c, [B, H] each."""
        B, T, _ = inputs.shape
        known = torch.zeros(B, dtype=torch.int64, device=inputs.device) if entity is None else entity
        if self.training:
            known = known * (torch.rand(B, device=known.device) >= UNKNOWN_SHARE)
        x = torch.cat([inputs, self.embedding(known)[:, None].expand(B, T, EMBEDDING)], dim=2)
        if late is None or not bool((late > 0).any()):
            states, (h, c) = self.lstm(x, (carry.h[None], carry.c[None]))
            return states, (h[0], c[0])
        states, h, c = x.new_zeros(B, T, self.sizes.hidden), carry.h.clone(), carry.c.clone()
        for start in torch.unique(late).tolist():
            group = torch.nonzero(late == start)[:, 0]
            if start < T:
                run, (h_n, c_n) = self.lstm(x[group, start:], (carry.h[group][None], carry.c[group][None]))
                states[group, start:] = run
                h[group], c[group] = h_n[0], c_n[0]
        return states, (h, c)

    def _beside(
        self,
        past: Tensor,
        states: Tensor,
        carry: Carry,
        step0: Tensor,
        age: Tensor,
        neighbours: Tensor | None,
        admit: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return [B, T, X, H] the memories beside the recent ones, and [B, T, X] which of them there are."""
        B, T, H = states.shape
        P = past.shape[1] - T
        steps = step0[:, None] + torch.arange(T, device=past.device)  # [B, T]
        memories, there = [states.new_zeros(B, T, 0, H)], [age.new_zeros(B, T, 0, dtype=torch.bool)]
        for lag in self.program.seasonal:
            back = steps - torch.div(steps - lag.steps, lag.stride, rounding_mode="floor") * lag.stride
            at = P + torch.arange(T, device=past.device) - back
            memories.append(past.gather(1, at[..., None].expand(B, T, H))[:, :, None])
            there.append((age >= back)[..., None])
        if self.sizes.neighbours:
            if neighbours is None:
                raise ValueError(f"the network has {self.sizes.neighbours} neighbours an entity, but none were given")
            whom = neighbours.clamp(min=0)
            memories.append(past[:, P - 1 : P - 1 + T][whom].transpose(1, 2))  # [B, T, K, H]
            there.append((age >= 1)[whom].transpose(1, 2) & (neighbours >= 0)[:, None])
        if self.sizes.representatives:
            held, known = self._examples(states, carry, admit)
            memories.append(held)
            there.append(known)
        return torch.cat(memories, dim=2), torch.cat(there, dim=2)

    def _last_written(self, states: Tensor, admit: Tensor | None) -> Tensor:
        """Return [B, T + 1, R] the row at which each slot was last written before each step; -1 for not in here."""
        B, T, _ = states.shape
        R = self.sizes.representatives
        none = torch.full((B, 1, R), -1, dtype=torch.int64, device=states.device)
        if admit is None or T == 0:
            return none.expand(B, T + 1, R)
        slots = torch.where(admit >= 0, admit % R, -1)
        hit = slots[..., None] == torch.arange(R, device=states.device)  # [B, T, R]
        rows = torch.arange(T, device=states.device)[None, :, None]
        return torch.cat([none, torch.where(hit, rows, -1).cummax(dim=1).values], dim=1)

    def _examples(self, states: Tensor, carry: Carry, admit: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return [B, T, R, H] the examples that each step sees, and [B, T, R] whether they are there."""
        B, T, H = states.shape
        R = self.sizes.representatives
        written = self._last_written(states, admit)[:, :T]
        pool = torch.cat([carry.examples, states], dim=1)  # [B, R + T, H]
        at = torch.where(written >= 0, R + written, torch.arange(R, device=states.device))
        examples = pool.gather(1, at.reshape(B, T * R, 1).expand(B, T * R, H)).view(B, T, R, H)
        return examples, (written >= 0) | carry.held[:, None]

    def _examples_after(self, states: Tensor, carry: Carry, admit: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the examples and whether they are there, as the step after the last one sees them."""
        if not self.sizes.representatives:
            return carry.examples, carry.held
        written = self._last_written(states, admit)[:, -1]  # [B, R]
        pool = torch.cat([carry.examples, states], dim=1)
        R = self.sizes.representatives
        at = torch.where(written >= 0, R + written, torch.arange(R, device=states.device))
        return pool.gather(1, at[..., None].expand(-1, -1, states.shape[2])), (written >= 0) | carry.held

    def _attend(
        self, states: Tensor, past: Tensor, extra: Tensor, there: Tensor, age: Tensor, start: int, stop: int
    ) -> Tensor:
        """Return [B, b, A·H] the contexts of rows start to stop (b of them)."""
        B, _, H = states.shape
        A, W, X, b = self.sizes.heads, self.sizes.window, extra.shape[2], stop - start
        P, S = past.shape[1] - states.shape[1], self.sizes.window + b - 1
        query = states[:, start:stop] @ self.scorer.folded().transpose(0, 1).reshape(H, A * H)  # [B, b, A·H]
        keys = past[:, P + start - W : P + stop - 1]  # [B, S, H]
        band = self._band(b).transpose(0, 1).reshape(1, b * A, S)
        scores = torch.baddbmm(band, query.view(B, b * A, H), keys.transpose(1, 2)).view(B, b, A, S)
        if X:
            beside = torch.einsum("btah,btxh->btax", query.view(B, b, A, H), extra[:, start:stop])
            scores = torch.cat([scores, beside + (self.bias + self.program_bias)[:, W:]], dim=3)
        mask = self._mask(there[:, start:stop], age[:, start:stop])
        if mask is None:
            weights = scores.softmax(dim=3)
        else:
            weights = scores.masked_fill(~mask[:, :, None], NOWHERE).softmax(dim=3) * mask.any(dim=2)[..., None, None]
        if not X:
            return (weights.view(B, b * A, S) @ keys).view(B, b, A * H)
        near, far = weights.split([S, X], dim=3)
        context = (near.reshape(B, b * A, S) @ keys).view(B, b, A, H)
        return (context + torch.einsum("btax,btxh->btah", far, extra[:, start:stop])).reshape(B, b, A * H)

    def _band(self, b: int) -> Tensor:
        """Return [A, b, S] what is added to the scores of b rows: the bias of each lag, NOWHERE beside the band.

        Each row is the row above shifted by one, so b copies of a padded row, read as rows one shorter, are the band.
        """
        W = self.sizes.window
        bias = (self.bias + self.program_bias)[:, :W].clamp(min=NOWHERE).flip(1)  # [A, W] oldest first
        padded = torch.cat([bias, bias.new_full((len(bias), b), NOWHERE)], dim=1)  # [A, S + 1]
        copies = padded[:, None].expand(-1, b, -1).reshape(len(bias), -1)  # [A, b·(S + 1)]
        return copies[:, : b * (W + b - 1)].view(len(bias), b, W + b - 1)

    def _mask(self, there: Tensor, age: Tensor) -> Tensor | None:
        """Return [B or 1, b, S + X] which memories there are; None if the band alone says it all.

        Args:
            there: [B, b, X] which memories beside the recent ones there are.
            age: [B, b] steps done before each.
        """
        W, b, X = self.sizes.window, there.shape[1], there.shape[2]
        if not X and age.device.type == "cpu":  # a GPU would wait for these answers longer than they save
            if self._sees_all and int(age.min()) >= W:
                return None
            if bool((age == age[:1]).all()):
                age, there = age[:1], there[:1]
        shift = torch.arange(b, device=age.device)[:, None] - torch.arange(W + b - 1, device=age.device)
        lag = W + shift  # [b, S]
        visible = self.program_bias > -torch.inf
        recent = (lag >= 1) & (lag <= W) & visible[(lag - 1).clamp(0, W - 1)]
        return torch.cat([recent & (lag <= age[..., None]), there & visible[W:]], dim=2)


@torch.no_grad()
def export(module: AttentionLSTM) -> Weights:
    """Return the weights as the streaming form wants them: gates in one matrix, query and key folded, biases summed."""
    H, A = module.sizes.hidden, module.sizes.heads
    lstm = module.lstm
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[None]
    gates = torch.cat([lstm.weight_ih_l0.T, lstm.weight_hh_l0.T, bias])  # [I + D + H + 1, 4H]
    gates[:, 2 * H : 3 * H] *= 2.0
    query = module.scorer.folded().permute(1, 0, 2).reshape(H, A * H)
    head_in = torch.cat([module.head_in.weight.T, module.head_in.bias[None]])
    head_out = torch.cat([module.head_out.weight.T, module.head_out.bias[None]])
    parts = (gates, module.embedding.weight, query, module.bias + module.program_bias, head_in, head_out)
    arrays = (np.ascontiguousarray(part.cpu().float().numpy()).copy() for part in parts)
    return Weights(module.sizes, module.program, *arrays)
