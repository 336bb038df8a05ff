"""What every dashboard has: its frame, its rows, its variables, its annotations, and the way to the others."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.drawing import SOURCE, Panel

CONSOLE = "http://localhost:9464"
"""Where the console answers until somebody says otherwise at the top of a dashboard."""


def board(uid: str, title: str, text: str, variables: Sequence[Builder[model.VariableModel]]) -> dashboard.Dashboard:
    """Return an empty dashboard with its variables, and the ways to the other dashboards and the console."""
    result = (
        dashboard.Dashboard(title)
        .uid(f"vedette-{uid}")
        .description(text)
        .tags(["vedette"])
        .timezone("browser")
        .readonly()
        .refresh("30s")
        .time("now-24h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Vedette")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["vedette"])
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            dashboard.DashboardLink("Console")
            .type(model.DashboardLinkType.LINK)
            .icon("external link")
            .url("${console}/")
            .target_blank(True)
        )
    )
    for variable in variables:
        result = result.with_variable(variable)
    return result


def put(result: dashboard.Dashboard, heading: str, *panels: Panel) -> None:
    """Append a row with ``panels`` to a dashboard, in the order of reading."""
    result.with_row(dashboard.Row(heading))
    for panel in panels:
        result.with_panel(panel)


def source_variable() -> dashboard.DatasourceVariable:
    """Return the choice of the Prometheus that is asked."""
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def console_variable() -> dashboard.TextBoxVariable:
    """Return where the links to the console lead."""
    here = model.VariableOption(text=CONSOLE, value=CONSOLE)
    return dashboard.TextBoxVariable("console").label("Console").default_value(CONSOLE).current(here).options([here])


def choice(name: str, label: str, query: str, *, several: bool = True) -> dashboard.QueryVariable:
    """Return a variable with the values of a label; ``several``: any number of them, all at first."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if not several:
        return variable
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    # Without a value of its own, "All" of 10,000 names would be spelt out in each query.
    return variable.multi(True).include_all(True).all_value(".*").current(everything)


class Annotation(Builder[model.AnnotationQuery]):
    """Marks on the curves where a query has a value."""

    def __init__(self, name: str, expr: str, colour: str, title: str) -> None:
        """Call it ``name``; ``title`` is what a mark says, with ``{{label}}`` filled in."""
        self._query = _TitledAnnotation(title)
        self._query.name, self._query.expr, self._query.icon_color = name, expr, colour
        self._query.datasource = SOURCE

    def build(self) -> model.AnnotationQuery:
        """Return it."""
        return self._query


class _TitledAnnotation(model.AnnotationQuery):
    """Prometheus annotations take a title, which the SDK's model does not know."""

    def __init__(self, title: str) -> None:
        super().__init__(enable=True)
        self.title_format = title

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self.title_format, "step": "30s"}
