"""Steps to show, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.live import LiveStep

STEP_US = 60_000_000


def live_step(
    step: int,
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    stream: str = "air",
    channels: Sequence[str] = ("pm25", "no2"),
    forecast: bool = False,
) -> LiveStep:
    """Return a step in which [n, C] ``values`` were expected to be one less, with a spread of 1."""
    observed = np.array(values, np.float64)
    n, C = observed.shape
    return LiveStep(
        stream=stream,
        step=step,
        time_us=step * STEP_US,
        names=names,
        channels=tuple(channels),
        units=("",) * C,
        values=observed,
        expected=observed - 1.0,
        spread=np.ones((n, C), np.float32),
        score=np.full(n, 0.5, np.float32),
        level=np.zeros(n, np.int8),
        warming=np.zeros(n, np.bool_),
        forecast=np.zeros((n, C, 1)) if forecast else None,
        horizons=(1,) if forecast else (),
    )
