"""The lower half of the dashboard Daemon: what is kept, and what is told to others."""

from __future__ import annotations

from deploy.grafana.drawing import (
    GREEN,
    RED,
    YELLOW,
    Panel,
    Query,
    Step,
    lines,
    number,
    states,
)

ONE = '{instance=~"$instance"}'
OF_STREAM = '{instance=~"$instance", stream=~"$stream"}'
EACH = f" or on (stream) 0 * sum by (stream) (vedette_entities{OF_STREAM})"
"""For `or`: what has not happened since the start has no series: it is zero for every stream that there is."""
RATE = "[$__rate_interval]"


def state() -> list[Panel]:
    """Return the panels of checkpoints, history and database."""
    return [
        number(
            "Newest checkpoint",
            Query(f"time() - min(vedette_checkpoint_timestamp_seconds{ONE} > 0)"),
            text="Since state was last kept, by the replica that is furthest behind. One is due every minute.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 180), Step(RED, 600)],
            width=6,
            height=8,
        ),
        lines(
            "Checkpoints",
            [Query(f"vedette_checkpoint_duration_seconds{ONE}", "{{instance}}")],
            text="How long the newest took to write.",
            unit="s",
            width=6,
        ),
        lines(
            "Checkpoint size",
            [Query(f"vedette_checkpoint_size_bytes{ONE}", "{{instance}}")],
            text="Of the newest, all partitions.",
            unit="bytes",
            width=6,
        ),
        lines(
            "Series per entity",
            [
                Query(f"vedette_entity_series{ONE}", "{{instance}}: shown"),
                Query(f"vedette_entity_series_left_out{ONE}", "{{instance}}: left out"),
            ],
            text="Series of single entities in /metrics, and those beyond metrics.max_series.",
            width=6,
        ),
        lines(
            "History",
            [
                Query(f"sum by (stream) (rate(vedette_history_rows_total{OF_STREAM}{RATE}))", "{{stream}}: kept"),
                Query(
                    f"sum by (stream) (rate(vedette_history_dropped_total{OF_STREAM}{RATE})){EACH}", "{{stream}}: lost"
                ),
            ],
            text="Rows of closed frames per second that were kept, and that could not be.",
            unit="cps",
            width=8,
        ),
        number(
            "History flushed",
            Query(f"time() - min(vedette_history_flushed_timestamp_seconds{ONE} > 0)"),
            text="Since the history was last written.",
            unit="s",
            steps=[Step(GREEN), Step(YELLOW, 600), Step(RED, 3600)],
            height=8,
        ),
        lines(
            "Alert database",
            [
                Query(f"sum(vedette_database_waiting{ONE})", "waiting"),
                Query(f"sum(increase(vedette_database_dropped_total{ONE}{RATE}))", "given up"),
            ],
            text="Messages that wait for the database, and that were given up before it had them.",
            width=6,
        ),
        lines(
            "History and database errors",
            [
                Query(f"sum(increase(vedette_history_errors_total{ONE}{RATE}))", "history"),
                Query(f"sum(increase(vedette_database_errors_total{ONE}{RATE}))", "database"),
            ],
            text="Failed writes and reads; each is tried again.",
            bars=True,
            width=6,
            interval="5m",
        ),
    ]


def told() -> list[Panel]:
    """Return the panels of receivers and messages."""
    delay = f"sum by (le, receiver) (rate(vedette_receiver_delay_seconds_bucket{ONE}{RATE}))"
    return [
        states(
            "Receivers",
            Query(f"min by (receiver, address) (vedette_receiver_up{ONE})", "{{receiver}} {{address}}"),
            text="Whether each took the last that it was sent.",
            words=[("0", "away", RED), ("1", "takes", GREEN)],
            width=12,
        ),
        lines(
            "Waiting for receivers",
            [
                Query(
                    f"sum by (receiver, address) (vedette_receiver_waiting{ONE})",
                    "{{receiver}} {{address}}",
                ),
                Query(f"sum(vedette_outbox_unwritten{ONE})", "not on the disk yet"),
            ],
            text="Messages that wait until their receiver is back; what is not on the disk yet is in memory only.",
            width=12,
            height=6,
        ),
        lines(
            "Delivered",
            [
                Query(f"sum by (receiver) (increase(vedette_receiver_delivered_total{ONE}{RATE}))", "{{receiver}}"),
                Query(
                    f"sum by (receiver) (increase(vedette_receiver_repeated_total{ONE}{RATE}))",
                    "{{receiver}}: repeated",
                ),
            ],
            text="Messages that receivers took, and open incidents told again to Alertmanagers.",
            bars=True,
            width=6,
            interval="5m",
        ),
        lines(
            "Delay",
            [Query(f"histogram_quantile(0.99, {delay})", "{{receiver}}")],
            text="From said to delivered, of 99 in 100; hours after an outage.",
            unit="s",
            width=6,
        ),
        lines(
            "Tries that failed",
            [
                Query(
                    f"sum by (receiver, cause) (increase(vedette_receiver_failures_total{ONE}{RATE}))"
                    f" or on (receiver) 0 * sum by (receiver) (vedette_receiver_waiting{ONE})",
                    "{{receiver}} {{cause}}",
                ),
                Query(f"sum(increase(vedette_outbox_errors_total{ONE}{RATE}))", "outbox"),
            ],
            text="By cause; each is repeated.",
            bars=True,
            width=6,
            interval="5m",
        ),
        lines(
            "Given up",
            [
                Query(
                    f"sum by (receiver) (increase(vedette_receiver_refused_total{ONE}{RATE}))", "{{receiver}}: refused"
                ),
                Query(
                    f"sum by (receiver) (increase(vedette_receiver_dropped_total{ONE}{RATE}))", "{{receiver}}: too many"
                ),
                Query(f"sum(increase(vedette_outbox_dropped_total{ONE}{RATE}))", "no room in memory"),
            ],
            text="Messages that will not be delivered. The alerts topic and the database have them.",
            bars=True,
            width=6,
            interval="5m",
        ),
        lines(
            "Alert messages",
            [
                Query(
                    f"sum by (stream, phase) (rate(vedette_alerts_total{OF_STREAM}{RATE})){EACH}",
                    "{{stream}} {{phase}}",
                )
            ],
            text="Messages per second by phase of their incident.",
            unit="cps",
        ),
        lines(
            "Labels by topic",
            [Query(f"sum by (outcome) (increase(vedette_feedback_total{ONE}{RATE})) or vector(0)", "{{outcome}}")],
            text="Labels that came by the feedback topic, accepted and refused.",
            bars=True,
            interval="5m",
        ),
    ]
