"""The dashboard Daemon: throughput, lag, latency, stages, memory, errors, state, history, database and receivers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import Annotation, board, choice, console_variable, put, source_variable
from deploy.grafana.daemon_outputs import EACH, OF_STREAM, ONE, RATE, state, told
from deploy.grafana.drawing import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    Link,
    Panel,
    Query,
    Step,
    lines,
    number,
    states,
)

_OURS = f" and on (instance, job) vedette_build_info{ONE}"
"""Every exporter has the process metrics: only ours are meant."""
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
    restarted = f"changes(process_start_time_seconds{ONE}[$__interval]) > 0{_OURS}"
    result.annotation(Annotation("Restarts", restarted, BLUE, "{{instance}} started"))
    put(result, "Health", *_health())
    put(result, "Throughput and lag", *_throughput())
    put(result, "Latency and resources", *_latency())
    put(result, "Errors", *_errors())
    put(result, "State, history and database", *state())
    put(result, "What is told to others", *told())
    return result


def _health() -> list[Panel]:
    yes_no = [("0", "no", RED), ("1", "yes", GREEN)]
    return [
        states(
            "Ready",
            Query(f"vedette_ready{ONE}", "{{instance}}"),
            text="When /readyz said yes.",
            words=yes_no,
            width=8,
        ),
        states(
            "Broker reachable",
            Query(f"vedette_source_reachable{ONE}", "{{instance}}"),
            text="Whether the broker answered.",
            words=yes_no,
            width=8,
        ),
        number(
            "Since the loop turned",
            Query(f"time() - min(vedette_loop_tick_timestamp_seconds{ONE})"),
            text="A loop that stands for two minutes fails /livez.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 30), Step(RED, 120)],
            height=6,
            links=_SYSTEM,
        ),
        number(
            "Partitions",
            Query(f"sum(vedette_assigned_partitions{ONE})"),
            text="Partitions that are read, of all replicas.",
            height=6,
            links=_SYSTEM,
        ),
    ]


def _throughput() -> list[Panel]:
    return [
        lines(
            "Readings",
            [Query(f"sum by (stream) (rate(vedette_readings_total{OF_STREAM}{RATE}))", "{{stream}}")],
            text="Readings taken in per second.",
            unit="cps",
        ),
        lines(
            "Records",
            [Query(f"sum by (topic) (rate(vedette_records_consumed_total{ONE}{RATE}))", "{{topic}}")],
            text="Records read per second.",
            unit="cps",
        ),
        lines(
            "Lag",
            [Query(f"sum by (topic, partition) (vedette_consumer_lag_records{ONE})", "{{topic}}/{{partition}}")],
            text="Records between us and the end of each partition.",
            links=_SYSTEM,
        ),
        lines(
            "Event time behind the clock",
            [Query(f"max by (stream) (vedette_event_time_lag_seconds{OF_STREAM})", "{{stream}}")],
            text="Its least is a step and its grace; a line that climbs at 1 s/s stands still.",
            unit="s",
        ),
        lines(
            "Steps closed and revised",
            [
                Query(f"sum by (stream) (rate(vedette_frames_closed_total{OF_STREAM}{RATE}))", "{{stream}}: closed"),
                Query(f"sum by (stream) (rate(vedette_revisions_total{OF_STREAM}{RATE})){EACH}", "{{stream}}: revised"),
            ],
            text="Steps per second that were scored, and scored again for late readings.",
            unit="cps",
        ),
        lines(
            "Entities",
            [
                Query(f"sum by (stream) (vedette_entities{OF_STREAM})", "{{stream}}"),
                Query(f"sum by (stream) (vedette_entities_warming{OF_STREAM})", "{{stream}}: warming"),
            ],
            text="Known, and of those not scored yet.",
        ),
    ]


def _latency() -> list[Panel]:
    bucket = f"sum by (le) (rate(vedette_commit_seconds_bucket{ONE}{RATE}))"
    return [
        lines(
            "Time in each stage",
            [Query(f"sum by (stage) (rate(vedette_stage_seconds_total{ONE}{RATE}))", "{{stage}}")],
            text="Seconds per second; what is not spent waiting in poll is the load. commit holds checkpoint.",
            unit="s",
            stacked=True,
        ),
        lines(
            "Commit",
            [
                Query(f"histogram_quantile(0.5, {bucket})", "median"),
                Query(f"histogram_quantile(0.99, {bucket})", "99 of 100"),
            ],
            text="Time to make outputs durable and commit.",
            unit="s",
        ),
        lines(
            "Memory",
            [Query(f"process_resident_memory_bytes{ONE}{_OURS}", "{{instance}}")],
            text="Resident memory of the daemon, without training jobs.",
            unit="bytes",
            width=8,
        ),
        lines(
            "Processor",
            [Query(f"rate(process_cpu_seconds_total{ONE}{RATE}){_OURS}", "{{instance}}")],
            text="Cores in use by the daemon.",
            unit="none",
            width=8,
        ),
        lines(
            "Open files",
            [
                Query(f"process_open_fds{ONE}{_OURS}", "{{instance}}"),
                Query(f"process_max_fds{ONE}{_OURS}", "{{instance}}: most"),
            ],
            text="File descriptors, and how many it may have.",
            width=8,
        ),
    ]


def _errors() -> list[Panel]:
    return [
        lines(
            "Refused",
            [
                Query(
                    f"sum by (stream, reason) (rate(vedette_dead_letters_total{OF_STREAM}{RATE})){EACH}",
                    "{{stream}} {{reason}}",
                )
            ],
            text="Records and readings that went to the dead-letter topic, per second.",
            unit="cps",
        ),
        lines(
            "Late",
            [Query(f"sum by (stream) (rate(vedette_readings_late_total{OF_STREAM}{RATE}))", "{{stream}}")],
            text="Readings per second that came after their step could be revised.",
            unit="cps",
        ),
        states(
            "Circuit breaker",
            Query(f"max by (stream) (vedette_circuit_breaker_open{OF_STREAM})", "{{stream}}"),
            text="Whether a flood of bad records is held off.",
            words=[("0", "closed", GREEN), ("1", "open", RED)],
            width=8,
        ),
        lines(
            "Rebalances",
            [Query(f"increase(vedette_rebalances_total{ONE}{RATE})", "{{instance}}")],
            text="Times that the partitions changed.",
            bars=True,
            width=8,
            height=6,
            interval="5m",
        ),
        lines(
            "Checkpoint errors",
            [
                Query(f"sum(increase(vedette_checkpoint_errors_total{ONE}{RATE}))", "not written"),
                Query(
                    f"sum by (reason) (increase(vedette_checkpoints_unusable_total{ONE}{RATE})) or vector(0)",
                    "not usable {{reason}}",
                ),
            ],
            text="Checkpoints that could not be written or taken up.",
            bars=True,
            width=8,
            height=6,
            interval="5m",
        ),
    ]
