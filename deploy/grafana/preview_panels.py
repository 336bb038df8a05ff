"""A panel's JSON and the answers to its queries, as HTML and as figures for Plotly: the panels our dashboards use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from deploy.grafana.preview_asking import Asking, Drawn, Range, filled
from deploy.grafana.preview_units import SERIES, colour, mapped, ticks, toned, written

Panel = Mapping[str, Any]
Figure = dict[str, Any]
GRID = "rgba(36, 41, 46, .10)"
_FONT = {"family": "Inter, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 11.5, "color": "#5a6270"}


def targets(panel: Panel, values: Mapping[str, str], asking: Asking) -> list[Drawn]:
    """Return the series of all of a panel's queries, curves or newest values as each asks for."""
    found: list[Drawn] = []
    for target in panel["targets"]:
        ask = asking.newest if target.get("instant") else asking.curves
        found += ask(filled(target["expr"], values), target.get("legendFormat", ""))
    return found


# ---- panels that are words ----


def stat_html(panel: Panel, series: Sequence[Drawn]) -> str:
    """Return the newest value in its threshold's colour."""
    defaults = panel["fieldConfig"]["defaults"]
    known = [value for each in series for value in each.values if not math.isnan(value)]
    if not known:
        return '<p class="big faint">No data</p>'
    word, tone = _told(known[-1], defaults)
    narrow = " narrow" if panel["gridPos"]["w"] <= 4 and len(word) > 6 else ""
    return f'<p class="big{narrow}" style="color:{tone}">{escape(word)}</p>'


def table_html(panel: Panel, series: Sequence[Drawn]) -> str:
    """Return a table of labels and values with the columns, names and order of the panel's ``organize``."""
    organise = panel["transformations"][0]["options"]
    names: dict[str, str] = organise["renameByName"]
    columns = sorted(names, key=lambda name: organise["indexByName"].get(name, 99))
    value_name = names["Value"]
    style = panel["fieldConfig"]["defaults"] | {
        property_["id"]: property_["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == value_name
        for property_ in override["properties"]
    }
    rows = sorted(series, key=lambda each: -each.values[-1])
    if not rows:
        return f'<p class="none">{escape(panel["fieldConfig"]["defaults"].get("noValue", "No data"))}</p>'
    head = "".join(f"<th{' class=num' if c == 'Value' else ''}>{escape(names[c])}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(_cell(column, row, style) for column in columns)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(column: str, row: Drawn, style: Mapping[str, Any]) -> str:
    if column != "Value":
        return f"<td>{escape(row.labels.get(column, ''))}</td>"
    word, tone = _told(row.values[-1], style)
    coloured = "mappings" in style or "thresholds" in style
    return f'<td class="num"{f" style=color:{tone}" if coloured else ""}>{escape(word)}</td>'


def _told(value: float, style: Mapping[str, Any]) -> tuple[str, str]:
    """Return a value in words, and its colour."""
    told = mapped(value, style.get("mappings", ()))
    if told is not None:
        return told
    tone = toned(value, style.get("thresholds", {}).get("steps", ()))
    return written(value, style.get("unit", "short"), style.get("decimals")), tone


# ---- panels that are drawn ----


def spark(panel: Panel, series: Sequence[Drawn], shown: Range) -> Figure | None:
    """Return the small curve behind a number; None where the panel has none."""
    if panel["options"]["graphMode"] != "area" or not series or len(series[0].values) < 2:
        return None
    tone = _told(series[0].values[-1], panel["fieldConfig"]["defaults"])[1]
    line = {"x": _times(series[0]), "y": _numbers(series[0]), "mode": "lines", "hoverinfo": "skip"}
    line |= {"line": {"color": tone, "width": 1}, "fill": "tozeroy", "fillcolor": _thin(tone, 0.16)}
    least = min([v for v in series[0].values if not math.isnan(v)], default=0.0)
    axis: dict[str, Any] = {"visible": False, "fixedrange": True}
    bounds = [least if least > 0 else None, None]
    return {
        "data": [line],
        "layout": _layout(shown) | {"xaxis": axis, "yaxis": axis | {"autorangeoptions": {"minallowed": bounds[0]}},
                                    "margin": {"l": 0, "r": 0, "t": 0, "b": 0}},
    }  # fmt: skip


def curves(panel: Panel, series: Sequence[Drawn], shown: Range, marks: Sequence[Figure] = ()) -> Figure:
    """Return a panel of curves or bars; ``marks`` are the annotations' shapes."""
    defaults, custom = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["defaults"].get("custom", {})
    overrides = {o["matcher"]["options"]: o["properties"] for o in panel["fieldConfig"]["overrides"]}
    data, known = [], []
    for i, each in enumerate(_lower_first(series, overrides)):
        style = custom | {p["id"].removeprefix("custom."): p["value"] for p in overrides.get(each.name, ())}
        fixed = style.get("color", {}).get("fixedColor")
        data.append(_curve(each, style, colour(fixed) if fixed else SERIES[i % len(SERIES)]))
        known += [value for value in each.values if math.isfinite(value)]
    if custom.get("stacking", {}).get("mode") == "normal":
        known += _stacked(series)
    low = min([*known, *([defaults["min"]] if "min" in defaults else [])], default=0.0)
    high = max(known, default=1.0)
    room = (high - low) * 0.06 or 1.0
    span = [low if low == defaults.get("min") else low - room, high + room]
    at = ticks(span[0], span[1])
    layout = _layout(shown) | {"shapes": [*marks, *_boundary(defaults, custom, span)], "barmode": "stack"}
    layout["xaxis"]["nticks"] = max(3, panel["gridPos"]["w"] // 2)  # more would not lie side by side
    layout["yaxis"] = {
        "range": span, "tickvals": at, "ticktext": [written(v, defaults.get("unit", "short")) for v in at],
        "gridcolor": GRID, "zeroline": False, "fixedrange": True,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def bands(panel: Panel, series: Sequence[Drawn], shown: Range) -> Figure:
    """Return a band for each series, coloured and named by the state that it was in."""
    mappings = panel["fieldConfig"]["defaults"].get("mappings", ())
    data = []
    for each in series:
        for first, end, value in _spans(each, shown.step_s):
            word, tone = mapped(value, mappings) or (written(value), colour("text"))
            wide = (end - first) / (shown.to_s - shown.from_s) > 0.04
            data.append(
                {
                    "type": "bar", "orientation": "h", "y": [each.name], "x": [(end - first) * 1000.0],
                    "base": [_time(first)], "marker": {"color": _thin(tone, 0.78)}, "hoverinfo": "skip", "width": 0.8,
                    "text": word if wide else "", "textposition": "inside", "insidetextanchor": "start",
                    "textfont": {"color": "#ffffff", "size": 12}, "textangle": 0,
                }
            )  # fmt: skip
    layout = _layout(shown) | {"barmode": "overlay"}
    layout["yaxis"] = {"fixedrange": True, "automargin": True, "gridcolor": "rgba(0,0,0,0)"}
    return {"data": data, "layout": layout}


def annotation_marks(board: Mapping[str, Any], values: Mapping[str, str], asking: Asking) -> list[Figure]:
    """Return the shapes of a dashboard's annotations: the spans in which their queries have a value."""
    shapes = []
    for annotation in board["annotations"]["list"]:
        tone = colour(annotation["iconColor"])
        for each in asking.curves(filled(annotation["expr"], values)):
            for first, end, _ in _spans(each, asking.shown.step_s):
                where = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "x0": _time(first), "x1": _time(end)}
                shapes.append({"type": "rect", **where, "fillcolor": _thin(tone, 0.07), "line": {"width": 0}})
                for edge in (first, end):
                    where = {"x0": _time(edge), "x1": _time(edge), "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
                    line = {"color": tone, "width": 1, "dash": "dash"}
                    shapes.append({"type": "line", **where, "line": line})
    return shapes


def legend(panel: Panel, figure: Figure) -> str:
    """Return the curves' names with their colours, as they stand below a panel."""
    if not panel["options"].get("legend", {}).get("showLegend"):
        return ""
    names = [
        f'<span><i style="background:{each["legendcolor"]}"></i>{escape(each["name"])}</span>'
        for each in figure["data"]
    ]
    return f'<p class="legend">{"".join(names)}</p>'


# ---- inner ----


def _lower_first(series: Sequence[Drawn], overrides: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Drawn]:
    """Yield the series so that one which is filled down to another comes right after it: Plotly fills to the former."""
    below = {p["value"]: name for name, ps in overrides.items() for p in ps if p["id"] == "custom.fillBelowTo"}
    by_name = {each.name: each for each in series}
    for each in series:
        if each.name in below.values():
            continue
        yield each
        if each.name in below and below[each.name] in by_name:
            yield by_name[below[each.name]]


def _curve(series: Drawn, style: Mapping[str, Any], tone: str) -> Figure:
    shared = {"x": _times(series), "y": _numbers(series), "name": series.name, "legendcolor": tone}
    opacity = style.get("fillOpacity", 0) / 100.0
    if style.get("drawStyle") == "bars":
        return shared | {"type": "bar", "marker": {"color": _thin(tone, opacity), "line": {"color": tone, "width": 1}}}
    dash = "dash" if style.get("lineStyle", {}).get("fill") == "dash" else "solid"
    curve = shared | {"mode": "lines", "line": {"color": tone, "width": style.get("lineWidth", 1) * 1.15, "dash": dash}}
    if style.get("stacking", {}).get("mode") == "normal":
        return curve | {"stackgroup": "A", "fillcolor": _thin(tone, opacity)}
    if "fillBelowTo" in style:
        return curve | {"fill": "tonexty", "fillcolor": _thin(tone, opacity)}
    if opacity and style.get("lineWidth", 1):
        return curve | {"fill": "tozeroy", "fillcolor": _thin(tone, opacity)}
    return curve


def _stacked(series: Sequence[Drawn]) -> list[float]:
    """Return the sums of all series at each time."""
    sums: dict[float, float] = {}
    for each in series:
        for t, value in zip(each.times_s, each.values, strict=True):
            sums[t] = sums.get(t, 0.0) + (value if math.isfinite(value) else 0.0)
    return list(sums.values())


def _boundary(defaults: Mapping[str, Any], custom: Mapping[str, Any], span: Sequence[float]) -> list[Figure]:
    """Return the dashed lines of thresholds, and the ground above them."""
    if custom.get("thresholdsStyle", {}).get("mode") != "dashed+area":
        return []
    shapes: list[Figure] = []
    for step in defaults["thresholds"]["steps"]:
        at, tone = step.get("value"), colour(step["color"])
        if at is None or at >= span[1]:
            continue
        across = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": at}
        shapes.append({"type": "rect", **across, "y1": span[1], "fillcolor": _thin(tone, 0.08), "line": {"width": 0}})
        shapes.append({"type": "line", **across, "y1": at, "line": {"color": tone, "width": 1.2, "dash": "dash"}})
    return shapes


def _spans(series: Drawn, step_s: float) -> Iterator[tuple[float, float, float]]:
    """Yield (first, end, value) of each stretch of equal values without a gap."""
    nearest = step_s * 2.5
    open_: tuple[float, float, float] | None = None  # (first, last, value) of the stretch so far
    for t, v in zip(series.times_s, series.values, strict=True):
        if open_ is not None and v == open_[2] and t - open_[1] <= nearest:
            open_ = (open_[0], t, v)
            continue
        if open_ is not None:
            yield open_[0], t if t - open_[1] <= nearest else open_[1] + step_s, open_[2]
        open_ = (t, t, v)
    if open_ is not None:
        yield open_[0], open_[1] + step_s, open_[2]


def _layout(shown: Range) -> Figure:
    return {
        "margin": {"l": 56, "r": 12, "t": 8, "b": 24}, "paper_bgcolor": "rgba(0,0,0,0)", "font": _FONT,
        "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False, "bargap": 0.15, "hovermode": "x unified",
        "xaxis": {
            "range": [_time(shown.from_s), _time(shown.to_s)], "type": "date", "gridcolor": GRID, "fixedrange": True,
            "tickformat": "%H:%M:%S" if shown.to_s - shown.from_s < 900 else "%H:%M", "nticks": 12,
        },
    }  # fmt: skip


def _times(series: Drawn) -> list[str]:
    return [_time(t) for t in series.times_s]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")


def _numbers(series: Drawn) -> list[float | None]:
    """Return the values; JSON has no NaN, and a curve has a gap there."""
    return [value if math.isfinite(value) else None for value in series.values]


def _thin(tone: str, opacity: float) -> str:
    """Return a colour that one can see through."""
    if not tone.startswith("#"):
        return tone
    red, green, blue = (int(tone[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
