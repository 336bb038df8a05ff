"""The dashboard Ingest: which sources bring what and how late, what is refused, and what waits for Kafka."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import board, choice, console_variable, put, source_variable
from deploy.grafana.drawing import (
    GREEN,
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
    states,
)
from deploy.grafana.process import resources, restarts
from deploy.grafana.promql import Query, chosen, increase, largest, least, quantile, rate, total

_ONE = chosen("instance")
_S = chosen("instance", "source")
_UP, _STOPPED = f"vedette_ingest_source_up{_S}", f"vedette_ingest_source_stopped{_S}"
_OURS = "vedette_ingest_kafka_up"
_SITES = (Link("Sites in the console", "${console}/sites"),)
_ITS_SITES = (Link("Its sites in the console", "${console}/sites?source=${__field.labels.source:percentencode}"),)
PEERS_FAIL = "failed_polls|failed_looks|retries|reconnects|redelivered"
"""Events that say that a peer was away, or asked for patience."""
SENT_BACK = "pushed_back|not_durable"
"""Events that say that a sender was told to come again."""


def ingest() -> Dashboard:
    """Return the dashboard of ``vedette ingest``, of all its processes or of one."""
    result = board(
        "ingest",
        "Vedette: ingest",
        "Sources and their peers, readings and their delay, what is refused, and what waits for Kafka.",
        [
            source_variable(),
            console_variable(),
            choice("instance", "Instance", "label_values(vedette_ingest_kafka_up, instance)"),
            choice("source", "Source", f"label_values(vedette_ingest_source_up{_ONE}, source)"),
        ],
    )
    result.annotation(restarts(_OURS))
    put(result, "Now", *_now())
    put(result, "Sources", *_sources())
    put(result, "What is not let through", *_kept_out())
    put(result, "What else happens", *_events())
    put(result, "To Kafka", *_delivery())
    put(result, "The process", *resources(_OURS, "the process", "the process"))
    return result


def _now() -> list[Panel]:
    return [
        number("Sources that answer", "Sources whose peer answers.", total(_UP), links=_SITES),
        number(
            "Away",
            "Sources whose peer does not answer; each is tried again.",
            Query(f"sum((1 - {_UP}) * (1 - {_STOPPED}))"),
            steps=[Step(GREEN), Step(YELLOW, 1)],
        ),
        number(
            "Given up",
            "Sources that are not tried again: /healthz says why, and a person has to look.",
            total(_STOPPED),
            steps=[Step(GREEN), Step(RED, 1)],
        ),
        number(
            "Kafka takes readings",
            "Whether it does from every process.",
            least(f"vedette_ingest_kafka_up{_ONE}"),
            steps=[Step(RED), Step(GREEN, 1)],
            words=YES_NO,
            spark=False,
        ),
        number(
            "Spool",
            "How full the fullest spool is. When it is full, sources have to wait.",
            largest(f"vedette_ingest_spool_bytes{_ONE} / vedette_ingest_spool_max_bytes{_ONE}"),
            unit="percentunit",
            decimals=1,
            steps=climbing(0.2, 0.8),
        ),
        number(
            "Waiting",
            "Readings that wait in spools until Kafka takes them.",
            total(f"vedette_ingest_spool_readings{_ONE}"),
            steps=[Step(GREEN), Step(YELLOW, 1)],
        ),
    ]


def _sources() -> list[Panel]:
    newest, heard = (f"vedette_ingest_source_{name}_timestamp_seconds{_S}" for name in ("newest", "heard"))
    return [
        states(
            "Peers",
            "Whether each source's peer answers, or the source was given up.",
            least(f"{_UP} - {_STOPPED}", by="source"),
            [("-1", "given up", RED), ("0", "away", YELLOW), ("1", "answers", GREEN)],
        ),
        rates(
            "Readings", "Readings let through per second.", rate(f"vedette_ingest_source_readings_total{_S}", "source")
        ),
        lines(
            "Delay of the newest reading",
            "Between the clock and the time of the newest reading; a line that climbs at 1 s/s brings nothing newer.",
            Query(f"time() - max by (source) ({newest})", "{{source}}"),
            unit="s",
            least=None,
            links=_ITS_SITES,
        ),
        lines(
            "Since anything came",
            "Repeats count too: a peer may answer, and have nothing new.",
            Query(f"time() - max by (source) ({heard})", "{{source}}"),
            unit="s",
        ),
        counts(
            "Restarts of sources",
            "Times that a source ended by a defect, and was started again.",
            increase(f"vedette_ingest_source_restarts_total{_S}", "source"),
        ),
    ]


def _kept_out() -> list[Panel]:
    def sifted(name: str, called: str) -> Query:
        return rate(f"vedette_ingest_source_{name}_total{_S}", "source", called)

    return [
        rates(
            "Rejected",
            "Records refused per second, by reason. They are dead letters.",
            _each_source(rate(f"vedette_ingest_source_rejected_total{_S}", "source, reason")),
        ),
        rates(
            "Repeats and corrections",
            "Readings per second that had come before, that correct earlier ones, and that newer versions outdated.",
            sifted("repeats", "repeats"),
            sifted("corrections", "corrections"),
            sifted("outdated", "outdated"),
        ),
        rates(
            "Left out",
            "Readings per second of channels that are not asked for.",
            sifted("left_out", ""),
            width=24,
            height=6,
        ),
    ]


def _events() -> list[Panel]:
    def happened(which: str) -> Query:
        events = chosen("instance", "source", only=which)
        return _each_source(increase(f"vedette_ingest_source_events_total{events}", "source, event"))

    return [
        counts(
            "Peers that fail or ask for patience",
            "Polls that failed or had to be repeated, and connections that were lost.",
            happened(f'event=~"{PEERS_FAIL}"'),
            width=8,
        ),
        counts(
            "Senders told to come again",
            "Pushes that were answered 429 or 503: there was no room, or nothing could be made durable.",
            happened(f'event=~"{SENT_BACK}"'),
            width=8,
        ),
        counts(
            "Other events",
            "What sources count beside, by its name: polls, unchanged answers, what they ignore.",
            happened(f'event!~"{PEERS_FAIL}|{SENT_BACK}"'),
            width=8,
        ),
    ]


def _delivery() -> list[Panel]:
    buckets = f"vedette_ingest_delivery_seconds_bucket{_ONE}"
    return [
        states(
            "Kafka",
            "Whether it took readings.",
            Query(f"vedette_ingest_kafka_up{_ONE}", "{{instance}}"),
            [("0", "away", RED), ("1", "takes", GREEN)],
            width=12,
            height=5,
        ),
        states(
            "Topics",
            "Whether Kafka refused a topic while it took others; of topics for which anything ever had to wait.",
            largest(f"vedette_ingest_topic_refused{_ONE}", by="topic"),
            [("0", "takes", GREEN), ("1", "refused", RED)],
            width=12,
            height=5,
        ),
        rates(
            "Delivered",
            "Readings per second that Kafka acknowledged, and the messages that they were in.",
            rate(f"vedette_ingest_delivered_readings_total{_ONE}", called="readings"),
            rate(f"vedette_ingest_delivered_messages_total{_ONE}", called="messages"),
        ),
        lines(
            "Time to an acknowledgement",
            "From handing a batch to Kafka until it is acknowledged.",
            quantile(0.5, buckets, called="median"),
            quantile(0.99, buckets, called="99 of 100"),
            unit="s",
        ),
        lines(
            "Size of the spool",
            "What waits there, and what it may hold (ingest.max_spool).",
            Query(f"vedette_ingest_spool_bytes{_ONE}", "{{instance}}"),
            Query(f"vedette_ingest_spool_max_bytes{_ONE}", "{{instance}}: most"),
            unit="bytes",
            width=8,
        ),
        lines(
            "Readings that wait",
            "In the spool, until Kafka takes them: all of a process, and those for each topic.",
            Query(f"vedette_ingest_spool_readings{_ONE}", "{{instance}}"),
            total(f"vedette_ingest_spool_topic_readings{_ONE}", by="topic"),
            width=8,
        ),
        counts(
            "Trouble with the spool",
            "Times that a source had to wait for room, and failed reads and writes.",
            increase(f"vedette_ingest_spool_full_total{_ONE}", called="full"),
            increase(f"vedette_ingest_spool_errors_total{_ONE}", called="errors"),
            width=8,
        ),
    ]


def _each_source(query: Query) -> Query:
    """Return ``query`` with zero for every source that there is."""
    return query.or_zero("source", _UP)
