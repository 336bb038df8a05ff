"""The network over windows: each target set by running the window before it, and only that, through the network.

This is how a network is served and trained without carried state, and what the benchmarks compare with: the same
modules, the same weights, the same result as the sequence form for an entity whose first step is the window's.

Legend: B windows, w <= W steps of one, I inputs, D embedding, H hidden, A heads, C channels, N horizons.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu

from models.attention_lstm import UNKNOWN_SHARE, AttentionLSTM
from models.weights import EMBEDDING


def forward_windows(module: AttentionLSTM, windows: Tensor, entity: Tensor | None = None) -> Tensor:
    """Return [B, C, N] the corrections that the last step of each window gives.

    Args:
        module: a network that attends to recent states only: neighbours and examples are not within a window.
        windows: [B, w, I] inputs of the last w >= 2 steps, oldest first.
        entity: [B] row of the embedding; None for 0, the unknown entity.
    """
    B, w, _ = windows.shape
    known = torch.zeros(B, dtype=torch.int64, device=windows.device) if entity is None else entity
    if module.training:
        known = known * (torch.rand(B, device=known.device) >= UNKNOWN_SHARE)
    beside = module.embedding(known)[:, None].expand(B, w, EMBEDDING)
    states, _ = module.lstm(torch.cat([windows, beside], dim=2))  # [B, w, H]
    keys, h = states.split([w - 1, 1], dim=1)
    query = torch.einsum("bth,ahk->btak", h, module.scorer.folded())[:, 0]  # [B, A, H]
    bias = (module.bias + module.program_bias)[:, : w - 1].flip(1)  # [A, w - 1] oldest first, as the keys
    context = torch.baddbmm(bias[None], query, keys.transpose(1, 2)).softmax(dim=2) @ keys  # [B, A, H]
    features = module.dropout(torch.cat([h[:, 0], context.flatten(1)], dim=1))
    out: Tensor = module.head_out(gelu(module.head_in(features), approximate="tanh"))
    return out.view(B, module.sizes.channels, module.sizes.horizons)


@torch.inference_mode()
def recompute_window(module: AttentionLSTM, windows: Tensor) -> Tensor:
    """Return [B, C, N] what the last step of each window gives, for unknown entities; the step benchmark's reference.

    Args:
        module: the network, in evaluation mode.
        windows: [B, w, I] inputs of the last w <= W steps.
    """
    return forward_windows(module, windows)
