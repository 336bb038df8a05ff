"""What JSON can hold of what Python and numpy compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def json_ready(value: object) -> Any:
    """Return ``value`` as JSON holds it; NaN and infinities become null, for JSON knows neither.

    Raises:
        TypeError: if it is nothing that JSON can hold.

    >>> json_ready({"gain": np.float32(0.5), "losses": (1.0, math.nan)})
    {'gain': 0.5, 'losses': [1.0, None]}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # a StrEnum too
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_ready(each) for key, each in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [json_ready(each) for each in value]
    raise TypeError(f"JSON cannot hold a {type(value).__name__}: {value!r}")
