"""The dashboard Overview: what is wrong now, in which stream, of which kind, and whether the watch itself stands."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    BLUE,
    ENTITY_OF_ROW,
    ENTITY_OF_SERIES,
    GREEN,
    LEVEL_WORDS,
    ORANGE,
    RED,
    YELLOW,
    Link,
    Panel,
    Query,
    Step,
    lines,
    number,
    rows,
    states,
)

_INCIDENTS = (Link("Incidents in the console", "${console}/incidents?state=open"),)
_DAEMON = (Link("Daemon", "/d/vedette-daemon?${__url_time_range}&${datasource:queryparam}"),)


def overview() -> Dashboard:
    """Return the dashboard that somebody opens who has a minute."""
    result = board(
        "overview",
        "Vedette: overview",
        "What is wrong now, by stream and kind of incident, and whether the watch itself stands.",
        [source_variable(), console_variable(), choice("stream", "Stream", "label_values(vedette_entities, stream)")],
    ).annotation(
        Annotation(
            "Alerts of the watch itself",
            'ALERTS{alertname=~"Vedette.*", alertstate="firing"}',
            ORANGE,
            "{{alertname}}",
        )
    )
    put(result, "Now", *_now())
    put(result, "What is wrong", *_wrong())
    put(result, "How it came", *_history())
    return result


def _now() -> list[Panel]:
    return [
        number(
            "Open alerts",
            Query('sum(vedette_open_incidents{stream=~"$stream", tier="alert"}) or vector(0)'),
            text="Incidents that may wake someone and have not cleared.",
            steps=[Step(GREEN), Step(RED, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Open watches",
            Query('sum(vedette_open_incidents{stream=~"$stream", tier="watch"}) or vector(0)'),
            text="Incidents that deserve a look and wake nobody.",
            steps=[Step(GREEN), Step(YELLOW, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Silent or stuck",
            Query('sum(vedette_open_incidents{stream=~"$stream", kind=~"silence|stuck"}) or vector(0)'),
            text="Sensors that say nothing, or always the same.",
            steps=[Step(GREEN), Step(ORANGE, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Entities watched",
            Query('sum(vedette_entities{stream=~"$stream"}) - sum(vedette_entities_warming{stream=~"$stream"})'),
            text="Entities that are scored: all that are known without those of which too little is known yet.",
        ),
        number(
            "Behind the clock",
            Query('max(vedette_event_time_lag_seconds{stream=~"$stream"})'),
            text="How far the newest closed step is behind the clock, of the stream that is furthest behind.",
            unit="s",
            steps=[Step(BLUE)],
            links=_DAEMON,
        ),
        number(
            "Ready",
            Query("min(vedette_ready)"),
            text="Whether every daemon is ready: joined, restored, its broker reachable.",
            steps=[Step(RED), Step(GREEN, 1)],
            words=[("0", "no", RED), ("1", "yes", GREEN)],
            spark=False,
            links=_DAEMON,
        ),
    ]


def _wrong() -> list[Panel]:
    return [
        rows(
            "Open incidents by stream and kind",
            Query('sum by (stream, kind, tier) (vedette_open_incidents{stream=~"$stream"}) > 0'),
            text="What is open now. The reason of each is in the console.",
            columns=[("stream", "Stream"), ("kind", "Kind"), ("tier", "Tier"), ("Value", "Open")],
            width=6,
            links=_INCIDENTS,
        ),
        rows(
            "Entities in an incident by site",
            Query('count by (stream, site) (vedette_incident{stream=~"$stream"} > 0)'),
            text="A site with many is one event, or has lost its power; streams[].site_of says who belongs to it.",
            columns=[("stream", "Stream"), ("site", "Site"), ("Value", "Entities")],
            width=6,
            links=_INCIDENTS,
        ),
        rows(
            "Entities in an incident",
            Query('topk(100, vedette_incident{stream=~"$stream"} > 0)'),
            text="Click for the entity's curves or its page in the console.",
            columns=[("stream", "Stream"), ("entity", "Entity"), ("Value", "Incident")],
            words=LEVEL_WORDS,
            width=6,
            links=ENTITY_OF_ROW,
        ),
        rows(
            "Largest scores",
            Query('topk(20, vedette_score{stream=~"$stream"})'),
            text="Of the newest step; 1 is the boundary of an alert.",
            columns=[("stream", "Stream"), ("entity", "Entity"), ("Value", "Score")],
            steps=[Step(GREEN), Step(YELLOW, 0.7), Step(RED, 1)],
            width=6,
            links=ENTITY_OF_ROW,
        ),
        states(
            "Streams",
            Query('max by (stream) (vedette_incident{stream=~"$stream"})', "{{stream}}"),
            text="The worst that any entity of a stream was in.",
            words=LEVEL_WORDS,
        ),
    ]


def _history() -> list[Panel]:
    return [
        lines(
            "Open incidents",
            [Query('sum by (stream, kind) (vedette_open_incidents{stream=~"$stream"})', "{{stream}}: {{kind}}")],
            text="By stream and kind, watches and alerts.",
            stacked=True,
        ),
        lines(
            "Alert messages",
            [
                Query(
                    'sum by (stream, tier) (increase(vedette_alerts_total{stream=~"$stream", phase="opened"}'
                    "[$__rate_interval]))",
                    "{{stream}}: {{tier}}",
                )
            ],
            text="Incidents that were opened, by stream and tier.",
            bars=True,
            interval="5m",
        ),
        lines(
            "Largest score",
            [Query('vedette_score_max{stream=~"$stream"}', "{{stream}}")],
            text="Of the newest step of each stream; 1 is the boundary.",
            boundary=1.0,
            unit="none",
        ),
        lines(
            "Scores of the entities that stand out",
            [Query('topk(10, vedette_score{stream=~"$stream"})', "{{stream}}/{{entity}}")],
            text="The ten largest at each moment; click for the entity.",
            boundary=1.0,
            unit="none",
            links=ENTITY_OF_SERIES,
        ),
        lines(
            "Alerts of a week against the budget",
            [
                Query(
                    'sum by (stream) (increase(vedette_incidents_alerted_total{stream=~"$stream", kind="anomaly"}[7d]))'
                    ' / (7 * max by (stream) (vedette_alert_budget_per_day{stream=~"$stream"})'
                    ' * sum by (stream) (vedette_entities{stream=~"$stream"}))',
                    "{{stream}}",
                )
            ],
            text="Anomalies that became an alert within 7 days, true ones too, for each that the budget allows.",
            unit="percentunit",
            boundary=2.0,
            width=8,
        ),
        lines(
            "Held back",
            [
                Query(
                    'sum by (stream, reason) (increase(vedette_suppressed_total{stream=~"$stream"}[$__rate_interval]))'
                    ' or on (stream) 0 * sum by (stream) (vedette_entities{stream=~"$stream"})',
                    "{{stream}} {{reason}}",
                )
            ],
            text="Openings that were not said: maintenance, cooldown, flapping, an operator's label.",
            bars=True,
            width=8,
            interval="5m",
        ),
        lines(
            "Refused readings",
            [
                Query(
                    'sum by (stream, reason) (rate(vedette_dead_letters_total{stream=~"$stream"}[$__rate_interval]))'
                    ' or on (stream) 0 * sum by (stream) (vedette_entities{stream=~"$stream"})',
                    "{{stream}} {{reason}}",
                )
            ],
            text="Records and readings that went to the dead-letter topic.",
            unit="cps",
            width=8,
        ),
    ]
