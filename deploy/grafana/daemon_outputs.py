"""The lower half of the dashboard Daemon: what is kept, and what is told to others."""

from __future__ import annotations

from deploy.grafana.drawing import GREEN, RED, Panel, climbing, counts, lines, number, rates, states
from deploy.grafana.promql import Query, age, chosen, each_stream, increase, least, quantile, rate, total

ONE = chosen("instance")
OF_STREAM = chosen("instance", "stream")


def state() -> list[Panel]:
    """Return the panels of checkpoints, history and database."""
    return [
        number(
            "Newest checkpoint",
            "Since state was last kept, by the replica that is furthest behind. One is due every minute.",
            age(f"vedette_checkpoint_timestamp_seconds{ONE}"),
            unit="s",
            steps=climbing(180, 600),
            width=6,
            height=8,
        ),
        lines(
            "Checkpoints",
            "How long the newest took to write.",
            Query(f"vedette_checkpoint_duration_seconds{ONE}", "{{instance}}"),
            unit="s",
            width=6,
        ),
        lines(
            "Checkpoint size",
            "Of the newest, all partitions.",
            Query(f"vedette_checkpoint_size_bytes{ONE}", "{{instance}}"),
            unit="bytes",
            width=6,
        ),
        lines(
            "Series per entity",
            "Series of single entities in /metrics, and those beyond metrics.max_series.",
            Query(f"vedette_entity_series{ONE}", "{{instance}}: shown"),
            Query(f"vedette_entity_series_left_out{ONE}", "{{instance}}: left out"),
            width=6,
        ),
        rates(
            "History",
            "Rows of closed frames per second that were kept, and that could not be.",
            rate(f"vedette_history_rows_total{OF_STREAM}", by="stream", called="kept"),
            each_stream(rate(f"vedette_history_dropped_total{OF_STREAM}", by="stream", called="lost"), OF_STREAM),
            width=8,
        ),
        number(
            "History flushed",
            "Since the history was last written.",
            age(f"vedette_history_flushed_timestamp_seconds{ONE}"),
            unit="s",
            steps=climbing(600, 3600),
            height=8,
        ),
        lines(
            "Alert database",
            "Messages that wait for the database, and that were given up before it had them.",
            total(f"vedette_database_waiting{ONE}", called="waiting"),
            increase(f"vedette_database_dropped_total{ONE}", called="given up"),
            width=6,
        ),
        counts(
            "History and database errors",
            "Failed writes and reads; each is tried again.",
            increase(f"vedette_history_errors_total{ONE}", called="history"),
            increase(f"vedette_database_errors_total{ONE}", called="database"),
            width=6,
        ),
    ]


def told() -> list[Panel]:
    """Return the panels of receivers and messages."""
    waiting = f"vedette_receiver_waiting{ONE}"
    up = least(f"vedette_receiver_up{ONE}", by="receiver, address")
    failures = increase(f"vedette_receiver_failures_total{ONE}", by="receiver, cause").or_zero("receiver", waiting)
    return [
        states(
            "Receivers",
            "Whether each took the last that it was sent.",
            up,
            [("0", "away", RED), ("1", "takes", GREEN)],
            width=12,
        ),
        lines(
            "Waiting for receivers",
            "Messages that wait until their receiver is back; what is not on the disk yet is in memory only.",
            total(waiting, by="receiver, address"),
            total(f"vedette_outbox_unwritten{ONE}", called="not on the disk yet"),
            width=12,
            height=6,
        ),
        counts(
            "Delivered",
            "Messages that receivers took, and open incidents told again to Alertmanagers.",
            increase(f"vedette_receiver_delivered_total{ONE}", by="receiver"),
            increase(f"vedette_receiver_repeated_total{ONE}", by="receiver", called="repeated"),
            width=6,
        ),
        lines(
            "Delay",
            "From said to delivered, of 99 in 100; hours after an outage.",
            quantile(0.99, f"vedette_receiver_delay_seconds_bucket{ONE}", by="receiver"),
            unit="s",
            width=6,
        ),
        counts(
            "Tries that failed",
            "By cause; each is repeated.",
            failures,
            increase(f"vedette_outbox_errors_total{ONE}", called="outbox"),
            width=6,
        ),
        counts(
            "Given up",
            "Messages that will not be delivered. The alerts topic and the database have them.",
            increase(f"vedette_receiver_refused_total{ONE}", by="receiver", called="refused"),
            increase(f"vedette_receiver_dropped_total{ONE}", by="receiver", called="too many"),
            increase(f"vedette_outbox_dropped_total{ONE}", called="no room in memory"),
            width=6,
        ),
        rates(
            "Alert messages",
            "Messages per second by phase of their incident.",
            each_stream(rate(f"vedette_alerts_total{OF_STREAM}", by="stream, phase"), OF_STREAM),
        ),
        counts(
            "Labels by topic",
            "Labels that came by the feedback topic, accepted and refused.",
            increase(f"vedette_feedback_total{ONE}", by="outcome").or_zero(),
        ),
    ]
