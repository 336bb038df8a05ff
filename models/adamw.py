"""AdamW (Loshchilov and Hutter, 2019) by torch's fused kernel: bit for bit what ``torch.optim.AdamW(fused=True)`` does.

That class imports torch's compiler when it is made, which takes longer than a small training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""As torch has them."""


class AdamW:
    """Holds the moments of some parameters, in tensors of its own."""

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        """Begin with no moments; all parameters lie on one device and have one type."""
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._states: dict[int, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the parameters that have a gradient, with this learning rate."""
        moved = [i for i, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if not moved:
            return
        states = [self._state(i) for i in moved]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            [self._parameters[i] for i in moved],
            [self._parameters[i].grad for i in moved],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all moments and counts of steps, by ``parameter.name``: what a checkpoint keeps."""
        return {f"{i}.{name}": tensor for i, state in self._states.items() for name, tensor in state.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``tensors`` returned."""
        self._states = {}
        for key, tensor in tensors.items():
            i, _, name = key.partition(".")
            parameter = self._parameters[int(i)]
            self._states.setdefault(int(i), {})[name] = tensor.to(parameter.device, copy=True)

    def _state(self, i: int) -> dict[str, Tensor]:
        if i not in self._states:
            parameter = self._parameters[i]
            self._states[i] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self._states[i]
