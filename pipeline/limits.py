"""Limits: lines that a channel should not cross, told when it has crossed them and before it does.

Legend: n entities in use, C channels, L limits, N horizons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.explanation import BAND_COVERAGE, BAND_SPREADS
from models.state import RowState
from models.wording import channel_text, clean, duration_text, moment_text, number_text, unit_text
from pipeline.casebook import Casebook, Finding, Moment, StreamFacts
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, Incident, Json, Kind, Phase, Severity, Tier, rfc3339
from pipeline.lifecycle import LifePolicy, check_n_of_m

# The forecaster's spread is √(π/2)·mean |error|, and the mean |error| of Student's t with 4 degrees of freedom is 1, so
# this many spreads are its unit. Its tails are those of forecast errors: with normal ones, "90 %" would be said of
# crossings that come true less often, because the spread of ordinary days hides rare large errors.
_T4_UNIT = math.sqrt(2.0 / math.pi)
_CAME_TRUE = "came true"


@dataclass(frozen=True, slots=True)
class Limit:
    """A line for one channel; exactly one of ``above`` and ``below``."""

    name: str
    channel: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    """Where an open incident is over; the limit itself if None."""
    needed: int = 1
    window: int = 1
    """Crossed in ``needed`` of the last ``window`` steps."""
    probability: float | None = None
    """How sure the forecast must be to warn before; None: it does not warn."""
    tier: Tier = Tier.ALERT
    severity: Severity = Severity.CRITICAL

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"limit {self.name!r} must have exactly one of above and below")
        check_n_of_m(self.needed, self.window)
        if self.probability is not None and not 0 < self.probability < 1:
            raise ValueError(f"limit {self.name!r} needs a probability between 0 and 1, not {self.probability}")
        if self.clear is not None and (self.clear - self.value) * self.sign > 0:
            raise ValueError(f"limit {self.name!r} would clear at {self.clear}, which still crosses {self.value}")

    @property
    def value(self) -> float:
        """The line itself."""
        return self.above if self.above is not None else self.below if self.below is not None else math.nan

    @property
    def sign(self) -> int:
        """+1 where crossing is going above, -1 where it is going below."""
        return 1 if self.above is not None else -1


class Limits:
    """Watches the limits of a stream, observed and forecast."""

    def __init__(
        self,
        facts: StreamFacts,
        limits: Sequence[Limit],
        channels: Sequence[str],
        units: Sequence[str],
        horizons: Sequence[int],
        life: LifePolicy | None = None,
        forecast_life: LifePolicy | None = None,
        capacity: int = 64,
    ) -> None:
        """Watch ``limits``; a name may occur once per channel.

        Args:
            facts: about the stream.
            limits: the L limits, in the units of the channels.
            channels: names of the C channels.
            units: their UCUM units.
            horizons: steps ahead that forecasts are made for.
            life: of observed crossings; ``needed`` and ``window`` are the limits' own.
            forecast_life: of warnings; two forecasts in a row by default, as one outlier moves one forecast.
            capacity: entity slots to begin with.
        """
        self.limits = tuple(limits)
        self.facts = facts
        self.horizons = np.asarray(horizons, np.int64)  # [N]
        self._units = [unit_text(units[channels.index(limit.channel)]) for limit in limits]
        self._columns = np.array([channels.index(limit.channel) for limit in limits], np.intp)  # [L]
        self._sign = np.array([limit.sign for limit in limits], np.float64)
        self._value = np.array([limit.value for limit in limits], np.float64)
        self._clear = np.array([limit.value if limit.clear is None else limit.clear for limit in limits], np.float64)
        self._probability = np.array([limit.probability or np.inf for limit in limits], np.float64)
        lanes = [f"{limit.channel}/{limit.name}" for limit in limits]
        if len(set(lanes)) != len(lanes):
            raise ValueError(f"a limit's name may occur once per channel: {sorted(lanes)}")
        life = life or LifePolicy()
        forecast_life = forecast_life or LifePolicy(needed=2, window=2, clear_after=2)
        self.state = RowState(capacity)
        self.state.add("crossing", (len(limits),), np.bool_)
        self.state.add("crossing_step", (len(limits),), np.int64)
        self.state.add("measured", (len(limits),), np.bool_)
        n_of_m = [(limit.needed, limit.window) for limit in limits]
        self._observed = Casebook(Kind.LIMIT, lanes, facts, life, self.state, n_of_m=n_of_m)
        self._forecast = Casebook(Kind.FORECAST_LIMIT, lanes, facts, forecast_life, self.state, prefix="ahead_")
        self._now_us = 0

    @property
    def books(self) -> tuple[Casebook, Casebook]:
        """The books of observed and of forecast crossings."""
        return self._observed, self._forecast

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)

    def open_incidents(self) -> list[Incident]:
        """Return all open incidents of both kinds."""
        return self._observed.open_incidents() + self._forecast.open_incidents()

    def step(
        self, frames: Frames, expected: NDArray[np.float64], spread: NDArray[np.float32], now_us: int
    ) -> list[AlertMessage]:
        """Take what came; return which limits are crossed now, and which no longer.

        Args:
            frames: the step; a missing channel neither crosses nor clears.
            expected: [n, C] what was forecast for it, to be told along.
            spread: [n, C] of that forecast.
            now_us: the wall clock.
        """
        self._now_us = now_us
        if not self.limits:
            return []
        values = frames.values[:, self._columns]  # [n, L]
        measured = ~np.isnan(values)
        crossing = self._sign * values > self._sign * self._value
        held = self._sign * values > self._sign * self._clear
        held |= crossing
        n = len(values)
        self.state["crossing"][:n] = np.where(measured, crossing, self.state["crossing"][:n])
        self.state["crossing_step"][:n][measured] = frames.step
        self.state["measured"][:n] = measured
        moment = Moment(frames.step, frames.time_us, now_us)

        def describe(row: int, lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            return self._describe_crossing(frames, expected, spread, row, lane, phase, incident)

        return self._observed.advance(moment, crossing, held, measured, describe)

    def look_ahead(
        self,
        forecast: NDArray[np.float64],
        spread: NDArray[np.float32],
        time_us: int,
        now_us: int | None = None,
    ) -> list[AlertMessage]:
        """Take the forecast made after a step; return which limits will probably be crossed, and which no longer.

        Args:
            forecast: [n, C, N] expected values at the horizons.
            spread: [n, C, N] robust standard deviation of their errors.
            time_us: end of the step after which the forecast was made.
            now_us: the wall clock; that of the last ``step`` if None.
        """
        if not np.isfinite(self._probability).any() or len(self.horizons) == 0:
            return []
        n = len(forecast)
        moment = Moment(time_us // self.facts.step_us, time_us, self._now_us if now_us is None else now_us)
        beyond = self._sign[:, None] * (forecast[:, self._columns] - self._value[:, None])  # [n, L, N]
        probability = _t4_above(-beyond / (_T4_UNIT * spread[:, self._columns]))
        probability = np.nan_to_num(probability, nan=0.0)
        highest = probability.max(axis=2)  # [n, L]
        known, crossing = self.state["measured"][:n], self.state["crossing"][:n]
        evidence = (highest >= self._probability) & known & ~crossing
        # Half as sure is the lower level at which a warning is taken back.
        held = (highest >= self._probability / 2) & ~crossing

        def describe(row: int, lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            if phase is Phase.RESOLVED:
                return self._describe_end(row, lane, incident, bool(crossing[row, lane]))
            return self._describe_warning(moment, probability[row, lane], forecast, spread, row, lane)

        return self._forecast.advance(moment, evidence, held, known | crossing, describe)

    def revise(self, new: Frames, now_us: int) -> list[AlertMessage]:
        """Return the corrections that late data brings: crossings that opened at the revised step and were none.

        An incident stays where the newest measured step crosses the limit on its own.

        Args:
            new: a revised frame; its ``rows`` say whose.
            now_us: the wall clock.
        """
        assert new.rows is not None
        moment = Moment(new.step, new.time_us, now_us)
        messages: list[AlertMessage] = []
        for row, lane in self._observed.places():
            at, incident = np.flatnonzero(new.rows == row), self._observed.get(row, lane)
            if len(at) == 0 or incident is None or new.time_us not in (incident.started_us, incident.opened_us):
                continue
            value = float(new.values[at[0], self._columns[lane]])
            if self._sign[lane] * value > self._sign[lane] * self._value[lane]:
                continue
            if self.state["crossing_step"][row, lane] <= new.step:
                self.state["crossing"][row, lane] = False
            if not self.state["crossing"][row, lane]:
                reason = f"With late data {self._value_text(lane, value)}: it was not {self._line_text(lane)}."
                messages += self._observed.withdraw(moment, row, lane, reason)
        return messages

    def rows_shared(self, slots: NDArray[np.intp]) -> Json:
        """Return the open incidents of ``slots`` for a checkpoint."""
        return {"observed": self._observed.rows_shared(slots), "forecast": self._forecast.rows_shared(slots)}

    def restore_rows_shared(self, slots: NDArray[np.intp], saved: Any) -> None:
        """Take up what ``rows_shared`` gave, in the same order."""
        self._observed.restore_rows_shared(np.asarray(slots), saved["observed"])
        self._forecast.restore_rows_shared(np.asarray(slots), saved["forecast"])

    def clear(self) -> None:
        """Forget all open incidents and say nothing: they live on elsewhere."""
        self._observed.clear()
        self._forecast.clear()

    # ---- inner ----

    def _describe_crossing(
        self, frames: Frames, expected: NDArray[np.float64], spread: NDArray[np.float32],
        row: int, lane: int, phase: Phase, incident: Incident | None,
    ) -> Finding:  # fmt: skip
        limit, c = self.limits[lane], self._columns[lane]
        value = float(frames.values[row, c])
        if phase is Phase.RESOLVED:
            assert incident is not None
            lasted = duration_text((frames.time_us - incident.started_us) / 1e6)
            reason = f"{self._value_text(lane, value)}, no longer {self._line_text(lane)}; it lasted {lasted}."
            return Finding(reason, incident.explanation)
        middle, half = float(expected[row, c]), BAND_SPREADS * float(spread[row, c])
        band = ""
        if not math.isnan(middle):
            band = f"; expected was {number_text(middle - half)} to {number_text(middle + half)}"
        explanation: dict[str, Json] = {
            **self._facts_of(lane), "observed": value, "expected": middle, "lower": middle - half,
            "upper": middle + half, "band_coverage": BAND_COVERAGE,
        }  # fmt: skip
        reason = f"{self._value_text(lane, value)}, {self._line_text(lane)}{band}."
        return Finding(reason, explanation, tier=limit.tier, severity=limit.severity)

    def _describe_warning(
        self, moment: Moment, probability: NDArray[np.float64], forecast: NDArray[np.float64],
        spread: NDArray[np.float32], row: int, lane: int,
    ) -> Finding:  # fmt: skip
        limit, c = self.limits[lane], self._columns[lane]
        sure = np.flatnonzero(probability >= self._probability[lane])
        h = int(sure[0]) if len(sure) else int(np.argmax(probability))  # the first horizon at which it is sure enough
        ahead_us = int(self.horizons[h]) * self.facts.step_us
        middle, half = float(forecast[row, c, h]), BAND_SPREADS * float(spread[row, c, h])
        # "100 %" would promise more than any forecast can.
        chance = min(max(int(100 * float(probability[h])), 1), 99)
        reason = (
            f"{channel_text(limit.channel)} will probably be {self._line_text(lane)} in "
            f"{duration_text(ahead_us / 1e6)} ({moment_text(moment.time_us + ahead_us)}): the chance is {chance} %, "
            f"the forecast {number_text(middle - half)} to {number_text(middle + half)}{self._units[lane]}."
        )
        explanation: dict[str, Json] = {
            **self._facts_of(lane), "probability": float(probability[h]), "distribution": "student_t4",
            "crosses_at": rfc3339(moment.time_us + ahead_us), "horizon_steps": int(self.horizons[h]),
            "expected": middle, "lower": middle - half, "upper": middle + half, "band_coverage": BAND_COVERAGE,
            "probability_by_horizon": dict(zip(map(str, self.horizons.tolist()), probability.tolist(), strict=True)),
        }  # fmt: skip
        return Finding(reason, explanation, tier=limit.tier, severity=limit.severity)

    def _describe_end(self, row: int, lane: int, incident: Incident | None, crossed: bool) -> Finding:
        explanation = incident.explanation if incident is not None else {}
        name = channel_text(self.limits[lane].channel)
        if crossed:
            return Finding(f"It came true: {name} is {self._line_text(lane)}.", explanation, note=_CAME_TRUE)
        return Finding(f"{name} will probably not be {self._line_text(lane)} any more.", explanation)

    def _value_text(self, lane: int, value: float) -> str:
        return f"{channel_text(self.limits[lane].channel)} is {number_text(value)}{self._units[lane]}"

    def _line_text(self, lane: int) -> str:
        limit = self.limits[lane]
        side = "above" if limit.sign > 0 else "below"
        return f'{side} its limit "{clean(limit.name)}" of {number_text(limit.value)}{self._units[lane]}'

    def _facts_of(self, lane: int) -> dict[str, Json]:
        limit = self.limits[lane]
        return {"channel": limit.channel, "limit": limit.name, "above": limit.above, "below": limit.below}


def _t4_above(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(T > t) for Student's t with 4 degrees of freedom; NaN stays NaN.

    Source: F(t) = 1/2 + 3/8·u·(1 − u²/12) with u = t/√(1 + t²/4), the closed form of the distribution for ν = 4.
    """
    u = t / np.sqrt(1 + np.clip(t, -1e6, 1e6) ** 2 / 4)
    u = np.clip(u, -2.0, 2.0)
    return np.clip(0.5 - 0.375 * u * (1 - u * u / 12), 0.0, 1.0)
