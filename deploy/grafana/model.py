"""The dashboard Models: who is in charge, who wants to be, how well they forecast, and how training goes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Link,
    Panel,
    Step,
    climbing,
    counts,
    lines,
    number,
    rows,
    states,
)
from deploy.grafana.promql import Query, chosen, each_stream, folded, increase, total

_S = chosen("stream")
_MODELS = (Link("Models in the console", "${console}/models"),)
_DAY_S = 86_400.0


def model() -> Dashboard:
    """Return the dashboard of models and their training."""
    result = (
        board(
            "models",
            "Vedette: models",
            "Champion and challenger, forecast loss and calibration, training, drift, swaps and rollbacks.",
            [
                source_variable(),
                console_variable(),
                choice("stream", "Stream", "label_values(vedette_model_info, stream)"),
            ],
        )
        .annotation(_changes("Swaps", "vedette_model_swaps_total", BLUE, "{{stream}}: another model"))
        .annotation(_changes("Rollbacks", "vedette_model_rollbacks_total", RED, "{{stream}}: given up, {{reason}}"))
    )
    put(result, "Who is in charge", *_charge())
    put(result, "How well they forecast", *_forecasts())
    put(result, "Training", *_training())
    return result


def _changes(name: str, counter: str, colour: str, title: str) -> Annotation:
    return Annotation(name, f"changes({counter}{_S}[$__interval]) > 0", colour, title)


def _of_role(role: str) -> str:
    return chosen("stream", only=f'role="{role}"')


def _charge() -> list[Panel]:
    challengers = f"vedette_forecast_loss{_of_role('challenger')}"
    rollbacks = increase(f"vedette_model_rollbacks_total{_S}", by="stream, reason")
    return [
        rows(
            "In charge",
            "The champion of each stream; linear is the forecaster that is always there.",
            Query(f"vedette_model_info{_S} == 1"),
            columns=[("stream", "Stream"), ("version", "Version"), ("Value", "In charge")],
            words=[("1", "yes", GREEN)],
            width=8,
            links=_MODELS,
        ),
        rows(
            "Trained",
            "How long ago the champion was trained. A stream without one is not listed.",
            Query(f"time() - vedette_model_created_timestamp_seconds{_S}"),
            columns=[("stream", "Stream"), ("Value", "Age")],
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 7 * _DAY_S), Step(ORANGE, 30 * _DAY_S)],
            width=5,
            links=_MODELS,
        ),
        number(
            "Challengers in shadow",
            "Models that run beside their champion and want to be it.",
            Query(f"count({challengers})").or_zero(),
            width=3,
            height=8,
            spark=False,
            links=_MODELS,
        ),
        counts(
            "Swaps and rollbacks",
            "Times that another model took charge, was given up, or could not be loaded.",
            each_stream(increase(f"vedette_model_swaps_total{_S}", by="stream", called="swapped"), _S),
            each_stream(rollbacks.with_legend("{{stream}}: rolled back {{reason}}"), _S),
            each_stream(increase(f"vedette_models_unusable_total{_S}", by="stream", called="could not be loaded"), _S),
            width=8,
        ),
    ]


def _forecasts() -> list[Panel]:
    observed, lower, upper = (f"vedette_{name}{_S}" for name in ("observed", "expected_lower", "expected_upper"))
    champion, linear = (f"vedette_forecast_loss{_of_role(role)}" for role in ("champion", "linear"))
    inside = f"({observed} >= bool {lower}) * ({observed} <= bool {upper})"
    return [
        lines(
            "Forecast loss",
            "Mean absolute error in spreads of linear forecast, champion and challenger; lower is better.",
            Query(f"vedette_forecast_loss{_S}", "{{stream}}: {{role}}"),
            unit="none",
        ),
        lines(
            "Champion against the linear forecast",
            "Loss of the champion as a share of the linear forecast's. Above 1 it does harm.",
            Query(f"{champion} / on (stream) {linear}", "{{stream}}"),
            unit="percentunit",
            boundary=1.0,
        ),
        lines(
            "Calibration: values inside their band",
            "Share of channels whose newest value is inside the expected band, which promises 0.95.",
            Query(folded("avg", inside, by="stream"), "{{stream}}"),
            unit="percentunit",
        ),
        lines(
            "Trusted",
            "Share of entity-channels whose linear forecast the network corrects, for it has earned that.",
            Query(f"vedette_model_trusted_share{_S}", "{{stream}}"),
            unit="percentunit",
        ),
        lines(
            "Largest score: champion and challenger",
            "Of the newest step; 1 is the boundary.",
            Query(f"vedette_score_max{_S}", "{{stream}}: champion"),
            Query(f"vedette_shadow_score_max{_S}", "{{stream}}: challenger"),
            unit="none",
            boundary=1.0,
        ),
        counts(
            "Drift",
            "Drifts seen, by what drifted: the scores, or the forecast errors.",
            each_stream(increase(f"vedette_drifts_total{_S}", by="stream, signal"), _S),
        ),
    ]


def _training() -> list[Panel]:
    return [
        states(
            "Jobs",
            "When a training job ran.",
            Query(f"vedette_training_running{_S}", "{{stream}}"),
            [("0", "idle", GREY), ("1", "training", BLUE)],
            width=12,
        ),
        lines(
            "Progress",
            "Share of the running job's epochs that are done.",
            Query(f"vedette_training_progress_ratio{_S}", "{{stream}}"),
            unit="percentunit",
            width=12,
            height=6,
        ),
        counts(
            "Jobs ended",
            "By what came of them; failed, hung and died are failures, the rest is training at work.",
            each_stream(increase(f"vedette_training_jobs_total{_S}", by="stream, outcome"), _S),
            width=8,
        ),
        rows(
            "Last ended well",
            "How long ago a job last ended well, whatever came of it.",
            Query(f"time() - vedette_training_success_timestamp_seconds{_S}"),
            columns=[("stream", "Stream"), ("Value", "Ago")],
            unit="s",
            steps=climbing(2 * _DAY_S, 7 * _DAY_S),
            width=4,
        ),
        rows(
            "Next job",
            "When the schedule starts the next one; a stream that is trained only when asked is not listed.",
            Query(f"vedette_training_next_timestamp_seconds{_S} - time()"),
            columns=[("stream", "Stream"), ("Value", "In")],
            unit="s",
            width=4,
        ),
        rows(
            "Labels that act",
            "Operators' labels that change decisions now.",
            Query(each_stream(total(f"vedette_labels{_S}", by="stream, kind"), _S).expr),
            columns=[("stream", "Stream"), ("kind", "Kind"), ("Value", "Labels")],
            width=4,
        ),
        lines(
            "Since the scheduler last turned",
            "It turns every second; a scheduler that is dead starts no training.",
            Query("time() - max(vedette_scheduler_tick_timestamp_seconds)", "scheduler"),
            unit="s",
            width=4,
            boundary=120.0,
        ),
    ]
