"""The network re-run over its whole window at every step: what the streaming form is measured against.

Legend: B entities, W window, I inputs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.attention import AttentionProgram
from models.attention_lstm import AttentionLSTM, export
from models.weights import Sizes, Weights
from models.windowed import recompute_window


class WindowRerun:
    """Runs the network in torch over windows of inputs, on one thread; forgets everything in between."""

    def __init__(self, sizes: Sizes, program: AttentionProgram | None = None, seed: int = 0) -> None:
        """Make a network with random weights: they cost the same as trained ones."""
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self._module = AttentionLSTM(sizes, program).eval()

    def weights(self) -> Weights:
        """Return the same network's weights for the streaming form."""
        return export(self._module)

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the last step of each window [B, W, I] says."""
        with torch.inference_mode():
            return np.asarray(recompute_window(self._module, torch.from_numpy(windows)).numpy())
