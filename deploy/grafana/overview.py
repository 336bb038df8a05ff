"""The dashboard Overview: what is wrong now, in which stream, of which kind, and whether the watch itself stands."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    ENTITY_OF_ROW,
    ENTITY_OF_SERIES,
    GREEN,
    LEVEL_WORDS,
    ORANGE,
    RED,
    YELLOW,
    YES_NO,
    Link,
    Panel,
    Step,
    climbing,
    counts,
    lines,
    number,
    rates,
    rows,
    states,
)
from deploy.grafana.promql import Query, chosen, each_stream, increase, largest, least, rate, total

_S = chosen("stream")
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
            "Incidents that may wake someone and have not cleared.",
            _open('tier="alert"'),
            steps=[Step(GREEN), Step(RED, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Open watches",
            "Incidents that deserve a look and wake nobody.",
            _open('tier="watch"'),
            steps=[Step(GREEN), Step(YELLOW, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Silent or stuck",
            "Sensors that say nothing, or always the same.",
            _open('kind=~"silence|stuck"'),
            steps=[Step(GREEN), Step(ORANGE, 1)],
            links=_INCIDENTS,
        ),
        number(
            "Entities watched",
            "Entities that are scored: all that are known without those of which too little is known yet.",
            Query(f"sum(vedette_entities{_S}) - sum(vedette_entities_warming{_S})"),
        ),
        number(
            "Behind the clock",
            "How far the newest closed step is behind the clock, of the stream that is furthest behind.",
            largest(f"vedette_event_time_lag_seconds{_S}"),
            unit="s",
            links=_DAEMON,
        ),
        number(
            "Ready",
            "Whether every daemon is ready: joined, restored, its broker reachable.",
            least("vedette_ready"),
            steps=[Step(RED), Step(GREEN, 1)],
            words=YES_NO,
            spark=False,
            links=_DAEMON,
        ),
    ]


def _open(which: str) -> Query:
    """Return how many incidents of a kind are open."""
    return total(f"vedette_open_incidents{chosen('stream', only=which)}").or_zero()


def _wrong() -> list[Panel]:
    return [
        rows(
            "Open incidents by stream and kind",
            "What is open now. The reason of each is in the console.",
            Query(f"sum by (stream, kind, tier) (vedette_open_incidents{_S}) > 0"),
            columns=[("stream", "Stream"), ("kind", "Kind"), ("tier", "Tier"), ("Value", "Open")],
            width=6,
            links=_INCIDENTS,
        ),
        rows(
            "Entities in an incident by site",
            "A site with many is one event, or has lost its power; streams[].site_of says who belongs to it.",
            Query(f"count by (stream, site) (vedette_incident{_S} > 0)"),
            columns=[("stream", "Stream"), ("site", "Site"), ("Value", "Entities")],
            width=6,
            links=_INCIDENTS,
        ),
        rows(
            "Entities in an incident",
            "Click for the entity's curves or its page in the console.",
            Query(f"topk(100, vedette_incident{_S} > 0)"),
            columns=[("stream", "Stream"), ("entity", "Entity"), ("Value", "Incident")],
            words=LEVEL_WORDS,
            width=6,
            links=ENTITY_OF_ROW,
        ),
        rows(
            "Largest scores",
            "Of the newest step; 1 is the boundary of an alert.",
            Query(f"topk(20, vedette_score{_S})"),
            columns=[("stream", "Stream"), ("entity", "Entity"), ("Value", "Score")],
            steps=climbing(0.7, 1),
            width=6,
            links=ENTITY_OF_ROW,
        ),
        states(
            "Streams",
            "The worst that any entity of a stream was in.",
            largest(f"vedette_incident{_S}", by="stream"),
            LEVEL_WORDS,
        ),
    ]


def _history() -> list[Panel]:
    opened = chosen("stream", only='phase="opened"')
    anomalies = chosen("stream", only='kind="anomaly"')
    budget = f"max by (stream) (vedette_alert_budget_per_day{_S}) * sum by (stream) (vedette_entities{_S})"
    return [
        lines(
            "Open incidents",
            "By stream and kind, watches and alerts.",
            total(f"vedette_open_incidents{_S}", by="stream, kind").with_legend("{{stream}}: {{kind}}"),
            stacked=True,
        ),
        counts(
            "Alert messages",
            "Incidents that were opened, by stream and tier.",
            increase(f"vedette_alerts_total{opened}", by="stream, tier").with_legend("{{stream}}: {{tier}}"),
        ),
        lines(
            "Largest score",
            "Of the newest step of each stream; 1 is the boundary.",
            Query(f"vedette_score_max{_S}", "{{stream}}"),
            boundary=1.0,
            unit="none",
        ),
        lines(
            "Scores of the entities that stand out",
            "The ten largest at each moment; click for the entity.",
            Query(f"topk(10, vedette_score{_S})", "{{stream}}/{{entity}}"),
            boundary=1.0,
            unit="none",
            links=ENTITY_OF_SERIES,
        ),
        lines(
            "Alerts of a week against the budget",
            "Anomalies that became an alert within 7 days, true ones too, for each that the budget allows.",
            Query(
                f"sum by (stream) (increase(vedette_incidents_alerted_total{anomalies}[7d])) / (7 * {budget})",
                "{{stream}}",
            ),
            unit="percentunit",
            boundary=2.0,
            width=8,
        ),
        counts(
            "Held back",
            "Openings that were not said: maintenance, cooldown, flapping, an operator's label.",
            each_stream(increase(f"vedette_suppressed_total{_S}", by="stream, reason"), _S),
            width=8,
        ),
        rates(
            "Refused readings",
            "Records and readings that went to the dead-letter topic.",
            each_stream(rate(f"vedette_dead_letters_total{_S}", by="stream, reason"), _S),
            width=8,
        ),
    ]
