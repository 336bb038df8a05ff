"""Our optimiser does what torch's does, and spares its import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from models.adamw import AdamW


def network() -> nn.Module:
    """Return a small network, of which one part is never used."""
    torch.manual_seed(3)
    made = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    made.add_module("unused", nn.Linear(2, 2))
    return made


def loss_of(module: nn.Module, step: int) -> torch.Tensor:
    """Return the loss of a batch that differs from step to step."""
    inputs = torch.randn(11, 5, generator=torch.Generator().manual_seed(step))
    for name, part in module.named_children():
        inputs = inputs if name == "unused" else part(inputs)
    return ((inputs - inputs.detach().roll(1, 0)) ** 2).mean()


def test_it_does_bit_for_bit_what_torchs_does() -> None:
    """Protects trainings from an optimiser that is only nearly AdamW: weights are equal after each of thirty steps."""
    ours, theirs = network(), network()
    mine = AdamW(ours.parameters(), weight_decay=0.05)
    torchs = torch.optim.AdamW(theirs.parameters(), weight_decay=0.05, fused=True)
    for step in range(30):
        rate = 1e-3 * (1 + step % 5)
        mine.zero_grad()
        loss_of(ours, step).backward()
        mine.step(rate)
        torchs.param_groups[0]["lr"] = rate
        torchs.zero_grad()
        loss_of(theirs, step).backward()
        torchs.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)


def test_it_goes_on_from_what_it_kept() -> None:
    """Protects an interrupted training: taken up again it takes the same steps, and what was kept is not changed."""
    whole, part = network(), network()
    through, first = AdamW(whole.parameters(), 0.01), AdamW(part.parameters(), 0.01)
    again = AdamW(part.parameters(), 0.01)
    for step in range(10):
        if step == 5:
            kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
            again.load(kept)
        for module, optimiser in ((whole, through), (part, first if step < 5 else again)):
            optimiser.zero_grad()
            loss_of(module, step).backward()
            optimiser.step(1e-2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))
    assert int(kept["0.step"]) == 5
    assert int(again.tensors()["0.step"]) == 10


def test_a_training_does_not_import_torchs_compiler() -> None:
    """Protects every training job's start: what imports it takes longer than a small training."""
    code = (
        "import sys, numpy as np\n"
        "from models.learning import Architecture, learn\n"
        "from models.training_options import TrainingOptions\n"
        "values = np.random.default_rng(0).normal(size=(2, 300, 1))\n"
        "options = TrainingOptions(epochs=1, fewest_updates=1, device='cpu')\n"
        "kind, may = Architecture((1,), 4, 4, examples=2), np.ones(values.shape, bool)\n"
        "learn(values, may, 0, 60_000_000, 'ab', kind, options)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
