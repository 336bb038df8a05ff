"""The dashboard Daemon: throughput, lag, latency, stages, memory, errors, state, history, database and receivers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import board, choice, console_variable, put, source_variable
from deploy.grafana.daemon_outputs import OF_STREAM, ONE, state, told
from deploy.grafana.drawing import (
    GREEN,
    RED,
    YES_NO,
    Link,
    Panel,
    climbing,
    counts,
    lines,
    number,
    rates,
    states,
)
from deploy.grafana.process import resources, restarts
from deploy.grafana.promql import RATE, Query, each_stream, increase, largest, quantile, rate, total

_SYSTEM = (Link("System in the console", "${console}/system"),)


def daemon() -> Dashboard:
    """Return the dashboard of the daemon itself, of all its replicas or of one."""
    result = board(
        "daemon",
        "Vedette: daemon",
        "Throughput, lag, latency, stages, memory, errors, state, history, database and receivers.",
        [
            source_variable(),
            console_variable(),
            choice("instance", "Instance", "label_values(vedette_build_info, instance)"),
            choice("stream", "Stream", f"label_values(vedette_entities{ONE}, stream)"),
        ],
    )
    result.annotation(restarts("vedette_build_info"))
    put(result, "Health", *_health())
    put(result, "Throughput and lag", *_throughput())
    put(result, "Latency and resources", *_latency())
    put(result, "Errors", *_errors())
    put(result, "State, history and database", *state())
    put(result, "What is told to others", *told())
    return result


def _health() -> list[Panel]:
    return [
        states("Ready", "When /readyz said yes.", Query(f"vedette_ready{ONE}", "{{instance}}"), YES_NO, width=8),
        states(
            "Broker reachable",
            "Whether the broker answered.",
            Query(f"vedette_source_reachable{ONE}", "{{instance}}"),
            YES_NO,
            width=8,
        ),
        number(
            "Since the loop turned",
            "A loop that stands for two minutes fails /livez.",
            Query(f"time() - min(vedette_loop_tick_timestamp_seconds{ONE})"),
            unit="s",
            steps=climbing(30, 120),
            height=6,
            links=_SYSTEM,
        ),
        number(
            "Partitions",
            "Partitions that are read, of all replicas.",
            total(f"vedette_assigned_partitions{ONE}"),
            height=6,
            links=_SYSTEM,
        ),
    ]


def _throughput() -> list[Panel]:
    lag = total(f"vedette_consumer_lag_records{ONE}", by="topic, partition")
    return [
        rates("Readings", "Readings taken in per second.", rate(f"vedette_readings_total{OF_STREAM}", by="stream")),
        rates("Records", "Records read per second.", rate(f"vedette_records_consumed_total{ONE}", by="topic")),
        lines(
            "Lag",
            "Records between us and the end of each partition.",
            lag.with_legend("{{topic}}/{{partition}}"),
            links=_SYSTEM,
        ),
        lines(
            "Event time behind the clock",
            "Its least is a step and its grace; a line that climbs at 1 s/s stands still.",
            largest(f"vedette_event_time_lag_seconds{OF_STREAM}", by="stream"),
            unit="s",
        ),
        rates(
            "Steps closed and revised",
            "Steps per second that were scored, and scored again for late readings.",
            rate(f"vedette_frames_closed_total{OF_STREAM}", by="stream", called="closed"),
            each_stream(rate(f"vedette_revisions_total{OF_STREAM}", by="stream", called="revised"), OF_STREAM),
        ),
        lines(
            "Entities",
            "Known, and of those not scored yet.",
            total(f"vedette_entities{OF_STREAM}", by="stream"),
            total(f"vedette_entities_warming{OF_STREAM}", by="stream", called="warming"),
        ),
    ]


def _latency() -> list[Panel]:
    buckets = f"vedette_commit_seconds_bucket{ONE}"
    return [
        lines(
            "Time in each stage",
            "Seconds per second; what is not spent waiting in poll is the load. commit holds checkpoint.",
            rate(f"vedette_stage_seconds_total{ONE}", by="stage"),
            unit="s",
            stacked=True,
        ),
        lines(
            "Commit",
            "Time to make outputs durable and commit.",
            quantile(0.5, buckets, called="median"),
            quantile(0.99, buckets, called="99 of 100"),
            unit="s",
        ),
        *resources("vedette_build_info", "the daemon", "the daemon, without training jobs"),
    ]


def _errors() -> list[Panel]:
    unusable = increase(f"vedette_checkpoints_unusable_total{ONE}", by="reason").or_zero()
    return [
        rates(
            "Refused",
            "Records and readings that went to the dead-letter topic, per second.",
            each_stream(rate(f"vedette_dead_letters_total{OF_STREAM}", by="stream, reason"), OF_STREAM),
        ),
        rates(
            "Late",
            "Readings per second that came after their step could be revised.",
            rate(f"vedette_readings_late_total{OF_STREAM}", by="stream"),
        ),
        states(
            "Circuit breaker",
            "Whether a flood of bad records is held off.",
            largest(f"vedette_circuit_breaker_open{OF_STREAM}", by="stream"),
            [("0", "closed", GREEN), ("1", "open", RED)],
            width=8,
        ),
        counts(
            "Rebalances",
            "Times that the partitions changed.",
            Query(f"increase(vedette_rebalances_total{ONE}{RATE})", "{{instance}}"),
            width=8,
            height=6,
        ),
        counts(
            "Checkpoint errors",
            "Checkpoints that could not be written or taken up.",
            increase(f"vedette_checkpoint_errors_total{ONE}", called="not written"),
            unusable.with_legend("not usable {{reason}}"),
            width=8,
            height=6,
        ),
        counts(
            "Skipped",
            "Records that retention removed before they were read; nobody has scored them.",
            increase(f"vedette_records_skipped_total{ONE}", by="topic"),
            height=6,
        ),
        counts(
            "Steps without the network",
            "Steps that only the linear forecast made, for there was no memory for the network.",
            increase(f"vedette_model_steps_missed_total{OF_STREAM}", by="stream"),
            height=6,
        ),
    ]
