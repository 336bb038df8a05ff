"""``vedette ingest``: from start to graceful end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog
from prometheus_client import CollectorRegistry

from connectors.errors import ConnectorError, Misconfigured
from connectors.site_store import SiteStore
from pipeline.config import Config
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE
from pipeline.garbage import settle
from pipeline.health import HealthServer
from pipeline.ingest.build import Ingest, build_ingest, require_topics_of
from pipeline.ingest.catalogue import unusable_kinds
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.site_keeping import SiteKeeper
from pipeline.ingest.supervising import State
from pipeline.ingest.topics_asked import TopicsAsked
from pipeline.metrics import version
from pipeline.service_manager import ServiceManager
from pipeline.status import NotReady, Status

log = structlog.get_logger("vedette.ingest")

_LOOK_S = 0.2


def run_ingest(config: Config, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> int:
    """Run all sources of ``config`` until SIGTERM or SIGINT, or until all have ended; return the exit code.

    ``now_us`` is the wall clock, or that of a replay: what cameras count is told by the minute, and some stations send
    no time.
    """
    if unusable_kinds():
        log.error("packages offer kinds of source that cannot be used", kinds=unusable_kinds())
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    status = Status(config.stall_timeout.total_seconds())
    http = config.ingest.http
    try:
        asked = require_topics_of(config)
        if not asked:
            log.warning("cannot ask for the topics yet; will try again", servers=config.kafka.bootstrap_servers)
        keeper = SiteKeeper(SiteStore(config.database.url.get_secret_value()))
        ingest = build_ingest(config, metrics, describe=keeper.describe, ticked=status.tick, now_us=now_us)
    except Misconfigured as error:
        log.error("cannot work as configured", error=str(error))
        return CONFIG
    except ConnectorError as error:
        log.error("gave up", error=str(error))
        return UNAVAILABLE
    told = threading.Event()
    _act_on_signals(told, config.shutdown_timeout.total_seconds())
    topics = TopicsAsked(lambda: require_topics_of(config))
    telling = (ingest.delivering, topics, ingest.supervisor, keeper)
    with closing(ingest.spool), closing(keeper), closing(topics):
        try:
            server = HealthServer(
                status, registry, version(), http.host, http.port,
                notes=lambda: [note for part in telling for note in part.notes()],
            )  # fmt: skip
        except OSError as error:
            log.error("cannot listen", http=f"{http.host}:{http.port}", error=str(error))
            return UNAVAILABLE
        if not asked:
            topics.start()
        with server, ServiceManager(status):
            log.info("started", http=f"{http.host}:{server.port}", sources=[s.name for s in ingest.supervisor.sources])
            return _run(ingest, status, told, config.shutdown_timeout.total_seconds())


def _run(ingest: Ingest, status: Status, told: threading.Event, timeout_s: float) -> int:
    settle()
    ingest.delivering.start()
    ingest.supervisor.start()
    for reason in status.reasons():
        status.release(reason)
    while ingest.supervisor.running() and not told.is_set():
        told.wait(_LOOK_S)
    status.hold(NotReady.DRAINING)
    deadline = time.monotonic() + timeout_s
    late = ingest.supervisor.stop(timeout_s * 0.6)
    if late:
        log.error("sources did not leave in time; what they had not delivered comes again", sources=late)
    ingest.delivering.close(max(deadline - time.monotonic(), 1.0))
    signal.alarm(0)  # all is where it belongs: what is left to end may take its time
    if ingest.spool.readings:
        log.info("left readings in the spool; they are delivered at the next start", readings=ingest.spool.readings)
    given_up = [s.name for s in ingest.supervisor.sources if s.condition.state is State.STOPPED]
    if given_up and len(given_up) == len(ingest.supervisor.sources):
        return CONFIG
    return OK


def _act_on_signals(told: threading.Event, deadline_s: float) -> None:
    """Leave at the first SIGTERM or SIGINT; a second one, or the deadline, ends the process at once."""

    def force(*_: object) -> None:
        log.error("stopped by force: not everything was drained", deadline_s=deadline_s)
        os._exit(UNAVAILABLE)

    def leave(*_: object) -> None:
        told.set()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, force)
        signal.signal(signal.SIGALRM, force)
        signal.alarm(max(1, round(deadline_s)) + 2)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, leave)
