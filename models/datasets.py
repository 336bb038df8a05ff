"""The real series that ships inside river, as arrays. River is imported nowhere outside `models`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from river import datasets

_TIME_FIELD = "Time"


def water_flow() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the water flow through a pipeline branch, as river ships it: its rows in order, gaps left out.

    Returns:
        times_us [1268] in UTC microseconds, ascending, hourly with gaps; flow [1268] in litres a second, no NaN.

    Source: Tecnojest s.r.l., by way of river.datasets.WaterFlow (2022-03-20 to 2022-05-16, local times with offset).
    """
    rows = [(features[_TIME_FIELD], flow) for features, flow in datasets.WaterFlow()]
    times_us = np.array([round(time.timestamp() * 1e6) for time, _ in rows], np.int64)
    return times_us, np.array([flow for _, flow in rows], np.float64)
