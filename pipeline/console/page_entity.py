"""The entity page, from answers to what its template shows: ranges to choose from, and the forecast with its quantiles.

Legend: C channels, N horizons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pipeline.console.page_incident import chart_data, limit_lines, minute_text
from pipeline.console.shapes import EntityDetail, Forecast
from pipeline.console.troubles import BadQuestion

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = 3_600_000_000
_RANGES = (("6 h", 6), ("1 day", 24), ("3 days", 72), ("1 week", 168), ("4 weeks", 672), ("1 year", 8_760))
"""Words and hours."""


def range_us(text: str | None, name: str) -> int | None:
    """Return the moment that somebody asked for, UTC where no zone is named; None where none was.

    Raises:
        BadQuestion: if it is none.
    """
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return (at - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise BadQuestion(f"{name} is {text[:40]!r}, which is no time; say it like 2026-03-01T18:00") from error


def last_us(hours: str | None) -> int | None:
    """Return the length that was chosen by a button; None where it is none that there is a button for."""
    found = next((each for _, each in _RANGES if str(each) == hours), None)
    return None if found is None else found * _HOUR_US


def entity_view(detail: EntityDetail, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template needs besides what the answer holds.

    Args:
        detail: the answer.
        chosen: what the address asked for: ``hours``, ``from``, ``to`` where they were there.
    """
    series, forecast = detail["series"], detail["forecast"]
    drawn, names = _drawn(forecast)
    # A forecast far beyond the range would squeeze it: it belongs to a range that ends now.
    near = forecast is not None and bool(series["times_us"]) and forecast["made_us"] <= series["times_us"][-1] + 1
    return {
        **detail,
        "troubles": detail["trouble"],
        "limits": limit_lines(detail["limits"], series),
        "chart": chart_data(series, detail["limits"], detail["incidents"], forecast=drawn if near else None),
        "ranges": _ranges(detail, chosen),
        "custom": "from" in chosen,
        "from_text": minute_text(series["from_us"]),
        "to_text": minute_text(series["to_us"]),
        "forecast_rows": _forecast_rows(drawn),
        "forecast_names": names,
    }


def _ranges(detail: EntityDetail, chosen: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    place = {"stream": detail["stream"], "entity": detail["entity"]}
    at = f"/entities?{urlencode(place, errors='replace')}"
    ranges = [("newest", at, not chosen)]
    return ranges + [(words, f"{at}&hours={hours}", chosen.get("hours") == str(hours)) for words, hours in _RANGES]


def _drawn(forecast: Forecast | None) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    """Return the forecast as it is drawn, its quantiles as nested bands, and what the outermost are called."""
    if forecast is None:
        return None, None
    drawn: dict[str, Any] = {name: forecast[name] for name in ("times_us", "values")}
    names = sorted((name for name in forecast["quantiles"]), key=_quantile)
    pairs = list(zip(names, reversed(names), strict=True))[: len(names) // 2]
    drawn["bands"] = [(forecast["quantiles"][low], forecast["quantiles"][high]) for low, high in pairs]
    return drawn, pairs[0] if pairs else None


def _quantile(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.5


def _forecast_rows(forecast: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if forecast is None:
        return []
    low, high = next(iter(forecast["bands"]), (None, None))
    return [
        {
            "time": at_us,
            "cells": [
                {"value": line[n], "low": _at(low, c, n), "high": _at(high, c, n)}
                for c, line in enumerate(forecast["values"])
            ],
        }
        for n, at_us in enumerate(forecast["times_us"])
    ]


def _at(lines: Sequence[Sequence[float | None]] | None, c: int, n: int) -> float | None:
    return None if lines is None else lines[c][n]
