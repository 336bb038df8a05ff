"""The dashboard Entity: what one entity measured against what was expected of it, its score and its incidents."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    BLUE,
    GREEN,
    LEVEL_WORDS,
    ORANGE,
    RED,
    WIDTH,
    YELLOW,
    Link,
    Panel,
    Query,
    Step,
    lines,
    number,
    states,
)

_ONE = 'stream="$stream", entity="$entity"'
_CHANNELS = _ONE + ', channel=~"$channel"'
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
                choice("channel", "Channel", f"label_values(vedette_observed{{{_ONE}}}, channel)"),
            ],
        )
        .annotation(Annotation("Alerts", f"vedette_incident{{{_ONE}}} == 2", RED, "alert: {{entity}}"))
        .annotation(Annotation("Watches", f"vedette_incident{{{_ONE}}} == 1", YELLOW, "watch: {{entity}}"))
    )
    put(result, "Now", *_now())
    put(result, "Observed and expected", _band())
    put(result, "Score and incidents", *_verdicts())
    return result


def _now() -> list[Panel]:
    return [
        number(
            "Score",
            Query(f"max(vedette_score{{{_ONE}}})"),
            text="Of the newest step; 1 is the boundary of an alert.",
            unit="none",
            decimals=2,
            steps=[Step(GREEN), Step(YELLOW, 0.7), Step(RED, 1)],
            width=6,
            links=_PAGE,
        ),
        number(
            "Incident",
            Query(f"max(vedette_incident{{{_ONE}}})"),
            text="What is open for this entity.",
            words=LEVEL_WORDS,
            steps=[Step(GREEN), Step(YELLOW, 1), Step(RED, 2)],
            spark=False,
            width=6,
            links=_PAGE,
        ),
        number(
            "Outside the band",
            Query(
                f"(count(vedette_observed{{{_CHANNELS}}} > vedette_expected_upper{{{_CHANNELS}}}) or vector(0)) + "
                f"(count(vedette_observed{{{_CHANNELS}}} < vedette_expected_lower{{{_CHANNELS}}}) or vector(0))"
            ),
            text="Channels whose newest value is outside what was expected.",
            steps=[Step(GREEN), Step(ORANGE, 1)],
            width=6,
            links=_PAGE,
        ),
        number(
            "Inside the band",
            Query(
                f"avg(avg_over_time((vedette_observed{{{_CHANNELS}}} >= bool vedette_expected_lower{{{_CHANNELS}}})"
                "[$__range:$__interval]) * "
                f"avg_over_time((vedette_observed{{{_CHANNELS}}} <= bool vedette_expected_upper{{{_CHANNELS}}})"
                "[$__range:$__interval]))"
            ),
            text="Share of the time shown in which its values were inside the expected band.",
            unit="percentunit",
            decimals=1,
            steps=[Step(BLUE)],
            width=6,
            spark=False,
        ),
    ]


def _band() -> timeseries.Panel:
    """Return the panel that is repeated for each channel: the band as a ground, and on it what came."""
    queries = [
        Query(f"vedette_expected_lower{{{_CHANNELS}}}", "lower"),
        Query(f"vedette_expected_upper{{{_CHANNELS}}}", "upper"),
        Query(f"vedette_expected{{{_CHANNELS}}}", "expected"),
        Query(f"vedette_observed{{{_CHANNELS}}}", "observed"),
    ]
    text = "What came, and the band it was expected in one step before. The band is grey, the expectation dashed."
    panel = lines("$channel", queries, text=text, unit="none", width=WIDTH, height=9, least=None, links=_PAGE)

    def line(name: str, colour: str, width: int, **more: object) -> None:
        values = {"color": {"mode": "fixed", "fixedColor": colour}, "custom.lineWidth": width} | more
        panel.override_by_name(name, [DynamicConfigValue(id_val=key, value=value) for key, value in values.items()])

    line("lower", "#8e8e8e", 0, **{"custom.fillOpacity": 0})
    line("upper", "#8e8e8e", 0, **{"custom.fillBelowTo": "lower", "custom.fillOpacity": 25})
    line("expected", "#8e8e8e", 1, **{"custom.lineStyle": {"fill": "dash", "dash": [6, 4]}, "custom.fillOpacity": 0})
    line("observed", BLUE, 2, **{"custom.fillOpacity": 0})
    return panel.repeat("channel").repeat_direction("v")


def _verdicts() -> list[Panel]:
    return [
        lines(
            "Score",
            [Query(f"max(vedette_score{{{_ONE}}})", "score")],
            text="Higher is more anomalous, on one scale for all entities; 1 is the boundary of an alert.",
            unit="none",
            boundary=1.0,
            width=WIDTH,
            links=_PAGE,
        ),
        states(
            "Incident",
            Query(f"max(vedette_incident{{{_ONE}}})", "incident"),
            text="What was open for this entity.",
            words=LEVEL_WORDS,
            height=4,
        ),
    ]
