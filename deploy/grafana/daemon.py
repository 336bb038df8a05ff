"""The dashboard Daemon: throughput, lag, latency, stages, memory, errors, state, history, database and receivers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.drawing import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    Annotation,
    Link,
    Panel,
    Query,
    Step,
    board,
    choice,
    console_variable,
    lines,
    number,
    put,
    source_variable,
    states,
)

_I = '{instance=~"$instance"}'
_S = '{instance=~"$instance", stream=~"$stream"}'
_EACH = f" or on (stream) 0 * sum by (stream) (vedette_entities{_S})"
"""What has not happened since the start has no series: it is zero for every stream that there is."""
_OURS = f" and on (instance, job) vedette_build_info{_I}"
"""Every exporter has the process metrics: only ours are meant."""
_RATE = "[$__rate_interval]"
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
            choice("stream", "Stream", f"label_values(vedette_entities{_I}, stream)"),
        ],
    )
    restarted = f"changes(process_start_time_seconds{_I}[$__interval]) > 0{_OURS}"
    result.annotation(Annotation("Restarts", restarted, BLUE, "{{instance}} started"))
    put(result, "Health", *_health())
    put(result, "Throughput and lag", *_throughput())
    put(result, "Latency and resources", *_latency())
    put(result, "Errors", *_errors())
    put(result, "State, history and database", *_state())
    put(result, "What is told to others", *_told())
    return result


def _health() -> list[Panel]:
    yes_no = [("0", "no", RED), ("1", "yes", GREEN)]
    return [
        states(
            "Ready",
            Query(f"vedette_ready{_I}", "{{instance}}"),
            text="When /readyz said yes.",
            words=yes_no,
            width=8,
        ),
        states(
            "Broker reachable",
            Query(f"vedette_source_reachable{_I}", "{{instance}}"),
            text="Whether the broker answered.",
            words=yes_no,
            width=8,
        ),
        number(
            "Since the loop turned",
            Query(f"time() - min(vedette_loop_tick_timestamp_seconds{_I})"),
            text="A loop that stands for two minutes fails /livez.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 30), Step(RED, 120)],
            height=6,
            links=_SYSTEM,
        ),
        number(
            "Partitions",
            Query(f"sum(vedette_assigned_partitions{_I})"),
            text="Partitions that are read, of all replicas.",
            height=6,
            links=_SYSTEM,
        ),
    ]


def _throughput() -> list[Panel]:
    return [
        lines(
            "Readings",
            [Query(f"sum by (stream) (rate(vedette_readings_total{_S}{_RATE}))", "{{stream}}")],
            text="Readings taken in per second.",
            unit="cps",
        ),
        lines(
            "Records",
            [Query(f"sum by (topic) (rate(vedette_records_consumed_total{_I}{_RATE}))", "{{topic}}")],
            text="Records read per second.",
            unit="cps",
        ),
        lines(
            "Lag",
            [Query(f"sum by (topic, partition) (vedette_consumer_lag_records{_I})", "{{topic}}/{{partition}}")],
            text="Records between us and the end of each partition.",
            links=_SYSTEM,
        ),
        lines(
            "Event time behind the clock",
            [Query(f"max by (stream) (vedette_event_time_lag_seconds{_S})", "{{stream}}")],
            text="Its least is a step and its grace; a line that climbs at 1 s/s stands still.",
            unit="s",
        ),
        lines(
            "Steps closed and revised",
            [
                Query(f"sum by (stream) (rate(vedette_frames_closed_total{_S}{_RATE}))", "{{stream}}: closed"),
                Query(f"sum by (stream) (rate(vedette_revisions_total{_S}{_RATE})){_EACH}", "{{stream}}: revised"),
            ],
            text="Steps per second that were scored, and scored again for late readings.",
            unit="cps",
        ),
        lines(
            "Entities",
            [
                Query(f"sum by (stream) (vedette_entities{_S})", "{{stream}}"),
                Query(f"sum by (stream) (vedette_entities_warming{_S})", "{{stream}}: warming"),
            ],
            text="Known, and of those not scored yet.",
        ),
    ]


def _latency() -> list[Panel]:
    bucket = f"sum by (le) (rate(vedette_commit_seconds_bucket{_I}{_RATE}))"
    return [
        lines(
            "Time in each stage",
            [Query(f"sum by (stage) (rate(vedette_stage_seconds_total{_I}{_RATE}))", "{{stage}}")],
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
            [Query(f"process_resident_memory_bytes{_I}{_OURS}", "{{instance}}")],
            text="Resident memory of the daemon, without training jobs.",
            unit="bytes",
            width=8,
        ),
        lines(
            "Processor",
            [Query(f"rate(process_cpu_seconds_total{_I}{_RATE}){_OURS}", "{{instance}}")],
            text="Cores in use by the daemon.",
            unit="none",
            width=8,
        ),
        lines(
            "Open files",
            [
                Query(f"process_open_fds{_I}{_OURS}", "{{instance}}"),
                Query(f"process_max_fds{_I}{_OURS}", "{{instance}}: most"),
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
                    f"sum by (stream, reason) (rate(vedette_dead_letters_total{_S}{_RATE})){_EACH}",
                    "{{stream}} {{reason}}",
                )
            ],
            text="Records and readings that went to the dead-letter topic, per second.",
            unit="cps",
        ),
        lines(
            "Late",
            [Query(f"sum by (stream) (rate(vedette_readings_late_total{_S}{_RATE}))", "{{stream}}")],
            text="Readings per second that came after their step could be revised.",
            unit="cps",
        ),
        states(
            "Circuit breaker",
            Query(f"max by (stream) (vedette_circuit_breaker_open{_S})", "{{stream}}"),
            text="Whether a flood of bad records is held off.",
            words=[("0", "closed", GREEN), ("1", "open", RED)],
            width=8,
        ),
        lines(
            "Rebalances",
            [Query(f"increase(vedette_rebalances_total{_I}{_RATE})", "{{instance}}")],
            text="Times that the partitions changed.",
            bars=True,
            width=8,
            height=6,
            interval="5m",
        ),
        lines(
            "Checkpoint errors",
            [
                Query(f"sum(increase(vedette_checkpoint_errors_total{_I}{_RATE}))", "not written"),
                Query(
                    f"sum by (reason) (increase(vedette_checkpoints_unusable_total{_I}{_RATE})) or vector(0)",
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


def _state() -> list[Panel]:
    return [
        number(
            "Newest checkpoint",
            Query(f"time() - min(vedette_checkpoint_timestamp_seconds{_I} > 0)"),
            text="Since state was last kept, by the replica that is furthest behind. One is due every minute.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 180), Step(RED, 600)],
            width=6,
            height=8,
        ),
        lines(
            "Checkpoints",
            [Query(f"vedette_checkpoint_duration_seconds{_I}", "{{instance}}")],
            text="How long the newest took to write.",
            unit="s",
            width=6,
        ),
        lines(
            "Checkpoint size",
            [Query(f"vedette_checkpoint_size_bytes{_I}", "{{instance}}")],
            text="Of the newest, all partitions.",
            unit="bytes",
            width=6,
        ),
        lines(
            "Series per entity",
            [
                Query(f"vedette_entity_series{_I}", "{{instance}}: shown"),
                Query(f"vedette_entity_series_left_out{_I}", "{{instance}}: left out"),
            ],
            text="Series of single entities in /metrics, and those beyond metrics.max_series.",
            width=6,
        ),
        lines(
            "History",
            [
                Query(f"sum by (stream) (rate(vedette_history_rows_total{_S}{_RATE}))", "{{stream}}: kept"),
                Query(f"sum by (stream) (rate(vedette_history_dropped_total{_S}{_RATE})){_EACH}", "{{stream}}: lost"),
            ],
            text="Rows of closed frames per second that were kept, and that could not be.",
            unit="cps",
            width=8,
        ),
        number(
            "History flushed",
            Query(f"time() - min(vedette_history_flushed_timestamp_seconds{_I} > 0)"),
            text="Since the history was last written.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 600), Step(RED, 3600)],
            height=8,
        ),
        lines(
            "Alert database",
            [
                Query(f"sum(vedette_database_waiting{_I})", "waiting"),
                Query(f"sum(increase(vedette_database_dropped_total{_I}{_RATE}))", "given up"),
            ],
            text="Messages that wait for the database, and that were given up before it had them.",
            width=6,
        ),
        lines(
            "History and database errors",
            [
                Query(f"sum(increase(vedette_history_errors_total{_I}{_RATE}))", "history"),
                Query(f"sum(increase(vedette_database_errors_total{_I}{_RATE}))", "database"),
            ],
            text="Failed writes and reads; each is tried again.",
            bars=True,
            width=6,
            interval="5m",
        ),
    ]


def _told() -> list[Panel]:
    return [
        lines(
            "Alert messages",
            [Query(f"sum by (stream, phase) (rate(vedette_alerts_total{_S}{_RATE})){_EACH}", "{{stream}} {{phase}}")],
            text="Messages per second by phase of their incident.",
            unit="cps",
        ),
        lines(
            "Labels by topic",
            [Query(f"sum by (outcome) (increase(vedette_feedback_total{_I}{_RATE})) or vector(0)", "{{outcome}}")],
            text="Labels that came by the feedback topic, accepted and refused.",
            bars=True,
            interval="5m",
        ),
    ]
