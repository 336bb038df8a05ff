"""Probation: whether a network that has just taken charge makes things worse, so that it gives way by itself.

Four things count as failing. Exceptions and corrections that are no numbers do so at any time. Within the probation two
more do: forecasts far worse than the linear ones nearly everywhere, and a flood of alerts that only the network saw.

Legend: n entities in use, k of them meant, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.detection import WITNESSES, Detection
from pipeline.correcting import Correction

# The network's error over the linear forecast's above which it is far worse, and the share of entity-channels where it
# must be so. A network that has learned nothing lies near 1.
_FAR_WORSE, _NEARLY_EVERYWHERE = 1.5, 0.5
# Steps in charge before that is judged: what was seen while it was rebuilt is not yet service.
_LEAST_STEPS = 16
# Forecast errors within so many spreads would hardly have raised an alert.
_UNREMARKABLE = 3.0
# Alerts may come so many times as often as the budget, or the time before, lets expect. More is a flood where the
# chance of it is below one in a million, and never fewer than eight.
_FACTOR, _CHANCE, _LEAST_ALERTS = 4.0, 1e-6, 8
# Memory of the rate of alerts, in steps.
_RATE_STEPS = 2_000.0
_BY_FORECAST = np.array([name in ("innovation", "state") for name in WITNESSES])
"""[V] the witnesses that live from the forecast; the others would have said the same with any."""


class Failing(StrEnum):
    """How a network failed."""

    NAN = "nan"
    EXCEPTION = "exception"
    ERROR = "error"
    FLOOD = "flood"


@dataclass(frozen=True, slots=True)
class Failure:
    """That a version failed, how, and what was seen."""

    version: str
    reason: Failing
    detail: str


class AlertRate:
    """How often alerts open in the stream as a whole, per step, lately."""

    def __init__(self) -> None:
        """Begin with a rate of none."""
        self._steps = 0
        self.per_step = 0.0

    def step(self, opened: int) -> None:
        """Take the number of alerts that opened in a step."""
        self._steps += 1
        self.per_step += (opened - self.per_step) / min(float(self._steps), _RATE_STEPS)


class Probation:
    """Watches one network for so many steps after it took charge."""

    def __init__(self, version: str, steps: int, alarms_per_row: float, rate_before: float) -> None:
        """Begin to watch ``version``.

        Args:
            version: who is watched.
            steps: how long.
            alarms_per_row: alerts that the budget allows per entity and step.
            rate_before: alerts of the whole stream per step before it took charge.
        """
        self.version = version
        self._left = steps
        self._alarms_per_row = alarms_per_row
        self._rate_before = rate_before
        self._steps = 0
        self._blamed = 0
        self._expected = 0.0

    @property
    def over(self) -> bool:
        """Whether it has been watched for long enough."""
        return self._left <= 0

    def step(self, champion: Correction, n: int, blamed: int) -> Failure | None:
        """Take a step of ``n`` entities; return what is wrong, None while nothing is.

        Args:
            champion: the network that is watched.
            n: entities in use.
            blamed: alerts that opened in this step and that ``blamed`` lays to the network.
        """
        self._left -= 1
        self._steps += 1
        self._blamed += blamed
        self._expected += max(self._alarms_per_row * n, self._rate_before)
        if blamed and is_flood(self._blamed, self._expected):
            detail = f"{self._blamed} alerts that only it saw in {self._steps} steps; expected: {self._expected:.3g}"
            return Failure(self.version, Failing.FLOOD, detail)
        if n and self._steps >= _LEAST_STEPS:
            worse = float((champion.ratio(n) > _FAR_WORSE).mean())
            if worse >= _NEARLY_EVERYWHERE:
                detail = f"{worse:.0%} of its forecasts are off by over {_FAR_WORSE} times as much as the linear ones"
                return Failure(self.version, Failing.ERROR, detail)
        return None


def blamed(detection: Detection, rows: NDArray[np.intp], miss: NDArray[np.float32], trusted: NDArray[np.bool_]) -> int:
    """Return how many of the alerts that open for ``rows`` are the network's doing.

    One is where the network's correction was in use, the witness that speaks loudest lives from the forecast, and the
    linear forecast alone lay within three spreads of what came. A real event, over a whole region too, jumps away from
    the linear forecast as well, or is seen by the witnesses that need none; so it is not laid to the network.

    Args:
        detection: of the step.
        rows: [k] slots whose alerts open.
        miss: [k, C] by how many spreads the linear forecast was off; NaN where missing.
        trusted: [k, C] where the network's correction was in use.
    """
    strongest = detection.witness[rows].argmax(axis=1)
    calm = ~(np.abs(miss) > _UNREMARKABLE).any(axis=1)
    return int((_BY_FORECAST[strongest] & calm & trusted.any(axis=1)).sum())


def is_flood(count: int, expected: float) -> bool:
    """Return True where so many alerts cannot be chance.

    By Chernoff's bound on the tail of a Poisson law of four times the expected mean m: P(X ≥ k) ≤ e^(k − m) (m/k)^k.

    >>> is_flood(7, 0.0), is_flood(8, 0.0), is_flood(40, 5.0), is_flood(60, 5.0)
    (False, True, False, True)
    """
    mean = max(_FACTOR * expected, 1e-9)
    if count < _LEAST_ALERTS or count <= mean:
        return False
    return count - mean - count * math.log(count / mean) < math.log(_CHANCE)
