"""How each attention kind scores a memory, as torch modules under the names of ``models.attention.KINDS``.

Legend: H hidden, A heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScaledDot(nn.Module):
    """One head; a free bilinear form."""

    def __init__(self, hidden: int, heads: int) -> None:
        """Make the form small, so that attention begins close to uniform."""
        super().__init__()
        self.form = nn.Parameter(torch.randn(heads, hidden, hidden) / hidden**0.5)

    def folded(self) -> Tensor:
        """Return [A, H, H], with score = h_t · folded · h_m."""
        return self.form / self.form.shape[-1] ** 0.5


class MultiHead(nn.Module):
    """Heads with queries and keys of H/A dimensions each."""

    def __init__(self, hidden: int, heads: int) -> None:
        """Make A pairs of projections."""
        super().__init__()
        self.query = nn.Parameter(torch.randn(heads, hidden, hidden // heads) / hidden**0.5)
        self.key = nn.Parameter(torch.randn(heads, hidden, hidden // heads) / hidden**0.5)

    def folded(self) -> Tensor:
        """Return [A, H, H], with score = h_t · folded · h_m."""
        return self.query @ self.key.transpose(1, 2) / self.key.shape[-1] ** 0.5


SCORERS: dict[str, type[nn.Module]] = {"scaled_dot": ScaledDot, "multi_head": MultiHead}
"""How each kind of ``models.attention.KINDS`` is trained."""
