"""The dashboard Models: who is in charge, who wants to be, how well they forecast, and how training goes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    BLUE,
    GREEN,
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

_S = '{stream=~"$stream"}'
_EACH = f" or on (stream) 0 * sum by (stream) (vedette_entities{_S})"
"""What has not happened since the start has no series: it is zero for every stream that there is."""
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
        .annotation(
            Annotation(
                "Swaps", f"changes(vedette_model_swaps_total{_S}[$__interval]) > 0", BLUE, "{{stream}}: another model"
            )
        )
        .annotation(
            Annotation(
                "Rollbacks",
                f"changes(vedette_model_rollbacks_total{_S}[$__interval]) > 0",
                RED,
                "{{stream}}: given up, {{reason}}",
            )
        )
    )
    put(result, "Who is in charge", *_charge())
    put(result, "How well they forecast", *_forecasts())
    put(result, "Training", *_training())
    return result


def _charge() -> list[Panel]:
    return [
        rows(
            "In charge",
            Query(f"vedette_model_info{_S} == 1"),
            text="The champion of each stream; linear is the forecaster that is always there.",
            columns=[("stream", "Stream"), ("version", "Version"), ("Value", "In charge")],
            words=[("1", "yes", GREEN)],
            width=8,
            links=_MODELS,
        ),
        rows(
            "Trained",
            Query(f"time() - vedette_model_created_timestamp_seconds{_S}"),
            text="How long ago the champion was trained. A stream without one is not listed.",
            columns=[("stream", "Stream"), ("Value", "Age")],
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 7 * _DAY_S), Step(ORANGE, 30 * _DAY_S)],
            width=5,
            links=_MODELS,
        ),
        number(
            "Challengers in shadow",
            Query('count(vedette_forecast_loss{stream=~"$stream", role="challenger"}) or vector(0)'),
            text="Models that run beside their champion and want to be it.",
            width=3,
            height=8,
            spark=False,
            links=_MODELS,
        ),
        lines(
            "Swaps and rollbacks",
            [
                Query(
                    f"sum by (stream) (increase(vedette_model_swaps_total{_S}[$__rate_interval])){_EACH}",
                    "{{stream}}: swapped",
                ),
                Query(
                    f"sum by (stream, reason) (increase(vedette_model_rollbacks_total{_S}[$__rate_interval])){_EACH}",
                    "{{stream}}: rolled back {{reason}}",
                ),
                Query(
                    f"sum by (stream) (increase(vedette_models_unusable_total{_S}[$__rate_interval])){_EACH}",
                    "{{stream}}: could not be loaded",
                ),
            ],
            text="Times that another model took charge, was given up, or could not be loaded.",
            width=8,
            bars=True,
            interval="5m",
        ),
    ]


def _forecasts() -> list[Panel]:
    lower, upper = f"vedette_expected_lower{_S}", f"vedette_expected_upper{_S}"
    inside = f"(vedette_observed{_S} >= bool {lower}) * (vedette_observed{_S} <= bool {upper})"
    return [
        lines(
            "Forecast loss",
            [Query(f"vedette_forecast_loss{_S}", "{{stream}}: {{role}}")],
            text="Mean absolute error in spreads of linear forecast, champion and challenger; lower is better.",
            unit="none",
        ),
        lines(
            "Champion against the linear forecast",
            [
                Query(
                    'vedette_forecast_loss{stream=~"$stream", role="champion"}'
                    ' / on (stream) vedette_forecast_loss{stream=~"$stream", role="linear"}',
                    "{{stream}}",
                )
            ],
            text="Loss of the champion as a share of the linear forecast's. Above 1 it does harm.",
            unit="percentunit",
            boundary=1.0,
        ),
        lines(
            "Calibration: values inside their band",
            [Query(f"avg by (stream) ({inside})", "{{stream}}")],
            text="Share of channels whose newest value is inside the expected band, which promises 0.95.",
            unit="percentunit",
        ),
        lines(
            "Trusted",
            [Query(f"vedette_model_trusted_share{_S}", "{{stream}}")],
            text="Share of entity-channels whose linear forecast the network corrects, for it has earned that.",
            unit="percentunit",
        ),
        lines(
            "Largest score: champion and challenger",
            [
                Query(f"vedette_score_max{_S}", "{{stream}}: champion"),
                Query(f"vedette_shadow_score_max{_S}", "{{stream}}: challenger"),
            ],
            text="Of the newest step; 1 is the boundary.",
            unit="none",
            boundary=1.0,
        ),
        lines(
            "Drift",
            [
                Query(
                    f"sum by (stream, signal) (increase(vedette_drifts_total{_S}[$__rate_interval])){_EACH}",
                    "{{stream}} {{signal}}",
                )
            ],
            text="Drifts seen, by what drifted: the scores, or the forecast errors.",
            bars=True,
            interval="5m",
        ),
    ]


def _training() -> list[Panel]:
    return [
        states(
            "Jobs",
            Query(f"vedette_training_running{_S}", "{{stream}}"),
            text="When a training job ran.",
            words=[("0", "idle", "#8e8e8e"), ("1", "training", BLUE)],
            width=12,
        ),
        lines(
            "Progress",
            [Query(f"vedette_training_progress_ratio{_S}", "{{stream}}")],
            text="Share of the running job's epochs that are done.",
            unit="percentunit",
            width=12,
            height=6,
        ),
        lines(
            "Jobs ended",
            [
                Query(
                    f"sum by (stream, outcome) (increase(vedette_training_jobs_total{_S}[$__rate_interval])){_EACH}",
                    "{{stream}} {{outcome}}",
                )
            ],
            text="By what came of them; failed, hung and died are failures, the rest is training at work.",
            bars=True,
            interval="5m",
            width=8,
        ),
        rows(
            "Last ended well",
            Query(f"time() - vedette_training_success_timestamp_seconds{_S}"),
            text="How long ago a job last ended well, whatever came of it.",
            columns=[("stream", "Stream"), ("Value", "Ago")],
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 2 * _DAY_S), Step(RED, 7 * _DAY_S)],
            width=4,
        ),
        rows(
            "Next job",
            Query(f"vedette_training_next_timestamp_seconds{_S} - time()"),
            text="When the schedule starts the next one; a stream that is trained only when asked is not listed.",
            columns=[("stream", "Stream"), ("Value", "In")],
            unit="s",
            width=4,
        ),
        rows(
            "Labels that act",
            Query(f"sum by (stream, kind) (vedette_labels{_S}){_EACH}"),
            text="Operators' labels that change decisions now.",
            columns=[("stream", "Stream"), ("kind", "Kind"), ("Value", "Labels")],
            width=4,
        ),
        lines(
            "Since the scheduler last turned",
            [
                Query("time() - max(vedette_scheduler_tick_timestamp_seconds)", "scheduler"),
            ],
            text="It turns every second; a scheduler that is dead starts no training.",
            unit="s",
            width=4,
            boundary=120.0,
        ),
    ]
