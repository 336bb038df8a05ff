"""The dashboard Entity: what one entity measured against what was expected of it, its score and its incidents."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    BLUE,
    GREEN,
    GREY,
    LEVEL_WORDS,
    ORANGE,
    RED,
    WIDTH,
    YELLOW,
    Link,
    Panel,
    Step,
    climbing,
    lines,
    number,
    states,
)
from deploy.grafana.promql import Query, largest

_ONE = '{stream="$stream", entity="$entity"}'
_CHANNELS = '{stream="$stream", entity="$entity", channel=~"$channel"}'
_ADDRESS = "${console}/entities?stream=${stream:percentencode}&entity=${entity:percentencode}"
_PAGE = (Link("Entity in the console", _ADDRESS),)


def entity() -> Dashboard:
    """Return the dashboard of one entity; the band is what its next value was expected in, one step before."""
    result = (
        board(
            "entity",
            "Vedette: entity",
            "One entity: observed against its expected band, score, incidents.",
            [
                source_variable(),
                console_variable(),
                choice("stream", "Stream", "label_values(vedette_score, stream)", several=False),
                choice("entity", "Entity", 'label_values(vedette_score{stream="$stream"}, entity)', several=False),
                choice("channel", "Channel", f"label_values(vedette_observed{_ONE}, channel)"),
            ],
        )
        .annotation(Annotation("Alerts", f"vedette_incident{_ONE} == 2", RED, "alert: {{entity}}"))
        .annotation(Annotation("Watches", f"vedette_incident{_ONE} == 1", YELLOW, "watch: {{entity}}"))
    )
    put(result, "Now", *_now())
    put(result, "Observed and expected", _band())
    put(result, "Score and incidents", *_verdicts())
    return result


def _now() -> list[Panel]:
    observed, lower, upper = (f"vedette_{name}{_CHANNELS}" for name in ("observed", "expected_lower", "expected_upper"))
    above, below = (f"(count({observed} {outside}) or vector(0))" for outside in (f"> {upper}", f"< {lower}"))
    not_below, not_above = (f"avg_over_time(({observed} {bounds})[$__range:$__interval])"
                            for bounds in (f">= bool {lower}", f"<= bool {upper}"))  # fmt: skip
    return [
        number(
            "Score",
            "Of the newest step; 1 is the boundary of an alert.",
            largest(f"vedette_score{_ONE}"),
            unit="none",
            decimals=2,
            steps=climbing(0.7, 1),
            width=6,
            links=_PAGE,
        ),
        number(
            "Incident",
            "What is open for this entity.",
            largest(f"vedette_incident{_ONE}"),
            words=LEVEL_WORDS,
            steps=climbing(1, 2),
            spark=False,
            width=6,
            links=_PAGE,
        ),
        number(
            "Outside the band",
            "Channels whose newest value is outside what was expected.",
            Query(f"{above} + {below}"),
            steps=[Step(GREEN), Step(ORANGE, 1)],
            width=6,
            links=_PAGE,
        ),
        number(
            "Inside the band",
            "Share of the time shown in which its values were inside the expected band.",
            Query(f"avg({not_below} * {not_above})"),
            unit="percentunit",
            decimals=1,
            width=6,
            spark=False,
        ),
    ]


def _band() -> timeseries.Panel:
    """Return the panel that is repeated for each channel: the band as a ground, and on it what came."""
    panel = lines(
        "$channel",
        "What came, and the band it was expected in one step before. The band is grey, the expectation dashed.",
        Query(f"vedette_expected_lower{_CHANNELS}", "lower"),
        Query(f"vedette_expected_upper{_CHANNELS}", "upper"),
        Query(f"vedette_expected{_CHANNELS}", "expected"),
        Query(f"vedette_observed{_CHANNELS}", "observed"),
        unit="none",
        width=WIDTH,
        height=9,
        least=None,
        links=_PAGE,
    )

    def line(name: str, colour: str, width: int, **more: object) -> None:
        values = {"color": {"mode": "fixed", "fixedColor": colour}, "custom.lineWidth": width} | more
        panel.override_by_name(name, [DynamicConfigValue(id_val=key, value=value) for key, value in values.items()])

    line("lower", GREY, 0, **{"custom.fillOpacity": 0})
    line("upper", GREY, 0, **{"custom.fillBelowTo": "lower", "custom.fillOpacity": 25})
    line("expected", GREY, 1, **{"custom.lineStyle": {"fill": "dash", "dash": [6, 4]}, "custom.fillOpacity": 0})
    line("observed", BLUE, 2, **{"custom.fillOpacity": 0})
    return panel.repeat("channel").repeat_direction("v")


def _verdicts() -> list[Panel]:
    return [
        lines(
            "Score",
            "Higher is more anomalous, on one scale for all entities; 1 is the boundary of an alert.",
            largest(f"vedette_score{_ONE}", called="score"),
            unit="none",
            boundary=1.0,
            width=WIDTH,
            links=_PAGE,
        ),
        states(
            "Incident",
            "What was open for this entity.",
            largest(f"vedette_incident{_ONE}", called="incident"),
            LEVEL_WORDS,
            height=4,
        ),
    ]
