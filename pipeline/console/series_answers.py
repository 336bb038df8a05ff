"""Series of one entity for charts: the recent steps from memory, older ones from the history, with their band.

Legend: T steps, C channels, N horizons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.explanation import BAND_COVERAGE, BAND_SPREADS
from pipeline.console.shapes import Forecast, Limit, Number, Series
from pipeline.console.sources import ShownStream, Sources
from pipeline.history import HistoryError
from pipeline.history_series import EntitySeries, series
from pipeline.live import LiveSeries, LiveStep

MOST_POINTS = 2_000
"""Of a series: as many as a wide screen can show."""
_QUANTILES = {"0.025": -1.0, "0.1": -0.5522, "0.25": -0.2668, "0.75": 0.2668, "0.9": 0.5522, "0.975": 1.0}
"""Quantiles of the t-distribution with 4 degrees of freedom, which forecast errors follow (see ``BAND_SPREADS``), in
halves of the band of 95 %: t(0.9) = 1.5332 and t(0.75) = 0.7407 over t(0.975) = 2.7764."""


class SeriesAnswers:
    """Puts the recent steps and the history together."""

    def __init__(self, sources: Sources, patience_s: float = 5.0) -> None:
        """Read the history for at most about ``patience_s`` for one answer."""
        self._sources = sources
        self._patience_s = patience_s

    def series(self, stream: ShownStream, entity: str, from_us: int, to_us: int) -> Series:
        """Return what is known of an entity in [from_us, to_us), at most ``MOST_POINTS`` steps of it."""
        recent = self._recent(stream, entity)
        begins_us = int(recent.times_us[0]) if recent is not None and len(recent.times_us) else to_us
        older, trouble = None, None
        if begins_us > from_us:
            older, trouble = self._older(stream, entity, from_us, min(begins_us, to_us))
        columns = _joined(older, recent, from_us, to_us, len(stream.channels))
        return _shown(stream, entity, columns, from_us, to_us, trouble)

    def unknown(self, stream: str, entity: str, trouble: str) -> Series:
        """Return an empty series, and why it is."""
        nothing = ShownStream(stream, (), (), 1)
        return _shown(nothing, entity, _joined(None, None, 0, 0, 0), 0, 0, trouble)

    def limits(self, stream: ShownStream) -> list[Limit]:
        """Return the lines that a stream's channels should not cross."""
        return [{"channel": x.channel, "name": x.name, "above": x.above, "below": x.below} for x in stream.limits]

    def _recent(self, stream: ShownStream, entity: str) -> LiveSeries | None:
        row = self._sources.live.row(stream.name, entity)
        recent = None if row is None else self._sources.live.recent(stream.name, row)
        return recent if recent is not None and recent.values.shape[1:] == (len(stream.channels),) else None

    def _older(
        self, stream: ShownStream, entity: str, from_us: int, to_us: int
    ) -> tuple[EntitySeries | None, str | None]:
        store = self._sources.history
        if store is None:
            return None, "nothing is kept of what is longer ago: history.directory is null"
        try:
            found = series(
                store, stream.name, entity, stream.channels, stream.step_us, from_us, to_us,
                patience_s=self._patience_s,
            )  # fmt: skip
        except HistoryError as error:
            return None, str(error)
        slow = found.complete_from_us > from_us
        return found, "there was no time to read all of it: ask for a shorter time" if slow else None


def forecast_of(step: LiveStep, row: int, spread: NDArray[Any] | None, step_us: int) -> Forecast | None:
    """Return what is expected next of an entity; None where nobody forecast.

    Args:
        step: the newest one.
        row: the entity's.
        spread: [n, C, N] of the forecast's error; None where it is not known.
        step_us: length of a step.
    """
    if step.forecast is None or not step.horizons:
        return None
    values = step.forecast[row]  # [C, N]
    quantiles = {}
    if spread is not None:
        half = BAND_SPREADS * spread[row].astype(np.float64)
        quantiles = {name: _columns((values + times * half).T) for name, times in _QUANTILES.items()}
    return {
        "made_us": int(step.time_us),
        "times_us": [int(step.time_us + h * step_us) for h in step.horizons],
        "values": _columns(values.T),
        "quantiles": quantiles,
    }


def finite(values: NDArray[Any]) -> list[Number]:
    """Return [T] numbers, rounded to what six digits say; None where one is not finite."""
    return [float(f"{v:.6g}") if -1e308 < v < 1e308 else None for v in values.tolist()]


class _Columns:
    """T steps, oldest first."""

    def __init__(
        self, times_us: NDArray[Any], values: NDArray[Any], expected: NDArray[Any], spread: NDArray[Any],
        score: NDArray[Any], level: NDArray[Any],
    ) -> None:  # fmt: skip
        self.all = (times_us, values, expected, spread, score, level)

    def take(self, rows: NDArray[Any]) -> _Columns:
        return _Columns(*(column[rows] for column in self.all))


def _joined(older: EntitySeries | None, recent: LiveSeries | None, from_us: int, to_us: int, channels: int) -> _Columns:
    """Return the older steps and then the recent ones, as far as they are in time."""
    parts = [
        _Columns(s.times_us, s.values, s.expected, s.spread, s.score, s.level)
        for s in (older, recent)
        if s is not None and len(s.times_us)
    ]
    if not parts:
        blank = np.zeros((0, channels))
        return _Columns(np.zeros(0, np.int64), blank, blank, blank, np.zeros(0), np.zeros(0, np.int8))
    whole = _Columns(*(np.concatenate(columns) for columns in zip(*(part.all for part in parts), strict=True)))
    times_us = whole.all[0]
    return whole.take(np.flatnonzero((times_us >= from_us) & (times_us < to_us)))


def _thinned(columns: _Columns) -> tuple[_Columns, bool]:
    """Return at most MOST_POINTS steps: of those that would share a spot the one with the highest score."""
    times_us, score = columns.all[0], np.nan_to_num(columns.all[4])
    T = len(times_us)
    if T <= MOST_POINTS:
        return columns, False
    spot = ((times_us - times_us[0]) * MOST_POINTS) // (times_us[-1] - times_us[0] + 1)
    order = np.lexsort((score, spot))
    last = np.append(np.flatnonzero(np.diff(spot[order])), T - 1)
    return columns.take(np.sort(order[last])), True


def _shown(
    stream: ShownStream, entity: str, columns: _Columns, from_us: int, to_us: int, trouble: str | None
) -> Series:
    columns, thinned = _thinned(columns)
    times_us, values, expected, spread, score, level = columns.all
    with np.errstate(invalid="ignore", over="ignore"):
        half = BAND_SPREADS * np.where(spread > 0, spread, np.nan).astype(np.float64)
        lower, upper = expected - half, expected + half
    return {
        "stream": stream.name,
        "entity": entity,
        "channels": list(stream.channels),
        "units": list(stream.units),
        "step_us": stream.step_us,
        "times_us": times_us.tolist(),
        "values": _columns(values),
        "expected": _columns(expected),
        "lower": _columns(lower),
        "upper": _columns(upper),
        "score": finite(score),
        "level": [int(x) for x in level.tolist()],
        "from_us": from_us,
        "to_us": to_us,
        "thinned": thinned,
        "band_coverage": BAND_COVERAGE,
        "trouble": trouble,
    }


def _columns(values: NDArray[Any]) -> list[list[Number]]:
    """Return [T, C] as C lists."""
    return [finite(values[:, c]) for c in range(values.shape[1])]
