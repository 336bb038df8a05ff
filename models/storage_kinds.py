"""How weights are written down: as they are, in half, or in a quarter of the bytes. They are read back to float32.

    f32     as they are
    bf16    the upper half of each float32, rounded to nearest even, as uint16: 3 digits
    int8    per output channel (column) a scale, w ≈ q · scale with q in −127 … 127, so |error| ≤ scale / 2;
            bias rows and the position bias stay float32: they are few, and small beside large weights they would be 0

Files get smaller; the streaming network computes in float32 whatever its weights were stored in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("f32", "bf16", "int8")
Arrays = dict[str, NDArray[Any]]

_BIASED = ("gates", "head_in", "head_out")
"""Their last row is a bias."""
_UNTOUCHED = ("bias",)
"""Holds −inf, which has no place on a scale."""
_SCALE, _LAST = ".scale", ".last"
_LARGEST = 127


def encode(arrays: Mapping[str, NDArray[np.float32]], kind: str) -> Arrays:
    """Return what is stored for ``arrays``; ``decode`` reads it back.

    Raises:
        ValueError: if the kind is unknown, or a value is NaN or infinite or becomes so (−inf in ``bias`` may stand).
    """
    check_kind(kind)
    for name, array in arrays.items():
        good = array < np.inf if name in _UNTOUCHED else np.isfinite(array)
        if not good.all():
            raise ValueError(f"{name} holds values that are not finite; they cannot be stored as {kind}")
    if kind == "bf16":
        return {name: to_bf16(array) for name, array in arrays.items()}
    if kind == "int8":
        stored: Arrays = {}
        for name, array in arrays.items():
            stored |= _to_int8(name, array)
        return stored
    return dict(arrays)


def decode(arrays: Mapping[str, NDArray[Any]], kind: str) -> dict[str, NDArray[np.float32]]:
    """Return the float32 arrays of what ``encode`` returned.

    Raises:
        ValueError: if the kind is unknown, or arrays are missing or of another type than the kind's.
    """
    check_kind(kind)
    if kind == "bf16":
        return {name: from_bf16(_typed(name, array, np.uint16)) for name, array in arrays.items()}
    if kind == "int8":
        names = [name for name in arrays if "." not in name]
        return {name: _from_int8(name, arrays) for name in names}
    return dict(arrays)


def check_kind(kind: str) -> None:
    """Raise ValueError if there is no such kind."""
    if kind not in KINDS:
        raise ValueError(f"weights are stored as {', '.join(KINDS)}; {kind!r} is not known here")


def to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bit patterns of the nearest bfloat16 numbers, ties to even; −inf stays.

    Raises:
        ValueError: if a finite value is too large for bfloat16.
    """
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    if (np.isfinite(array) & ~np.isfinite(from_bf16(rounded))).any():
        raise ValueError("a value is too large for bf16")
    return rounded


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the numbers that the bit patterns stand for, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_int8(name: str, array: NDArray[np.float32]) -> Arrays:
    if name in _UNTOUCHED:
        return {name: array}
    body = array[:-1] if name in _BIASED else array
    peak = np.abs(body).max(axis=0, initial=0.0)  # [columns]
    scale = np.maximum(peak / np.float32(_LARGEST), np.finfo(np.float32).tiny).astype(np.float32)
    steps = np.rint(body / scale).clip(-_LARGEST, _LARGEST).astype(np.int8)
    stored: Arrays = {name: steps, name + _SCALE: scale}
    if name in _BIASED:
        stored[name + _LAST] = array[-1:].copy()
    return stored


def _from_int8(name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    if name in _UNTOUCHED:
        return _typed(name, arrays[name], np.float32)
    steps = _typed(name, arrays[name], np.int8)
    parts = [name + _SCALE] + ([name + _LAST] if name in _BIASED else [])
    missing = [part for part in parts if part not in arrays]
    if missing:
        raise ValueError(f"arrays are missing: {', '.join(missing)}")
    scale = _typed(name + _SCALE, arrays[name + _SCALE], np.float32)
    if steps.ndim != 2 or scale.shape != steps.shape[1:]:
        raise ValueError(f"{name} is {steps.shape}, but has scales {scale.shape}")
    body = steps.astype(np.float32) * scale
    if name not in _BIASED:
        return body
    last = _typed(name + _LAST, arrays[name + _LAST], np.float32)
    if last.shape != (1, steps.shape[1]):
        raise ValueError(f"{name} is {steps.shape}, but has a bias row {last.shape}")
    return np.concatenate([body, last])


def _typed(name: str, array: NDArray[Any], wanted: type[np.generic]) -> NDArray[Any]:
    if array.dtype != wanted:
        raise ValueError(f"{name} is {array.dtype}, wanted {np.dtype(wanted)}")
    return array
