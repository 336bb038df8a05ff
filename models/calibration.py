"""From a false-alarm budget to a boundary: what one alarm per so many rows asks of a p-value.

Scores of all detectors lie on one scale, log p / log α: 1.0 is the boundary.
"""

from __future__ import annotations

import math

LEAST_ROWS = 100.0  # a budget of more than one alarm per hundred rows is no budget; boundaries stop there


def rows_per_alarm(step_s: float, budget: float, period_s: float) -> float:
    """Return how many rows one entity may pass between false alarms.

    Args:
        step_s: length of a step, > 0.
        budget: alarms allowed per period, > 0.
        period_s: length of the period, > 0.

    Raises:
        ValueError: if one of them is not positive and finite.

    >>> rows_per_alarm(300.0, 1.0, 30 * 86400.0)
    8640.0
    """
    for name, value in (("step_s", step_s), ("budget", budget), ("period_s", period_s)):
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    return max(LEAST_ROWS, period_s / step_s / budget)


def boundary(rows: float, looks: int = 1) -> float:
    """Return the surprise −ln p at the boundary when ``looks`` statistics are looked at in each of ``rows`` rows."""
    return math.log(rows) + math.log(looks)
