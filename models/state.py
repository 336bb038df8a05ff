"""Per-entity state as named arrays, so that it can grow, be reset, saved and restored row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class RowState:
    """Named arrays whose first axis is the entity slot.

    Every component keeps all it knows about an entity in one of these, and nothing elsewhere: then a checkpoint of an
    entity is a slice, and an entity can move to another process.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.arrays: dict[str, NDArray[Any]] = {}
        self._cold: dict[str, Any] = {}

    def add(self, name: str, tail: tuple[int, ...], dtype: DTypeLike, cold: Any = 0) -> NDArray[Any]:
        """Add array ``name`` of shape [capacity, *tail], filled with its cold-start value (broadcast over rows)."""
        self._cold[name] = cold
        array = np.empty((self.capacity, *tail), dtype)
        array[...] = cold
        self.arrays[name] = array
        return array

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` rows; old rows keep their values, new ones are cold. Never shrinks."""
        if capacity <= self.capacity:
            return
        for name, old in self.arrays.items():
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[: self.capacity] = old
            new[self.capacity :] = self._cold[name]
            self.arrays[name] = new
        self.capacity = capacity

    def adopt(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become the owner of ``arrays``, all of as many rows: what was here is gone, what is not given is cold.

        Arrays of another shape or type than the own are not taken.
        """
        self.capacity = len(next(iter(arrays.values()))) if arrays else self.capacity
        for name, old in self.arrays.items():
            given = arrays.get(name)
            if given is not None and (given.shape[1:], given.dtype) == (old.shape[1:], old.dtype):
                self.arrays[name] = given
                continue
            cold = np.empty((self.capacity, *old.shape[1:]), old.dtype)
            cold[...] = self._cold[name]
            self.arrays[name] = cold

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Make ``rows`` cold again."""
        for name, array in self.arrays.items():
            array[rows] = self._cold[name]

    def bytes_per_row(self) -> int:
        """Return the bytes that one entity takes."""
        return sum(a.nbytes // max(1, a.shape[0]) for a in self.arrays.values())
