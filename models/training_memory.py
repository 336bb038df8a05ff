"""How much memory a training takes, reckoned before it begins.

Legend: I inputs, C channels, N horizons, A heads, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.attention import MemoryLayout
from models.features import input_width
from models.learning import Architecture
from models.training_options import TrainingOptions

_SPARE = 1.15
"""For what allocators keep and what was overlooked."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a training takes beyond what the process has already."""

    per_step: float
    """Of one entity: history, inputs, targets, and what making them takes for a moment."""
    per_entity: float
    """Of one chunk of it: everything that back-propagation keeps."""

    def bytes(self, entities: int, steps: int) -> float:
        """Return what so much history takes."""
        return entities * (self.per_entity + self.per_step * steps)


def memory_need(architecture: Architecture, channels: int, neighbours: int, options: TrainingOptions) -> MemoryNeed:
    """Return what training on frames of so many channels takes, on the safe side.

    Args:
        architecture: of the network.
        channels: C.
        neighbours: of each entity.
        options: of the training.
    """
    I, CN = input_width(channels), channels * len(architecture.horizons)  # noqa: E741  # as in the legend
    frames = 10 * channels + 8  # values, learnable and a copy of it, score, level
    made = 4 * I + 5 * CN + 4  # inputs, targets, mask, admitted
    per_step = frames + made + max(made, 36 * CN + 8 * channels)  # beside it: the batch, or forecasts and their errors
    H, A = architecture.hidden, max(1, architecture.heads if architecture.kind == "multi_head" else 1)
    layout = MemoryLayout(architecture.window, architecture.program, neighbours, architecture.examples)
    extra = max(0, layout.size - architecture.window)
    cell = 6 * extra * H + 6 * A * (architecture.window + 64 + extra) + 12 * A * H + 40 * H + 4 * I + 8 * CN  # floats
    per_entity = 4.0 * (options.chunk * cell + 4 * layout.reach * H)
    return MemoryNeed(_SPARE * per_step, _SPARE * per_entity)
