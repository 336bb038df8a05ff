"""The incident page, from answers to what its template shows: attention as a map, shares, scores before the opening.

Legend: T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from models.wording import channel_text, unit_text
from pipeline.console.rendering import microseconds, percent, tone
from pipeline.console.shapes import Attention, IncidentDetail, IncidentLine, Limit, Series

_TABLE_BEFORE, _TABLE_AFTER = 8, 4
"""Steps around the opening that the table shows."""
_BEFORE_STEPS = 72
"""Steps before the opening whose scores are drawn."""
_AROUND_STEPS = 144
_MOST_MOMENTS = 14
_MOST_MESSAGES = 10
_FULL_BAR = 4.0
"""Score of a witness that fills its bar: a wild one would leave nothing to see of the others."""
_HEAT_LEVELS = 8
_KINDS = ("lag", "recent", "neighbour", "example")
_NAMES = {
    "lag": "the program’s lags",
    "recent": "recent moments",
    "neighbour": "neighbours",
    "example": "past examples",
    "rest": "spread thinly",
}


def incident_view(detail: IncidentDetail) -> dict[str, Any]:
    """Return what the template needs besides what the answer holds."""
    incident, series = detail["incident"], detail["series"]
    return {
        **detail,
        "label": incident["label"],
        "limits": limit_lines(detail["limits"], series),
        "shares": _shares(detail["channels"]),
        "witnesses": _witnesses(detail["witnesses"]),
        "attention": attention_map(detail["attention"], detail["explanation"].get("attention_shares")),
        "rows": _rows(series, microseconds(incident["opened"])),
        "before": _before(series, incident),
        "around": _around(incident, series),
        "chart": chart_data(series, detail["limits"], [incident], opened=incident),
    }


def chart_data(
    series: Series,
    limits: Sequence[Limit],
    incidents: Iterable[IncidentLine],
    *,
    opened: IncidentLine | None = None,
    forecast: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the page's script draws a series from.

    Args:
        series: what was measured and expected.
        limits: lines to draw.
        incidents: spans to shade.
        opened: the incident whose opening is marked, if any.
        forecast: ``times_us``, ``values`` [C][N], and ``bands``: pairs of such, the outermost first.
    """
    last_us = series["times_us"][-1] if series["times_us"] else series["to_us"]
    named = zip(series["channels"], series["units"], strict=True)
    names = ("times_us", "values", "expected", "lower", "upper", "score", "step_us", "thinned")
    shown: dict[str, Any] = {name: value for name, value in series.items() if name in names}
    return shown | {
        "channels": [{"key": c, "name": channel_text(c), "unit": unit_text(u).strip()} for c, u in named],
        "limits": limit_lines(limits, series),
        "marks": [_mark(incident, series["step_us"], last_us) for incident in incidents],
        "opened_us": None if opened is None else microseconds(opened["opened"]),
        "tone": "alert" if opened is None else tone(opened),
        "forecast": forecast,
    }


def attention_map(rows: Sequence[Attention], shares: object = None) -> dict[str, Any] | None:
    """Return the weights by past moment and message, and by kind; None where there are none.

    Args:
        rows: what each message listed.
        shares: of all attention, by kind, those moments included that no message listed; None: it is not known.
    """
    rows = [row for row in rows if row["moments"]][:_MOST_MESSAGES]
    if not rows:
        return None
    weights: dict[tuple[str, str], list[float | None]] = {}
    times: dict[tuple[str, str], str | None] = {}
    for at, row in enumerate(rows):
        for moment in row["moments"]:
            # A lag's words are the same in each message, its time is not; an example's time is its words.
            key = (moment["what"], moment["text"])
            weights.setdefault(key, [None] * len(rows))[at] = moment["weight"]
            times.setdefault(key, moment["time"])
    heaviest = sorted(weights, key=lambda key: -max(w or 0.0 for w in weights[key]))[:_MOST_MOMENTS]
    most = max((w or 0.0 for key in heaviest for w in weights[key]), default=0.0) or 1.0
    # The newest first: down the rows one looks back.
    ordered = sorted(heaviest, key=lambda key: (_rank(key[0]), -(microseconds(times[key]) or 0), key[1]))
    all_shares = _known_shares(shares)
    return {
        "columns": [row["time"] for row in rows],
        "rows": [
            {
                "kind": kind if kind in _KINDS else "rest",
                "text": text,
                "time": times[kind, text] if kind in ("lag", "recent") else None,
                "cells": [{"weight": w, "level": _level(w, most)} for w in weights[kind, text]],
            }
            for kind, text in ordered
        ],
        "parts": _parts(all_shares or _listed_shares(rows[0])),
        "whole": bool(all_shares),
        "program": all_shares.get("lag", 0.0) if all_shares else rows[0]["program_share"],
    }


def _known_shares(shares: object) -> dict[str, float]:
    """Return the shares that a message told; empty where it told none."""
    if not isinstance(shares, Mapping):
        return {}
    return {str(kind): float(share) for kind, share in shares.items() if isinstance(share, int | float)}


def _listed_shares(row: Attention) -> dict[str, float]:
    """Return the share of each kind among the moments that a message listed."""
    shares: dict[str, float] = {}
    for moment in row["moments"]:
        shares[moment["what"]] = shares.get(moment["what"], 0.0) + (moment["weight"] or 0.0)
    return shares


def _parts(known: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the share of each kind of moment in all attention, and what is spread too thinly to be listed."""
    shares = dict.fromkeys(_KINDS, 0.0) | dict(known)
    total = sum(shares.values())
    scale = 1.0 / total if total > 1.0 else 1.0
    shares = {kind: share * scale for kind, share in shares.items()} | {"rest": max(0.0, 1.0 - total)}
    parts, begins = [], 0.0
    for kind, share in shares.items():
        if share >= 0.005:
            name = _NAMES.get(kind, kind)
            parts.append({"kind": kind if kind in _NAMES else "rest", "name": name, "share": share, "begins": begins})
            begins += share
    return parts


def _rank(kind: str) -> int:
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _level(weight: float | None, most: float) -> int:
    return 0 if not weight else max(1, round(_HEAT_LEVELS * min(1.0, weight / most)))


def _shares(channels: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for channel in channels:
        share = channel.get("share")
        if isinstance(share, int | float):
            side = {1: " above", -1: " below"}.get(channel.get("sign", 0), "") if share >= 0.005 else ""
            text = f"{percent(share)}{side}"
            rows.append({"name": str(channel.get("channel", "")), "share": float(share), "text": text})
    return sorted(rows, key=lambda row: -row["share"])


def _witnesses(scores: Mapping[str, float | None]) -> list[dict[str, Any]]:
    most = min(_FULL_BAR, max([1.25, *(score or 0.0 for score in scores.values())]))
    return [
        {"name": name, "score": score, "share": (score or 0.0) / most, "mark": 1.0 / most}
        for name, score in scores.items()
    ]


def limit_lines(limits: Sequence[Limit], series: Series) -> list[dict[str, Any]]:
    """Return the lines that can be drawn: one a value, those of channels that are there."""
    lines = []
    for limit in limits:
        for side, value in (("above", limit["above"]), ("below", limit["below"])):
            if value is not None and limit["channel"] in series["channels"]:
                lines.append({"channel": limit["channel"], "name": limit["name"], "side": side, "value": value})
    return lines


def _mark(incident: IncidentLine, step_us: int, last_us: int) -> dict[str, Any]:
    opened, resolved = microseconds(incident["opened"]), microseconds(incident["resolved"])
    started = microseconds(incident["started"])
    begins = opened if started is None else started
    ends = last_us if resolved is None else resolved
    begins = last_us if begins is None else begins
    return {"from_us": begins - step_us, "to_us": max(ends, begins), "tone": tone(incident)}


def _rows(series: Series, opened_us: int | None) -> list[dict[str, Any]]:
    """Return the steps around the opening, or the newest ones where it is not among them."""
    times = series["times_us"]
    at = next((i for i, t in enumerate(times) if opened_us is not None and t >= opened_us), len(times) - 1)
    return [
        {
            "time": times[i],
            "opened": times[i] == opened_us,
            "score": series["score"][i],
            "cells": [_cell(series, c, i) for c in range(len(series["channels"]))],
        }
        for i in range(max(0, at - _TABLE_BEFORE), min(len(times), at + _TABLE_AFTER + 1))
    ]


def _cell(series: Series, c: int, i: int) -> dict[str, Any]:
    value, lower, upper = series["values"][c][i], series["lower"][c][i], series["upper"][c][i]
    known = lower is not None and upper is not None
    out = value is not None and lower is not None and upper is not None and not lower <= value <= upper
    return {"value": value, "lower": lower if known else None, "upper": upper, "out": out}


def _before(series: Series, incident: IncidentLine) -> dict[str, Any]:
    """Return the scores of the last steps up to the opening."""
    opened_us, started_us = microseconds(incident["opened"]), microseconds(incident["started"])
    nothing: dict[str, Any] = {"times_us": [], "score": [], "opened_us": opened_us, "started_us": started_us}
    if opened_us is None or started_us is None:
        return nothing
    least_us = opened_us - _BEFORE_STEPS * series["step_us"]
    pairs = [(t, s) for t, s in zip(series["times_us"], series["score"], strict=True) if least_us <= t <= opened_us]
    return nothing | {"times_us": [t for t, _ in pairs], "score": [s for _, s in pairs]}


def _around(incident: IncidentLine, series: Series) -> str:
    """Return the address of the entity around the incident."""
    query = {"stream": incident["stream"], "entity": incident["entity"]}
    opened_us, resolved_us = microseconds(incident["opened"]), microseconds(incident["resolved"])
    if opened_us is not None:
        room_us = _AROUND_STEPS * series["step_us"]
        until_us = (resolved_us or opened_us) + room_us
        query |= {"from": minute_text(opened_us - room_us), "to": minute_text(until_us)}
    return f"/entities?{urlencode(query, errors='replace')}"


def minute_text(time_us: int) -> str:
    """Return a time as the browser's own date field writes it, in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M")
