"""Where an interrupted training goes on: one file with every tensor and number that the rest of it depends on.

    FOLDER/state.safetensors    tensors; the numbers as JSON in its metadata

It is written beside, flushed and renamed, so a kill at any moment leaves the old one or the new one. Nothing in it is
executed. One that belongs to other data or other settings, or is damaged, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

STATE = "state.safetensors"
FORMAT = "vedette-training-2"


class Checkpoint:
    """The state of one training in a folder."""

    def __init__(self, folder: Path, key: str) -> None:
        """Use ``folder``, made when first written; ``key`` says what is trained on and how, see ``fingerprint``."""
        self._folder = folder
        self._key = key

    def write(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Replace the state; durable when it returns. Raises OSError if the disk refuses."""
        about = {"format": FORMAT, "key": self._key, "numbers": json.dumps(numbers)}
        whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{STATE}-{os.getpid()}"
        with beside.open("wb") as file:
            file.write(save(whole, about))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / STATE)
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors, on the CPU, and numbers; None if there are none, or not of this training."""
        path = self._folder / STATE
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT or about.get("key") != self._key:
                    return None
                numbers = json.loads(about["numbers"])
                return {name: file.get_tensor(name).clone() for name in file.keys()}, numbers  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError):
            return None


def fingerprint(settings: Iterable[object], arrays: Iterable[NDArray[np.generic] | None]) -> str:
    """Return a hash of what a training depends on: ``repr`` of the settings, bytes and shape of the arrays."""
    digest = hashlib.sha256(repr(tuple(settings)).encode())
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
