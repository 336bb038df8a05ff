"""What a training runs on: device, precision, threads and compilation, each put back as it was found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import nn

Precision = Literal["auto", "f32", "bf16"]
Compile = Literal["auto", "on", "off"]

COMPILE_PAYS_S = 600.0
"""Compiling takes about a minute and makes small networks some ten percent faster: shorter trainings do not gain."""


def device_of(wanted: str) -> torch.device:
    """Return the device: ``auto`` is CUDA where there is one, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


@contextmanager
def settled(threads: int, device: torch.device) -> Iterator[None]:
    """Use so many threads, the quickest products, and generators of one's own, for as long as this lasts.

    On a GPU these are TF32's. On a CPU "medium" leaves small products to oneDNN, which takes half of MKL's time on some
    processors and may round to bf16 on others; it is taken where it does not.
    """
    before, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "medium")
    if device.type == "cpu" and not _exact_products():
        torch.set_float32_matmul_precision(products)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(products)


def _exact_products() -> bool:
    """Return whether products on the CPU are as near as f32 allows: 1 + 2^-12 is no number in bf16 or TF32."""
    almost_one = torch.full((4, 32, 32), 1.0 + 2.0**-12)
    return bool((torch.bmm(almost_one, almost_one) / 32.0 - (1.0 + 2.0**-12) ** 2).abs().max() < 1e-5)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context that forward passes run in: bf16 where asked for, or where ``auto`` finds that a GPU has it.

    bf16 has the range of f32, so losses need no scaling. Weights, optimiser and loss stay f32.
    """
    half = precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def flatten(module: nn.Module) -> nn.Module:
    """Lay the weights of recurrent layers side by side, as cuDNN wants them (copies tear them apart); return it."""
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters()
    return module


class Forward:
    """A module's forward pass, compiled or not; a compiler that fails costs nothing but a warning."""

    def __init__(self, module: nn.Module) -> None:
        """Begin without compiling."""
        self._module = module
        self._compiled: Callable[..., Any] | None = None

    def compile(self) -> None:
        """Compile at the next call."""
        self._compiled = torch.compile(self._module, dynamic=True)

    def __call__(self, *args: object, **named: object) -> Any:
        """Run the module."""
        if self._compiled is not None:
            try:
                return self._compiled(*args, **named)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a compiler raises; a true fault comes again below
                self._compiled = None
                warnings.warn(f"not compiled: {type(error).__name__}: {str(error)[:200]}", stacklevel=2)
        return self._module(*args, **named)


def compile_now(wanted: Compile, device: torch.device, remaining_s: float) -> bool:
    """Return whether to compile, with so much training ahead; never by itself on a CPU."""
    return wanted == "on" or (wanted == "auto" and device.type == "cuda" and remaining_s > COMPILE_PAYS_S)
