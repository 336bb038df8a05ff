"""Networks and input for the tests of the sequence form and the streaming form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.attention import AttentionProgram, LagWeight, SeasonalLag
from models.attention_lstm import AttentionLSTM, Carry
from models.weights import Sizes

PROGRAM = AttentionProgram((SeasonalLag(20, 2.0), SeasonalLag(150)), (LagWeight(1, 3, 2.0),), ((5, 6),))


def network(program: AttentionProgram | None = PROGRAM, seed: int = 0, **sizes: object) -> AttentionLSTM:
    """Return a network with every weight random, the head's last layer and the position bias too."""
    torch.manual_seed(seed)
    wanted: dict[str, object] = {"inputs": 5, "channels": 2, "horizons": 3, "hidden": 12, "window": 16}
    wanted |= {"neighbours": 2, "representatives": 3, "entities": 4}
    module = AttentionLSTM(Sizes(**(wanted | sizes)), program)  # type: ignore[arg-type]
    with torch.no_grad():
        module.head_out.weight.normal_(std=0.3)
        module.head_out.bias.normal_(std=0.3)
        module.bias.normal_(std=0.5)
        module.embedding.weight.normal_()
        for parameter in module.scorer.parameters():
            parameter.mul_(4.0)  # peaked attention, so that a wrong memory shows
    return module.eval()


@dataclass
class Run:
    """What goes into a network over T steps of B entities."""

    inputs: NDArray[np.float32]
    step0: int
    neighbours: NDArray[np.int32]
    admit: NDArray[np.int32]
    entity: NDArray[np.int32]
    first: NDArray[np.int64]

    def __init__(self, entities: int, steps: int, step0: int = 1_000, late: tuple[int, ...] = ()) -> None:
        """Make random input; ``late`` lists how many steps after step0 the last entities join."""
        rng = np.random.default_rng(1)
        self.inputs = rng.standard_normal((entities, steps, 5)).astype(np.float32)
        self.inputs[rng.random(self.inputs.shape) < 0.1] = 0.0  # missing
        self.step0 = step0
        self.neighbours = rng.integers(-1, entities, (entities, 2)).astype(np.int32)
        self.admit = np.where(rng.random((entities, steps)) < 0.2, rng.integers(0, 5, (entities, steps)), -1)
        self.admit = self.admit.astype(np.int32)
        self.entity = (np.arange(entities) % 5).astype(np.int32)
        self.first = np.full(entities, step0, np.int64)
        if late:
            self.first[-len(late) :] += late

    def through(
        self, module: AttentionLSTM, start: int, stop: int, carry: Carry | None = None
    ) -> tuple[NDArray[np.float32], Carry]:
        """Run the sequence form over steps start to stop."""
        with torch.inference_mode():
            out, carry = module(
                torch.from_numpy(self.inputs[:, start:stop]),
                carry,
                step0=torch.full((len(self.inputs),), self.step0 + start),
                entity=torch.from_numpy(self.entity).long(),
                neighbours=torch.from_numpy(self.neighbours).long() if module.sizes.neighbours else None,
                admit=torch.from_numpy(self.admit[:, start:stop]).long() if module.sizes.representatives else None,
                first=torch.from_numpy(self.first),
            )
        return out.numpy(), carry
