"""How every panel of the dashboards is drawn: one look, one place for units, thresholds, variables and links."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.promql import Query

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel = Builder[model.Panel]
Words = Sequence[tuple[str, str, str]]
"""What values mean: the value, what is written, its colour."""
Kind = TypeVar("Kind", stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)
WIDTH = 24
"""Columns of Grafana's grid."""
_BY_THRESHOLD = dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)
_NO_COLUMNS = ("Time", "__name__", "instance", "job")
"""What a table of Prometheus has beside the labels that are meant."""


class Step(NamedTuple):
    """A threshold: from ``above`` on the colour is that; None is the ground."""

    colour: str
    above: float | None = None


def climbing(yellow: float, red: float) -> list[Step]:
    """Return thresholds of what is the worse the higher it is."""
    return [Step(GREEN), Step(YELLOW, yellow), Step(RED, red)]


class Link(NamedTuple):
    """A place to go to from a value."""

    title: str
    url: str


def entity_links(stream: str, entity: str) -> tuple[Link, Link]:
    """Return the ways to an entity's dashboard and to its page in the console.

    Args:
        stream: what Grafana writes for the stream, such as ``${__field.labels.stream}``.
        entity: likewise for the entity.
    """
    variables = f"var-stream={stream}&var-entity={entity}&${{__url_time_range}}&${{datasource:queryparam}}"
    page = f"${{console}}/entities?stream={stream}&entity={entity}"
    return Link("Entity", f"/d/vedette-entity?{variables}"), Link("Console", page)


ENTITY_OF_ROW = entity_links("${__data.fields.Stream:percentencode}", "${__data.fields.Entity:percentencode}")
ENTITY_OF_SERIES = entity_links("${__field.labels.stream:percentencode}", "${__field.labels.entity:percentencode}")


# ---- panels ----


def number(
    title: str,
    text: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Sequence[Step] = (Step(BLUE),),
    width: int = 4,
    height: int = 4,
    decimals: int | None = None,
    links: Sequence[Link] = (),
    spark: bool = True,
    words: Words = (),
) -> stat.Panel:
    """Return a panel with the newest value of ``query``, and a spark line of those before."""
    panel = (
        _framed(stat.Panel(), title, text, width, height)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .color_scheme(_BY_THRESHOLD)
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA if spark else common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(query, 0))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if words:
        panel = panel.mappings([_written(words)])
    return panel.data_links(_links(links)) if links else panel


def lines(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    width: int = 12,
    height: int = 8,
    boundary: float | None = None,
    stacked: bool = False,
    bars: bool = False,
    least: float | None = 0.0,
    links: Sequence[Link] = (),
    interval: str = "",
) -> timeseries.Panel:
    """Return a panel of curves; ``boundary`` draws a dashed line, above which the ground is red."""
    panel = (
        _framed(timeseries.Panel(), title, text, width, height)
        .unit(unit)
        .line_width(1)
        .fill_opacity(70 if bars else 30 if stacked else 8)
        .show_points(common.VisibilityMode.AUTO)
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
    )
    if bars:
        panel = panel.draw_style(common.GraphDrawStyle.BARS)
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if least is not None:
        panel = panel.min(least)
    if boundary is not None:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED_AND_AREA)
        panel = panel.thresholds(_thresholds([Step("transparent"), Step(RED, boundary)])).thresholds_style(style)
    if links:
        panel = panel.data_links(_links(links))
    if interval:
        panel = panel.interval(interval)
    for i, query in enumerate(queries):
        panel = panel.with_target(_target(query, i))
    return panel


rates = partial(lines, unit="cps")
"""Curves of what happens in a second."""
counts = partial(lines, bars=True, interval="5m")
"""Bars of how often something happened; each stands for five minutes at least, so that what is rare can be seen."""


def rows(
    title: str,
    text: str,
    query: Query,
    *,
    columns: Sequence[tuple[str, str]],
    unit: str = "short",
    steps: Sequence[Step] = (),
    words: Words = (),
    width: int = 12,
    height: int = 8,
    links: Sequence[Link] = (),
) -> table.Panel:
    """Return a table of the newest values, largest first.

    Args:
        title: above it.
        text: what it shows.
        query: one value a row.
        columns: (label, heading) in order; the value comes last, as ("Value", heading).
        unit: of the value.
        steps: colours of the value.
        words: likewise.
        width: of the grid's columns.
        height: of the grid's rows.
        links: on every cell; ``${__data.fields.NAME}`` is a cell of the row by its heading.
    """
    headings = dict(columns)
    organise = model.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys(_NO_COLUMNS, True),
            "indexByName": {name: i for i, name in enumerate(headings)},
            "renameByName": headings,
        },
    )
    value = [model.DynamicConfigValue(id_val="unit", value=unit)]
    if steps:
        value.append(model.DynamicConfigValue(id_val="thresholds", value=_thresholds(steps).build()))
        value.append(model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    if words:
        value.append(model.DynamicConfigValue(id_val="mappings", value=[_written(words)]))
    panel = (
        _framed(table.Panel(), title, text, width, height)
        .no_value("nothing")
        .with_target(_target(query, 0).format(PromQueryFormat.TABLE).instant())
        .with_transformation(organise)
        .sort_by([common_builders.TableSortByFieldState().display_name(headings["Value"]).desc(True)])
        .override_by_name(headings["Value"], value)
    )
    return panel.data_links(_links(links)) if links else panel


def states(
    title: str, text: str, query: Query, words: Words, *, width: int = WIDTH, height: int = 6
) -> statetimeline.Panel:
    """Return a band for each series that shows which state it was in."""
    return (
        _framed(statetimeline.Panel(), title, text, width, height)
        .mappings([_written(words)])
        .color_scheme(_BY_THRESHOLD)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .with_target(_target(query, 0))
    )


YES_NO: Words = (("0", "no", RED), ("1", "yes", GREEN))
LEVEL_WORDS: Words = (("0", "none", GREEN), ("1", "watch", YELLOW), ("2", "alert", RED))
"""What vedette_incident's values mean."""


# ---- inner ----


def _framed(panel: Kind, title: str, text: str, width: int, height: int) -> Kind:
    """Return a panel of any kind with what all have."""
    return panel.title(title).description(text).datasource(SOURCE).span(width).height(height)


def _target(query: Query, i: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(chr(ord("A") + i)).expr(query.expr).range()
    return target.legend_format(query.legend) if query.legend else target


def _thresholds(steps: Sequence[Step]) -> dashboard.ThresholdsConfig:
    told = [model.Threshold(value=step.above, color=step.colour) for step in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(told)


def _written(words: Words) -> model.ValueMap:
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=word, color=colour, index=i)
            for i, (value, word, colour) in enumerate(words)
        }
    )


def _links(links: Sequence[Link]) -> list[Builder[model.DashboardLink]]:
    return [dashboard.DashboardLink(link.title).url(link.url).target_blank(False) for link in links]
